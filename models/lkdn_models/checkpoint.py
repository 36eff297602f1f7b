"""Reading and writing of network weights, as data only: no code of a file is run."""

import hashlib
import io
import json
import os
import pickle
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lkdn_deploy.core.errors import InputError, LkdnError, MissingError
from lkdn_deploy.core.files import open_regular, printable, publish
from lkdn_deploy.core.spec import MAX_SCALE, Block, LkdnSpec, Upsampler
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.recognise import recognise
from lkdn_models.zoo import Input, ZooEntry, name_of, published_scale

MAX_BYTES = 1 << 30  # the networks here have a few million parameters at most
CONVERTERS = {".mat": "tools/convert_vdsr.py", ".caffemodel": "tools/convert_idn.py"}
WRAPPERS = ("params_ema", "params", "state_dict")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights of a recognised network."""

    path: Path
    network: LkdnSpec | ZooEntry
    """An LKDN of any widths and form, or another network of the zoo."""
    state: dict[str, Tensor]
    sha256: str
    step: int | None = None
    """Step of the training run that wrote it, if the file has it."""

    @property
    def name(self) -> str:
        """Name in the zoo; for an LKDN of other widths, one made of these."""
        return name_of(self.network) if isinstance(self.network, LkdnSpec) else self.network.name

    @property
    def scale(self) -> int:
        """Enlargement factor."""
        return self.network.scale

    @property
    def input(self) -> Input:
        """Input of the network."""
        return Input.RGB if isinstance(self.network, LkdnSpec) else self.network.input

    @property
    def spec(self) -> LkdnSpec:
        """Specification of an LKDN.

        Raises:
            InputError: if it is another network.
        """
        if isinstance(self.network, LkdnSpec):
            return self.network
        msg = f"{self.path}: expected an LKDN, this is {self.name} x{self.scale}"
        raise InputError(msg, "only LKDN can be trained and fused here; other networks are exported as they are")

    def build(self) -> nn.Module:
        """Return the network with these weights, in evaluation mode; it takes ``input``."""
        network = LKDN(self.network) if isinstance(self.network, LkdnSpec) else self.network.build()
        network.load_state_dict(self.state)
        return network.eval()


def load_checkpoint(path: str | os.PathLike[str], scale: int | None = None) -> Checkpoint:
    """Read weights and recognise their network: an LKDN of any widths, or another network of the zoo.

    If the file has EMA weights (``params_ema``), these are taken.

    Args:
        path: a ``.safetensors`` file, or PyTorch's ``.pth``.
        scale: scale of weights that fit a network at several scales.

    Raises:
        InputError: if the file is missing or damaged, holds more than tensors or no known network, or its scale is
            unknown.
        MissingError: if the installed torch cannot read a ``.pth`` safely.
    """
    path = Path(path)
    try:
        data, kind = _read(path), path.suffix.lower()
        notes = _Notes()
        if kind in CONVERTERS:
            msg = f"{kind} files cannot be read directly"
            raise InputError(msg, f"convert it: python {CONVERTERS[kind]} {path} OUT.safetensors")
        if kind == ".safetensors":
            raw, notes = _parse_safetensors(data)
        else:
            raw = _parse_pickle(data)
        state = _unwrap(raw)
        digest = hashlib.sha256(data).hexdigest()
        network = recognise(state, notes.scale or published_scale(digest) or scale)
        state = _finite(state)
    except LkdnError as error:
        msg = f"{path}: {error.message}"
        raise type(error)(msg, error.hint) from error
    # A BSRB's shortcut has no weights: only our own header distinguishes it from a BSB.
    if isinstance(network, LkdnSpec) and network.block is Block.BSB and notes.block is Block.BSRB:
        network = replace(network, block=Block.BSRB)
    return Checkpoint(path, network, state, digest, notes.step)


def save_checkpoint(
    path: str | os.PathLike[str], spec: LkdnSpec, state: Mapping[str, Tensor], step: int | None = None
) -> None:
    """Write weights as safetensors with their specification in the header. The file appears whole or not at all.

    Args:
        path: file to write.
        spec: specification of the network.
        state: tensors by name.
        step: step of the training run.

    Raises:
        InputError: if it cannot be written.
    """
    from safetensors.torch import save

    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    header = {"spec": json.dumps(asdict(spec))} | ({} if step is None else {"step": str(step)})
    with publish(path) as part:
        part.write_bytes(save(tensors, metadata=header))


def _read(path: Path) -> bytes:
    try:
        with open_regular(path) as file:
            data = file.read(MAX_BYTES + 1)
        if len(data) > MAX_BYTES:
            msg = f"it is larger than a checkpoint may be ({MAX_BYTES:,} bytes)"
            raise InputError(msg)
        return data
    except OSError as error:
        msg = f"cannot be read: {error.strerror}"
        raise InputError(msg) from error


@dataclass(frozen=True, slots=True)
class _Notes:
    """Facts in a safetensors header that the weights do not show."""

    block: Block | None = None
    scale: int | None = None
    step: int | None = None


def _parse_safetensors(data: bytes) -> tuple[Any, _Notes]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
        notes = header.get("__metadata__", {})
        spec = _spec_from_json(notes["spec"]) if "spec" in notes else None
        numbers = {name: int(notes[name]) for name in ("scale", "step") if name in notes}
        if not 1 <= numbers.get("scale", 1) <= MAX_SCALE:
            msg = f"its header has scale {notes['scale']!r}"
            raise InputError(msg)
        return tensors, _Notes(spec.block if spec else None, **numbers)
    except (SafetensorError, LkdnError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        msg = f"not a safetensors file: {error}"
        raise InputError(msg) from error


def _spec_from_json(text: str) -> LkdnSpec:
    values = json.loads(text)
    return LkdnSpec(**{**values, "block": Block(values["block"]), "upsampler": Upsampler(values["upsampler"])})


def _parse_pickle(data: bytes) -> Any:
    if tuple(int(part) for part in torch.__version__.split(".")[:2]) < (2, 10):
        msg = f"a .pth file can make torch {torch.__version__} run code (CVE-2026-24747)"
        raise MissingError(msg, "install torch 2.10 or newer, or convert the weights to .safetensors")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        # Its reasons do not distinguish a forbidden object from noise; the file's beginning does: a zip or a pickle.
        if data.startswith((b"PK", b"\x80")):
            msg = "refused: it holds Python objects, not only tensors, and reading them could run code"
            raise InputError(msg, "save the state dict alone: torch.save(model.state_dict(), path)") from error
        msg = "not a PyTorch checkpoint"
        raise InputError(msg) from error
    except Exception as error:  # whatever damaged input makes the unpickler trip over
        msg = "not a PyTorch checkpoint, or a damaged one"
        raise InputError(msg, "give a file that torch.save or safetensors wrote") from error


def _unwrap(raw: Any) -> dict[str, Tensor]:
    """Return the state dict inside the known wrappers, without DataParallel's ``module.`` prefix."""
    for _ in range(3):
        key = next((key for key in WRAPPERS if isinstance(raw, dict) and isinstance(raw.get(key), dict)), None)
        if key is None:
            break
        raw = raw[key]
    if not isinstance(raw, dict) or not raw or not all(isinstance(value, Tensor) for value in raw.values()):
        held = ", ".join(map(str, list(raw)[:8])) if isinstance(raw, dict) else type(raw).__name__
        msg = "expected a state dict of tensors, bare or under " + ", ".join(WRAPPERS)
        raise InputError(msg, f"it holds: {printable(held) or 'nothing'}")
    state = {str(name).removeprefix("module."): value for name, value in raw.items()}
    # An expanded tensor can claim any size, and so can a sparse one or one on another device.
    odd = [name for name, value in state.items() if not _is_whole(value)]
    if odd:
        msg = "weights must be dense tensors of floating-point numbers, all of them in the file"
        raise InputError(msg, f"these are not: {printable(', '.join(odd[:8]))}")
    return state


def _is_whole(value: Tensor) -> bool:
    if value.layout is not torch.strided or value.device.type != "cpu" or not value.is_floating_point():
        return False
    return value.numel() * value.element_size() <= value.untyped_storage().nbytes()


def _finite(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return the weights in float32."""
    state = {name: value.float() for name, value in state.items()}
    if bad := [name for name, value in state.items() if not value.isfinite().all()]:
        msg = "weights must be finite numbers in float32"
        raise InputError(msg, f"these are not: {printable(', '.join(bad[:8]))}")
    return state

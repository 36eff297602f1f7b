"""Reading and writing of network weights, as data only: no code of a file is run."""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import Tensor

from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.files import open_regular, printable, publish
from lkdn_deploy.core.spec import MAX_SCALE, Block, LkdnSpec, Upsampler
from lkdn_models.nets.blocks import SRNetwork
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.pickles import MAX_BYTES, read_pickle
from lkdn_models.recognise import recognise
from lkdn_models.zoo import Input, Variant, ZooEntry, name_of, published_scale

T = TypeVar("T")

CONVERTERS = {".mat": "tools/convert_vdsr.py", ".caffemodel": "tools/convert_idn.py"}

# What trainers write around a state dict: BasicSR, PyTorch's tutorials, Lightning, ema-pytorch, torch.compile, thop.
WRAPPERS = (
    *("params_ema", "params-ema", "ema_state_dict", "params", "state_dict", "model_state_dict"),
    *("model", "net_g", "net", "generator"),
)
"""Keys under which a state dict is kept, averaged weights first. Empty ones are passed over."""
PREFIXES = ("module.", "_orig_mod.", "model.", "net.", "params.", "state_dict.")
"""Prefixes of all names."""
CHOSEN = ("ema_model.", "params_ema.", "net_g.", "generator.")
"""Prefixes of the wanted names, beside which other networks may stand."""
COUNTERS = {"n_averaged", "initted", "step", "total_ops", "total_params"}
"""Last parts of the names of single numbers that are no weights."""
MAX_VALUES = 1 << 26
"""Largest number of values of a network: tensors that share memory take little in a file, and more when converted."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Weights of a recognised network."""

    path: Path
    network: LkdnSpec | ZooEntry | Variant
    """An LKDN of any widths and form, another network of the zoo, or one of its families in other widths."""
    state: dict[str, Tensor]
    sha256: str
    step: int | None = None
    """Step of the training run that wrote it, if the file has it."""

    @property
    def name(self) -> str:
        """Name in the zoo; of a network in other widths, one made of these."""
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

    def build(self) -> SRNetwork:
        """Return the network with these weights, in evaluation mode; it takes ``input``."""
        network = LKDN(self.network) if isinstance(self.network, LkdnSpec) else self.network.build()
        network.load_state_dict(self.state)
        return network.eval()


def load_checkpoint(path: str | os.PathLike[str], scale: int | None = None) -> Checkpoint:
    """Read weights and recognise their network: an LKDN of any widths, or another network of the zoo.

    If the file has averaged weights (such as ``params_ema``), these are taken. Wrappers and prefixes of names that
    trainers add are removed.

    Args:
        path: a file of safetensors or of ``torch.save``, whatever its suffix.
        scale: scale of weights that fit a network at several scales.

    Raises:
        InputError: if the file is missing or damaged, holds more than tensors or no known network, or its scale is
            unknown; or if it is too large, as it is or when it is expanded.
        MissingError: if the installed torch cannot read a ``.pth`` safely.
    """
    path = Path(path)
    try:
        data, kind = _read(path), path.suffix.lower()
        notes = _Notes()
        if kind in CONVERTERS:
            msg = f"{kind} files cannot be read directly"
            raise InputError(msg, f"convert it: python {CONVERTERS[kind]} {path} OUT.safetensors")
        # The content decides; of content that is neither, the suffix, so that the message fits.
        if _is_safetensors(data) or (kind == ".safetensors" and not data.startswith((b"PK", b"\x80"))):
            raw, notes = _parse_safetensors(data)
        else:
            raw = read_pickle(data)
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


def _is_safetensors(data: bytes) -> bool:
    """Return whether the data begin as safetensors do: with the length of a JSON table, and the table."""
    return data[8:9] == b"{" and int.from_bytes(data[:8], "little") <= len(data) - 8


def _parse_safetensors(data: bytes) -> tuple[Any, _Notes]:
    from safetensors import SafetensorError
    from safetensors.torch import load

    try:
        tensors = load(data)
        header = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
    except (SafetensorError, ValueError, TypeError, KeyError, RecursionError, MemoryError) as error:
        msg = f"not a safetensors file: {printable(str(error))[:200]}"
        raise InputError(msg) from error
    table = header.get("__metadata__", {})
    scale = _own(lambda: int(table["scale"]))
    return tensors, _Notes(
        block=_own(lambda: _spec_from_json(table["spec"]).block),
        scale=scale if scale and 1 <= scale <= MAX_SCALE else None,
        step=_own(lambda: int(table["step"])),
    )


def _own(read: Callable[[], T]) -> T | None:
    """Return an entry of our own in a header; ``None`` if it is missing, or another program's of the same name."""
    try:
        return read()
    except (LkdnError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return None


def _spec_from_json(text: str) -> LkdnSpec:
    values = json.loads(text)
    return LkdnSpec(**{**values, "block": Block(values["block"]), "upsampler": Upsampler(values["upsampler"])})


def _unwrap(raw: Any) -> dict[str, Tensor]:
    """Return the state dict inside the known wrappers, without prefixes and counters that trainers add.

    Raises:
        InputError: if there is none; the message names the key in the way.
    """
    for _ in range(4):
        key = next((it for it in WRAPPERS if isinstance(raw, dict) and isinstance(raw.get(it), dict) and raw[it]), None)
        if key is None:
            break
        raw = raw[key]
    if not isinstance(raw, dict) or not raw:
        held = "nothing" if raw == {} else type(raw).__name__
        raise _no_state_dict(held)
    names = [name for name in raw if isinstance(name, str)]
    others = [name for name in names if not isinstance(raw[name], Tensor)]
    if others or len(names) < len(raw):
        held = f"{printable(', '.join(others[:8])) or 'keys that are not texts'}, which are no tensors"
        raise _no_state_dict(held)
    counters = {name for name in names if name.rpartition(".")[2] in COUNTERS and raw[name].numel() == 1}
    state = _without_prefixes({name: raw[name] for name in names if name not in counters})
    # An expanded tensor can claim any size, and so can a sparse one or one on another device.
    odd = [name for name, value in state.items() if not _is_whole(value)]
    if odd:
        msg = "weights must be dense tensors of floating-point numbers, all of them in the file"
        raise InputError(msg, f"these are not: {printable(', '.join(odd[:8]))}")
    if (size := sum(value.numel() for value in state.values())) > MAX_VALUES:
        msg = f"it holds {size:,} values, more than a network may have ({MAX_VALUES:,})"
        raise InputError(msg)
    return state


def _no_state_dict(held: str) -> InputError:
    msg = f"expected a state dict of tensors, bare or under {', '.join(WRAPPERS)}"
    return InputError(msg, f"it holds {held}")


def _without_prefixes(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Remove the prefixes that all names have, or that mark the wanted ones."""
    for _ in range(8):
        shared = [it for it in PREFIXES if state and all(name.startswith(it) for name in state)]
        chosen = [it for it in CHOSEN if any(name.startswith(it) for name in state)]
        if not shared + chosen:
            break
        prefix = (shared + chosen)[0]
        state = {name.removeprefix(prefix): value for name, value in state.items() if name.startswith(prefix)}
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

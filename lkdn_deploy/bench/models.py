"""The models of a benchmark: each network with the best weights available, or a file."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lkdn_deploy import __version__
from lkdn_deploy.bench.opening import ModelChoice, choose_models
from lkdn_deploy.core.cache import Store
from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.core.files import printable
from lkdn_deploy.core.optional import needs
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.hub.artifacts import find_artifact
from lkdn_deploy.runtime.bundled import DEFAULT_SCALE, bundled

with needs("bench"):
    import torch
    from safetensors.torch import save
    from torch import nn

    from lkdn_deploy.export.job import open_checkpoint
    from lkdn_models.checkpoint import Checkpoint
    from lkdn_models.download import usable
    from lkdn_models.nets.lkdn import LKDN
    from lkdn_models.rgb import as_rgb
    from lkdn_models.zoo import Input, Variant, ZooEntry, entries, find, name_of
    from lkdn_models.zoo.facts import LR

DEFAULT_MODELS = ("lkdn", "lkdn-s", "bsrn", "vapsr", "rfdn-aim")
"""The paper's networks, its two rivals, and the baseline of the NTIRE challenge of 2023, which is for x4 only."""

RANDOM = "random"
RANDOM_SEED = 0
STORE = Store("random", ".safetensors")


@dataclass(frozen=True, slots=True)
class Model:
    """A model to measure on each engine."""

    network: LkdnSpec | ZooEntry | Variant
    origin: str
    """``bundled``, ``published``, ``random``, or a file's name."""
    file: Path | None = None
    """The checkpoint or ``.onnx`` file; ``None``: bundled or random weights."""
    fused: bool = True
    """Whether training-time branches are merged when it runs."""

    @property
    def name(self) -> str:
        """Name in the zoo, or one made of the network's widths."""
        return name_of(self.network) if isinstance(self.network, LkdnSpec) else self.network.name

    @property
    def scale(self) -> int:
        """Upscaling factor."""
        return self.network.scale

    @property
    def has_quality(self) -> bool:
        """Whether its weights are trained, so that its pictures can be rated."""
        return self.origin != RANDOM

    def choice(self) -> ModelChoice:
        """Return what opens it; random weights are written to the user's cache first.

        Raises:
            InputError: if the cache cannot be written.
        """
        if self.file is None and not self.has_quality and isinstance(self.network, ZooEntry):
            return ModelChoice(None, self.scale, _random(self.network))
        return ModelChoice(self.name if self.file is None else None, self.scale, self.file)

    def load(self) -> Checkpoint:
        """Load its weights from a checkpoint.

        Raises:
            InputError: if the file is not a checkpoint.
        """
        choice = self.choice()
        return open_checkpoint(choice.weights, choice.model, choice.scale)

    def build(self) -> nn.Module:
        """Build the network for RGB, without values."""
        network, _ = self.build_core()
        if isinstance(self.network, LkdnSpec):
            return network
        return as_rgb(network, self.network.input, self.scale)  # type: ignore[arg-type]

    def build_core(self) -> tuple[nn.Module, int]:
        """Build the network as its paper counts it, without values, and return it with its number of channels."""
        with torch.device("meta"):
            if isinstance(self.network, LkdnSpec):
                return LKDN(self.network.deployed if self.fused else self.network), 3
            return self.network.build(deployed=self.fused), 1 if self.network.input.luma_only else 3

    def check_size(self, height: int, width: int) -> None:
        """Check that the network takes an input of this size.

        Raises:
            UsageError: if it is smaller than the network's least.
        """
        smallest = int(self.build().smallest)  # type: ignore[arg-type]
        if min(height, width) < smallest:
            least = f"{smallest}x{smallest} pixels"
            msg = f"{self.name} x{self.scale} takes inputs of at least {least}, got {width}x{height}"
            raise UsageError(msg, "give a larger --size, or leave the network out")

    @property
    def paper_size(self) -> tuple[int, int]:
        """Height and width of the input for which papers count Multi-Adds."""
        return LR[self.scale] if isinstance(self.network, LkdnSpec) else self.network.input_size

    def core_size(self, height: int, width: int) -> tuple[int, int]:
        """Return height and width of the core network's input, which some networks enlarge first, for an LR image."""
        times = 1 if isinstance(self.network, LkdnSpec) or self.network.input is not Input.ENLARGED_LUMA else self.scale
        return height * times, width * times


def find_models(names: Sequence[str], scale: int | None, weights: Sequence[Path]) -> list[Model]:
    """Return the models that the options ``--model``, ``--scale`` and ``--weights`` choose.

    A network without ``weights`` gets its bundled ones, or published ones that are downloaded, or else random ones:
    its cost does not depend on them.

    Args:
        names: names of networks, or paths of files; default ``DEFAULT_MODELS``, those that have the scale.
        scale: upscaling factor; default 4, or that of the file.
        weights: paths of checkpoints or ``.onnx`` files, as ``choose_models`` combines them with the names.

    Raises:
        UsageError: if no network has a name, it lacks the scale, or a file holds another network or scale.
        InputError: if a file cannot be read, or holds no known network.
    """
    if not names and not weights:
        chosen = scale or DEFAULT_SCALE
        names = [name for name in DEFAULT_MODELS if any(entry.scale == chosen for entry in entries(name))]
    return [_model(choice) for choice in choose_models(names, [] if scale is None else [scale], weights)]


def _model(choice: ModelChoice) -> Model:
    file = choice.file
    if file is None:
        entry = find(choice.model or "", choice.scale or DEFAULT_SCALE)
        if (entry.name, entry.scale) in bundled():
            return Model(entry, "bundled")
        try:
            return Model(entry, "published", usable(entry))
        except MissingError:
            return Model(entry, RANDOM)
    name = choice.model if choice.weights else None
    if file.suffix.lower() != ".onnx":
        return Model(open_checkpoint(file, name, choice.scale).network, printable(file.name), file)
    found = find_artifact(name, choice.scale, file).metadata
    try:
        entry = find(found.model, found.scale)
    except UsageError as error:
        msg = f"{file} is {found.model} x{found.scale}, which is not a network of the zoo"
        raise InputError(msg, "its cost is counted on the network: give its checkpoint with --weights") from error
    return Model(entry, printable(file.name), file, fused=found.fused)


def _random(entry: ZooEntry) -> Path:
    """Return a checkpoint of weights as PyTorch initialises them, always with the same seed."""
    key = hashlib.sha256(f"{__version__} {torch.__version__} {RANDOM_SEED}".encode()).hexdigest()[:12]
    name = f"{entry.name}_x{entry.scale}-{key}"
    if path := STORE.find(name):
        return path
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        network = entry.build()
    header = {"spec": json.dumps(asdict(entry.spec))} if entry.spec else {"scale": str(entry.scale)}
    return STORE.write(name, save(network.state_dict(), metadata=header))

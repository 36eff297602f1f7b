"""The models of a benchmark: named or given, with the weights that there are."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lkdn_deploy import __version__
from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.cache import Store
from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.core.files import printable
from lkdn_deploy.core.optional import needs
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.runtime.bundled import DEFAULT_SCALE, bundled

with needs("train"):
    import torch
    from safetensors.torch import save
    from torch import nn

    from lkdn_models.checkpoint import load_checkpoint
    from lkdn_models.download import usable
    from lkdn_models.nets.lkdn import LKDN
    from lkdn_models.rgb import as_rgb
    from lkdn_models.zoo import Input, ZooEntry, entries, find, name_of
    from lkdn_models.zoo.facts import LR

DEFAULT_MODELS = ("lkdn", "lkdn-s", "bsrn", "vapsr", "rfdn-aim")
"""The paper's, its two rivals, and the one that the NTIRE challenge of 2023 compares with, which is for x4 only."""

RANDOM = "random"
RANDOM_SEED = 0
STORE = Store("random", ".safetensors")


@dataclass(frozen=True, slots=True)
class Model:
    """What is measured on each engine."""

    network: LkdnSpec | ZooEntry
    weights: Path | None
    """A checkpoint; ``None``: those that are bundled with the package, of ``artefact``, or random."""
    origin: str
    """``bundled``, ``published``, ``random``, or a file's name."""
    artefact: Path | None = None
    """An ``.onnx`` file, where one was given instead of a network."""
    fused: bool = True
    """Whether it runs without the branches that it may have had in training."""

    @property
    def name(self) -> str:
        """In the zoo, or made of its widths."""
        return name_of(self.network) if isinstance(self.network, LkdnSpec) else self.network.name

    @property
    def scale(self) -> int:
        """Times larger."""
        return self.network.scale

    @property
    def has_quality(self) -> bool:
        """Whether pictures say anything of it."""
        return self.origin != RANDOM

    @property
    def named(self) -> str:
        """What ``open_engine`` takes for its model."""
        return str(self.artefact or self.name)

    def checkpoint(self) -> Path | None:
        """``weights``, or a file of random ones, made in the user's cache if it is not there.

        Raises:
            InputError: if the cache cannot be written.
        """
        return _random(self.network) if isinstance(self.network, ZooEntry) and self.origin == RANDOM else self.weights

    def build(self) -> nn.Module:
        """The network as one of RGB, without values."""
        network, _ = self.build_core()
        if isinstance(self.network, LkdnSpec):
            return network
        return as_rgb(network, self.network.input, self.scale)

    def build_core(self) -> tuple[nn.Module, int]:
        """The network that its paper counts, without values, and how many channels it takes."""
        with torch.device("meta"):
            if isinstance(self.network, LkdnSpec):
                return LKDN(self.network.deployed if self.fused else self.network), 3
            return self.network.build(deployed=self.fused), 1 if self.network.input.luma_only else 3

    def check_size(self, height: int, width: int) -> None:
        """Refuse an input that the network does not take.

        Raises:
            UsageError: saying the least that it takes.
        """
        smallest = int(self.build().smallest)  # type: ignore[arg-type]
        if min(height, width) < smallest:
            msg = f"{self.name} x{self.scale} takes {smallest} pixels a side or more, got {height}x{width}"
            raise UsageError(msg, "give a larger --size, or leave the network out")

    @property
    def paper_size(self) -> tuple[int, int]:
        """Height and width of the input that papers count Multi-Adds at."""
        return LR[self.scale] if isinstance(self.network, LkdnSpec) else self.network.input_size

    def core_size(self, height: int, width: int) -> tuple[int, int]:
        """What an image of LR pixels is to the network itself: enlarged, of those that want it so."""
        times = 1 if isinstance(self.network, LkdnSpec) or self.network.input is not Input.ENLARGED_LUMA else self.scale
        return height * times, width * times


def find_models(names: Sequence[str], scale: int | None, weights: Sequence[Path]) -> list[Model]:
    """The models of these names and of these files; without any, ``DEFAULT_MODELS``.

    A network gets its bundled weights, or published ones that are downloaded, or else random ones: what it costs does
    not hang on them.

    Args:
        names: networks of the zoo, or paths of ``.onnx`` files.
        scale: of the networks; default 4.
        weights: checkpoints, which tell network and scale.

    Raises:
        UsageError: if there is no network of a name, or none of that scale.
        InputError: if a file cannot be read, or holds no known network.
    """
    found = [_given(path) for path in weights]
    if not names and not weights:
        names = [
            name for name in DEFAULT_MODELS if any(entry.scale == (scale or DEFAULT_SCALE) for entry in entries(name))
        ]
    for name in names:
        path = Path(name)
        is_file = path.suffix.lower() == ".onnx"
        found.append(_of_artefact(path) if is_file else _named(find(name, scale or DEFAULT_SCALE)))
    return found


def _given(path: Path) -> Model:
    if path.suffix.lower() == ".onnx":
        return _of_artefact(path)
    checkpoint = load_checkpoint(path)
    return Model(checkpoint.network, path, printable(path.name))


def _named(entry: ZooEntry) -> Model:
    if (entry.name, entry.scale) in bundled():
        return Model(entry, None, "bundled")
    try:
        return Model(entry, usable(entry), "published")
    except MissingError:
        return Model(entry, None, RANDOM)


def _of_artefact(path: Path) -> Model:
    metadata = read_artifact(path).metadata
    network = _network_of(metadata)
    if network is None:
        msg = f"{path} is {metadata.model} x{metadata.scale}, which is no network of the zoo"
        raise InputError(msg, "what it costs is counted on the network: give its checkpoint with --weights")
    return Model(network, None, printable(path.name), path, fused=metadata.fused)


def _network_of(metadata: ArtifactMetadata) -> ZooEntry | None:
    try:
        return next((entry for entry in entries(metadata.model) if entry.scale == metadata.scale), None)
    except UsageError:
        return None


def _random(entry: ZooEntry) -> Path:
    """A checkpoint of weights as PyTorch draws them, the same every time."""
    key = hashlib.sha256(f"{__version__} {torch.__version__} {RANDOM_SEED}".encode()).hexdigest()[:12]
    name = f"{entry.name}_x{entry.scale}-{key}"
    if path := STORE.find(name):
        return path
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(RANDOM_SEED)
        network = entry.build()
    header = {"spec": json.dumps(asdict(entry.spec))} if entry.spec else {"scale": str(entry.scale)}
    return STORE.write(name, save(network.state_dict(), metadata=header))

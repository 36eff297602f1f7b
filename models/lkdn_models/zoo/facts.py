"""What is known of a network, in plain values: importing this needs no torch."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lkdn_deploy.core.counting import Rule
from lkdn_deploy.core.spec import LkdnSpec

if TYPE_CHECKING:
    from torch import nn

BUNDLED = Path(__file__).parents[1] / "weights"
HD = (720, 1280)
"""Height and width of the output that Multi-Adds are counted for."""
LR = {2: (360, 640), 3: (240, 426), 4: (180, 320)}
"""The input for that output. 1280 is no multiple of 3: the papers take 426, 427 or a ninth of the pixels."""

HOST = "https://raw.githubusercontent.com"


class Input(StrEnum):
    """What a network takes, low resolution unless it says otherwise."""

    RGB = "RGB, 0..1"
    RGB_255 = "RGB, 0..255"
    LUMA = "luma, 16/255..235/255"
    """BT.601, studio range. The runtime takes the colours from bicubic interpolation."""
    ENLARGED_LUMA = "luma, 16/255..235/255, enlarged by MATLAB's bicubic"

    @property
    def luma_only(self) -> bool:
        """Whether colours pass it by."""
        return self in (Input.LUMA, Input.ENLARGED_LUMA)


@dataclass(frozen=True, slots=True)
class Weights:
    """A published checkpoint in a GitHub repository."""

    repository: str
    commit: str
    path: str
    sha256: str
    licence: str
    """As its repository states it."""
    converter: str | None = None
    """The script that writes the file as safetensors, where it is of no format that ``load_checkpoint`` reads."""

    @property
    def page(self) -> str:
        """Where a person looks at it."""
        return f"https://github.com/{self.repository}/blob/{self.commit}/{self.path}"

    @property
    def url(self) -> str:
        """Where the bytes are."""
        return f"{HOST}/{self.repository}/{self.commit}/{self.path}"

    @property
    def file_name(self) -> str:
        """Without its folders."""
        return self.path.rpartition("/")[2]


PrintedQuality = Mapping[str, tuple[str, str]]
"""PSNR in dB and SSIM by test set, as a table prints them."""


SETS = ("Set5", "Set14", "B100", "Urban100", "Manga109")


def five(text: str) -> PrintedQuality:
    """``"38.12/0.9611 33.90/0.9202 - - -"``: PSNR and SSIM on ``SETS``, a dash where they are not known."""
    figures = zip(SETS, text.split(), strict=True)
    return {name: (psnr, ssim) for name, value in figures for psnr, _, ssim in [value.partition("/")] if ssim}


@dataclass(frozen=True, slots=True)
class Printed:
    """A row of the LKDN paper's tables, digit by digit."""

    tables: str
    """The numbers of the tables that have it."""
    parameters: str
    """In thousands."""
    multi_adds: str
    """In G."""
    quality: PrintedQuality = field(default_factory=dict)
    remark: str = ""
    """Why these figures are not the computed ones, where they are not."""


@dataclass(frozen=True, slots=True)
class Network:
    """One network, at whatever scales."""

    name: str
    paper: str
    make: str
    """The constructor under ``lkdn_models.nets``, ``module:Class`` or ``module:Class.variant``. It takes the scale,
    unless the input is enlarged beforehand."""
    input: Input = Input.RGB
    rule: Rule = Rule.C
    """What the paper's Multi-Adds count."""
    spec: Callable[[int], LkdnSpec] | None = None
    """Of an LKDN in training form, by scale; it is built of that."""
    shared_weights: bool = False
    """Whether one set of weights serves every scale."""
    remark: str = ""


@dataclass(frozen=True, slots=True, eq=False)
class ZooEntry:
    """One network at one scale."""

    network: Network
    scale: int
    parameters: int
    """Of the form that is deployed: fused."""
    multi_adds: float
    """In G, of that form for an output of 1280x720, under ``network.rule``."""
    receptive_radius: int | None
    """Distance in LR pixels beyond which an input pixel cannot change an output pixel, of the network as deployed;
    ``None``: a pixel depends on the whole picture, or on its size."""
    printed: Printed | None = None
    """``None``: the paper has no such row."""
    measured: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    """PSNR in dB and SSIM by test set, of the published weights: of networks of RGB as ``evaluate.measure`` has it, of
    networks of luma in the manner of their papers, as ``evaluate.measure_luma`` has it."""
    weights: Weights | None = None
    counted_at: tuple[int, int] | None = None
    """Height and width of the input that Multi-Adds are counted at, where it is not ``LR``'s."""

    @property
    def name(self) -> str:
        """Of the network."""
        return self.network.name

    @property
    def input(self) -> Input:
        """Of the network."""
        return self.network.input

    @property
    def spec(self) -> LkdnSpec | None:
        """Of an LKDN, in training form."""
        return self.network.spec(self.scale) if self.network.spec else None

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width that Multi-Adds are counted at."""
        return self.counted_at or (HD if self.input is Input.ENLARGED_LUMA else LR[self.scale])

    @property
    def bundled(self) -> Path | None:
        """The training-form checkpoint that comes with the package, trained by this project."""
        path = BUNDLED / f"{self.name}_x{self.scale}.safetensors"
        return path if path.is_file() else None

    def build(self, *, deployed: bool = False) -> "nn.Module":
        """The network with weights as PyTorch draws them, in training form or as it is deployed. Needs torch."""
        module, _, path = self.network.make.partition(":")
        make = cast("Callable[..., nn.Module]", attrgetter(path)(import_module(f"lkdn_models.nets.{module}")))
        if spec := self.spec:
            return make(spec.deployed if deployed else spec)
        return make() if self.input is Input.ENLARGED_LUMA else make(self.scale)

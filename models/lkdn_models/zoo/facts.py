"""The facts about a network, in plain values: importing this needs no torch."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from importlib import import_module
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, cast

from lkdn_deploy.core.counting import Rule
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.spec import LkdnSpec

if TYPE_CHECKING:
    from lkdn_models.nets.blocks import SRNetwork

BUNDLED = Path(__file__).parents[1] / "weights"
HD = (720, 1280)
"""Height and width of the output for which Multi-Adds are counted."""
LR = {2: (360, 640), 3: (240, 426), 4: (180, 320)}
"""Input size for that output. 1280 is not a multiple of 3: papers take 426, 427 or a ninth of the pixels."""

CHALLENGE = (256, 256)
"""Input size of the multiply-accumulates that NTIRE's efficiency challenges print, which they call FLOPs."""

HOST = "https://raw.githubusercontent.com"


class Input(StrEnum):
    """Input of a network, at low resolution unless stated otherwise."""

    RGB = "RGB, 0..1"
    RGB_255 = "RGB, 0..255"
    LUMA = "luma, 16/255..235/255"
    """BT.601, studio range. The runtime takes the colours from bicubic interpolation."""
    ENLARGED_LUMA = "luma, 16/255..235/255, enlarged by MATLAB's bicubic"

    @property
    def luma_only(self) -> bool:
        """Whether the network processes luma and leaves the colours to bicubic interpolation."""
        return self in (Input.LUMA, Input.ENLARGED_LUMA)


@dataclass(frozen=True, slots=True)
class Weights:
    """A published checkpoint in a GitHub repository.

    Attributes:
        repository: owner and name.
        commit: its full hash.
        path: path of the file in the repository.
        sha256: hash of the file.
        licence: licence as the repository states it.
        converter: script that rewrites the file as safetensors, if ``load_checkpoint`` does not read its format.

    Raises:
        UsageError: if a hash is malformed, the licence is empty, or a name could lead out of the cache's folder.
    """

    repository: str
    commit: str
    path: str
    sha256: str
    licence: str
    converter: str | None = None

    def __post_init__(self) -> None:
        for name, pattern in (
            ("repository", r"[\w.-]+/[\w.-]+"),
            ("commit", "[0-9a-f]{40}"),
            ("path", r"(?:.*/)?(?!\.+$)[\w.-]+"),
            ("sha256", "[0-9a-f]{64}"),
            ("licence", ".+"),
        ):
            if not re.fullmatch(pattern, getattr(self, name), re.ASCII):
                msg = f"{name} of weights must match {pattern}, got {getattr(self, name)!r}"
                raise UsageError(msg)

    @property
    def page(self) -> str:
        """Address of the file's page for a person to look at."""
        return f"https://github.com/{self.repository}/blob/{self.commit}/{self.path}"

    @property
    def url(self) -> str:
        """Address of the file's bytes."""
        return f"{HOST}/{self.repository}/{self.commit}/{self.path}"

    @property
    def file_name(self) -> str:
        """File name without its folders."""
        return self.path.rpartition("/")[2]


SETS = ("Set5", "Set14", "B100", "Urban100", "Manga109")


@dataclass(frozen=True, slots=True)
class Printed:
    """A row of the LKDN paper's tables, digit by digit.

    Attributes:
        tables: numbers of the tables that have it.
        parameters: in thousands; None: the tables do not tell.
        multi_adds: in G; None: the tables do not tell.
        quality: PSNR in dB and SSIM by test set, of Table 5 if it is there.
        div2k: PSNR in dB on DIV2K's validation set.
        trials: quality of other trainings of the network, by the table that has them.
        remark: reason for a difference between these figures and the computed ones.
    """

    tables: str
    parameters: str | None = None
    multi_adds: str | None = None
    quality: Mapping[str, tuple[str, str]] = field(default_factory=dict)
    div2k: str | None = None
    trials: Mapping[str, Mapping[str, tuple[str, str]]] = field(default_factory=dict)
    remark: str = ""


@dataclass(frozen=True, slots=True)
class Network:
    """A network at every scale.

    Attributes:
        name: name at the command line, in lower case.
        paper: authors, title, venue and year.
        make: constructor in ``lkdn_models.nets``, ``module:Class`` or ``module:Class.variant``. It takes the scale,
            unless the input is enlarged beforehand.
        input: what the network takes.
        rule: what the paper counts as Multi-Adds.
        spec: widths and training form of an LKDN, at scale 1.
        settings: what ``make`` takes besides the scale: widths and depths. A network that has them is the example of a
            family, whose members are recognised in any widths.
        shared_weights: whether one set of weights serves every scale.
        remark: what a reader should know besides.
    """

    name: str
    paper: str
    make: str
    input: Input = Input.RGB
    rule: Rule = Rule.C
    spec: LkdnSpec | None = None
    settings: Mapping[str, int] = field(default_factory=dict, hash=False)
    shared_weights: bool = False
    remark: str = ""

    @property
    def constructor(self) -> "Callable[..., SRNetwork]":
        """The function that ``make`` names. It needs torch."""
        module, _, path = self.make.partition(":")
        made = attrgetter(path)(import_module(f"lkdn_models.nets.{module}"))
        return cast("Callable[..., SRNetwork]", made)


@dataclass(frozen=True, slots=True, eq=False)
class Variant:
    """A network of one of the zoo's families in widths, at a scale or in a form of which the zoo has no entry.

    Attributes:
        name: name of the family and its widths, or that of the network whose training form it is.
        network: the family, with these widths.
        scale: enlargement factor.
        trained: width of the branches of its training form; 0: merged.
    """

    name: str
    network: Network
    scale: int
    trained: int = 0

    @property
    def input(self) -> Input:
        """Input of the network."""
        return self.network.input

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input at which Multi-Adds are counted."""
        return LR.get(self.scale, (HD[0] // self.scale, HD[1] // self.scale))

    def build(self, *, deployed: bool = False) -> "SRNetwork":
        """Return the network with PyTorch's initial weights, in training form or as it is deployed. Needs torch."""
        form = {"trained": self.trained} if self.trained and not deployed else {}
        return self.network.constructor(self.scale, **self.network.settings, **form)


@dataclass(frozen=True, slots=True, eq=False)
class ZooEntry:
    """A network at one scale.

    Attributes:
        network: what holds at every scale.
        scale: enlargement factor.
        parameters: number of parameters in the deployed (fused) form.
        multi_adds: Multi-Adds in G of that form for an output of 1280x720, by ``network.rule``.
        receptive_radius: distance in LR pixels beyond which an input pixel cannot change an output pixel, of the
            deployed network; None: a pixel depends on the whole picture, or on its size.
        printed: row of the paper's tables, if they have it.
        measured: PSNR in dB and SSIM of the published weights by test set: of networks of RGB by ``evaluate.measure``,
            of networks of luma by ``evaluate.measure_luma``, as their papers measure.
        weights: published weights, if there are any.
        counted_at: height and width of the input at which Multi-Adds are counted, if it is not that of ``LR``.
        challenge_macs: multiply-accumulates in G for an input of ``CHALLENGE``, as NTIRE's efficiency challenges print.
    """

    network: Network
    scale: int
    parameters: int
    multi_adds: float
    receptive_radius: int | None = None
    printed: Printed | None = None
    measured: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    weights: Weights | None = None
    counted_at: tuple[int, int] | None = None
    challenge_macs: float | None = None

    @property
    def name(self) -> str:
        """Name of the network."""
        return self.network.name

    @property
    def input(self) -> Input:
        """Input of the network."""
        return self.network.input

    @property
    def spec(self) -> LkdnSpec | None:
        """Specification of an LKDN, in training form."""
        return self.network.spec and replace(self.network.spec, scale=self.scale)

    @property
    def input_size(self) -> tuple[int, int]:
        """Height and width of the input at which Multi-Adds are counted."""
        return self.counted_at or (HD if self.input is Input.ENLARGED_LUMA else LR[self.scale])

    @property
    def bundled(self) -> Path | None:
        """Training-form checkpoint that comes with the package, trained by this project."""
        path = BUNDLED / f"{self.name}_x{self.scale}.safetensors"
        return path if path.is_file() else None

    def build(self, *, deployed: bool = False) -> "SRNetwork":
        """Return the network with PyTorch's initial weights, in training form or as it is deployed. Needs torch."""
        make, settings = self.network.constructor, self.network.settings
        if spec := self.spec:
            return make(spec.deployed if deployed else spec)
        return make(**settings) if self.input is Input.ENLARGED_LUMA else make(self.scale, **settings)

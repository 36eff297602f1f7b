"""The networks: their specifications, the figures they are known by, and where their published weights are.

Plain facts: importing this needs no torch. Params and Multi-Adds (for a 1280x720 output, as the paper counts them) are
Table 4 and 5 of the LKDN paper; PSNR/SSIM are of the published weights, measured on luma with low-resolution images
made by ``imaging.resample`` (mirrored edge).
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from lkdn_deploy.core.errors import MissingError, UsageError
from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler

BUNDLED = Path(__file__).parent / "weights"


@dataclass(frozen=True, slots=True)
class Weights:
    """A published checkpoint."""

    repository: str
    commit: str
    path: str
    sha256: str
    licence: str

    @property
    def url(self) -> str:
        """The page of the file in its repository."""
        return f"https://github.com/{self.repository}/blob/{self.commit}/{self.path}"


@dataclass(frozen=True, slots=True)
class Entry:
    """One network at one scale."""

    name: str
    spec: LkdnSpec
    """In training form."""
    parameters: int
    """Of the fused network."""
    multi_adds: float
    """In G, as the paper prints it, or counted alike where it does not."""
    in_paper: bool
    weights: Weights | None = None
    psnr: tuple[float, float] | None = None
    """Set5 and Set14 in dB, of the published weights."""

    @property
    def bundled(self) -> Path | None:
        """The training-form checkpoint that comes with the package, trained by this project."""
        path = BUNDLED / f"{self.name}_x{self.spec.scale}.safetensors"
        return path if path.is_file() else None


_PAPER = 'Xie et al., "Large Kernel Distillation Network for Efficient Single Image Super-Resolution", CVPR-W 2023'
PAPERS = {"lkdn": _PAPER, "lkdn-s": _PAPER}


def _published(file: str, sha256: str) -> Weights:
    folder = "experiments/pretrained_models/LKDN"
    return Weights("stella-von/LKDN", "54df78a", f"{folder}/{file}", sha256, "MIT, (c) 2023 StellaXx")


ENTRIES = (
    Entry(
        "lkdn",
        LkdnSpec.lkdn(2),
        303_812,
        69.1,
        True,
        _published("LKDN_x2.pth", "02b429e795ad0863fdf21c6924c79344e30a39d637c44442d13124193b012e6b"),
        (38.114, 33.850),
    ),
    Entry(
        "lkdn",
        LkdnSpec.lkdn(3),
        311_387,
        31.4,
        True,
        _published("LKDN_x3.pth", "52835d49d402683ea2085c13e4afc3aca49f6b806ea29d6ed29b2238cd7874c5"),
        (34.531, 30.507),
    ),
    Entry(
        "lkdn",
        LkdnSpec.lkdn(4),
        321_992,
        18.3,
        True,
        _published("LKDN_x4.pth", "f534422583c99dad994fd7df897f6f872637218430cfedf6c2d2a072ea86dbd7"),
        (32.390, 28.796),
    ),
    Entry("lkdn-s", LkdnSpec.lkdn_s(2), 115_533, 26.2, False),
    Entry("lkdn-s", LkdnSpec.lkdn_s(3), 121_218, 12.2, False),
    Entry(
        "lkdn-s",
        LkdnSpec.lkdn_s(4),
        129_177,
        7.3,
        True,
        _published("LKDN-S_x4.pth", "39ff2c69cdeb40f842c9f93368caee3323a4309c350373edeb2dc9ef3cc05851"),
        (32.102, 28.619),
    ),
)


def names() -> list[str]:
    """Every network once."""
    return list(dict.fromkeys(entry.name for entry in ENTRIES))


def entries(name: str) -> Iterator[Entry]:
    """One network at all its scales.

    Raises:
        UsageError: if there is none of this name.
    """
    if name not in names():
        msg = f"no network is called {name}"
        raise UsageError(msg, f"known are {', '.join(names())}")
    return (entry for entry in ENTRIES if entry.name == name)


def find(name: str, scale: int) -> Entry:
    """One network at one scale.

    Raises:
        UsageError: if there is none.
    """
    for entry in entries(name):
        if entry.spec.scale == scale:
            return entry
    msg = f"{name} has no x{scale}"
    raise UsageError(msg, f"it has {', '.join(f'x{entry.spec.scale}' for entry in entries(name))}")


def bundled_checkpoint(name: str, scale: int) -> Path:
    """The training-form checkpoint that comes with the package.

    Raises:
        UsageError: if there is no such network.
        MissingError: if its weights are not bundled, saying where they are.
    """
    entry = find(name, scale)
    if entry.bundled:
        return entry.bundled
    msg = f"the weights of {name} x{scale} do not come with the package"
    hint = "train them" if entry.weights is None else f"download {entry.weights.url}"
    raise MissingError(msg, f"{hint}, then name the file with --weights")


def name_of(spec: LkdnSpec) -> str:
    """The zoo's name of a network in whatever form, or one made of its widths."""
    for entry in ENTRIES:
        if _shape(entry.spec) == _shape(spec):
            return entry.name
    return f"lkdn-b{spec.blocks}-c{spec.channels}-a{spec.attention_channels}"


def _shape(spec: LkdnSpec) -> LkdnSpec:
    """What training form, fusion and scale do not change."""
    return replace(spec, scale=1, block=Block.BSB, upsampler=Upsampler.PLAIN, input_copies=1)

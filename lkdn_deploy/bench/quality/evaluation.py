"""PSNR and SSIM of whatever upscales, picture by picture, on test sets; and the results as JSON and CSV.

Two conventions, never mixed: on luma with a border as wide as the scale, as the papers' tables have it, and on the
three channels with a border of 4, as the NTIRE challenges have it. Averages are means over the pictures of a set, PSNR
too. An infinite PSNR, of pictures that are equal, is the text ``inf`` in JSON, which has no such number, and in CSV.
"""

import csv
import io
import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields
from importlib import metadata as distributions
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy import __version__
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import LkdnError
from lkdn_deploy.core.files import printable
from lkdn_deploy.core.protocols import Session
from lkdn_deploy.imaging.metrics import psnr_rgb, psnr_y, ssim_rgb, ssim_y
from lkdn_deploy.imaging.resample import imresize
from lkdn_deploy.imaging.testsets import ImagePair, TestSet, read_pair
from lkdn_deploy.runtime.upscaler import Upscaler

BICUBIC = "bicubic"
"""The name of the baseline: enlargement by MATLAB's bicubic."""
NTIRE_BORDER = 4

Upscale = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""(h, w, 3) RGB -> (scale * h, scale * w, 3) RGB."""
UpscaleFloats = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""The same on values in 0..1, clipped to these."""
Seen = Callable[[ImagePair, NDArray[np.uint8], NDArray[np.uint8], NDArray[np.uint8]], None]
"""Told of every picture that was upscaled: it, its low-resolution version, the original, and what was made."""


@dataclass(frozen=True, slots=True)
class Borders:
    """Pixels that are left out at each side."""

    y: int
    """Of luma."""
    rgb: int

    @classmethod
    def of(cls, scale: int, border: int | None = None) -> "Borders":
        """By the two conventions, or ``border`` for both."""
        return cls(scale, NTIRE_BORDER) if border is None else cls(border, border)


@dataclass(frozen=True, slots=True)
class Scores:
    """How near a picture is to the original: PSNR in dB, and SSIM, of which 1 is equal."""

    psnr_y: float
    ssim_y: float
    psnr_rgb: float
    ssim_rgb: float


@dataclass(frozen=True, slots=True)
class Subject:
    """A model at a scale, opened: what is measured."""

    name: str
    scale: int
    upscale: Upscale
    backend: str
    """The engine and device really used."""
    precision: str
    metadata: ArtifactMetadata | None = None
    """None: it is no network."""
    upscaler: Upscaler | None = None
    """What knows of tiles; None: there are none."""

    @property
    def title(self) -> str:
        """What tells it from the others; fit for the name of a folder."""
        return f"{self.name}_x{self.scale}"

    def tiles(self, low: NDArray[np.uint8]) -> int:
        """How many a picture is cut into."""
        return 1 if self.upscaler is None else len(self.upscaler.plan(*low.shape[:2]))

    def exact(self, tiles: int) -> bool:
        """Whether the result of so many tiles is that of the whole picture."""
        return tiles == 1 or self.upscaler is None or self.upscaler.exact


@dataclass(frozen=True, slots=True)
class Record:
    """A picture as one subject upscaled it."""

    test_set: str
    image: str
    lr_made: bool
    """Whether its low-resolution version was made from the original, not read."""
    quality: Scores | None = None
    """None: it could not be measured."""
    size: tuple[int, int] | None = None
    """Width and height of the original, cropped to a multiple of the scale."""
    tiles: int | None = None
    exact: bool | None = None
    """Whether the result is that of the whole picture in one."""
    error: str = ""
    """Why it could not be measured."""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Average:
    """A test set as one subject upscaled it."""

    test_set: str
    images: int
    """Those that were measured."""
    failed: int
    quality: Scores | None
    """None: there was nothing to average."""


@dataclass(frozen=True, slots=True)
class Results:
    """All that was measured of one subject."""

    subject: Subject
    borders: Borders
    records: tuple[Record, ...]
    graphics: Mapping[str, float] = field(default_factory=dict)
    """Errors in levels on the pictures that come with the program, by name; empty where they were not asked for."""

    @property
    def averages(self) -> list[Average]:
        """One a set, in the order measured."""
        names = dict.fromkeys(record.test_set for record in self.records)
        return [average(name, [record for record in self.records if record.test_set == name]) for name in names]


def of_session(name: str, session: Session, *, tile: int | None = None, self_ensemble: bool = False) -> Subject:
    """A network on an engine.

    Raises:
        UsageError: as ``Upscaler`` does of ``tile``.
    """
    upscaler = Upscaler(session, tile=tile)
    upscale: Upscale = ensemble(upscaler) if self_ensemble else upscaler
    found = session.metadata
    return Subject(name, found.scale, upscale, session.backend, found.precision, found, upscaler)


def bicubic(scale: int) -> Subject:
    """Enlargement by MATLAB's bicubic, rounded to 8 bits: what every network must beat."""

    def upscale(low: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return imresize(low, scale)  # type: ignore[return-value]

    return Subject(BICUBIC, scale, upscale, "numpy", "fp64")


def ensemble(upscale: UpscaleFloats) -> Upscale:
    """The mean, before it is rounded, of what is made of the eight flipped and transposed versions of a picture, turned
    back: the geometric self-ensemble of Lim et al., "Enhanced Deep Residual Networks" (EDSR, CVPR-W 2017).
    """

    def upscale_all(low: NDArray[np.uint8]) -> NDArray[np.uint8]:
        pixels = low.astype(np.float32) / np.float32(255)
        turns = (np.ascontiguousarray(_turned(pixels, turn)) for turn in range(8))
        # In float64, where eight float32 are added without loss: the order then does not matter.
        total = sum(_turned_back(upscale(turned), turn).astype(np.float64) for turn, turned in enumerate(turns))
        return np.rint(total / 8 * 255).astype(np.uint8)

    return upscale_all


def _turned(image: NDArray[Any], turn: int) -> NDArray[Any]:
    """One of the eight symmetries of the square, of (H, W, C): bits for transposed, upside down, mirrored."""
    if turn & 4:
        image = image.swapaxes(0, 1)
    return image[:: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1]


def _turned_back(image: NDArray[Any], turn: int) -> NDArray[Any]:
    image = image[:: -1 if turn & 2 else 1, :: -1 if turn & 1 else 1]
    return image.swapaxes(0, 1) if turn & 4 else image


def evaluate(subject: Subject, pictures: TestSet, borders: Borders, *, seen: Seen | None = None) -> Iterator[Record]:
    """Measure a subject on a set, one record a picture, each when it is asked for.

    A picture that cannot be read, or that the subject cannot upscale, becomes a record that says why.
    """
    for picture in pictures.pictures:
        made = picture.low is None
        try:
            low, high = read_pair(picture, subject.scale, max(borders.y, borders.rgb))
            image, tiles = subject.upscale(low), subject.tiles(low)
        except LkdnError as error:
            why, hint = printable(error.message), printable(error.hint or "")
            yield Record(pictures.name, picture.name, made, error=why, hint=hint)
            continue
        if seen is not None:
            seen(picture, low, high, image)
        quality = measure(image, high, borders)
        size = high.shape[1], high.shape[0]
        yield Record(pictures.name, picture.name, made, quality, size, tiles, subject.exact(tiles))


def measure(image: NDArray[np.uint8], original: NDArray[np.uint8], borders: Borders) -> Scores:
    """The quality of one (H, W, 3) RGB picture.

    Raises:
        ValueError: if the sizes differ, or less than SSIM's window is inside a border.
    """
    luma = psnr_y(image, original, borders.y), ssim_y(image, original, borders.y)
    return Scores(*luma, psnr_rgb(image, original, borders.rgb), ssim_rgb(image, original, borders.rgb))


def average(name: str, records: Sequence[Record]) -> Average:
    """The mean of each figure over the records that have them."""
    measured = [astuple(record.quality) for record in records if record.quality]
    quality = Scores(*(float(value) for value in np.mean(measured, axis=0))) if measured else None
    return Average(name, len(measured), len(records) - len(measured), quality)


def conventions(border: int | None) -> dict[str, str]:
    """What the figures are, in words."""
    y = "as wide as the scale, as in the papers" if border is None else f"{border} pixels, as asked for"
    rgb = f"{NTIRE_BORDER} pixels, as at NTIRE" if border is None else f"{border} pixels, as asked for"
    return {
        "psnr_y, ssim_y": f"on luma of BT.601 in studio range, not rounded; border {y}",
        "psnr_rgb, ssim_rgb": f"on RGB, SSIM the mean of the channels'; border {rgb}",
        "pictures": "rounded to 8 bits; PSNR in dB with a peak of 255; inf where there is no difference",
        "averages": "means over the pictures that were measured, of each figure",
    }


def to_json(results: Sequence[Results], settings: Mapping[str, Any], *, interrupted: bool = False) -> dict[str, Any]:
    """All of it in values that JSON has.

    Args:
        results: of each subject.
        settings: what was asked for; ``border`` among it is ``None`` or what both borders are.
        interrupted: whether there would have been more.
    """
    return {
        "format": 1,
        "interrupted": interrupted,
        "settings": dict(settings),
        "conventions": conventions(settings.get("border")),
        "versions": versions(),
        "models": [_model(result) for result in results],
    }


def _model(results: Results) -> dict[str, Any]:
    subject = results.subject
    found = subject.metadata
    artefact = found and {item.name: getattr(found, item.name) for item in fields(found)}
    if artefact:
        artefact["tools"] = dict(artefact["tools"])
    return {
        "model": subject.name,
        "scale": subject.scale,
        "backend": subject.backend,
        "precision": subject.precision,
        "weights_sha256": found and found.weights_sha256,
        "artefact": artefact,
        "borders": asdict(results.borders),
        "sets": [
            {
                "set": one.test_set,
                "images": one.images,
                "failed": one.failed,
                "average": _figures(one.quality),
                "records": [_record(record) for record in results.records if record.test_set == one.test_set],
            }
            for one in results.averages
        ],
        **({"graphics": dict(results.graphics)} if results.graphics else {}),
    }


def _record(record: Record) -> dict[str, Any]:
    facts: dict[str, Any] = {"image": record.image, "lr": _lr(record)}
    if record.quality is None:
        return facts | {"error": record.error, "hint": record.hint}
    return (
        facts | {"size": record.size, "tiles": record.tiles, "exact": record.exact} | (_figures(record.quality) or {})
    )


def _lr(record: Record) -> str:
    return "made" if record.lr_made else "given"


def _figures(quality: Scores | None) -> dict[str, float | str] | None:
    if quality is None:
        return None
    return {key: value if math.isfinite(value) else "inf" for key, value in asdict(quality).items()}


COLUMNS = (
    "kind",
    "model",
    "scale",
    "set",
    "image",
    "images",
    "failed",
    "psnr_y",
    "ssim_y",
    "psnr_rgb",
    "ssim_rgb",
    "border_y",
    "border_rgb",
    "lr",
    "tiles",
    "exact",
    "backend",
    "precision",
    "error",
)
"""Of the CSV. ``kind`` is ``image`` or ``average``; ``images`` and ``failed`` count what an average is of."""


def to_csv(results: Sequence[Results]) -> str:
    """A line a picture, and after those of a set one of their average. What is not known is empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    for result in results:
        subject = result.subject
        common = {
            "model": subject.name,
            "scale": subject.scale,
            "border_y": result.borders.y,
            "border_rgb": result.borders.rgb,
            "backend": subject.backend,
            "precision": subject.precision,
        }
        for one in result.averages:
            for record in result.records:
                if record.test_set == one.test_set:
                    facts: dict[str, Any] = {
                        "kind": "image",
                        "set": one.test_set,
                        "image": record.image,
                        "lr": _lr(record),
                    }
                    facts |= {"tiles": record.tiles, "exact": record.exact, "error": record.error}
                    writer.writerow(common | facts | (_figures(record.quality) or {}))
            facts = {"kind": "average", "set": one.test_set, "images": one.images, "failed": one.failed}
            writer.writerow(common | facts | (_figures(one.quality) or {}))
    return text.getvalue()


def versions() -> dict[str, str]:
    """Of this package, of Python, and of those engines and libraries that are installed."""
    found = {"lkdn-deploy": __version__, "python": platform.python_version()}
    for name in ("llvmlite", "numpy", "pillow", "onnxruntime", "onnxruntime-gpu", "openvino", "torch"):
        try:
            found[name] = distributions.version(name)
        except distributions.PackageNotFoundError:
            continue
    return found

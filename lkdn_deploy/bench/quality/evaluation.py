"""PSNR and SSIM of anything that upscales, picture by picture, on test sets; and the results as JSON and CSV.

There are two conventions: on luma with a border as wide as the scale, as in the papers' tables, and on RGB with a
border of 4, as in the NTIRE challenges. Averages are means over the pictures of a set, also of PSNR. The infinite PSNR
of equal pictures is the text ``inf`` in JSON, which has no such number, and in CSV.
"""

import csv
import io
import math
import platform
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.bench.machine import versions
from lkdn_deploy.bench.opening import BICUBIC
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import LkdnError
from lkdn_deploy.core.files import printable
from lkdn_deploy.core.protocols import Session
from lkdn_deploy.imaging.metrics import psnr_rgb, psnr_y, ssim_rgb, ssim_y
from lkdn_deploy.imaging.resample import imresize
from lkdn_deploy.imaging.testsets import ImagePair, TestSet, read_pair
from lkdn_deploy.runtime.ensemble import EnsembleSession
from lkdn_deploy.runtime.upscaler import TiledResult, Upscaler

NTIRE_BORDER = 4

Levels = NDArray[np.uint8]
"""A picture, (h, w, 3) RGB."""
Seen = Callable[[ImagePair, Levels, Levels, Levels], None]
"""Called with every picture that was upscaled: its files, its low-resolution version, the original, and the result."""


@dataclass(frozen=True, slots=True)
class Borders:
    """Pixels that are cropped from each side before comparing."""

    y: int
    rgb: int

    @classmethod
    def of(cls, scale: int, border: int | None = None) -> "Borders":
        """Return the borders of the two conventions, or ``border`` for both."""
        return cls(scale, NTIRE_BORDER) if border is None else cls(border, border)


@dataclass(frozen=True, slots=True)
class Scores:
    """The similarity of a picture to the original: PSNR in dB, and SSIM."""

    psnr_y: float
    ssim_y: float
    psnr_rgb: float
    ssim_rgb: float


@dataclass(frozen=True, slots=True)
class Subject:
    """An opened model at a scale, to be evaluated."""

    name: str
    scale: int
    upscale: Callable[[Levels], TiledResult]
    backend: str
    """Engine and device in use."""
    precision: str
    metadata: ArtifactMetadata | None = None
    """``None`` for what is not a network."""

    @property
    def title(self) -> str:
        """Name and scale, fit for the name of a folder."""
        return f"{self.name}_x{self.scale}"

    def pixels(self, low: Levels) -> Levels:
        """Upscale a picture, and return the pixels alone."""
        return self.upscale(low).pixels


@dataclass(frozen=True, slots=True)
class Record:
    """The result of one subject on one picture."""

    test_set: str
    image: str
    lr_made: bool
    """Whether the low-resolution picture was made from the original, not read."""
    scores: Scores | None = None
    """``None``: the picture could not be measured."""
    size: tuple[int, int] | None = None
    """Width and height of the original, cropped to a multiple of the scale."""
    tiles: int | None = None
    exact: bool | None = None
    """Whether the result equals that of the whole picture."""
    error: str = ""
    """The reason why the picture could not be measured."""
    hint: str = ""


@dataclass(frozen=True, slots=True)
class Average:
    """The mean result of one subject on one test set."""

    test_set: str
    images: int
    """Number of pictures measured."""
    failed: int
    scores: Scores | None
    """``None``: no picture was measured."""


@dataclass(frozen=True, slots=True)
class Results:
    """All results of one subject."""

    subject: Subject
    borders: Borders
    records: list[Record]
    graphics: dict[str, float] = field(default_factory=dict)
    """Errors in levels on the built-in pictures of ``graphics.py`` by name; empty if they were not measured."""

    @property
    def averages(self) -> list[Average]:
        """One average for each set, in the order measured."""
        names = dict.fromkeys(record.test_set for record in self.records)
        return [average(name, [record for record in self.records if record.test_set == name]) for name in names]


def of_session(name: str, session: Session, *, tile: int | None = None, self_ensemble: bool = False) -> Subject:
    """Make a subject of a network on an engine.

    Args:
        name: name of the subject.
        session: the opened network.
        tile: side of a tile in LR pixels without its halo, as ``Upscaler`` takes it.
        self_ensemble: whether to take the mean over all flips and rotations, as ``EnsembleSession`` does.

    Raises:
        UsageError: as ``Upscaler`` does.
    """
    upscaler = Upscaler(EnsembleSession(session) if self_ensemble else session, tile=tile)
    found = session.metadata
    return Subject(name, found.scale, upscaler.upscale, session.backend, found.precision, found)


def bicubic(scale: int) -> Subject:
    """Make a subject of MATLAB's bicubic enlargement, rounded to 8 bits: the baseline for every network."""
    return Subject(BICUBIC, scale, lambda low: TiledResult(imresize(low, scale), 1, exact=True), "numpy", "fp64")


def evaluate(subject: Subject, pictures: TestSet, borders: Borders, *, seen: Seen | None = None) -> Iterator[Record]:
    """Measure a subject on a set, and yield one record for each picture.

    A picture that cannot be read or upscaled gives a record with the reason.

    Args:
        subject: the subject.
        pictures: the test set.
        borders: pixels to crop.
        seen: called with every picture that was upscaled.
    """
    for picture in pictures.pictures:
        made = picture.low is None
        try:
            low, high = read_pair(picture, subject.scale, max(borders.y, borders.rgb))
            result = subject.upscale(low)
        except LkdnError as error:
            why, hint = printable(error.message), printable(error.hint or "")
            yield Record(pictures.name, picture.name, made, error=why, hint=hint)
            continue
        image, size = result.pixels, (high.shape[1], high.shape[0])
        if seen is not None:
            seen(picture, low, high, image)
        on_luma = psnr_y(image, high, borders.y), ssim_y(image, high, borders.y)
        scores = Scores(*on_luma, psnr_rgb(image, high, borders.rgb), ssim_rgb(image, high, borders.rgb))
        yield Record(pictures.name, picture.name, made, scores, size, result.tiles, result.exact)


def average(name: str, records: Sequence[Record]) -> Average:
    """Compute the mean of each score over the records that have scores."""
    measured = [astuple(record.scores) for record in records if record.scores]
    scores = Scores(*np.mean(measured, axis=0).tolist()) if measured else None
    return Average(name, len(measured), len(records) - len(measured), scores)


def to_json(results: Sequence[Results], settings: Mapping[str, Any], *, interrupted: bool = False) -> dict[str, Any]:
    """Convert results to values that JSON can hold.

    Args:
        results: results of each subject.
        settings: the user's settings; ``border`` among them is ``None`` or the value of both borders.
        interrupted: whether the evaluation ended early.
    """
    border = settings.get("border")
    asked = f"{border} pixels, as asked for"
    y = "as wide as the scale, as in the papers" if border is None else asked
    rgb = f"{NTIRE_BORDER} pixels, as at NTIRE" if border is None else asked
    return {
        "format": 1,
        "interrupted": interrupted,
        "settings": dict(settings),
        "conventions": {
            "psnr_y, ssim_y": f"on luma of BT.601 in studio range, not rounded; border {y}",
            "psnr_rgb, ssim_rgb": f"on RGB, SSIM the mean of the channels'; border {rgb}",
            "pictures": "rounded to 8 bits; PSNR in dB with a peak of 255; inf where there is no difference",
            "averages": "means over the pictures that were measured, of each figure",
        },
        "versions": {"python": platform.python_version()} | versions(),
        "models": [_model(result) for result in results],
    }


def _model(results: Results) -> dict[str, Any]:
    subject = results.subject
    artefact = subject.metadata and asdict(subject.metadata)
    return {
        "model": subject.name,
        "scale": subject.scale,
        "backend": subject.backend,
        "precision": subject.precision,
        "weights_sha256": artefact and artefact["weights_sha256"],
        "artefact": artefact,
        "borders": asdict(results.borders),
        "sets": [
            {
                "set": one.test_set,
                "images": one.images,
                "failed": one.failed,
                "average": _scores(one.scores) if one.scores else None,
                "records": [_record(record) for record in results.records if record.test_set == one.test_set],
            }
            for one in results.averages
        ],
        **({"graphics": results.graphics} if results.graphics else {}),
    }


def _record(record: Record) -> dict[str, Any]:
    facts = {"image": record.image, "lr": "made" if record.lr_made else "given"}
    if record.scores is None:
        return facts | {"error": record.error, "hint": record.hint}
    return facts | {"size": record.size, "tiles": record.tiles, "exact": record.exact} | _scores(record.scores)


def _scores(scores: Scores) -> dict[str, float | str]:
    return {key: value if math.isfinite(value) else "inf" for key, value in asdict(scores).items()}


COLUMNS = (
    *("kind", "model", "scale", "set", "image", "images", "failed", "psnr_y", "ssim_y", "psnr_rgb", "ssim_rgb"),
    *("border_y", "border_rgb", "lr", "tiles", "exact", "backend", "precision", "error"),
)
"""Columns of the CSV. ``kind`` is ``image`` or ``average``; ``images`` and ``failed`` are counts of an average."""


def to_csv(results: Sequence[Results]) -> str:
    """Write one line for each picture, and after those of a set one with their average. Unknown values are empty."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n", extrasaction="ignore")
    writer.writeheader()
    for result in results:
        common = _model(result) | {"border_y": result.borders.y, "border_rgb": result.borders.rgb}
        for one in common["sets"]:
            for record in one["records"]:
                writer.writerow(common | {"kind": "image", "set": one["set"]} | record)
            writer.writerow(common | one | {"kind": "average"} | (one["average"] or {}))
    return text.getvalue()

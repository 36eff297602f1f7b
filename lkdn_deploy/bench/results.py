"""What ``lkdn-bench`` finds, as plain values. A report on disk is these in JSON, see ``schema``."""

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import publish
from lkdn_deploy.core.optional import needs

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT = 1


class Protocol(StrEnum):
    """How latency is measured and operations are counted. Figures of one are never set beside those of the other."""

    STEADY = "steady"
    """Latency: one fixed input, warmed up until stable, the median of interleaved rounds, each in a session opened
    anew. Operations: Multi-Adds of convolutions and linear layers for an output of 1280x720. PSNR on luma, border as
    wide as the scale."""
    NTIRE_2023 = "ntire2023"
    """As the challenge on efficient super-resolution of 2023 (github.com/ofsoundof/NTIRE2023_ESR, ``test_demo.py``).

    Latency: the mean over the images at their own sizes, each once, the first included, no warm-up. Operations and
    activations: for an input of 256x256, as its hooks count them. PSNR on RGB, border 4.
    """


class Copies(StrEnum):
    """Whether moving the image between host and device is part of a time."""

    NONE = "none"
    """There are none: the engine works in the host's memory."""
    TIMED = "in and out"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Ratio:
    """A row's latency over that of the report's first row, with its 99 % bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def told_apart(self) -> bool:
        """Whether the two rows differ by more than the noise."""
        return not self.low <= 1 <= self.high


@dataclass(frozen=True, slots=True)
class WarmUp:
    """What was run before anything counted."""

    runs: int
    seconds: float
    """Twice what every second run took: those between are not timed."""
    stable: bool
    """Whether the running median settled before the bound was reached."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of one run in milliseconds.

    Raises:
        ValueError: if one of them is no time.
    """

    samples: tuple[float, ...]
    """In the order measured: one a round, or one an image.

    On the wall's clock; under ``ntire2023`` a GPU's are those of its own events, as the challenge has them.
    """
    median: float
    p5: float
    p95: float
    mean: float
    copies: Copies
    first: float
    """Of the first run after opening."""
    opening: float
    """Of opening the model on its engine."""
    warm_up: WarmUp | None = None
    """``None``: there was none, as the protocol says."""
    ratio: Ratio | None = None
    """``None``: of the first row, or where too little was measured."""
    device_samples: tuple[float, ...] = ()
    """Of the device alone, by its own events, where it has any."""
    building: float | None = None
    """Of building the engine, once, whenever that was; ``None``: nothing is built."""

    def __post_init__(self) -> None:
        for value in (*self.samples, *self.device_samples, self.median, self.p5, self.p95, self.mean):
            if not 0 < value < math.inf:
                msg = f"a time is more than 0 ms, got {value}"
                raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Cost:
    """What is counted of a model, the same on every engine."""

    parameters: int
    operations: int
    """Multi-Adds or FLOPs, as the protocol says."""
    activations: int
    """Elements of the outputs of all convolutions."""
    convolutions: int
    input_size: tuple[int, int]
    """Height and width that these are counted at."""


@dataclass(frozen=True, slots=True)
class SetQuality:
    """Means over a test set's images, as the protocol has them."""

    name: str
    images: int
    psnr: float | None
    """In dB; ``None``: infinite, a picture is equal to its original."""
    ssim: float


@dataclass(frozen=True, slots=True)
class Memory:
    """The most that a run took, beyond what the process had when the model was open."""

    peak_mib: float
    device: str
    """``host``: growth of the process's resident memory; else the device's name."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least time in milliseconds that the roofline allows, for three degrees of fusion."""

    device: str
    layers: float
    pointwise: float
    network: float


@dataclass(frozen=True, slots=True)
class Row:
    """A model on an engine at a precision."""

    model: str
    scale: int
    backend: str
    """The engine and device that really ran it."""
    precision: str
    weights: str
    """``bundled``, ``published``, ``random``, or a file's name."""
    cost: Cost | None = None
    """``None``: the network is not known, as of an artefact of other widths."""
    latency: Latency | None = None
    quality: tuple[SetQuality, ...] = ()
    memory: Memory | None = None
    bounds: Bounds | None = None
    kinds: Mapping[str, float] = field(default_factory=dict)
    """Milliseconds of a run spent in each kind of layer, by the engine's own profiler, in one run of its own."""
    problem: str = ""
    """Why there is no more: what failed, and at what."""

    @property
    def title(self) -> str:
        """What tells it from the other rows."""
        return f"{self.model} x{self.scale} {self.backend} {self.precision}"

    @property
    def psnr(self) -> float | None:
        """The mean over the images of all sets, in dB; ``None``: not measured, or infinite."""
        known = [(each.psnr, each.images) for each in self.quality if each.psnr is not None]
        if not known or len(known) < len(self.quality):
            return None
        return sum(psnr * images for psnr, images in known) / sum(images for _, images in known)


@dataclass(frozen=True, slots=True)
class Settings:
    """What was asked for."""

    protocol: Protocol
    input_size: tuple[int, int] | None
    """Height and width; ``None``: the images' own."""
    threads: int
    rounds: int
    seed: int
    """Of the order of rows within each round, and of the noise that is upscaled."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """What was not measured."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """All of one run of ``lkdn-bench``."""

    settings: Settings
    rows: tuple[Row, ...]
    machine: Mapping[str, Any]
    """See ``lkdn_deploy.bench.machine``."""
    made: str
    """UTC, ISO 8601."""
    left_out: tuple[LeftOut, ...] = ()
    """Engines and precisions that do not work here."""
    failed: tuple[LeftOut, ...] = ()
    """Images that could not be read or upscaled."""
    interrupted: bool = False
    """Whether it was stopped before all was measured."""
    format: int = FORMAT


def schema() -> dict[str, Any]:
    """The JSON Schema of a report."""
    return _adapter().json_schema()


def write_report(path: Path, report: Report) -> None:
    """Write the JSON, whole or not at all.

    Raises:
        InputError: if it cannot be written.
        MissingError: without pydantic.
    """
    text = _adapter().dump_json(report, indent=1)
    with publish(path) as part:
        part.write_bytes(text + b"\n")


def read_report(path: Path) -> Report:
    """Read what ``write_report`` wrote.

    Raises:
        InputError: if it cannot be read, is no report, or one of another format.
        MissingError: without pydantic.
    """
    adapter = _adapter()
    with needs("bench"):
        from pydantic import ValidationError
    hint = "give a file that lkdn-bench --output wrote"
    try:
        text = path.read_bytes()
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise InputError(msg, hint) from error
    try:
        found = json.loads(text)
        given = found.get("format") if isinstance(found, dict) else None
        if given is not None and given != FORMAT:
            msg = f"{path} is a report of format {given!r}, this version reads {FORMAT}"
            raise InputError(msg, "measure again with this version")
        return adapter.validate_python(found)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the whole"
        msg = f"{path} is no report of lkdn-bench: {where}: {first['msg']}"
        raise InputError(msg, hint) from error
    except (ValueError, RecursionError) as error:
        msg = f"{path} is no report of lkdn-bench: {error}"
        raise InputError(msg, hint) from error


@cache
def _adapter() -> "TypeAdapter[Report]":
    with needs("bench"):
        from pydantic import TypeAdapter
    return TypeAdapter(Report)

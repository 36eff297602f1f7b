"""The report of ``lkdn-bench`` as plain values, and as JSON on disk (``schema`` describes it)."""

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import publish, read_bounded, reading
from lkdn_deploy.core.optional import needs

if TYPE_CHECKING:
    from pydantic import TypeAdapter

FORMAT = 1
MAX_BYTES = 32 << 20
"""Largest size of a report's file."""
LEAST, MOST = 1e-9, 1e15
"""Limits of a time in ms and of every number: nothing that is measured or counted lies beyond them."""
MAX_ROWS, MAX_ROUNDS, MAX_SAMPLES = 1000, 10_000, 200_000
"""Limits of a report: rows, rounds of timing, and samples of all rows together."""


class Protocol(StrEnum):
    """Rules by which latency is measured and operations are counted. Figures of different protocols are never mixed."""

    STEADY = "steady"
    """Latency: one input size, warmed up until stable, the median of interleaved rounds, each in a new session.
    Operations: Multi-Adds of convolutions and linear layers for an output of 1280x720. PSNR on luma, with a border as
    wide as the scale."""
    NTIRE_2023 = "ntire2023"
    """The NTIRE 2023 challenge on efficient super-resolution (github.com/ofsoundof/NTIRE2023_ESR, ``test_demo.py``).
    Latency: the mean over the images at their own sizes, each once, including the first, without warm-up, in a process
    for each row; PyTorch's networks without conversions of the range of values, which are part of artefacts. Memory:
    of that process. Operations and activations: for an input of 256x256, as its hooks count them. PSNR on RGB, with a
    border of 4."""
    NTIRE_2024 = "ntire2024"
    """The challenges of 2024 to 2026 (github.com/Amazingren/NTIRE2024_ESR and so on). As in 2023, but for the mean of
    five runs over the images, in which rows take turns in one process, so that what slows one slows its baseline, too;
    and FLOPs as fvcore counts them; ``challenge`` has the baselines and scores."""
    NTIRE_2025 = "ntire2025"
    NTIRE_2026 = "ntire2026"

    @property
    def is_challenge(self) -> bool:
        """Whether the images of test sets are timed at their own sizes, as the challenges do."""
        return self is not Protocol.STEADY

    @property
    def runs(self) -> int:
        """Number of runs over the images that are averaged."""
        return 1 if self in (Protocol.STEADY, Protocol.NTIRE_2023) else 5

    @property
    def statistic(self) -> str:
        """The field of ``Latency`` that stands for a latency."""
        return "mean" if self.is_challenge else "median"

    @property
    def operations(self) -> str:
        """The name of the operations that are counted."""
        return "FLOPs" if self.is_challenge else "Multi-Adds"


class Copies(StrEnum):
    """Whether a time includes copies of the image between host and device."""

    NONE = "none"
    """There are no copies: the engine works in the host's memory."""
    TIMED = "in and out"
    LEFT_OUT = "left out"


@dataclass(frozen=True, slots=True)
class Ratio:
    """The ratio of a row's latency to that of the report's first row, with its 99 % bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def told_apart(self) -> bool:
        """Whether the rows differ by more than the noise."""
        return not self.low <= 1 <= self.high


@dataclass(frozen=True, slots=True)
class WarmUp:
    """The warm-up before the timed runs."""

    runs: int
    seconds: float
    """Estimated duration: twice the time of every second run, since only these are timed."""
    stable: bool
    """Whether the running median settled before a limit was reached."""


@dataclass(frozen=True, slots=True)
class Latency:
    """Times of one run in milliseconds.

    Raises:
        ValueError: if a time is not positive and finite.
    """

    samples: tuple[float, ...]
    """Times in order, one for each round or image: by the device's own events under the challenges' protocols, and
    under ``steady`` where every row has them; else by the wall clock."""
    median: float
    p5: float
    p95: float
    mean: float
    copies: Copies
    first: float
    """Time of the first run after opening."""
    opening: float
    """Time of opening the model on its engine."""
    warm_up: WarmUp | None = None
    """``None``: the protocol has no warm-up."""
    ratio: Ratio | None = None
    """``None``: this is the first row, or there are too few samples."""
    device_samples: tuple[float, ...] = ()
    """Samples of the device alone by its own events, if it has any."""
    building: float | None = None
    """Time of building the engine, possibly in an earlier run; ``None``: nothing is built."""

    def __post_init__(self) -> None:
        for value in (*self.samples, *self.device_samples, self.median, self.p5, self.p95, self.mean):
            if not LEAST < value < MOST:
                msg = f"expected a positive time in ms, got {value}"
                raise ValueError(msg)


@dataclass(frozen=True, slots=True)
class Cost:
    """The counted cost of a model, the same on every engine."""

    parameters: int
    operations: int
    """Multi-Adds or FLOPs, depending on the protocol."""
    activations: int
    """Elements of the outputs of all convolutions."""
    convolutions: int
    input_size: tuple[int, int]
    """Height and width of the input for which these are counted."""


@dataclass(frozen=True, slots=True)
class SetQuality:
    """Mean scores over a test set's images, by the protocol's convention."""

    name: str
    images: int
    psnr: float | None
    """PSNR in dB; ``None``: infinite, since a picture equals its original."""
    ssim: float
    psnr_rgb: float | None = None
    """PSNR in dB on RGB with a border of 4, whatever the protocol; ``None``: infinite, or not measured."""


@dataclass(frozen=True, slots=True)
class Memory:
    """The peak memory of a run, beyond what the process used with the model open; under ``ntire2023`` of a process that
    runs all images, on a GPU with the weights."""

    peak_mib: float
    device: str
    """``host`` for the growth of the process's resident memory, else the device's name."""

    @classmethod
    def of(cls, peak: int, device: str) -> "Memory":
        """Return the peak of a number of bytes."""
        return cls(round(peak / 2**20, 1), device)


@dataclass(frozen=True, slots=True)
class Bounds:
    """The least time in milliseconds that the roofline allows, for three degrees of fusion."""

    device: str
    layers: float
    pointwise: float
    network: float


@dataclass(frozen=True, slots=True)
class Row:
    """A model on an engine at a precision; what was not measured is ``None`` or empty."""

    model: str
    scale: int
    backend: str
    """Engine and device in use."""
    precision: str
    weights: str
    """``bundled``, ``published``, ``random``, or a file's name."""
    cost: Cost | None = None
    latency: Latency | None = None
    quality: tuple[SetQuality, ...] = ()
    memory: Memory | None = None
    bounds: Bounds | None = None
    kinds: Mapping[str, float] = field(default_factory=dict)
    """Milliseconds in each kind of layer, by the engine's own profiler, in a separate run."""
    problem: str = ""
    """The stage that failed, and why; empty if none did."""

    @property
    def network(self) -> str:
        """Model and scale."""
        return f"{self.model} x{self.scale}"

    @property
    def title(self) -> str:
        """Model, scale, backend and precision."""
        return f"{self.network} {self.backend} {self.precision}"

    @property
    def psnr(self) -> float | None:
        """Mean PSNR over the images of all sets in dB; ``None``: not measured, or infinite."""
        known = [(each.psnr, each.images) for each in self.quality if each.psnr is not None]
        if not known or len(known) < len(self.quality):
            return None
        return sum(psnr * images for psnr, images in known) / sum(images for _, images in known)

    def typical(self, protocol: Protocol) -> float | None:
        """Return the latency in ms by the statistic of the protocol; ``None``: not measured."""
        return float(getattr(self.latency, protocol.statistic)) if self.latency else None

    def roofline_share(self, protocol: Protocol) -> float | None:
        """Return the least time that the device allows with pointwise operations fused, over the measured time."""
        measured = self.typical(protocol)
        return self.bounds.pointwise / measured if self.bounds and measured else None


@dataclass(frozen=True, slots=True)
class Settings:
    """The settings of a run."""

    protocol: Protocol
    input_size: tuple[int, int] | None
    """Height and width of the input; ``None``: the images' own sizes."""
    threads: int
    rounds: int
    seed: int
    """Seed of the order of rows within each round, and of the noise that is upscaled."""


@dataclass(frozen=True, slots=True)
class LeftOut:
    """Something that was not measured, and why."""

    what: str
    why: str


@dataclass(frozen=True, slots=True)
class Report:
    """All results of one run of ``lkdn-bench``."""

    settings: Settings
    rows: tuple[Row, ...]
    machine: Mapping[str, Any]
    """Facts of ``lkdn_deploy.bench.machine``."""
    made: str
    """Time of the run in UTC, ISO 8601."""
    left_out: tuple[LeftOut, ...] = ()
    """Engines and precisions that do not work on this machine."""
    failed: tuple[LeftOut, ...] = ()
    """Images that could not be read or upscaled."""
    interrupted: bool = False
    """Whether the run was stopped before everything was measured."""
    format: int = FORMAT

    def by_name(self) -> dict[str, Row]:
        """Return rows by title; rows with the same title also get their weights, and then a number, in their names."""
        titles = Counter(row.title for row in self.rows)
        result: dict[str, Row] = {}
        for row in self.rows:
            name = row.title if titles[row.title] == 1 else f"{row.title} ({row.weights})"
            same = sum(each == name or each.startswith(f"{name} #") for each in result)
            result[f"{name} #{same + 1}" if same else name] = row
        return result


def _numbers(value: Any) -> Iterator[float]:
    """Yield the numbers in nested tables and lists."""
    if isinstance(value, Mapping):
        value = value.values()
    elif isinstance(value, (int, float)) and not isinstance(value, bool):
        yield math.inf if abs(value) > MOST else value  # as a float, which an integer may be too large for
        return
    elif not isinstance(value, (list, tuple)):
        return
    for each in value:
        yield from _numbers(each)


@cache
def _adapter() -> "TypeAdapter[Report]":
    with needs("bench"):
        from pydantic import TypeAdapter
    return TypeAdapter(Report)


def schema() -> dict[str, Any]:
    """Return the JSON Schema of a report."""
    return _adapter().json_schema()


def write_report(path: Path, report: Report) -> None:
    """Write a report as JSON; the file appears complete or not at all.

    Raises:
        InputError: if the file cannot be written.
        MissingError: without pydantic.
    """
    text = _adapter().dump_json(report, indent=1)
    with publish(path) as part:
        part.write_bytes(text + b"\n")


def read_report(path: Path) -> Report:
    """Read a report that ``write_report`` wrote.

    Raises:
        InputError: if the file cannot be read, is not a report, has another format, or has too many rows or samples.
        MissingError: without pydantic.
    """
    adapter = _adapter()
    with needs("bench"):
        from pydantic import ValidationError
    with reading(path, "a report of lkdn-bench", "give a file that lkdn-bench --output wrote"):
        try:
            report = adapter.validate_json(read_bounded(path, MAX_BYTES))
        except ValidationError as error:
            first = error.errors(include_input=False)[0]
            where = ".".join(map(str, first["loc"])) or "the whole file"
            msg = f"{where}: {first['msg']}"
            raise ValueError(msg) from error
        if odd := [value for value in _numbers(adapter.dump_python(report)) if not -MOST < value < MOST]:
            msg = f"a number in it is {odd[0]:.3g}"
            raise ValueError(msg)
        if report.format != FORMAT:
            msg = f"it is a report of format {report.format}, but this version reads format {FORMAT}"
            raise InputError(msg, "measure again with this version")
        counts = [len(row.latency.samples) + len(row.latency.device_samples) for row in report.rows if row.latency]
        if max(counts, default=0) > 2 * MAX_ROUNDS or sum(counts) > MAX_SAMPLES or len(report.rows) > MAX_ROWS:
            msg = f"it has {len(report.rows):,} rows and {sum(counts):,} samples, {max(counts, default=0):,} in a row"
            limits = f"{MAX_ROWS:,} rows, {MAX_SAMPLES:,} samples, and {2 * MAX_ROUNDS:,} in a row"
            raise InputError(msg, f"a report may have at most {limits}")
    return report

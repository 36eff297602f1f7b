"""Jobs, image files to be upscaled into others, and what becomes of them."""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from lkdn_deploy.core.errors import LkdnError
from lkdn_deploy.core.protocols import RangeUse
from lkdn_deploy.imaging.files.picture import Header
from lkdn_deploy.runtime.settings import OutputSettings


@dataclass(frozen=True, slots=True)
class Job:
    """An image file to read and one to write.

    Attributes:
        source: file to read.
        target: file to write.
        settings: what decides the bytes of the target.
        overwrite: whether an existing target may be replaced.
        skip_existing: whether the job is skipped if its target exists, whatever that is.
    """

    source: Path
    target: Path
    settings: OutputSettings = field(default_factory=OutputSettings)
    overwrite: bool = False
    skip_existing: bool = False


@dataclass(frozen=True, slots=True)
class Upscaled:
    """A finished job: its target is complete and in place.

    Attributes:
        job: the job.
        model: name of the network that it was done with.
        scale: of that network.
        backend: engine and device that ran it.
        header: the source's header.
        width: width of the target in pixels.
        height: height of the target in pixels.
        tiles: number of windows that the image was cut into.
        exact: whether the result equals that of the whole image.
        seconds: time in the network and its conversions, without reading and writing.
        notes: facts that the user should know, a sentence each.
        range_use: how the ranges of values were used, if the network was computed in fixed point.
    """

    job: Job
    model: str
    scale: int
    backend: str
    header: Header
    width: int
    height: int
    tiles: int
    exact: bool
    seconds: float
    notes: tuple[str, ...]
    range_use: RangeUse | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Failed:
    """A job that failed, with the error; a file that was at ``target`` before is still there."""

    job: Job
    error: LkdnError


@dataclass(frozen=True, slots=True, eq=False)
class Skipped:
    """A job that was not done, since its target is there already."""

    job: Job
    reason: str


JobProgress = Callable[[Job, int, int], None]
"""Called with the job, the number of finished tiles and of all: with none finished at the start, then after each."""

"""Makes a film of the upscaled pictures of another, in segments that a later run continues from.

Three threads work at once: one decodes, the caller's runs the network, and one encodes. Between them wait few pictures,
so memory does not grow with the film. At the end the segments are joined with the other tracks of the film.
"""

import hashlib
import itertools
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path

import av

from lkdn_deploy import __version__
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import open_regular, printable
from lkdn_deploy.core.limits import available_memory
from lkdn_deploy.core.protocols import RangeUse
from lkdn_deploy.imaging.pixels import Pixels
from lkdn_deploy.runtime.journal import Finding, Journal, SourceState
from lkdn_deploy.runtime.settings import OutputSettings
from lkdn_deploy.runtime.upscaler import Upscaler
from lkdn_deploy.video.channel import Ahead, Behind
from lkdn_deploy.video.containers import muxer_for
from lkdn_deploy.video.conversion import FromPixels
from lkdn_deploy.video.encoding import Encoding, choose
from lkdn_deploy.video.film import Film, read_film
from lkdn_deploy.video.frames import AHEAD, Damage, TimeSpan, check_interlaced, decoded, span_of
from lkdn_deploy.video.joining import Plan, check_plan, join
from lkdn_deploy.video.segments import SegmentFolder, folder_for, locked
from lkdn_deploy.video.tracks import Track, plan_tracks

_BEHIND = 2
"""Results that wait to be encoded."""

_CHUNK = 1 << 20  # bytes of the film that are hashed at a time


@dataclass(frozen=True, slots=True)
class FilmSettings:
    """The settings of a film. All but ``resume`` and ``overwrite`` decide what is in it.

    Attributes:
        codec: a name of ``encoding.CODECS``; ``None``: libx264 for 8 bits, libx265 for more, libsvtav1 for WebM.
        crf: quality of the codec, lower is better; ``None``: its default.
        preset: speed of the codec; ``None``: its default.
        output: the size of the result, and how the network is applied, as the upscaler was made.
        deinterlace: whether to make whole pictures of interlaced ones.
        start: seconds from the film's beginning at which to start.
        end: seconds from the film's beginning at which to end.
        segment: pictures of a segment.
        resume: whether to go on with an earlier run that was ended before it was done.
        overwrite: whether an existing result may be replaced.
    """

    codec: str | None = None
    crf: int | None = None
    preset: str | None = None
    output: OutputSettings = field(default_factory=OutputSettings)
    deinterlace: bool = False
    start: float | None = None
    end: float | None = None
    segment: int = 120
    resume: bool = False
    overwrite: bool = False

    def canonical(self) -> str:
        """Return what decides the bytes of the result as JSON, the same text for the same settings."""
        decisive = {name: value for name, value in asdict(self).items() if name not in ("resume", "overwrite")}
        return json.dumps(decisive, sort_keys=True, default=str)


@dataclass(frozen=True, slots=True)
class BegunFilm:
    """A film that has been looked at, and whose result can be written.

    Attributes:
        film: the film.
        target: file to write.
        settings: those of the film.
        muxer: format of the result.
        tracks: what is copied besides the pictures.
        span: the part of the film that is taken.
        state: of the film as it was read for a journal.
        journal: gets a line when the result is complete.
        finished: whether it is complete already, as the journal says and the file proves.
        notes: what will be lost, a sentence each.
    """

    film: Film
    target: Path
    settings: FilmSettings
    muxer: str
    tracks: tuple[Track, ...]
    span: TimeSpan
    state: SourceState | None
    journal: Journal | None
    finished: bool
    notes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Rendered:
    """A finished film.

    Attributes:
        target: the file.
        encoding: of its pictures.
        frames: number of its pictures.
        computed: number of those that this run computed; the others are of an earlier run.
        seconds: time of computing them, with decoding and encoding, without joining.
        exact: whether the pictures equal those of the network on the whole picture.
        notes: facts that became known during the work, a sentence each.
        range_use: how the ranges of values were used in this run, if the network was computed in fixed point.
    """

    target: Path
    encoding: Encoding
    frames: int
    computed: int
    seconds: float
    exact: bool
    notes: tuple[str, ...]
    range_use: RangeUse | None = None


Progress = Callable[[int, int | None], None]
"""Called with the number of finished pictures and of all, if that is known; first with those of an earlier run."""


def has_segments(target: Path) -> bool:
    """Return whether a part of a film is finished, from which a run with ``resume`` goes on."""
    return SegmentFolder(folder_for(target)).begun()


def begin_film(source: Path, target: Path, settings: FilmSettings, journal: Journal | None = None) -> BegunFilm:
    """Look at a film, and refuse or name what cannot be kept, before any work begins.

    Args:
        source: the film.
        target: file to write.
        settings: how it is made.
        journal: of the target's folder. A result that it knows is replaced, unless it is finished.

    Raises:
        InputError: if the film cannot be read.
        UsageError: if the result exists, or a part of it that ``resume`` does not take over, if its folder does not, if
            it is the film itself or cannot hold the film's tracks, or if a setting is wrong.
        MissingError: if PyAV is missing.
    """
    muxer = muxer_for(target)
    if settings.segment < 1:
        msg = f"a segment has 1 picture or more, got {settings.segment}"
        raise UsageError(msg)
    if os.path.isdir(target):  # noqa: PTH112 - Path.is_dir raises an error for names that are too long
        msg = f"{target} is a folder"
        raise UsageError(msg, "name a file")
    if not os.path.isdir(target.parent):  # noqa: PTH112
        msg = f"{target} cannot be written: there is no folder {target.parent}"
        raise UsageError(msg, "make the folder first")
    finding, state = _look_up(source, target, settings, journal)
    # A link that leads nowhere is something too.
    if os.path.lexists(target) and not settings.overwrite and finding == "unknown":
        msg = f"{target} already exists"
        raise UsageError(msg, "choose another name, or allow overwriting with --overwrite")
    if target.resolve() == source.resolve():
        msg = f"{source} would replace itself"
        raise UsageError(msg, "choose another output")
    if has_segments(target) and not (settings.resume or settings.overwrite):
        msg = f"a part of {target} is finished, by a run that was broken off"
        raise UsageError(msg, "go on with --resume, or begin anew with --overwrite")
    film = read_film(source)
    check_interlaced(film, settings.deinterlace)
    span = span_of(film, settings.start, settings.end)
    tracks, notes = plan_tracks(source, muxer)
    return BegunFilm(
        film=film,
        target=target,
        settings=settings,
        muxer=muxer,
        tracks=tuple(tracks),
        span=span,
        state=state,
        journal=journal,
        finished=finding == "finished",
        notes=(*film.notes, *notes),
    )


def _look_up(
    source: Path, target: Path, settings: FilmSettings, journal: Journal | None
) -> tuple[Finding, SourceState | None]:
    """Return what a journal knows of a result, and the film as it is."""
    if journal is None:
        return "unknown", None
    try:
        state = SourceState.read(source)
    except OSError as error:
        msg = f"{printable(source)} cannot be read: {error.strerror or error}"
        raise InputError(msg) from error
    return journal.look_up(target, state, settings.canonical()), state


def render(
    upscaler: Upscaler,
    begun: BegunFilm,
    *,
    progress: Progress = lambda _done, _all: None,
    note: Callable[[str], None] = lambda _: None,
) -> Rendered:
    """Upscale a film. The network runs in the caller's thread.

    If it fails or is interrupted, no file appears under the result's name, but finished segments stay in a hidden
    folder beside it, from which a run with ``resume`` goes on.

    Args:
        upscaler: the network.
        begun: result of ``begin_film``.
        progress: called after each picture.
        note: called with what will be lost by encoding, a sentence each, before the work begins.

    Raises:
        InputError: if the film cannot be read, changes meanwhile, or the result cannot be written.
        UsageError: if the network or the encoder does not take the pictures, or another run is making the same film.
    """
    film, settings = begun.film, begun.settings
    upscaler.check_size(film.height, film.width)
    height, width = upscaler.result_size(film.height, film.width)
    _check_memory(film, upscaler.scale)
    encoding, notes = choose(
        film, width, height, muxer=begun.muxer, codec=settings.codec, crf=settings.crf, preset=settings.preset
    )
    plan = Plan(film, begun.muxer, encoding, begun.tracks, begun.span)
    check_plan(plan)
    for text in notes:
        note(text)
    state, seal = _state(film.path), None
    if begun.journal is not None and begun.state is not None:
        seal = begun.journal.seal(begun.target, begun.state, settings.canonical())
    upscaler.session.range_use()  # what was upscaled before is no part of this film
    with locked(folder_for(begun.target)) as folder:
        run = _Run(upscaler, begun, encoding, folder)
        try:
            with _keyed(run):
                run.compute(progress)
            if _state(film.path) != state:
                msg = f"{printable(film.path)} was changed while it was upscaled"
                raise InputError(msg, "run it again when it stays as it is")
            segments = folder.finished()
            join(plan, segments, begun.target, seal)
        except BaseException:
            if not folder.finished():
                folder.remove()
            raise
        folder.remove()
    return Rendered(
        target=begun.target,
        encoding=encoding,
        frames=sum(len(segment.times) for segment in segments),
        computed=run.computed,
        seconds=run.seconds,
        exact=run.exact,
        notes=tuple(run.damage.told(film, begun.span)),
        range_use=upscaler.session.range_use(),
    )


@dataclass(slots=True, eq=False)
class _Run:
    """The computing of a film's pictures.

    Attributes:
        computed: pictures that were computed.
        exact: whether all of them equal those of the network on the whole picture.
    """

    upscaler: Upscaler
    begun: BegunFilm
    encoding: Encoding
    folder: SegmentFolder
    damage: Damage = field(default_factory=Damage)
    computed: int = 0
    seconds: float = 0.0
    exact: bool = True

    def key(self, digest: str) -> dict[str, object]:
        """Return all that decides what is in the film, in values of JSON."""
        session = self.upscaler.session
        return {
            "input": digest,
            "settings": self.begun.settings.canonical(),
            "encoding": str(self.encoding),
            "network": str(session.metadata.to_props()),
            "backend": session.backend,
            "upscaler": f"{self.upscaler.size} {self.upscaler.wrap}",
            "exact": self.upscaler.exact or str(self.upscaler.plan(self.begun.film.height, self.begun.film.width)),
            "versions": [__version__, av.__version__, av.ffmpeg_version_info],
        }

    def compute(self, progress: Progress) -> None:
        """Compute what earlier runs have not finished."""
        film, span = self.begun.film, self.begun.span
        finished = self.folder.finished()
        done = sum(len(segment.times) for segment in finished)
        total = _expected(film, span)
        progress(done, total)
        if finished and not finished[-1].times:
            return
        start = time.perf_counter()
        pictures = decoded(film, span, deinterlace=self.begun.settings.deinterlace, skip=done, damage=self.damage)
        encode = _Encoder(self.encoding, self.folder, len(finished), self.begun.settings.segment)
        with Ahead(pictures, AHEAD, "lkdn-decode") as frames, Behind(encode, _BEHIND, "lkdn-encode") as encoder:
            for frame in frames:
                result = self.upscaler.upscale(frame.pixels)
                self.exact &= result.exact
                encoder.put((frame.pts, result.pixels))
                self.computed += 1
                progress(done + self.computed, total)
        self.seconds = time.perf_counter() - start
        if done + self.computed == 0:
            msg = f"{printable(film.path)} has no pictures in the part that was asked for"
            raise InputError(msg, "choose another --start and --end")


class _Encoder:
    """Encodes results into segments.

    Args:
        encoding: of the pictures.
        folder: of the segments.
        number: of the first segment.
        length: pictures of a segment.
    """

    def __init__(self, encoding: Encoding, folder: SegmentFolder, number: int, length: int) -> None:
        self._encoding, self._folder, self._number, self._length = encoding, folder, number, length
        self._convert = FromPixels(encoding.pixel_format, encoding.colours)

    def __call__(self, pictures: Iterator[tuple[int, Pixels]]) -> None:
        """Write all pictures, and a segment without any at the end."""
        while self._write_segment(itertools.islice(pictures, self._length)):
            self._number += 1

    def _write_segment(self, pictures: Iterator[tuple[int, Pixels]]) -> bool:
        encoder = None
        with self._folder.writing(self._number) as add:
            for pts, pixels in pictures:
                encoder = encoder or self._encoding.encoder()
                frame = self._convert(pixels)
                frame.pts, frame.time_base = pts, self._encoding.time_base
                for packet in encoder.encode(frame):
                    add(packet)
            if encoder is not None:
                for packet in encoder.encode(None):
                    add(packet)
        return encoder is not None


@contextmanager
def _keyed(run: _Run) -> Iterator[None]:
    """Take over the segments of an earlier run if they fit, or remove them, and mark the new ones.

    The digest of a large film takes a while. A run that takes nothing over computes it beside its work.
    """
    begun, folder = run.begun, run.folder
    path = begun.film.path
    stop = threading.Event()
    if begun.settings.resume:
        key = run.key(begun.state.sha256.hex() if begun.state is not None else _digest(path, stop))
        if not folder.matches(key):
            folder.begin()
            folder.write_key(key)
        yield
        return
    folder.begin()
    with ThreadPoolExecutor(1, "lkdn-digest") as pool:
        done: Future[None] = pool.submit(lambda: folder.write_key(run.key(_digest(path, stop))))
        try:
            yield
        finally:
            stop.set()
        if (error := done.exception()) is not None and not isinstance(error, _NotNeeded):
            raise error


class _NotNeeded(Exception):  # noqa: N818 - it is no error
    """The work is done before the digest is, which nobody needs any more."""


def _digest(path: Path, stop: threading.Event) -> str:
    """Return the SHA-256 of a film."""
    digest = hashlib.sha256()
    try:
        with open_regular(path) as file:
            while piece := file.read(_CHUNK):
                digest.update(piece)
                if stop.is_set():
                    raise _NotNeeded
    except OSError as error:
        msg = f"{printable(path)} cannot be read: {error.strerror or error}"
        raise InputError(msg) from error
    return digest.hexdigest()


def _state(path: Path) -> tuple[int, int]:
    try:
        found = path.stat()
    except OSError as error:
        msg = f"{printable(path)} cannot be read any more: {error.strerror}"
        raise InputError(msg) from error
    return found.st_size, found.st_mtime_ns


def _expected(film: Film, span: TimeSpan) -> int | None:
    """Return the number of pictures in a part of a film, if it can be known."""
    if film.frames is None or film.duration is None:
        return film.frames if span == TimeSpan() else None
    begin = max(float(span.start) - film.start if span.start is not None else 0.0, 0.0)
    end = min(float(span.stop) - film.start if span.stop is not None else film.duration, film.duration)
    return max(round(film.frames * (end - begin) / film.duration), 1)


def _check_memory(film: Film, scale: int) -> None:
    """Refuse pictures of which those at work at once do not fit into memory.

    Raises:
        InputError: if they do not.
    """
    size = film.width * film.height * 3 * (1 if film.depth == 8 else 2)
    need = size * (AHEAD + 2 + (_BEHIND + 2) * scale**2)
    if need > available_memory():
        msg = f"some pictures of {film.width}x{film.height} at once, and x{scale}, need {need >> 20} MiB: too much"
        raise InputError(msg, "use a smaller scale, or a machine with more memory")

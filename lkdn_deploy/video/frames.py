"""The pictures of a film as arrays, one after the other, and upscaled ones."""

import os
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from fractions import Fraction

import av
from av.container import InputContainer
from av.video.stream import VideoStream

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import printable
from lkdn_deploy.imaging.pixels import Pixels
from lkdn_deploy.runtime.upscaler import Upscaler
from lkdn_deploy.video.channel import Ahead
from lkdn_deploy.video.conversion import Deinterlacer, ToPixels
from lkdn_deploy.video.film import LATEST, Film, opened, picture_track, read_film
from lkdn_deploy.video.turning import swaps_sides

AHEAD = 2
"""Pictures that are decoded while the network computes."""

_MOST_FAILURES = 10_000
"""Packets in succession that cannot be decoded before the rest of a film is given up."""


_EARLIER = (0, 10, 60)
"""Seconds before a part of a film at which to begin to decode, the next one where the one before is too late."""


@dataclass(frozen=True, slots=True)
class TimeSpan:
    """The part of a film that is taken.

    Attributes:
        start: in seconds of the film's timestamps; ``None``: its beginning, wherever its timestamps begin.
        stop: in seconds; ``None``: its end.
    """

    start: Fraction | None = None
    stop: Fraction | None = None

    def holds(self, time: Fraction) -> bool:
        """Return whether a time lies inside."""
        return (self.start is None or time >= self.start) and (self.stop is None or time < self.stop)

    @property
    def origin(self) -> Fraction:
        """The time that becomes 0 in the result."""
        return self.start or Fraction(0)


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """A picture of a film.

    Attributes:
        pixels: (H, W, 3) of uint8, or uint16 for films of more than 8 bits; RGB, upright.
        pts: when it is shown, in units of the film's time base.
        time: when it is shown, in seconds.
    """

    pixels: Pixels
    pts: int
    time: float


@dataclass(slots=True)
class Damage:
    """The faults of a film, counted while it was decoded."""

    undecodable: int = 0
    corrupt: int = 0
    untimely: int = 0
    interlaced: int = 0
    last: float = 0.0
    notes: list[str] = field(default_factory=list)

    def told(self, film: Film, span: TimeSpan) -> list[str]:
        """Return a sentence for each kind of damage."""
        texts = [
            (self.undecodable, "packets of pictures were damaged and could not be decoded"),
            (self.corrupt, "pictures were damaged; what could be decoded of them was upscaled"),
            (self.untimely, "pictures were left out: their times are damaged, or not later than those before"),
            (self.interlaced, "pictures were interlaced though the first were not: --deinterlace changes them"),
        ]
        notes = [f"{count} {text}" for count, text in texts if count]
        if film.duration is not None and span.stop is None:
            usual = max(min(2, film.duration / 4), film.duration / 50) + 1 / film.rate  # sound often lasts longer
            if film.start + film.duration - self.last > usual:
                ends = f"its pictures end at {self.last - film.start:.1f} s"
                notes.append(f"the film is said to last {film.duration:.1f} s, {ends}")
        return notes


def span_of(film: Film, start: float | None, end: float | None) -> TimeSpan:
    """Return a part of a film.

    Args:
        film: the film.
        start: seconds from its beginning; ``None``: all from the beginning.
        end: seconds from its beginning; ``None``: up to its end.

    Raises:
        UsageError: if there is nothing between them.
    """
    if start is not None and film.duration is not None and start >= film.duration:
        msg = f"the film lasts {film.duration:.1f} s, and nothing of it begins at {start:g} s"
        raise UsageError(msg, "choose an earlier --start")
    if end is not None and end <= (start or 0):
        msg = f"the end, {end:g} s, must come after the start, {start or 0:g} s"
        raise UsageError(msg)
    origin = Fraction(film.start).limit_denominator(1_000_000)
    limits = [None if time is None else origin + Fraction(time).limit_denominator(1_000_000) for time in (start, end)]
    return TimeSpan(*limits)


def check_interlaced(film: Film, deinterlace: bool) -> None:
    """Refuse interlaced pictures, unless they are made whole.

    Raises:
        UsageError: if they are not.
    """
    if film.interlaced and not deinterlace:
        msg = (
            f"{printable(film.path)} is interlaced: each picture holds two moments, and upscaling would keep its combs"
        )
        raise UsageError(msg, "make whole pictures of them with --deinterlace")


def upscale_frames(
    upscaler: Upscaler,
    path: str | os.PathLike[str],
    *,
    start: float | None = None,
    end: float | None = None,
    deinterlace: bool = False,
) -> Generator[Frame, None, None]:
    """Yield the upscaled pictures of a film, with their times. Decoding goes on while the network computes.

    Args:
        upscaler: the network.
        path: the film.
        start: seconds from the film's beginning at which to start.
        end: seconds from the film's beginning at which to end.
        deinterlace: whether to make whole pictures of interlaced ones.

    Raises:
        InputError: if the film cannot be read.
        UsageError: if it is interlaced, or nothing lies between ``start`` and ``end``.
        MissingError: if PyAV is missing.
    """
    film = read_film(path)
    check_interlaced(film, deinterlace)
    upscaler.check_size(film.height, film.width)
    span = span_of(film, start, end)
    with Ahead(decoded(film, span, deinterlace=deinterlace), AHEAD, "lkdn-decode") as frames:
        for frame in frames:
            yield Frame(upscaler.upscale(frame.pixels).pixels, frame.pts, frame.time)


def decoded(
    film: Film, span: TimeSpan, *, deinterlace: bool = False, skip: int = 0, damage: Damage | None = None
) -> Generator[Frame, None, None]:
    """Yield the pictures of a film, in the order of showing. Their memory is used again once they are dropped.

    Packets that cannot be decoded are left out, as FFmpeg does, and so are pictures whose time is not later than that
    of the one before.

    Args:
        film: the film.
        span: the part of it.
        deinterlace: whether to make whole pictures of interlaced ones.
        skip: pictures to leave out at the beginning. They are decoded, since decoding from the middle of a film may
            give other pictures.
        damage: counts what is wrong with the film.

    Raises:
        InputError: if the film cannot be read, or its pictures change their size.
    """
    damage = Damage() if damage is None else damage
    convert = ToPixels(8 if film.depth == 8 else 16, film.turn)
    sides = (film.height, film.width) if swaps_sides(film.turn) else (film.width, film.height)
    begin = None if span.start is None else _place_before(film, span.start)
    with opened(film.path) as container:
        track = picture_track(container)
        if begin is not None:
            container.seek(begin, stream=track)
        pictures = _pictures(container, track, damage)
        if deinterlace:
            pictures = _whole(pictures, film)
        for frame, pts in _timed(pictures, film, damage):
            time = pts * film.time_base
            if span.stop is not None and time >= span.stop:
                return
            if not span.holds(time):
                continue
            if skip:
                skip -= 1
                continue
            if (frame.width, frame.height) != sides:
                msg = "{}: from {:.3f} s on, its pictures have {}x{} pixels instead of {}x{}".format(
                    printable(film.path), float(time), frame.width, frame.height, *sides
                )
                raise InputError(msg, "upscale the parts one by one with --start and --end")
            damage.corrupt += frame.is_corrupt
            damage.interlaced += frame.interlaced_frame and not deinterlace
            yield Frame(convert(frame), pts, float(time))


def _place_before(film: Film, start: Fraction) -> int | None:
    """Return a place to seek from which decoding misses no picture from ``start`` on; ``None``: the beginning.

    Some formats lead to a picture that needs others before it, so that the first one that can be decoded is later.
    """
    for earlier in _EARLIER:
        place = int((start - earlier) / film.time_base)
        if start - earlier <= film.start:
            break
        with suppress(InputError), opened(film.path) as container:
            track = picture_track(container)
            container.seek(place, stream=track)
            first = next(_timed(_pictures(container, track, Damage()), film, Damage()), None)
            if first is not None and first[1] * film.time_base <= start:
                return place
    return None


def _pictures(container: InputContainer, track: VideoStream, damage: Damage) -> Iterator[av.VideoFrame]:
    """Decode a track, past damaged packets."""
    failures = 0
    for packet in container.demux(track):
        try:
            frames = packet.decode()
        except av.error.EOFError:
            return
        except av.FFmpegError:
            damage.undecodable += 1
            failures += 1
            if failures > _MOST_FAILURES:
                return
            continue
        failures = 0
        yield from frames


def _whole(pictures: Iterator[av.VideoFrame], film: Film) -> Iterator[av.VideoFrame]:
    deinterlacer = Deinterlacer(film.marked)
    for picture in pictures:
        yield from deinterlacer.feed(picture)
    yield from deinterlacer.rest()


def _timed(pictures: Iterator[av.VideoFrame], film: Film, damage: Damage) -> Iterator[tuple[av.VideoFrame, int]]:
    """Yield pictures with their times in units of the film's time base, each later than the one before."""
    step = max(round(1 / (film.rate * film.time_base)), 1)
    latest: int | None = None
    for picture in pictures:
        if picture.pts is None:
            pts = 0 if latest is None else latest + step
        else:
            pts = int(picture.pts * (picture.time_base or film.time_base) / film.time_base)
        if (latest is not None and pts <= latest) or abs(pts * film.time_base) > LATEST:
            damage.untimely += 1
            continue
        latest, damage.last = pts, float(pts * film.time_base)
        yield picture, pts

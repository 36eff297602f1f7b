"""Facts about a film: its pictures, its other tracks, and its faults, known before any work begins."""

import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import open_regular, printable
from lkdn_deploy.core.optional import needs
from lkdn_deploy.video.colours import PQ, Colours, Hdr10, colours_of, hdr10_of, side_data
from lkdn_deploy.video.containers import DEMUXERS
from lkdn_deploy.video.turning import swaps_sides, turn_of

with needs("video"):
    import av
    from av.container import InputContainer
    from av.stream import Disposition, Stream
    from av.video.stream import VideoStream

MAX_PIXELS = 1 << 26
"""Pixels of the largest picture: 8K has half as many."""
MAX_TRACKS = 128
MAX_ATTACHED = 1 << 28
"""Bytes of all attachments. They are in memory as a whole."""
LATEST = 30 * 86400
"""Seconds: a picture that is shown later has a damaged timestamp."""

_LOOKED_AT = 4
"""Pictures that are decoded to see what the film holds."""

_LOST = {
    "DYNAMIC_HDR_PLUS": "the dynamic metadata of HDR10+",
    "DYNAMIC_HDR_VIVID": "the dynamic metadata of HDR Vivid",
    "A53_CC": "the closed captions inside the pictures",
    "STEREO3D": "the mark of a stereoscopic film",
    "SPHERICAL": "the mark of a spherical film",
}
"""Data beside a picture that the encoders are not given, and what to call it."""


@dataclass(frozen=True, slots=True)
class Film:
    """A film whose pictures can be read.

    Attributes:
        path: the file.
        width: of an upright picture, in pixels.
        height: of an upright picture, in pixels.
        depth: 8, or more for films of 9 to 16 bits.
        rate: pictures per second, on average.
        time_base: unit of the pictures' timestamps, in seconds.
        aspect: width of a pixel by its height.
        colours: of the pictures.
        hdr10: their static HDR metadata.
        turn: filters that turn them upright.
        interlaced: whether they are marked as interlaced.
        marked: whether each interlaced picture is marked, rather than the film as a whole.
        frames: their number, as the film declares or implies it; ``None`` if it does neither.
        start: time of the film's beginning in seconds, from which its users count.
        duration: in seconds; ``None`` if it is not known.
        notes: what of the pictures will be lost.
    """

    path: Path
    width: int
    height: int
    depth: int
    rate: Fraction
    time_base: Fraction
    aspect: Fraction
    colours: Colours
    hdr10: Hdr10
    turn: tuple[str, ...]
    interlaced: bool
    marked: bool
    frames: int | None
    start: float
    duration: float | None
    notes: tuple[str, ...]


@contextmanager
def opened(path: str | os.PathLike[str]) -> Iterator[InputContainer]:
    """Open a film, which never opens another file or address, and name it in the errors of FFmpeg.

    Raises:
        InputError: if it cannot be read, or reading fails.
    """
    path = Path(path)
    container = None
    try:
        open_regular(path).close()
        container = av.open(
            f"file:{path.absolute()}",
            options={"max_pixels": str(MAX_PIXELS)},
            container_options={"format_whitelist": DEMUXERS, "protocol_whitelist": "file"},
            metadata_errors="replace",
        )
        with container:
            yield container
    except av.FFmpegError as error:
        msg = f"{printable(path)} cannot be read as a film: {error.strerror}"
        hint = "a film whose download or recording was cut short may lack its table of contents"
        if container is None and error.errno == errno.EINVAL:  # FFmpeg says so of a format that is not allowed
            msg = f"{printable(path)} is no film, or not of a format that is read, whatever its suffix"
            hint = "give a picture the suffix of its format; convert other films to .mkv"
        raise InputError(msg, hint) from error
    except OSError as error:
        msg = f"{printable(path)} cannot be read: {error.strerror or error}"
        raise InputError(msg) from error


def picture_track(container: InputContainer) -> VideoStream:
    """Return the track of the film's pictures: the first that is no cover.

    Raises:
        InputError: if there is none that can be decoded.
    """
    for stream in container.streams.video:
        if not is_cover(stream):
            if stream.codec_context is None:
                break
            stream.codec_context.options = {"max_pixels": str(MAX_PIXELS)}
            stream.thread_type = "AUTO"
            return stream
    msg = "it has no pictures that can be decoded"
    raise InputError(msg, "expected a film; sound alone is not upscaled")


def read_film(path: str | os.PathLike[str]) -> Film:
    """Open a film, decode its first pictures, and return what it is.

    Raises:
        InputError: if it cannot be read, is out of bounds, or holds colours that cannot be converted.
    """
    path = Path(path)
    with opened(path) as container:
        if len(container.streams) > MAX_TRACKS:
            msg = f"{printable(path)} has {len(container.streams)} tracks, the most is {MAX_TRACKS}"
            raise InputError(msg, "it is probably damaged")
        try:
            track = picture_track(container)
            return _describe(path, container, track)
        except (InputError, UsageError) as error:
            msg = f"{printable(path)}: {error.message}"
            raise type(error)(msg, error.hint) from error


def _describe(path: Path, container: InputContainer, track: VideoStream) -> Film:
    pictures = _first_pictures(container, track)
    first = pictures[0]
    check_picture(first.width, first.height)
    sides = {side.type.name for picture in pictures for side in side_data(picture)}
    notes = [f"{lost} are not kept" for name, lost in _LOST.items() if name in sides]
    colours, hdr10 = colours_of(first), hdr10_of(first)
    if sides & {"DOVI_METADATA", "DOVI_RPU_BUFFER"}:
        if int(first.color_trc) not in (PQ, 18, 1, 14):
            msg = (
                "it is Dolby Vision without a base that other players show (profile 5), whose colours need its metadata"
            )
            raise InputError(msg, "convert it to HDR10 first")
        notes.append("the metadata of Dolby Vision is not kept: the result is its base, HDR10, HLG or SDR")
    turn = turn_of(first)
    if turn is None:
        notes.append("the film is shown turned by an angle that is no quarter turn: this is not kept")
        turn = ()
    if _has_alpha(first):
        notes.append("its transparency is not kept")
    others = sum(stream is not track and not is_cover(stream) for stream in container.streams.video)
    if others:
        notes.append(
            f"{others} more tracks of pictures are not kept" if others > 1 else "a second track of pictures is not kept"
        )
    width, height = (first.height, first.width) if swaps_sides(turn) else (first.width, first.height)
    aspect = track.sample_aspect_ratio or Fraction(1)
    if not Fraction(1, 64) <= aspect <= 64:
        aspect = Fraction(1)
    rate = next(
        (rate for rate in (track.average_rate, track.guessed_rate) if rate and 1 / 1000 < rate <= 1000), Fraction(25)
    )
    time_base = track.time_base
    if time_base is None or not Fraction(1, 1 << 31) <= time_base <= 10:
        msg = f"its pictures have times in units of {time_base} seconds"
        raise InputError(msg, "it is probably damaged")
    duration = _duration(container, track)
    marked = any(picture.interlaced_frame for picture in pictures)
    return Film(
        path=path,
        width=width,
        height=height,
        depth=max(part.bits for part in first.format.components),
        rate=rate,
        time_base=time_base,
        aspect=1 / aspect if swaps_sides(turn) else aspect,
        colours=colours,
        hdr10=hdr10,
        turn=turn,
        interlaced=marked or int(track.codec_context.field_order) > 1,
        marked=marked,
        frames=_count(track.frames, duration, rate),
        start=(container.start_time or 0) / av.time_base,
        duration=duration,
        notes=tuple(notes),
    )


def _first_pictures(container: InputContainer, track: VideoStream) -> list[av.VideoFrame]:
    """Decode the first pictures, past those that are damaged.

    Raises:
        InputError: if none can be decoded.
    """
    pictures: list[av.VideoFrame] = []
    failures = 0
    for packet in container.demux(track):
        with suppress(av.error.InvalidDataError):
            pictures += packet.decode()
            failures -= 1
        failures += 1
        if len(pictures) >= _LOOKED_AT or failures > 1000:
            break
    if not pictures:
        msg = f"none of its pictures ({track.codec_context.name}) can be decoded"
        raise InputError(msg, "it is damaged, or encrypted")
    return pictures


def check_picture(width: int, height: int) -> None:
    """Refuse pictures that are too large.

    Raises:
        InputError: if they are.
    """
    if width * height > MAX_PIXELS or not (width and height):
        msg = f"its pictures have {width}x{height} pixels, the most is {MAX_PIXELS:,} in all"
        raise InputError(msg)


def _has_alpha(frame: av.VideoFrame) -> bool:
    return frame.format.name.startswith(("yuva", "rgba", "bgra", "argb", "abgr", "gbrap", "ya", "pal8"))


def is_cover(stream: Stream) -> bool:
    """Return whether a track of pictures is a single one: a cover."""
    return bool(stream.disposition & Disposition.attached_pic)


def _count(declared: int, duration: float | None, rate: Fraction) -> int | None:
    """Return the number of a film's pictures, as it declares it or its duration implies."""
    if 0 < declared <= LATEST * 1000:
        return declared
    return None if duration is None else round(duration * rate)


def _duration(container: InputContainer, track: VideoStream) -> float | None:
    """Return the length of the pictures' track, or else of the film, if it is one."""
    length = None
    if track.duration is not None and track.time_base is not None:
        length = float(track.duration * track.time_base)
    elif container.duration is not None:
        length = container.duration / av.time_base
    return length if length is not None and 0 < length <= LATEST else None

"""The tracks of a film besides its pictures: which can be copied into the result, and how."""

import io
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
from av.container import OutputContainer
from av.stream import AttachmentStream, Stream

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.files import printable
from lkdn_deploy.video.film import MAX_ATTACHED, is_cover, opened, picture_track

if TYPE_CHECKING:
    from av.subtitles.codeccontext import SubtitleCodecContext

_TEXTS = {"matroska": "subrip", "mp4": "mov_text", "mov": "mov_text", "webm": "webvtt"}
"""The codec that texts are converted to in a format that does not hold theirs."""
_READABLE = {"ass", "ssa", "subrip", "srt", "mov_text", "webvtt", "text"}
"""Subtitles that are text; those of DVD and Blu-ray are pictures."""
_COVERS = {"mjpeg": ("cover.jpg", "image/jpeg"), "png": ("cover.png", "image/png")}
_MIXED = {"matroska": "Matroska", "mp4": "MP4", "mov": "MOV", "webm": "WebM"}

_WAY_OUT = ("choose an output that ends with .mkv", "make a film without that track first, by another program")

_OF_THE_OLD_FILE = (
    "encoder", "major_brand", "minor_version", "compatible_brands", "bps", "duration", "number_of_frames",
    "number_of_bytes", "_statistics_writing_app", "_statistics_writing_date_utc", "_statistics_tags", "vendor_id",
)  # fmt: skip
"""Metadata that describes the file it was found in, with or without a language behind it (``BPS-eng``)."""


class Handling(Enum):
    """The way in which a track comes into the result."""

    COPIED = "as it is"
    CONVERTED = "its texts in another format"
    ATTACHED = "a cover, as an attachment"


@dataclass(frozen=True, slots=True)
class Track:
    """A track that comes into the result.

    Attributes:
        index: its place in the film.
        handling: the way in which it comes into the result.
    """

    index: int
    handling: Handling


def plan_tracks(path: Path, muxer: str) -> tuple[list[Track], list[str]]:
    """Return the tracks that come into a result, and notes on those that do not or that change.

    Args:
        path: the film.
        muxer: format of the result, a value of ``containers.MUXERS``.

    Raises:
        InputError: if the film cannot be read.
        UsageError: if sound, or subtitles that are pictures, cannot be kept in this format.
    """
    tracks, notes = [], []
    with opened(path) as container:
        pictures = picture_track(container)
        attached = 0
        for stream in container.streams:
            name = _name(stream)
            if stream is pictures or (stream.type == "video" and not is_cover(stream)):
                continue
            if stream.type == "attachment" or is_cover(stream):
                handling = _attachment(stream, muxer)
                if handling is None:
                    notes.append(f"{name} is not kept: {_MIXED[muxer]} does not hold it")
                    continue
                attached += len(stream.data) if isinstance(stream, AttachmentStream) else 0
                if attached > MAX_ATTACHED:
                    msg = f"{printable(path)} has attachments of more than {MAX_ATTACHED >> 20} MiB"
                    raise UsageError(msg, "it is probably damaged")
                tracks.append(Track(stream.index, handling))
            elif stream.type in ("audio", "subtitle"):
                handling = _handling(stream, muxer)
                if handling is Handling.CONVERTED:
                    notes.append(f"the texts of {name} become {_TEXTS[muxer]}: their styles may be lost")
                elif handling is None:
                    msg = f"{printable(path)}: {name} cannot be kept in {_MIXED[muxer]}"
                    raise UsageError(msg, _WAY_OUT[muxer == "matroska"])
                tracks.append(Track(stream.index, handling))
            elif not (container.chapters() and stream.discard.name == "all"):  # the titles of chapters, kept as such
                notes.append(f"{name} is not kept")
    return tracks, notes


def _name(stream: Stream) -> str:
    kinds = {"audio": "sound", "subtitle": "subtitles", "attachment": "attachment", "data": "data", "video": "cover"}
    codec = stream.codec_context.name if stream.codec_context is not None else getattr(stream, "name", None)
    return f"track {stream.index} ({kinds.get(stream.type, stream.type)}, {printable(str(codec or 'unknown'))})"


def _attachment(stream: Stream, muxer: str) -> Handling | None:
    if stream.type == "attachment":
        return Handling.COPIED if muxer == "matroska" else None
    if muxer == "matroska":
        return Handling.ATTACHED if stream.codec_context is not None and stream.codec_context.name in _COVERS else None
    return Handling.COPIED if muxer == "mp4" and _holds(stream, muxer) else None


def _handling(stream: Stream, muxer: str) -> Handling | None:
    if stream.codec_context is None:
        return None
    if _holds(stream, muxer):
        return Handling.COPIED
    return Handling.CONVERTED if stream.type == "subtitle" and stream.codec_context.name in _READABLE else None


def _holds(stream: Stream, muxer: str) -> bool:
    """Return whether a format takes a track: a file with nothing else is begun in memory."""
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as container:
            add_copy(container, stream)
            container.start_encoding()
    except (av.FFmpegError, ValueError):
        return False
    return True


def add(container: OutputContainer, path: Path, stream: Stream, handling: Handling, muxer: str) -> Stream | None:
    """Add a track to the result; ``None`` if it has no packets to copy.

    Args:
        container: the result.
        path: the film.
        stream: a track of it.
        handling: the way in which the track comes into the result.
        muxer: format of the result.
    """
    if handling is Handling.ATTACHED:
        _attach_cover(container, path, stream)
        return None
    added = (
        _add_texts(container, stream, _TEXTS[muxer]) if handling is Handling.CONVERTED else add_copy(container, stream)
    )
    return None if stream.type == "attachment" else added


def add_copy(container: OutputContainer, stream: Stream) -> Stream:
    """Add a track of the same kind."""
    added = container.add_stream_from_template(stream, opaque=True)
    describe(added, stream)
    return added


def describe(added: Stream, stream: Stream) -> None:
    """Give a track the language, title and disposition of another."""
    metadata = kept_metadata(stream.metadata)
    metadata.pop("handler_name", None)
    if "name" in metadata:  # as MP4 calls a title
        metadata.setdefault("title", metadata.pop("name"))
    added.metadata.clear()
    added.metadata.update(metadata)
    added.disposition = stream.disposition


def kept_metadata(metadata: Mapping[str, str]) -> dict[str, str]:
    """Return the metadata without what describes the file that it was found in."""
    return {
        key: value
        for key, value in metadata.items()
        if not any(key.lower() == old or key.lower().startswith(f"{old}-") for old in _OF_THE_OLD_FILE)
    }


def _add_texts(container: OutputContainer, stream: Stream, codec: str) -> Stream:
    added = container.add_stream(codec)
    reader = cast("SubtitleCodecContext", stream.codec_context)
    writer = cast("SubtitleCodecContext", added.codec_context)
    reader.open(strict=False)
    writer.subtitle_header = reader.subtitle_header
    writer.time_base = added.time_base = stream.time_base or Fraction(1, 1000)
    describe(added, stream)
    return added


def _attach_cover(container: OutputContainer, path: Path, stream: Stream) -> None:
    name, kind = _COVERS[stream.codec_context.name]
    with opened(path) as film:
        for packet in film.demux(film.streams[stream.index]):
            if packet.size:
                title = stream.metadata.get("filename", name)
                container.add_attachment(title, stream.metadata.get("mimetype", kind), bytes(packet))
                return

"""Joins the encoded pictures of a film with its other tracks."""

import io
import os
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, cast

import av
from av.container import InputContainer, OutputContainer
from av.packet import Packet
from av.stream import Discard, Stream
from av.video.stream import VideoStream

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import Seal, printable, publish
from lkdn_deploy.video.encoding import Encoding
from lkdn_deploy.video.film import Film, is_cover, opened, picture_track
from lkdn_deploy.video.frames import TimeSpan
from lkdn_deploy.video.segments import FilmSegment
from lkdn_deploy.video.tracks import Handling, Track, add, describe, kept_metadata

if TYPE_CHECKING:
    from av.container.core import Chapter
    from av.subtitles.codeccontext import SubtitleCodecContext
    from av.video.codeccontext import VideoCodecContext

    Timed = tuple[Fraction, Packet[Stream]]
    """A packet, and when it must be decoded, in seconds."""

_EQUAL = {"fflags": "+bitexact"}  # no random numbers: the same film is the same file
_OPTIONS = {
    "matroska": {"default_mode": "passthrough", **_EQUAL},  # tracks are marked as in the film
    "mp4": {"movflags": "+faststart", **_EQUAL},
    "mov": {"movflags": "+faststart", **_EQUAL},
    "webm": {"default_mode": "passthrough", **_EQUAL},
}


@dataclass(frozen=True, slots=True)
class Plan:
    """A film that is to be written.

    Attributes:
        film: the film.
        muxer: format of the result.
        encoding: of its pictures.
        tracks: the others.
        span: the part that is taken.
    """

    film: Film
    muxer: str
    encoding: Encoding
    tracks: tuple[Track, ...]
    span: TimeSpan


def check_plan(plan: Plan) -> None:
    """Begin the result in memory, which shows whether its format takes all tracks together.

    Raises:
        UsageError: if the encoder does not take its settings.
        InputError: if the format does not take the tracks.
    """
    plan.encoding.encoder()
    try:
        with opened(plan.film.path) as film, av.open(io.BytesIO(), "w", format=plan.muxer) as container:
            _lay_out(container, film, plan)
            container.start_encoding()
    except (av.FFmpegError, ValueError) as error:
        msg = f"{printable(plan.film.path)}: the result cannot be written as {plan.muxer}: {error}"
        raise InputError(msg, "choose an output that ends with .mkv") from error


def join(plan: Plan, segments: Sequence[FilmSegment], target: Path, seal: Seal | None = None) -> None:
    """Write the film: its encoded pictures, and the other tracks copied from the source.

    Args:
        plan: what is written, and how.
        segments: the encoded pictures.
        target: the file.
        seal: called with the complete temporary file, as ``publish`` does.

    Raises:
        InputError: if the film cannot be read, or the result cannot be written.
    """
    with publish(target, seal) as part, opened(plan.film.path) as film:
        try:
            options = _OPTIONS[plan.muxer]
            with av.open(os.fspath(part), "w", format=plan.muxer, container_options=options) as container:
                pictures, others = _lay_out(container, film, plan)
                _interleave(container, _pictures(plan, segments, pictures), _copied(film, plan, others))
        except av.FFmpegError as error:
            msg = f"{target} cannot be written: {error.strerror}"
            raise InputError(msg) from error


def _lay_out(container: OutputContainer, film: InputContainer, plan: Plan) -> tuple[VideoStream, dict[int, Stream]]:
    """Add all tracks in the film's order, and its metadata; return that of the pictures, and the others by index."""
    source = picture_track(film)
    container.metadata.update(kept_metadata(film.metadata))
    if chapters := _chapters(film, plan.span):
        container.set_chapters(chapters)
    tracks = {track.index: track for track in plan.tracks}
    others: dict[int, Stream] = {}
    pictures = None
    for stream in film.streams:
        if stream is source:
            pictures = container.add_stream(plan.encoding.codec, rate=plan.encoding.rate)
            plan.encoding.set_up(cast("VideoCodecContext", pictures.codec_context), global_header=True)
            if plan.encoding.codec == "libx265" and plan.muxer in ("mp4", "mov"):
                pictures.codec_context.codec_tag = "hvc1"  # the only one of two that Apple's players take
            pictures.time_base = plan.encoding.time_base
            describe(pictures, stream)
        elif stream.index in tracks:
            added = add(container, plan.film.path, stream, tracks[stream.index].handling, plan.muxer)
            if added is not None:
                others[stream.index] = added
    return cast("VideoStream", pictures), others


def _chapters(film: InputContainer, span: TimeSpan) -> list["Chapter"]:
    """Return the chapters in a part of the film, from its beginning."""
    kept = []
    for chapter in film.chapters():
        unit = chapter["time_base"]
        if not unit:
            continue
        start, stop = chapter["start"] * unit, chapter["end"] * unit
        if span.start is not None:
            start = max(start, span.start)
        if span.stop is not None:
            stop = min(stop, span.stop)
        if start < stop or (start == stop and span == TimeSpan()):
            moved = {"start": round((start - span.origin) / unit), "end": round((stop - span.origin) / unit)}
            kept.append(cast("Chapter", {**chapter, **moved}))
    return kept


def _pictures(plan: Plan, segments: Sequence[FilmSegment], stream: VideoStream) -> Iterator["Timed"]:
    """Yield the encoded pictures with the time at which each must be decoded, in that order.

    Encoders choose these times for their own segment. Here they follow from the times of showing: the n-th picture that
    is decoded gets the n-th time of showing, less the largest number of pictures that any has to wait for.
    """
    decoded = [time for segment in segments for time in segment.times]
    shown = sorted(decoded)
    unit = plan.encoding.time_base
    frame = max(round(1 / (plan.encoding.rate * unit)), 1)
    waits = max((place - bisect_left(shown, time) for place, time in enumerate(decoded)), default=0)
    step = shown[1] - shown[0] if len(shown) > 1 else frame
    shift = round(plan.span.origin / unit)
    place = 0
    for segment in segments:
        for picture in segment.packets():
            packet = Packet(picture.data)
            packet.pts, packet.is_keyframe = picture.pts - shift, picture.key
            packet.dts = (shown[place - waits] if place >= waits else shown[0] - (waits - place) * step) - shift
            after = bisect_left(shown, picture.pts) + 1
            packet.duration = shown[after] - picture.pts if after < len(shown) else frame
            packet.time_base, packet.stream = unit, stream
            place += 1
            yield packet.dts * unit, packet


def _copied(film: InputContainer, plan: Plan, others: dict[int, Stream]) -> Iterator["Timed"]:
    """Yield the packets of the other tracks with their times, in the order of the film.

    Matroska and WebM have no times before zero. Sound of other films that ends before zero, which prepares a decoder
    and is not heard, is left out there: FFmpeg would move all tracks instead.
    """
    if not others:
        return
    picture_track(film).discard = Discard.all
    converted = {track.index for track in plan.tracks if track.handling is Handling.CONVERTED}
    strict = plan.muxer in ("mp4", "mov")
    early = strict or "matroska" in film.format.name  # Matroska says of sound by how much it comes too early
    latest: dict[int, int] = {}
    if plan.span.start is not None:
        with suppress(av.FFmpegError):  # then from the beginning
            film.seek(max(int((plan.span.start - 10) * av.time_base), 0))
    for packet in film.demux([film.streams[index] for index in others]):
        unit, pts = packet.time_base, packet.pts if packet.pts is not None else packet.dts
        if packet.size and is_cover(packet.stream):
            packet.pts = packet.dts = 0
            packet.stream = others[packet.stream_index]
            yield Fraction(0), packet
            continue
        if not packet.size or pts is None:
            continue
        time = pts * unit
        if not early and time < 0 and time + (packet.duration or 0) * unit <= 0:
            continue
        if not plan.span.holds(time):
            continue
        index, target = packet.stream_index, others[packet.stream_index]
        shift = round(plan.span.origin / unit)
        dts = (packet.dts if packet.dts is not None else pts) - shift
        if index in latest:
            dts = max(dts, latest[index] + strict)  # damaged films go back in time, which files must not
        latest[index] = dts
        if index in converted:
            made = _converted(packet, target)
            if made is None:
                continue
            made.duration, made.time_base = packet.duration, unit
            packet = made
        packet.pts, packet.dts = max(pts - shift, dts), dts
        packet.stream = target
        yield dts * unit, packet


def _converted(packet: "Packet[Stream]", target: Stream) -> "Packet[Stream] | None":
    """Return the texts of a packet in the format of ``target``; ``None`` if it has none, or is damaged."""
    reader = cast("SubtitleCodecContext", packet.stream.codec_context)
    writer = cast("SubtitleCodecContext", target.codec_context)
    try:
        texts = reader.decode2(packet)
        return None if texts is None else writer.encode_subtitle(texts)
    except av.FFmpegError:
        return None


def _interleave(
    container: OutputContainer,
    pictures: Iterator["Timed"],
    others: Iterator["Timed"],
) -> None:
    """Write both in the order of their times."""
    picture = next(pictures, None)
    for time, packet in others:
        while picture is not None and picture[0] <= time:
            container.mux(picture[1])
            picture = next(pictures, None)
        container.mux(packet)
    while picture is not None:
        container.mux(picture[1])
        picture = next(pictures, None)

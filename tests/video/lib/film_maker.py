"""Films made for tests: small, with whatever a film may hold."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.protocols import SequentialSession

MASTERING = "G(13250,34500)B(7500,3000)R(34000,16000)WP(15635,16450)L(10000000,50)"
CHAPTERS = [(0, 900, "Beginning"), (900, 2000, "End")]  # milliseconds


class Doubler(SequentialSession):
    """Repeats each pixel, and counts the pictures."""

    backend, fixed_size = "stand-in", None
    metadata = ArtifactMetadata(model="twice", scale=2, receptive_radius=0, live_channels=12, fused=True)

    def __init__(self) -> None:
        self.runs = 0

    def close(self) -> None:
        """Nothing is held."""

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.runs += 1
        return batch.repeat(2, axis=2).repeat(2, axis=3)

    def bytes_per_pixel(self) -> int:
        return 100


@dataclass(frozen=True)
class Recipe:
    """The content of a film to make.

    Attributes:
        times: of its pictures, in units of ``time_base``.
        colours: matrix, range, primaries and transfer, by the numbers of H.273.
        turn: degrees, counter-clockwise, by which it is shown turned.
        sounds: codec and language of each track of sound.
        subtitles: codec and language of each track of subtitles.
    """

    times: Sequence[int] = tuple(range(10))
    time_base: Fraction = Fraction(1, 25)
    rate: Fraction = Fraction(25)
    size: tuple[int, int] = (32, 24)
    codec: str = "libx264"
    pixel_format: str = "yuv420p"
    options: dict[str, str] = field(default_factory=lambda: {"preset": "ultrafast", "crf": "10"})
    colours: tuple[int, int, int, int] = (2, 0, 2, 2)
    aspect: Fraction = Fraction(1)
    turn: int = 0
    flip: bool = False
    sounds: Sequence[tuple[str, str]] = ()
    subtitles: Sequence[tuple[str, str]] = ()
    chapters: bool = False
    attachment: bool = False
    cover: bytes | None = None
    title: str | None = None


def picture(number: int, width: int, height: int) -> np.ndarray:
    """A gradient that moves, (height, width, 3) of uint8."""
    y, x = np.mgrid[:height, :width]
    red, green, blue = 4 * x + number, 5 * y + 3 * number, 2 * (x + y) + 100
    return np.stack([red % 200 + 20, green % 200 + 20, blue % 200 + 20], axis=-1).astype(np.uint8)


def make_film(path: Path, recipe: Recipe, draw: Callable[[int, int, int], np.ndarray] = picture) -> Path:
    """Write a film."""
    with av.open(str(path), "w") as container:
        if recipe.title is not None:
            container.metadata["title"] = recipe.title
        if recipe.chapters:
            container.set_chapters(
                [
                    {
                        "id": place,
                        "start": start,
                        "end": end,
                        "time_base": Fraction(1, 1000),
                        "metadata": {"title": name},
                    }
                    for place, (start, end, name) in enumerate(CHAPTERS, 1)
                ]
            )
        video: Any = container.add_stream(recipe.codec, rate=recipe.rate)
        video.width, video.height = recipe.size
        video.pix_fmt, video.options = recipe.pixel_format, recipe.options
        context = video.codec_context
        context.time_base = video.time_base = recipe.time_base
        context.colorspace, context.color_range, context.color_primaries, context.color_trc = recipe.colours
        context.sample_aspect_ratio = recipe.aspect
        if recipe.turn or recipe.flip:
            video.set_display_rotation(recipe.turn, hflip=recipe.flip)
        sounds = [_add(container.add_stream(codec, rate=48000), language) for codec, language in recipe.sounds]
        texts = [_add(_texts(container, codec), language) for codec, language in recipe.subtitles]
        if recipe.attachment:
            container.add_attachment("font.ttf", "font/ttf", b"not really a font" * 100)
        if recipe.cover is not None:
            container.add_attachment("cover.jpg", "image/jpeg", recipe.cover)
        if sounds:
            sounds[-1].disposition = av.stream.Disposition.comment
        container.start_encoding()
        _write(container, video, recipe, draw)
        length = float((recipe.times[-1] + 1) * recipe.time_base)
        for sound in sounds:
            _write_sound(container, sound, length)
        for text in texts:
            _write_texts(container, text, length)
    return path


def _add(stream: Any, language: str) -> Any:
    stream.metadata["language"] = language
    stream.metadata["title"] = f"track {language}"
    return stream


def _texts(container: Any, codec: str) -> Any:
    stream = container.add_stream(codec)
    stream.codec_context.subtitle_header = HEADER
    stream.codec_context.time_base = stream.time_base = Fraction(1, 1000)
    return stream


def _write(container: Any, video: Any, recipe: Recipe, draw: Callable[[int, int, int], np.ndarray]) -> None:
    matrix, range_ = recipe.colours[0], recipe.colours[1]
    for number, pts in enumerate(recipe.times):
        pixels = draw(number, *recipe.size)
        frame = av.VideoFrame.from_ndarray(pixels, format="rgb24" if pixels.dtype == np.uint8 else "rgb48le")
        spaces = {1: "ITU709", 9: "BT2020"}
        frame = frame.reformat(
            format=recipe.pixel_format,
            dst_colorspace=spaces.get(matrix, "ITU601"),
            dst_color_range="JPEG" if range_ == 2 else "MPEG",
        )
        frame.pts, frame.time_base = pts, recipe.time_base
        container.mux(video.encode(frame))
    container.mux(video.encode(None))


def _write_sound(container: Any, stream: Any, length: float) -> None:
    context = stream.codec_context
    size = context.frame_size or 1024
    for start in range(0, int(48000 * length), size):
        wave = np.sin(np.arange(start, start + size) / 20).astype(np.float32) / 4
        frame = av.AudioFrame.from_ndarray(np.stack([wave, wave]), format="fltp", layout="stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48000, start, Fraction(1, 48000)
        if context.format.name != "fltp":
            (frame,) = av.AudioResampler(format=context.format, layout="stereo", rate=48000).resample(frame)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def _write_texts(container: Any, stream: Any, length: float) -> None:
    for number, start in enumerate(range(100, int(1000 * length), 400)):
        text = f"line {number}".encode()
        if stream.codec_context.name == "mov_text":
            text = len(text).to_bytes(2, "big") + text
        elif stream.codec_context.name == "ass":
            text = b"%d,0,Default,,0,0,0,," % number + text
        packet = av.Packet(text)
        packet.pts = packet.dts = start
        packet.duration, packet.time_base, packet.stream = 200, Fraction(1, 1000), stream
        container.mux(packet)


HEADER = b"""[Script Info]
ScriptType: v4.00+

[V4+ Styles]
Format: Name, Fontname, Fontsize, PrimaryColour, SecondaryColour, OutlineColour, BackColour, Bold, Italic, Underline, \
StrikeOut, ScaleX, ScaleY, Spacing, Angle, BorderStyle, Outline, Shadow, Alignment, MarginL, MarginR, MarginV, Encoding
Style: Default,Arial,16,&Hffffff,&Hffffff,&H0,&H0,0,0,0,0,100,100,0,0,1,1,0,2,10,10,10,0

[Events]
Format: Layer, Start, End, Style, Name, MarginL, MarginR, MarginV, Effect, Text
"""

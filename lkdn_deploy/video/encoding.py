"""The encoders that films are written with, and their settings."""

import os
from dataclasses import dataclass
from fractions import Fraction
from typing import cast

import av
from av.video.codeccontext import VideoCodecContext

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.video.colours import Colours, Hdr10
from lkdn_deploy.video.conversion import encoded_size
from lkdn_deploy.video.film import Film

_GLOBAL_HEADER = (
    1 << 22
)  # AV_CODEC_FLAG_GLOBAL_HEADER: parameters go into the file's header, not only before key frames

_X26X_PRESETS = (
    "ultrafast", "superfast", "veryfast", "faster", "fast", "medium", "slow", "slower", "veryslow", "placebo",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Codec:
    """An encoder.

    Attributes:
        formats: pixel formats of results of 8 bits and of more.
        crf: its quality unless another is asked for, lower is better; ``None``: it is lossless.
        largest_crf: the lowest quality.
        presets: from the fastest to the best, or the other way round.
        preset: the one used unless another is asked for.
        aspect_in_stream: whether its stream holds the shape of a pixel.
        hdr10_in_stream: whether its stream holds the static metadata of HDR10.
    """

    formats: tuple[str, str]
    crf: int | None = None
    largest_crf: int = 51
    presets: tuple[str, ...] = ()
    preset: str | None = None
    aspect_in_stream: bool = True
    hdr10_in_stream: bool = True


CODECS = {
    "libx264": Codec(("yuv420p", "yuv420p10le"), 18, 51, _X26X_PRESETS, "medium"),
    "libx265": Codec(("yuv420p", "yuv420p10le"), 19, 51, _X26X_PRESETS, "medium"),
    "libsvtav1": Codec(("yuv420p", "yuv420p10le"), 25, 63, tuple(map(str, range(14))), "8", aspect_in_stream=False),
    "ffv1": Codec(("bgr0", "gbrp16le"), aspect_in_stream=False, hdr10_in_stream=False),
}
"""H.264, H.265, AV1, and the lossless FFV1, whose pictures are RGB exactly as the network made them."""


@dataclass(frozen=True, slots=True)
class Encoding:
    """The encoding of the pictures of a film.

    Attributes:
        codec: a name of ``CODECS``.
        crf: quality; ``None`` for a lossless codec.
        preset: speed; ``None`` for a codec without such.
        pixel_format: of the encoded pictures, as FFmpeg names it.
        width: of an encoded picture.
        height: of an encoded picture.
        rate: pictures per second, on average.
        time_base: unit of timestamps in seconds.
        aspect: width of a pixel by its height.
        colours: what the values mean.
        hdr10: static HDR metadata.
    """

    codec: str
    crf: int | None
    preset: str | None
    pixel_format: str
    width: int
    height: int
    rate: Fraction
    time_base: Fraction
    aspect: Fraction
    colours: Colours
    hdr10: Hdr10

    def options(self) -> dict[str, str]:
        """Return the encoder's options."""
        if self.codec == "ffv1":
            return {"level": "3", "slicecrc": "1"}
        options = {"crf": str(self.crf), "preset": str(self.preset)}
        special = ":".join(f"{name}={value}" for name, value in self._special().items() if value is not None)
        return options | ({f"{self.codec.removeprefix('lib')}-params": special} if special else {})

    def _special(self) -> dict[str, str | None]:
        """Return the options that only the encoder itself knows."""
        display, light = self.hdr10.display, self.hdr10.light
        brightness = None if light is None else "{},{}".format(*light)
        mastering = None if display is None else display.for_x265()
        if self.codec == "libsvtav1":
            mastering = None if display is None else display.for_svt_av1()
            return {"mastering-display": mastering, "content-light": brightness}
        if self.codec == "libx264":
            # With its macroblock tree, x264 encodes the same pictures in other ways from run to run. A film that is
            # resumed would differ from that of one run.
            return {"mbtree": "0", "mastering-display": mastering, "cll": brightness}
        hdr10 = None if self.hdr10 == Hdr10() else "1"
        return {
            "log-level": "error",
            "master-display": mastering,
            "max-cll": brightness,
            "hdr10": hdr10,
            "repeat-headers": hdr10,  # the metadata is before every key frame then
        }

    def set_up(self, context: VideoCodecContext, *, global_header: bool) -> None:
        """Set the parameters of an encoder that is not open yet.

        Args:
            context: the encoder.
            global_header: whether the file that the film goes to keeps parameters in its header.
        """
        context.width, context.height, context.pix_fmt = self.width, self.height, self.pixel_format
        context.time_base, context.framerate = self.time_base, self.rate
        context.sample_aspect_ratio = self.aspect
        context.colorspace, context.color_range = self.colours.matrix, self.colours.range
        context.color_primaries, context.color_trc = self.colours.primaries, self.colours.transfer
        context.options = self.options()
        if global_header:
            context.flags |= _GLOBAL_HEADER

    def encoder(self) -> VideoCodecContext:
        """Return an open encoder.

        Raises:
            UsageError: if it does not take these settings.
        """
        os.environ.setdefault("SVT_LOG", "0")  # its errors come as exceptions
        context = cast("VideoCodecContext", av.CodecContext.create(self.codec, "w"))
        self.set_up(context, global_header=True)
        try:
            context.open()
        except (av.FFmpegError, ValueError) as error:
            msg = f"{self.codec} does not take pictures of {self.width}x{self.height} with these settings: {error}"
            raise UsageError(msg, "use a smaller scale, or another --codec") from error
        return context


def choose(
    film: Film, width: int, height: int, *, muxer: str, codec: str | None, crf: int | None, preset: str | None
) -> tuple[Encoding, list[str]]:
    """Return how to encode a film's results, and notes on what that loses.

    Args:
        film: the film.
        width: of a result, in pixels.
        height: of a result, in pixels.
        muxer: format of the result, a value of ``containers.MUXERS``.
        codec: a name of ``CODECS``; by default libx264 for 8 bits, libx265 for more, libsvtav1 for WebM.
        crf: quality; the codec's default if ``None``.
        preset: speed; the codec's default if ``None``.

    Raises:
        UsageError: if the codec is not known, or has no such quality or preset.
    """
    name = codec or ("libsvtav1" if muxer == "webm" else "libx264" if film.depth == 8 else "libx265")
    if name not in CODECS:
        msg = f"codecs are {', '.join(CODECS)}, got {name!r}"
        raise UsageError(msg)
    known = CODECS[name]
    if known.crf is None and not (crf is None and preset is None):
        msg = f"{name} is lossless: it has no quality and no preset"
        raise UsageError(msg, "leave out --crf and --preset, or choose another --codec")
    if crf is not None and not 0 <= crf <= known.largest_crf:
        msg = f"the quality of {name} lies between 0 (best) and {known.largest_crf}, got {crf}"
        raise UsageError(msg)
    if preset is not None and preset not in known.presets:
        msg = f"the presets of {name} are {', '.join(known.presets)}, got {preset!r}"
        raise UsageError(msg)
    if muxer == "webm" and name != "libsvtav1":
        msg = f"a WebM file does not hold {name}"
        raise UsageError(msg, "use --codec libsvtav1, or an output that ends with .mkv")
    if film.aspect != 1 and not known.aspect_in_stream and muxer in ("matroska", "webm"):
        msg = f"the pixels of the film are {film.aspect} as wide as high, which {name} cannot say in this format"
        raise UsageError(msg, "use an output that ends with .mp4, or another --codec")
    pixel_format = known.formats[film.depth > 8]
    notes = []
    kept_height, kept_width = encoded_size(height, width, pixel_format)
    if (kept_height, kept_width) != (height, width):
        lost = " and ".join(
            part
            for part, gone in (("the last column", width - kept_width), ("the last row", height - kept_height))
            if gone
        )
        notes.append(f"{lost} of {width}x{height} left out: {name} takes even sizes; ffv1 keeps all")
    if film.depth > 10 and known.crf is not None:
        notes.append(f"of {film.depth} bits, 10 are kept; ffv1 keeps 16")
    if not known.hdr10_in_stream and film.hdr10 != Hdr10():
        notes.append(f"{name} has no place for the mastering display and light level of HDR10")
    colours = film.colours.encoded_as(rgb=known.crf is None)
    encoding = Encoding(
        codec=name,
        crf=known.crf if crf is None else crf,
        preset=preset or known.preset,
        pixel_format=pixel_format,
        width=kept_width,
        height=kept_height,
        rate=film.rate,
        time_base=film.time_base,
        aspect=film.aspect,
        colours=colours,
        hdr10=film.hdr10,
    )
    return encoding, notes

"""Conversion between a film's pictures and arrays of RGB, by FFmpeg's filters.

FFmpeg's own defaults round and interpolate chroma coarsely: they are off by up to 2.5 of 255 levels. The flags used
here keep the error below one level. Where
they make 16 bits of luma and chroma, white is 255 * 256 rather than 65535, and where they take 16 bits it must be; that
is put right here.
"""

from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import av
import numpy as np
from av.filter import Graph

from lkdn_deploy.imaging.pixels import Pixels
from lkdn_deploy.video.colours import LIMITED, Colours, colours_of

_ACCURATE = "flags=bicubic+accurate_rnd+full_chroma_int+full_chroma_inp"
_RGB = {8: "rgb24", 16: "rgb48le"}
_KINDS: dict[int, np.dtype[Any]] = {8: np.dtype(np.uint8), 16: np.dtype("<u2")}


class _Chain:
    """Filters in a row, made anew when the kind of picture that enters them changes."""

    def __init__(self) -> None:
        self._kind: tuple[object, ...] | None = None
        self._graph = Graph()

    def feed(self, frame: av.VideoFrame, filters: tuple[str, ...], kind: tuple[object, ...]) -> av.VideoFrame:
        """Send a picture through filters that give one picture for each.

        Args:
            frame: the picture.
            filters: the filters, as FFmpeg writes them: ``name=options``.
            kind: whatever the filters depend on.
        """
        if kind != self._kind:
            self._kind, self._graph = kind, graph(frame, filters)
        self._graph.vpush(frame)
        return self._graph.vpull()


def graph(frame: av.VideoFrame, filters: tuple[str, ...]) -> Graph:
    """Return a graph of filters in a row that takes pictures like ``frame``."""
    made = Graph()
    time_base = frame.time_base or Fraction(1, 1000)
    source = made.add(
        "buffer",
        video_size=f"{frame.width}x{frame.height}",
        pix_fmt=frame.format.name,
        time_base=f"{time_base.numerator}/{time_base.denominator}",
        colorspace=str(int(frame.colorspace)),
        range=str(int(frame.color_range)),
    )
    names = [text.partition("=") for text in filters]
    nodes = [made.add(name, options or None) for name, _, options in names]
    made.link_nodes(source, *nodes, made.add("buffersink"))
    made.configure()
    return made


class ToPixels:
    """Converts pictures to arrays of RGB, upright.

    Args:
        depth: 8 or 16, bits of the arrays.
        turn: filters that turn a picture upright.
    """

    def __init__(self, depth: int, turn: tuple[str, ...]) -> None:
        self._depth, self._turn = depth, turn
        self._chain = _Chain()

    def __call__(self, frame: av.VideoFrame) -> Pixels:
        """Return (H, W, 3), which shares its memory with a picture that no one else writes to."""
        colours = colours_of(frame)
        scale = f"scale={_ACCURATE}:in_color_matrix={colours.scaler}:in_range={colours.scaler_range}:out_range=pc"
        rgb = _RGB[self._depth]
        name, levels = frame.format.name, frame.format.components[0].bits
        kind = (frame.width, frame.height, name, colours, int(frame.colorspace), int(frame.color_range))
        filters = (*_stretched(name, levels, colours), scale, f"format={rgb}", *self._turn)
        pixels = _view(self._chain.feed(frame, filters, kind), self._depth)
        if self._depth == 8 or colours.matrix == 0:
            return pixels
        shift = 8 if colours.range == LIMITED else levels
        pixels = np.minimum(pixels, 0xFFFF >> (16 - shift) << (16 - shift))
        pixels += pixels >> shift
        return pixels


class FromPixels:
    """Converts arrays of RGB to pictures that an encoder takes.

    Args:
        pixel_format: the encoder's, as FFmpeg names it.
        colours: what the values of the picture shall mean.
    """

    def __init__(self, pixel_format: str, colours: Colours) -> None:
        self._format, self._colours = pixel_format, colours
        self._chain = _Chain()

    def __call__(self, pixels: Pixels) -> av.VideoFrame:
        """Return the picture of a contiguous array (H, W, 3) of uint8 or uint16, cropped to what the format takes."""
        if pixels.dtype == np.uint16 and self._colours.matrix != 0:
            pixels = pixels - (pixels >> 8)
        frame = av.VideoFrame.from_numpy_buffer(pixels, _RGB[8 * pixels.itemsize])
        frame.time_base = Fraction(1, 1000)  # of no importance: the pictures' times are set later
        colours = self._colours
        scale = f"scale={_ACCURATE}:in_range=pc:out_color_matrix={colours.scaler}:out_range={colours.scaler_range}"
        filters = (*self._crop(pixels), scale, f"format={self._format}")
        return self._chain.feed(frame, filters, (pixels.shape, pixels.itemsize))

    def _crop(self, pixels: Pixels) -> tuple[str, ...]:
        height, width = pixels.shape[:2]
        kept_height, kept_width = encoded_size(height, width, self._format)
        return () if (kept_height, kept_width) == (height, width) else (f"crop={kept_width}:{kept_height}:0:0:exact=1",)


def _stretched(name: str, levels: int, colours: Colours) -> tuple[str, ...]:
    """Return the filter that gives grey pictures full range: the conversion takes them to have it."""
    if not name.startswith("gray") or colours.range != LIMITED:
        return ()
    scale = 1 << (levels - 8)
    return (f"lut=c0=clip((val-{16 * scale})*255/219+0.5,0,{255 * scale})",)


def encoded_size(height: int, width: int, pixel_format: str) -> tuple[int, int]:
    """Return the height and width that a pixel format can hold: even ones where two pixels share their chroma."""
    return (height - height % 2, width - width % 2) if "420" in pixel_format else (height, width)


def _view(frame: av.VideoFrame, depth: int) -> Pixels:
    """Return the pixels of a packed picture without copying them; the array keeps the picture alive."""
    plane, kind = frame.planes[0], _KINDS[depth]
    step = 3 * kind.itemsize
    view: Pixels = np.ndarray(
        (frame.height, frame.width, 3), kind, memoryview(plane), strides=(plane.line_size, step, kind.itemsize)
    )
    return view


class Deinterlacer:
    """Makes whole pictures of interlaced ones by the filter bwdif: one for each, at its time.

    Args:
        marked: whether only pictures that are marked as interlaced are changed.
    """

    def __init__(self, marked: bool) -> None:
        self._options = f"bwdif=mode=send_frame:deint={'interlaced' if marked else 'all'}"
        self._graph: Graph | None = None

    def feed(self, frame: av.VideoFrame) -> Iterator[av.VideoFrame]:
        """Take a picture, and yield those that are finished: the filter looks one ahead."""
        if self._graph is None:
            self._graph = graph(frame, (self._options,))
        self._graph.vpush(frame)
        yield from self._pulled(self._graph)

    def rest(self) -> Iterator[av.VideoFrame]:
        """Yield what is left at the end."""
        if self._graph is not None:
            self._graph.vpush(None)
            yield from self._pulled(self._graph)

    @staticmethod
    def _pulled(graph: Graph) -> Iterator[av.VideoFrame]:
        while True:
            try:
                yield graph.vpull()
            except (av.error.BlockingIOError, av.error.EOFError):
                return

"""Tiles whose result equals the whole image's.

A network of receptive radius ``halo`` computes a pixel from input at most ``halo`` away. A window of the image
therefore gives exact results wherever it ends on the image's own border, and ``halo`` away from where it does not.
Windows have one size and are shifted inward at the end, never padded: a network pads its own activations inside, which
padding of its input does not imitate.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Span:
    """Along one axis: read ``start..stop``; of what comes out, ``keep_start..keep_stop`` is exact and is kept."""

    start: int
    stop: int
    keep_start: int
    keep_stop: int


@dataclass(frozen=True, slots=True)
class Tile:
    """A window of the image and the part of it that is kept, in LR pixels."""

    rows: Span
    columns: Span

    @property
    def window(self) -> tuple[slice, slice]:
        """What to read of the image."""
        return slice(self.rows.start, self.rows.stop), slice(self.columns.start, self.columns.stop)

    def kept(self, scale: int) -> tuple[slice, slice]:
        """The exact part of this window's result."""
        return _scaled(self.rows, scale, self.rows.start), _scaled(self.columns, scale, self.columns.start)

    def place(self, scale: int) -> tuple[slice, slice]:
        """Where that part lies in the whole result."""
        return _scaled(self.rows, scale, 0), _scaled(self.columns, scale, 0)


def _scaled(span: Span, scale: int, origin: int) -> slice:
    return slice((span.keep_start - origin) * scale, (span.keep_stop - origin) * scale)


def plan_axis(length: int, tile: int, halo: int) -> list[Span]:
    """Cover ``0..length`` by as few equal windows of at most ``tile + 2 * halo`` as give every pixel exactly, once.

    A window that starts or ends on the border needs no halo there and keeps that much more.
    """
    window = min(length, tile + 2 * halo)
    spans: list[Span] = []
    done = 0
    while done < length:
        start = min(max(done - halo, 0), length - window)
        stop = start + window
        keep_stop = length if stop == length else stop - halo
        spans.append(Span(start, stop, done, keep_stop))
        done = keep_stop
    return spans


def plan_tiles(height: int, width: int, tile: int, halo: int) -> list[Tile]:
    """Tiles of at least ``tile`` useful pixels a side, row by row; the whole image if it is no larger than a window.

    Raises:
        ValueError: if ``tile`` is not positive.
    """
    if tile < 1:
        msg = f"a tile has at least one pixel, got {tile}"
        raise ValueError(msg)
    return [Tile(rows, columns) for rows in plan_axis(height, tile, halo) for columns in plan_axis(width, tile, halo)]


def largest_tile(height: int, width: int, halo: int, pixels: int) -> int:
    """The useful side of the largest square windows of at most ``pixels``, or of the image if it is no larger.

    Never below half the halo: smaller tiles would spend over 25 times the work of the whole image.
    """
    if height * width <= pixels:
        return max(height, width)
    return max(int(pixels**0.5) - 2 * halo, halo // 2, 1)

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


def plan_axis(length: int, window: int, halo: int) -> list[Span]:
    """Cover ``0..length`` by as few equal windows as give every pixel exactly, once.

    A window that starts or ends on the border needs no halo there and keeps that much more. An axis shorter than the
    window is one span.

    Raises:
        ValueError: if the windows are nothing but halo.
    """
    window = min(window, length)
    if window < length and window <= 2 * halo:
        msg = f"a window of {window} pixels leaves nothing between two halos of {halo}"
        raise ValueError(msg)
    spans: list[Span] = []
    done = 0
    while done < length:
        start = min(max(done - halo, 0), length - window)
        stop = start + window
        keep_stop = length if stop == length else stop - halo
        spans.append(Span(start, stop, done, keep_stop))
        done = keep_stop
    return spans


def plan_tiles(height: int, width: int, window: tuple[int, int], halo: int) -> list[Tile]:
    """Windows of (rows, columns) over an image, row by row; a single one if the image is no larger.

    Raises:
        ValueError: if the windows are nothing but halo.
    """
    across = plan_axis(width, window[1], halo)
    return [Tile(rows, columns) for rows in plan_axis(height, window[0], halo) for columns in across]


def smallest_window(halo: int) -> int:
    """The side of the smallest window worth while: two and a half halos.

    Smaller ones would spend over 25 times the work of the whole image.
    """
    return 2 * halo + max(halo // 2, 1)

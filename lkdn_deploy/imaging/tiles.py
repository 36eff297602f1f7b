"""Tiles whose result equals the whole image's.

A network of receptive radius ``halo`` computes a pixel from input at most ``halo`` away. A window of the image
therefore gives exact results wherever it ends on the image's own border, and ``halo`` away from where it does not.
Windows have one size and are shifted inward at the end, never padded: a network pads its own activations inside, which
padding of its input does not imitate.

Which windows an image is cut into: those that cost least.

What a cut costs is the pixels of all its windows, halos counted. Where memory allows it, the whole frame costs least;
else what repeats fewest pixels, and that is seldom stripes over the full width. With a halo of 63 and 370,000 pixels a
window, an image of 2000x1500 costs 1.39 times itself in tiles and 2.96 times in full-width stripes; one of 2000x400
costs 1.13 times itself in three windows of full height. (In squares of the largest size: 1.48 and 1.22.)

A pixel is taken to cost the same in every window. Measured for LKDN-S on two cores, it costs 3.1 to 3.9 microseconds on
OpenVINO and 3.8 to 4.5 on ONNX Runtime in windows from 64x64 to 512x512, up and down with no trend, while halos make
the work of 512x512 windows 1.8 times the image's, and that of 256x256 ones 3.9 times. A table of these costs would
change no decision that the runs themselves bear out, so there is none.
"""

from collections.abc import Iterator
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


@dataclass(frozen=True, slots=True)
class Cut:
    """Along one axis: so many windows of that many pixels."""

    window: int
    count: int


def choose_window(
    height: int, width: int, halo: int, pixels: int, *, least: int = 1, largest: tuple[int, int] | None = None
) -> tuple[int, int]:
    """The (rows, columns) of the windows that ``plan_tiles`` cuts an image into at the least cost.

    Args:
        height, width: of the image.
        halo: what windows repeat of each other; see ``plan_tiles``.
        pixels: the most that a window may have.
        least: of a side that is cut, beside ``smallest_window(halo)``. A window of two least sides may have more than
            ``pixels``.
        largest: the most rows and columns that a window may have. It comes before all others.

    Raises:
        ValueError: if windows of ``largest`` are nothing but halo.
    """
    least = max(least, smallest_window(halo))
    most_rows, most_columns = largest or (height, width)
    down, across = _cuts(height, halo, least, most_rows), list(_cuts(width, halo, least, most_columns))
    # The fewer the windows the less there is of halo and calls; stripes lie in memory as one piece.
    _, _, _, _, rows, columns = min(
        (
            max(rows.window * columns.window - pixels, 0),
            rows.window * rows.count * columns.window * columns.count,
            rows.count * columns.count,
            columns.count,
            rows.window,
            columns.window,
        )
        for rows in down
        for columns in across
    )
    return rows, columns


def _cuts(length: int, halo: int, least: int, most: int) -> Iterator[Cut]:
    """Every number of equal windows that makes them smaller, none larger than ``most``, down to ``least``.

    Of n windows the outer two keep one halo each that the others repeat. Numbers that leave the size as it was are
    left out, so there are at most about two square roots of ``length``.

    Raises:
        ValueError: if windows of ``most`` are nothing but halo.
    """
    if length <= most:
        yield Cut(length, 1)
    elif most <= 2 * halo:
        msg = f"a window of {most} pixels leaves nothing between two halos of {halo}"
        raise ValueError(msg)
    least = min(least, most)
    shared = length - 2 * halo
    window = min(most + 1, length)
    while window > least:
        count = -(-shared // (window - 1 - 2 * halo))
        window = max(-(-shared // count) + 2 * halo, least)
        yield Cut(window, count)

"""Tiles whose result equals the whole image's: their halo, their windows, and the size of window that costs least.

A network of receptive radius r computes a pixel from input at most r away. A window of the image therefore gives exact
results wherever it ends on the image's own border, and r pixels, its halo, away from where it does not. Windows of one
image have one size and are shifted inward at the end, never padded: a network pads its own activations at every layer,
which padding of its input does not imitate.

The cost of a plan is the pixels of all its windows, halos included. If memory allows, the whole image as one window
costs least; otherwise the plan that repeats the fewest pixels, and that is seldom stripes over the full width. With a
halo of 63 and 370,000 pixels a window, an image of 2000x1500 costs 1.39 times itself in tiles and 2.96 times in
full-width stripes; one of 2000x400 costs 1.13 times itself in three windows of full height.

A pixel is taken to cost the same in every window. Measured for LKDN-S on two cores, it costs 3.1 to 3.9 microseconds on
OpenVINO and 3.8 to 4.5 on ONNX Runtime in windows from 64x64 to 512x512, without a trend.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from operator import mul

INEXACT_HALO = 32
"""The halo for networks in which every pixel depends on the whole image: wide enough for their convolutions."""


def tile_halo(receptive_radius: int | None) -> int:
    """Return the pixels of its surroundings that a tile is computed with on each side.

    Args:
        receptive_radius: of the network, as its artefact's metadata has it; None if a pixel depends on the whole image.
    """
    return INEXACT_HALO if receptive_radius is None else receptive_radius


@dataclass(frozen=True, slots=True)
class Span:
    """A window along one axis: ``start..stop`` is read, and of its result ``keep_start..keep_stop`` is kept."""

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
        """The part of the image to compute."""
        return slice(self.rows.start, self.rows.stop), slice(self.columns.start, self.columns.stop)

    def kept(self, scale: int) -> tuple[slice, slice]:
        """Return the exact part of the window's result."""
        return _scaled(self.rows, scale, self.rows.start), _scaled(self.columns, scale, self.columns.start)

    def place(self, scale: int) -> tuple[slice, slice]:
        """Return the place of that part in the result of the whole image."""
        return _scaled(self.rows, scale, 0), _scaled(self.columns, scale, 0)


def _scaled(span: Span, scale: int, origin: int) -> slice:
    return slice((span.keep_start - origin) * scale, (span.keep_stop - origin) * scale)


def plan_tiles(
    height: int, width: int, window: tuple[int, int], halo: int, begin: int = 0, step: int = 1
) -> list[Tile]:
    """Cover an image with windows, row by row; with one if the image is no larger.

    Args:
        height, width: of the image.
        window: rows and columns of each window, halo included.
        halo: see ``tile_halo``.
        begin: the first row to cover.
        step: see ``plan_axis``.

    Raises:
        ValueError: if the windows are nothing but halo.
    """
    across = plan_axis(width, window[1], halo, step=step)
    return [Tile(rows, columns) for rows in plan_axis(height, window[0], halo, begin, step) for columns in across]


def plan_axis(length: int, window: int, halo: int, begin: int = 0, step: int = 1) -> list[Span]:
    """Cover ``begin..length`` with as few equal windows as give every pixel exactly, once.

    A window that starts or ends on the border needs no halo there and keeps that much more. An axis shorter than the
    window is one span. Windows begin at multiples of ``step``, for which they are made larger by less than two steps;
    their distances from the end of the axis are multiples too, so that this holds for the mirrored axis.

    Raises:
        ValueError: if the windows are nothing but halo.
    """
    window = min(window, length)
    if window < length:
        _check_window(window, halo)
        window = min(max(window, 2 * halo + step), length)
        window += (length - window) % step
    spans: list[Span] = []
    done = begin
    while done < length:
        start = min(max(done - halo, 0) // step * step, length - window)
        stop = start + window
        keep_stop = length if stop == length else stop - halo
        spans.append(Span(start, stop, done, keep_stop))
        done = keep_stop
    return spans


def _check_window(window: int, halo: int) -> None:
    if window <= 2 * halo:
        msg = f"a window of {window} pixels leaves nothing between two halos of {halo}"
        raise ValueError(msg)


def smallest_window(halo: int) -> int:
    """Return the side of the smallest window worth computing: two and a half halos.

    Smaller ones would take over 25 times the work of the whole image.
    """
    return 2 * halo + max(halo // 2, 1)


def choose_window(
    height: int,
    width: int,
    halo: int,
    budget: int,
    *,
    least: int = 1,
    largest: tuple[int, int] | None = None,
    cost: Callable[[int, int], int] = mul,
) -> tuple[int, int]:
    """Return the rows and columns of the windows that ``plan_tiles`` cuts an image into at the least cost.

    Args:
        height, width: of the image.
        halo: see ``tile_halo``.
        budget: the most that a window may take, as ``cost`` counts it.
        least: of a side that is cut, besides ``smallest_window(halo)``. A window of two least sides may exceed
            ``budget``.
        largest: the most rows and columns that a window may have. It takes precedence over all others.
        cost: memory of a window of so many rows and columns, in any unit; its pixels by default.

    Raises:
        ValueError: if windows of ``largest`` are nothing but halo.
    """
    least = max(least, smallest_window(halo))
    most_rows, most_columns = largest or (height, width)
    down, across = _cuts(height, halo, least, most_rows), list(_cuts(width, halo, least, most_columns))
    # The fewer the windows, the less halo and the fewer calls; stripes lie in memory as one piece.
    *_, rows, columns = min(
        (max(cost(rows, columns) - budget, 0), rows * many * columns * wide, many * wide, wide, rows, columns)
        for rows, many in down
        for columns, wide in across
    )
    return rows, columns


def _cuts(length: int, halo: int, least: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield the size and number of equal windows, for every number that makes them smaller.

    Of n windows, the outer two keep one halo each that the others repeat. Numbers that leave the size as it was are
    left out, so there are at most about two square roots of ``length``.

    Args:
        length: of the axis.
        halo: see ``tile_halo``.
        least, most: sizes that a window may have.

    Raises:
        ValueError: if windows of ``most`` are nothing but halo.
    """
    if length <= most:
        yield length, 1
    else:
        _check_window(most, halo)
    least = min(least, most)
    shared = length - 2 * halo
    window = min(most + 1, length)
    while window > least:
        count = -(-shared // (window - 1 - 2 * halo))
        window = max(-(-shared // count) + 2 * halo, least)
        yield window, count

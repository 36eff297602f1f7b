"""Rows of a picture as PNG files hold them: what is left of them after a filter."""

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from lkdn_deploy.imaging.files.loops import Loops


Bytes = NDArray[np.uint8]

NONE, BEFORE, ABOVE, PAETH = 0, 1, 2, 4
"""What is taken from a sample, by the PNG standard's numbers; the last is the nearest of three."""

_FILTERS = np.array([NONE, BEFORE, ABOVE, PAETH], np.uint8)

# One byte of a row in so many decides on its filter. A prime, so that all of a pixel's get their turn.
_SAMPLED = 17

_IN_CACHE = 1 << 16  # bytes that are filtered at once, so few that all between the steps stays in the processor's cache


def filtered(samples: Bytes, pixel: int, loops: "Loops | None") -> Bytes:
    """Rows, each after the number of its filter.

    Args:
        samples: bytes of the rows, contiguous, after the row above.
        pixel: so many are a pixel's.
        loops: the machine code to use, if any.
    """
    height, width = samples.shape[0] - 1, samples.shape[1]
    out = np.empty((height, 1 + width), np.uint8)
    out[:, 0] = _least(samples, pixel)
    if loops is not None:
        loops.filter(samples.ctypes.data, width, height, pixel, out.ctypes.data)
        return out
    step = max(1, _IN_CACHE // width)
    for top in range(0, height, step):
        _filter_each(samples[top : top + step + 1], pixel, out[top : top + step])
    return out


def _least(samples: Bytes, pixel: int) -> Bytes:
    """The filter of each row that leaves least, taken as signed: the rule of thumb of the PNG standard.

    The filter by a mean is left out: it is seldom better than Paeth's and never by much.
    """
    some = np.ascontiguousarray(samples[:, ::_SAMPLED])
    left = np.zeros_like(some)
    left[:, 1:] = samples[:, _SAMPLED - pixel :: _SAMPLED][:, : some.shape[1] - 1]
    plain, above, corner, left = some[1:], some[:-1], left[:-1], left[1:]
    weights = [_weights(rest) for rest in (plain, plain - left, plain - above, plain - _paeth(left, above, corner))]
    filters: Bytes = _FILTERS[np.argmin(weights, axis=0)]
    return filters


def _weights(rows: Bytes) -> NDArray[np.uint32]:
    """Sums of what the bytes of each row are as signed numbers, without their signs."""
    sums: NDArray[np.uint32] = np.abs(rows.view(np.int8)).view(np.uint8).sum(axis=1, dtype=np.uint32)
    return sums  # of the longest rows they may wrap, for which only the choice is worse


def _filter_each(samples: Bytes, pixel: int, out: Bytes) -> None:
    """Put each row, whose filter's number ``out`` has, through that filter."""
    rows, above, filters = samples[1:], samples[:-1], out[:, 0]
    for index, number in enumerate(set(filters.tolist())):
        expected = _expected(number, rows, above, pixel)
        if index == 0:  # all rows, most often of one filter; others then replace their own
            np.subtract(rows, expected, out=out[:, 1:])
        else:
            these = filters == number
            out[these, 1:] = rows[these] - expected[these]


def _expected(number: int, rows: Bytes, above: Bytes, pixel: int) -> Bytes:
    """What the filter takes from the rows. To the left of the picture are zeros."""
    if number == ABOVE:
        return above
    if number == PAETH:
        # All rows as one line, on which the end of one is left of the next; then their beginnings as they should be.
        line, line_above = rows.reshape(-1), above.reshape(-1)
        nearest = _paeth(line[:-pixel], line_above[pixel:], line_above[:-pixel])
        expected = np.concatenate((line_above[:pixel], nearest)).reshape(rows.shape)
        expected[:, :pixel] = above[:, :pixel]
        return expected
    expected = np.zeros_like(rows)
    if number == BEFORE:
        expected[:, pixel:] = rows[:, :-pixel]
    return expected


def _paeth(left: Bytes, above: Bytes, corner: Bytes) -> Bytes:
    """Of the three neighbours the one that is nearest to left + above - corner.

    Which is the lesser of two if the corner is no less than they are, the greater if it is no greater. A corner between
    them is taken unless it is no more than half as far from one as from the other; then that other is. Put so, it all
    fits into bytes.
    """
    low, high = np.minimum(left, above), np.maximum(left, above)
    middle: Bytes = np.maximum(np.minimum(corner, high), low)  # several times as fast as np.clip
    up, down = high - middle, middle - low
    less = np.minimum(up, down)  # of the two; without it none is below zero
    to_low, to_high = (up <= down - less).view(np.uint8), (down <= up - less).view(np.uint8)
    up *= to_high
    down *= to_low
    middle += up
    middle -= down
    return middle

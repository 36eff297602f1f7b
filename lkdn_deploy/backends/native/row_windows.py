"""Rows of maps that are read by their numbers, outside the compiled code."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.ir import Floats
from lkdn_deploy.backends.native.layout import BLOCK, RowLayout, block_floats
from lkdn_deploy.core.errors import InputError


def checked_numbers(numbers: NDArray[Any], name: str, rows: int) -> NDArray[np.int64]:
    """Return numbers of rows that ONNX Runtime computed, those from the end on counted from the start.

    Args:
        numbers: (n,), from ``-rows`` to ``rows - 1``.
        name: name of their tensor.
        rows: number of rows that there are.

    Raises:
        InputError: if they are no such numbers.
    """
    fits = numbers.dtype == np.int64 and numbers.ndim == 1
    if not fits or (numbers.size and not -rows <= numbers.min() <= numbers.max() < rows):
        msg = f"the tensor {name} should have numbers of {rows} rows, and has others"
        raise InputError(msg, "export the network again, with lkdn-export")
    return np.where(numbers < 0, numbers + rows, numbers)


def largest_in_windows(
    array: Floats, starts: Sequence[NDArray[np.int64]], side: int, channels: int, layout: RowLayout
) -> Floats:
    """Return the largest numbers of windows of a map's rows, (C, windows, W).

    Args:
        array: (H, floats of a row), the map as it is stored in rows.
        starts: the first rows of each window, of which there may be several; all inside the map.
        side: number of rows from each of these on.
        channels: the map's channels.
        layout: the layout of the rows.
    """
    found = np.empty((len(starts[0]), array.shape[1]), np.float32)
    for result, *firsts in zip(found, *(it.tolist() for it in starts), strict=True):
        rows = sorted({first + row for first in firsts for row in range(side)})
        adjacent = rows[-1] - rows[0] + 1 == len(rows)
        np.maximum.reduce(array[rows[0] : rows[-1] + 1] if adjacent else array[rows], axis=0, out=result)
    return _in_columns(found, channels, layout)


def _in_columns(rows: Floats, channels: int, layout: RowLayout) -> Floats:
    """Return rows as they are stored, (rows, floats of a row), as (C, rows, W)."""
    lanes, blocks = layout.lanes, layout.blocks
    vectors = rows.reshape(len(rows), blocks, block_floats(channels, lanes))[:, :, : channels * BLOCK * lanes]
    lanewise = vectors.reshape(len(rows), blocks, channels, BLOCK, lanes).transpose(2, 0, 4, 1, 3)
    return lanewise.reshape(channels, len(rows), -1)[..., : layout.width]

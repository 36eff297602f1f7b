"""Adaptive pooling over cells of a picture, and the way back, with operations that every engine has, for any size."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_DIGITS = 1 << 8
"""Places along an axis are numbers of two such digits: networks with cells take up to 65,536 pixels a side."""

Axis = tuple[Tensor, Tensor, Tensor]
"""First pixels of the cells along an axis, those of the last ``side`` pixels of each, and the cell of each pixel."""
Cells = tuple[Axis, Axis]
"""The cells along height and width."""


class CellGrid(nn.Module):
    """The cells of adaptive pooling to a ``side``-th of the picture's size.

    Args:
        side: least number of pixels along a side of a cell.
    """

    def __init__(self, side: int) -> None:
        super().__init__()
        self.side = side
        self.register_buffer("digits", torch.arange(_DIGITS), persistent=False)
        self.digits: Tensor

    def forward(self, x: Tensor) -> Cells:
        height, width = (self._along(size) for size in x.shape[2:])
        return height, width

    def _along(self, size: int) -> Axis:
        cells = size // self.side
        places = (self.digits[:, None] * _DIGITS + self.digits).flatten()
        number = places[:cells]
        last = ((number + 1) * size + cells - 1) // cells - self.side
        return number * size // cells, last, places[:size] * cells // size


def largest_in_cells(x: Tensor, cells: Cells, side: int) -> Tensor:
    """Return the largest value of each cell, (N, C, H, W) -> (N, C, H // side, W // side): adaptive max pooling.

    Cells have ``side`` pixels a side or, so that they cover the picture, up to twice as many, and overlap then. So a
    cell is its first ``side`` pixels and its last ones.

    Args:
        x: the map.
        cells: its cells.
        side: least number of pixels along their sides.
    """
    for axis, (first, last, _) in zip((2, 3), cells, strict=True):
        runs = F.max_pool2d(x, (side, 1) if axis == 2 else (1, side), stride=1)
        x = torch.maximum(runs.index_select(axis, first), runs.index_select(axis, last))
    return x


def spread_over_pixels(x: Tensor, cells: Cells, like: Tensor) -> Tensor:
    """Enlarge a map of cells to the picture's size by nearest neighbour, (N, C, h, w) -> (N, C, H, W).

    What is exported finds the cells in whole numbers, as PyTorch in effect does: ONNX Runtime's own enlargement takes
    the cell beside for some pixels of every fortieth size.

    Args:
        x: the map.
        cells: the cells that its values are of.
        like: a map of the picture's size.
    """
    if torch.compiler.is_exporting():
        return x.index_select(2, cells[0][2]).index_select(3, cells[1][2])
    return F.interpolate(x, size=like.shape[2:], mode="nearest")


def variance(x: Tensor) -> Tensor:
    """Return the unbiased variance of each channel over the picture, (N, C, H, W) -> (N, C, 1, 1)."""
    height, width = x.shape[2:]
    return (x - x.mean((2, 3), keepdim=True)).square().sum((2, 3), keepdim=True) / (height * width - 1)

"""Winograd's minimal filtering F(2, 3), which takes 4 multiplications for two outputs of three taps instead of 6.

For adjacent columns d0 to d3 of an input and the taps g0 to g2 (Lavin and Gray, "Fast Algorithms for Convolutional
Neural Networks", CVPR 2016, equation 5),

    d0 g0 + d1 g1 + d2 g2 = m0 + m1 + m2        m0 = (d0 - d2) g0        m1 = (d1 + d2) (g0 + g1 + g2) / 2
    d1 g0 + d2 g1 + d3 g2 = m1 - m2 - m3        m3 = (d1 - d3) g2        m2 = (d2 - d1) (g0 - g1 + g2) / 2

The factors of the weights are computed once and for all, those of the input for all outputs at once, and the products
of each of the four positions are summed over rows and channels before the outputs are formed. A tile of two columns is
a block of ``layout``.

Each output depends on the same columns as without, so windows keep their halo. But a column is the first or the second
of its tile, and these are rounded differently: a window gives the whole image's values bit for bit if it begins at an
even column, which ``window_step`` tells.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lkdn_deploy.backends.native.ir import ConvOp, DepthwiseOp, Floats, Op, Program

TILE = 2
"""Outputs of a tile."""

POSITIONS = TILE + 2
"""Multiplications of a tile."""

INPUT_TRANSFORM = ((-1, 1, -1), (0, 1, 1), (1, 0, -1), (0, 2, -1))
"""Two columns of the input for each position, relative to the tile's first, and the sign of the second."""

BIASED = 1
"""The position whose product is a summand of both outputs, to which the bias is added."""

CHANNELS = range(8, 257)
"""Numbers of inputs and of outputs. With fewer the transforms outweigh the saved multiplications; with more the
transformed input of all channels would not stay in the caches."""

MIN_SHARE = 0.5
"""Share of a network's multiplications that such convolutions must have: others would gain little."""

_WEIGHT_TRANSFORM = np.array([[1, 0, 0], [0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [0, 0, 1]])


def transform_weights(weight: Floats) -> Floats:
    """Return weights of three columns, (..., 3), as the factors of a tile's positions, (..., 4)."""
    return np.asarray(weight.astype(np.float64) @ _WEIGHT_TRANSFORM.T, np.float32)


def with_minimal_filtering(program: Program) -> Program:
    """Return a program whose dense convolutions of three adjacent columns use minimal filtering, where that pays.

    It pays for as many channels as ``CHANNELS`` has, in networks that spend ``MIN_SHARE`` on such convolutions.
    Networks of a fixed size remain as they are.
    """
    if program.fixed_size is not None:
        return program  # windows of one size cannot all begin where they should
    chosen = {op for op in program.ops if isinstance(op, ConvOp) and _eligible(op)}
    if sum(op.weight.size for op in chosen) < MIN_SHARE * sum(map(_multiplications, program.ops)):
        return program
    ops = (
        replace(op, weight=transform_weights(op.weight), minimal=True)
        if isinstance(op, ConvOp) and op in chosen
        else op
        for op in program.ops
    )
    return replace(program, ops=tuple(ops))


def packed_weights(op: ConvOp, groups: Sequence[tuple[int, int]]) -> Floats:
    """Return the weights of a convolution for minimal filtering in the order in which they are read.

    Args:
        op: the convolution, with weights for the positions of a tile.
        groups: first and number of the output channels of each group that is computed at once.

    Returns:
        For each position, and in it for each group, (1 + inputs * rows, outputs of the group), the bias first.
    """
    taps = op.weight.transpose(3, 1, 2, 0).reshape(POSITIONS, -1, len(op.weight))
    bias = np.zeros((POSITIONS, 1, len(op.weight)), np.float32)
    bias[BIASED] = op.bias
    rows = np.concatenate([bias, taps], axis=1)
    parts = [row[:, first : first + count].reshape(-1) for row in rows for first, count in groups]
    return np.concatenate(parts)


def window_step(program: Program) -> int:
    """Return the divisor of the columns at which windows must begin to give the whole image's values, bit for bit."""
    return TILE if any(isinstance(op, ConvOp) and op.minimal for op in program.ops) else 1


def _eligible(op: ConvOp) -> bool:
    outputs, inputs, _, columns = op.weight.shape
    sides = outputs in CHANNELS and inputs in CHANNELS
    return sides and op.blocks == (1, 1) and columns == 3 and op.dilation[1] == 1


def _multiplications(op: Op) -> int:
    """Return the multiplications of an operation for each pixel, if it is a convolution."""
    return op.weight.size if isinstance(op, ConvOp | DepthwiseOp) else 0

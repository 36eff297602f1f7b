"""Winograd's minimal filtering F(4, 3), which takes 6 multiplications for four outputs of three taps instead of 12.

With adjacent columns d of an input and taps g (Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks",
CVPR 2016), the outputs are the coefficients of a product of polynomials, which is computed from its values at 0, at
+-a, at +-b, and at infinity:

    y = A (G g * B d)

G g are the factors of the weights, which are computed once and for all. B d are those of the input, which are computed
once for all rows and all outputs that use them. The products of each of the six positions are summed over rows and
channels before A forms the outputs. With a = sqrt(2) and b = 1 / a no entry of A or B is far from 1, and results are as
accurate as those of a plain sum; with the usual 1 and 2 errors are a third larger.

Two rows at once take four products instead of six, by F(2, 3) in the rows' direction: sums and differences of rows of
factors, times factors of the rows of the weights. For eight outputs there are 24 products of each pair of channels, a
third of 72. A row depends on the rows of its window only, and its bits on whether its number is even.

A tile of four columns is two blocks of ``layout``. The factors of the input are a value of their own in a program. In
place of the tile's four vectors of each channel it has six, position by position, so that its rows are those of a value
with ``factor_channels``.

A column's place in its tile, and a row's in its pair, decide how it is rounded. A window therefore gives the whole
image's values bit for bit only if it begins at multiples of ``window_step``. And all outputs of a tile depend, in their
last bits, on the same columns, which makes the halo of windows larger than the receptive radius: ``window_halo``.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from lkdn_deploy.backends.native.ir import ConvOp, DepthwiseOp, Elementwise, FactorsOp, Floats, Op, Program
from lkdn_deploy.backends.native.layout import BLOCK

TILE = 4
"""Outputs of a tile."""

POSITIONS = TILE + 2
"""Multiplications of a tile."""

FAR, NEAR = math.sqrt(2), math.sqrt(0.5)
"""The values a and b at which polynomials are evaluated, besides 0 and infinity."""

CHANNELS = range(8, 257)
"""Numbers of inputs and of outputs. With fewer the transforms outweigh the saved multiplications; with more the
factors of all channels would not stay in the caches."""

MOST_PAIRED = 128
"""Number of inputs and of outputs up to which two rows are computed at once. With more, the weights, a third more than
for one row, would not stay in the caches."""

MIN_SHARE = 0.5
"""Share of a network's multiplications that such convolutions must have: others would gain little."""

_MANY_REGISTERS = 24
"""Vectors from which on three tiles at once are faster than two. Rows of few tiles then have fewer to compute twice."""

_WEIGHT_TRANSFORM = np.array(
    [
        [1, 0, 0],
        *([1 / 6, x / 6, x**2 / 6] for x in (FAR, -FAR)),
        *([-2 / 3, -2 / 3 * x, -2 / 3 * x**2] for x in (NEAR, -NEAR)),
        [0, 0, 1],
    ]
)

_ROW_TRANSFORM = np.array([[0.5, 0.5, 0.5], [0.5, -0.5, 0.5], [1, 0, 0], [0, 0, 1]])
"""The same of F(2, 3), for the three rows of weights of which two rows are computed at once."""


@dataclass(frozen=True, slots=True)
class MinimalConv:
    """A convolution over channels by minimal filtering; a part of a stage's signature."""

    sources: tuple[tuple[int, int], ...]
    """Operands that are read, and the number of channels whose factors each has."""
    rows: tuple[int, ...]
    """Rows of the taps, relative to the output's."""
    bias: int
    """Offset of the biases."""
    weights: int
    """Offset of what ``winograd.packed_weights`` returns."""
    groups: tuple[tuple[int, int], ...]
    """First and number of the output channels of each group that is accumulated in registers together."""
    tiles: int
    """Number of tiles that are computed together."""
    paired: bool
    """Whether it computes two rows at once."""


@dataclass(frozen=True, slots=True)
class Factors:
    """The factors of an operand for convolutions by minimal filtering."""

    source: int


def transform_weights(weight: Floats, *, paired: bool = False) -> Floats:
    """Return weights of three columns, (..., rows, 3), as the factors of a tile's positions, (..., rows, 6).

    Args:
        weight: the weights.
        paired: whether to transform the three rows, too, into four.
    """
    found = weight.astype(np.float64) @ _WEIGHT_TRANSFORM.T
    if paired:
        found = _ROW_TRANSFORM @ found
    return np.asarray(found, np.float32)


def factor_channels(channels: int) -> int:
    """Return the channels of a value that holds the factors of a value of ``channels``."""
    return -(-channels * POSITIONS // TILE)


def source_channels(channels: int) -> int:
    """Return the channels of a value whose factors have ``channels``."""
    return channels * TILE // POSITIONS


def tiles_at_once(vectors: int) -> int:
    """Return how many tiles use a weight that is loaded, where a convolution accumulates ``vectors`` in registers."""
    return 3 if vectors >= _MANY_REGISTERS else 2


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
    channels, depths, ops = list(program.channels), list(program.depths), list[Op]()
    for op in program.ops:
        if not isinstance(op, ConvOp) or op not in chosen:
            ops.append(op)
            continue
        factors = tuple(range(len(channels), len(channels) + len(op.inputs)))
        channels += (factor_channels(channels[value]) for value in op.inputs)
        depths += [depths[op.output]] * len(op.inputs)
        ops += (FactorsOp((value,), it) for value, it in zip(op.inputs, factors, strict=True))
        small = max(op.weight.shape[:2]) <= MOST_PAIRED
        paired = small and op.weight.shape[2] == 3 and op.dilation[0] == 1
        weight, output = transform_weights(op.weight, paired=paired), op.output
        if paired and output == program.result:  # of the output image, one row is in memory
            output = len(channels)
            channels.append(channels[op.output])
            depths.append(depths[op.output])
        ops.append(replace(op, inputs=factors, output=output, weight=weight, minimal=True, paired=paired))
        if output != op.output:
            ops.append(Elementwise((output,), op.output, "copy"))
    return replace(program, ops=tuple(ops), channels=tuple(channels), depths=tuple(depths))


def packed_weights(op: ConvOp, groups: Sequence[tuple[int, int]]) -> Floats:
    """Return the weights of a convolution for minimal filtering in the order in which they are read.

    Args:
        op: the convolution, with weights for the positions of a tile.
        groups: first and number of the output channels of each group that is computed at once.

    Returns:
        For each position, of a pair of rows for each of its rows in turn, and in it for each group, (inputs * rows,
        outputs of the group).
    """
    if op.paired:
        taps = op.weight.transpose(3, 2, 1, 0).reshape(4 * POSITIONS, -1, len(op.weight))
    else:
        taps = op.weight.transpose(3, 1, 2, 0).reshape(POSITIONS, -1, len(op.weight))
    parts = [it[:, first : first + count].reshape(-1) for it in taps for first, count in groups]
    return np.concatenate(parts)


def uses_minimal_filtering(program: Program) -> bool:
    """Return whether a program has such convolutions."""
    return any(isinstance(op, FactorsOp) for op in program.ops)


def row_step(program: Program) -> int:
    """Return the number of rows, from the first of the image on, that are computed together."""
    return 2 if any(isinstance(op, ConvOp) and op.paired for op in program.ops) else 1


def row_unit(program: Program) -> int:
    """Return the number of vectors of which rows have a multiple."""
    return TILE if uses_minimal_filtering(program) else BLOCK


def window_step(program: Program) -> int:
    """Return the divisor of the row and column at which windows must begin to give the whole image's values."""
    return TILE if uses_minimal_filtering(program) else 1


def window_halo(program: Program) -> int:
    """Return the columns to each side that decide the bits of a column's values; 0 without minimal filtering."""
    return max(_reach(program, column) for column in range(TILE)) if uses_minimal_filtering(program) else 0


def _reach(program: Program, column: int) -> int:
    """Return how far to the left of a column are those that decide the bits of its result.

    The mirrored column of a tile reaches as far to the right.
    """
    first = {program.result: column}
    for op in reversed(program.ops):
        if op.output not in first:
            continue
        start = first[op.output]
        if isinstance(op, ConvOp) and op.minimal:
            # Only the first output of a tile depends on the column before it.
            start -= start % TILE or 1
        else:
            start -= op.radius[1] if not isinstance(op, FactorsOp) else 0
        for value in op.inputs:
            first[value] = min(start, first.get(value, start))
    return column - min(first.values())


def _eligible(op: ConvOp) -> bool:
    outputs, inputs, _, columns = op.weight.shape
    sides = outputs in CHANNELS and inputs in CHANNELS
    return sides and op.first is None and op.blocks == (1, 1) and columns == 3 and op.dilation[1] == 1


def _multiplications(op: Op) -> int:
    """Return the multiplications of an operation for each pixel, if it is a convolution."""
    return op.weight.size if isinstance(op, ConvOp | DepthwiseOp) else 0

"""Weights rounded to integers such that their errors make up for each other on the values that a network usually has.

Rounded one by one, each to the nearest integer, weights change a sum by their errors times the inputs. Inputs of a
convolution are much alike, so most of that can be undone by the weights that are not rounded yet. The second moments of
the inputs tell by how much: B. Hassibi and D. G. Stork, "Second order derivatives for network pruning: Optimal Brain
Surgeon", 1992; for rounding, E. Frantar et al., "GPTQ", 2022.
"""

from collections.abc import Callable, Iterable, Sequence

import numpy as np

from lkdn_deploy.backends.native.fixed.fixed_ir import Doubles
from lkdn_deploy.backends.native.ir import ConvOp, DepthwiseOp, Floats, Op

Rounding = Callable[[Doubles], Doubles]
"""Weights, (out, in, taps), in units of integers, to whole numbers near them. 0 stays 0."""

DAMPING = 1e-3
"""The share of the mean of the moments that is added to each: as if inputs had as much noise. Without it, errors would
be moved to weights whose inputs were 0 on all pictures."""

_STEP = 5
"""Distance of the rows and columns of a picture that count."""

_MOST_NUMBERS = 1 << 25
"""Limit of the numbers in all moments of a network, which are in memory at once."""


def with_moments(ops: Iterable[Op], side: int) -> list[ConvOp | DepthwiseOp]:
    """Return the convolutions whose moments can be measured.

    Convolutions with windows larger than a picture are left out, and those whose moments would take too much memory
    together with those of the ones before.

    Args:
        ops: operations in order.
        side: height and width of the pictures.
    """
    found, room = [], _MOST_NUMBERS
    for op in ops:
        if not isinstance(op, ConvOp | DepthwiseOp):
            continue
        count = op.weight[0].size
        numbers = count**2 * (1 if isinstance(op, ConvOp) else len(op.weight))
        spans = [(taps - 1) * step for taps, step in zip(op.weight.shape[-2:], op.dilation, strict=True)]
        if max(spans) < side and numbers <= room:
            found.append(op)
            room -= numbers
    return found


def window_moments(op: ConvOp | DepthwiseOp, inputs: Sequence[Floats]) -> Doubles:
    """Return the second moments of what a convolution reads, summed over pixels of a picture.

    Args:
        op: the convolution.
        inputs: (channels, H, W) of each input, larger than the window.

    Returns:
        (1, n, n) for the n = in * taps weights of an output, or (channels, taps, taps) of a depthwise convolution.
    """
    maps = np.concatenate(inputs) if len(inputs) > 1 else inputs[0]
    (rows, columns), (down, across), (height, width) = op.weight.shape[-2:], op.dilation, maps.shape[1:]
    height, width = height - (rows - 1) * down, width - (columns - 1) * across  # where the window is inside
    taps = [
        maps[:, down * i : down * i + height : _STEP, across * j : across * j + width : _STEP]
        for i in range(rows)
        for j in range(columns)
    ]
    shape = (1, len(maps) * len(taps)) if isinstance(op, ConvOp) else (len(maps), len(taps))
    read = np.stack(taps, axis=1).reshape(*shape, taps[0][0].size)
    return np.asarray(np.matmul(read, read.swapaxes(1, 2)), np.float64)


def part_of_moments(moments: Doubles, channels: range, taps: int) -> Doubles:
    """Return the moments of a convolution that reads some of the channels only."""
    places = slice(taps * channels.start, taps * channels.stop)
    return moments[:, places, places]


def compensated(moments: Doubles, scales: Doubles, damping: float = DAMPING) -> Rounding:
    """Return a rounding whose errors make up for each other, or the nearest one where moments are singular.

    Args:
        moments: result of ``window_moments``, over all pictures.
        scales: (in,), units of the integers of each input; (channels,) of a depthwise convolution.
        damping: in place of ``DAMPING``.
    """
    groups, count = moments.shape[:2]
    each = scales.reshape(groups, -1).repeat(groups * count // len(scales), axis=1)
    moments = moments * each[:, :, None] * each[:, None]
    # Those that matter most come first: there are more weights left to make up for their errors.
    order = np.argsort(-np.diagonal(moments, axis1=1, axis2=2), axis=1, kind="stable")
    numbers = np.arange(groups)[:, None]
    moments = moments[numbers[..., None], order[:, :, None], order[:, None]]
    mean = np.trace(moments, axis1=1, axis2=2) / count
    moments[:, range(count), range(count)] += np.maximum(damping * mean, 1)[:, None]
    try:
        shares = np.linalg.cholesky(np.linalg.inv(moments)).swapaxes(1, 2)
    except np.linalg.LinAlgError:  # of thousands of inputs that are too much alike
        return np.rint

    def rounded(weight: Doubles) -> Doubles:
        before = weight.reshape(groups, -1, count)
        rest = np.take_along_axis(before, order[:, None], axis=2)
        is_zero, found = rest == 0, np.zeros_like(rest)
        for place in range(count):
            whole = np.where(is_zero[..., place], 0, np.rint(rest[..., place]))
            error = (rest[..., place] - whole) / shares[:, place, place, None]
            rest[..., place + 1 :] -= error[..., None] * shares[:, None, place, place + 1 :]
            found[..., place] = whole
        inverse = np.argsort(order, axis=1)
        return np.take_along_axis(found, inverse[:, None], axis=2).reshape(weight.shape)

    return rounded

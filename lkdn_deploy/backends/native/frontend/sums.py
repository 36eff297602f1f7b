"""Sums of convolutions as one: it accumulates what the two would store, load and add."""

from collections import Counter
from collections.abc import Collection, Sequence
from typing import TypeGuard

import numpy as np

from lkdn_deploy.backends.native.ir import ConvOp, Elementwise, Floats, Op


def merge_sums(ops: Sequence[Op], kept: Collection[int]) -> tuple[Op, ...]:
    """Replace each sum of two convolutions that nothing else uses by one over the channels of both inputs.

    Where one window is smaller, as that of copied pixels which are added to an image before it is shuffled, there are
    zeros around it. Code is not generated for taps that are zero.

    Args:
        ops: operations in order of execution.
        kept: values that are used outside these.
    """
    uses = Counter(value for op in ops for value in op.inputs)
    made: dict[int, Op] = {}

    def is_merged(op: Op | None) -> TypeGuard[ConvOp]:
        return isinstance(op, ConvOp) and op.blocks == (1, 1) and uses[op.output] == 1 and op.output not in kept

    for op in ops:
        first, second = (made.get(it) for it in op.inputs) if len(op.inputs) == 2 else (None, None)
        is_sum = isinstance(op, Elementwise) and op.kind == "add"
        if is_sum and is_merged(first) and is_merged(second) and _fit(first, second):
            del made[first.output], made[second.output]
            op = _sum(first, second, op.output)
        made[op.output] = op
    return tuple(made.values())


def _fit(first: ConvOp, second: ConvOp) -> bool:
    """Return whether the taps of both lie on one grid."""
    return first.dilation == second.dilation or (1, 1) in (first.weight.shape[2:], second.weight.shape[2:])


def _sum(first: ConvOp, second: ConvOp, output: int) -> ConvOp:
    both = first, second
    window = np.max([it.weight.shape[2:] for it in both], axis=0)
    weights = [_surrounded(it.weight, window) for it in both]
    dilation = first.dilation if first.weight.shape[2:] != (1, 1) else second.dilation
    if first.inputs == second.inputs:
        return ConvOp(first.inputs, output, weights[0] + weights[1], first.bias + second.bias, dilation)
    joined = np.concatenate(weights, axis=1)
    return ConvOp(first.inputs + second.inputs, output, joined, first.bias + second.bias, dilation)


def _surrounded(weight: Floats, window: Sequence[int]) -> Floats:
    """Return the weights in the middle of a window of so many rows and columns, which are zero elsewhere."""
    sides = [(size - own) // 2 for size, own in zip(window, weight.shape[2:], strict=True)]
    return np.pad(weight, [(0, 0), (0, 0), *((side, side) for side in sides)])

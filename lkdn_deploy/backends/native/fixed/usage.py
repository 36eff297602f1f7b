"""The record of how far the values of a fixed-point program reach."""

from collections import Counter

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.fixed.fixed_ir import HIGHEST, LOWEST, Doubles, FixedProgram
from lkdn_deploy.backends.native.ir import ConvOp, DepthwiseOp, NormOp, Op
from lkdn_deploy.core.protocols import RangeUse


class RangeRecord:
    """The extremes of the watched values of a program, over the windows since ``take``."""

    def __init__(self, fixed: FixedProgram) -> None:
        made = {op.output: op for op in fixed.program.ops}
        count = Counter[str]()
        self._names: list[str] = []
        for value in fixed.watched:
            kind = _kind(made[value])
            count[kind] += 1
            self._names.append(f"{kind} {count[kind]}")
        self._is_inside = np.array([value != fixed.program.result for value in fixed.watched])
        self._clear()

    def _clear(self) -> None:
        self._windows = self._again = 0
        self._used: Doubles = np.zeros(len(self._names))

    def add(self, extremes: NDArray[np.int16], *, as_pixels: bool) -> bool:
        """Add a window. Return whether its result can be taken: no value is at the end of its range.

        Args:
            extremes: (watched, 2), the lowest and the highest number of each value.
            as_pixels: whether the result is clipped, so that its own range does not count.
        """
        used = np.maximum(extremes[:, 0] / LOWEST, extremes[:, 1] / HIGHEST)
        np.maximum(self._used, used, out=self._used)
        counted = extremes[self._is_inside] if as_pixels else extremes
        fits = not ((counted == LOWEST) | (counted == HIGHEST)).any()
        self._windows += 1
        self._again += not fits
        return fits

    def add_outside(self) -> None:
        """Add a window that fixed point cannot represent."""
        self._windows += 1
        self._again += 1

    def take(self) -> RangeUse:
        """Return the record, and begin a new one."""
        used = dict(zip(self._names, np.round(self._used, 4).tolist(), strict=True))
        found = RangeUse(self._windows, self._again, used)
        self._clear()
        return found


def _kind(op: Op) -> str:
    match op:
        case ConvOp():
            return "conv"
        case DepthwiseOp():
            return "depthwise"
        case NormOp():
            return "norm"
    return getattr(op, "kind", "select")

"""Weights as integers, such that no sum of products leaves 32 bits, in whatever order it is computed.

Each partial sum of products, with the bias or without it, lies between the sum of all negative ones and the sum of all
positive ones. So it is enough that these two stay in 32 bits, for the inputs that make them largest.
"""

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.fixed.fixed_ir import HIGHEST, Doubles, Ints, Shorts
from lkdn_deploy.backends.native.fixed.rounding import Rounding
from lkdn_deploy.backends.native.ir import Floats, require

MOST = (1 << 31) - 1
"""The largest magnitude of a sum."""

MAX_SHIFT = 30

_SMALLER = 0.997
"""Factor of weights whose sums were too large, rounded."""

_TINY = 1e-30
"""The number that stands for weights that are all 0."""

Reach = tuple[NDArray[np.int64], NDArray[np.int64]]
"""The lowest and the highest stored number of each input of a convolution: (in,), or (out, 1) where each output has an
input of its own."""


def extreme_sums(weight: Doubles | NDArray[np.int64], bias: Doubles | NDArray[np.int64], reach: Reach) -> Doubles:
    """Return the largest magnitude of any partial sum of each output.

    Args:
        weight: (out, in, taps).
        bias: (out,).
        reach: range of the inputs.
    """
    ends = np.stack([weight * it[:, None] for it in reach]).astype(np.float64)
    highest = np.maximum(ends.max(axis=0), 0).sum(axis=(1, 2)) + np.maximum(bias, 0)
    lowest = np.minimum(ends.min(axis=0), 0).sum(axis=(1, 2)) + np.minimum(bias, 0)
    return np.asarray(np.maximum(highest, -lowest))


def _largest_factor(weight: Doubles, bias: Doubles, reach: Reach, room: Doubles | float) -> Doubles:
    """Return by how much weights and bias of each output may be multiplied, if sums have this much room."""
    sums = np.maximum(extreme_sums(weight, bias, reach), _TINY)
    largest = np.maximum(np.abs(weight).max(axis=(1, 2), initial=0), _TINY)
    return np.asarray(np.minimum(room / sums, HIGHEST / largest))


def shifted_integers(
    weight: Doubles, bias: Doubles, reach: Reach, rounded: Rounding = np.rint
) -> tuple[Shorts, Ints, Ints]:
    """Return weights, biases and right shifts of a convolution to integers, with as many bits as the sums allow.

    Args:
        weight: (out, in, taps), in units of the output for one of the input.
        bias: (out,), in units of the output.
        reach: range of the inputs.
        rounded: rounding of weights.

    Raises:
        UnsupportedError: if even whole numbers are too large.
    """
    # Rounding aside, this many bits fit; one more is tried.
    bits = np.floor(np.log2(_largest_factor(weight, bias, reach, MOST))) + 1
    shift = bits.clip(0, MAX_SHIFT).astype(np.int64)
    while True:
        power = np.exp2(shift)
        whole = rounded(weight * power[:, None, None])
        offset = np.rint(bias * power) + np.where(shift > 0, np.exp2(shift - 1), 0)
        too_large = _too_large(whole, offset, reach)
        if not too_large.any():
            return whole.astype(np.int16), offset.astype(np.int32), shift.astype(np.int32)
        shift = shift - too_large
        require(int(shift.min()) >= 0, "a convolution whose results are small beside its weights")


def scaled_integers(
    weight: Doubles, bias: Doubles, reach: Reach, rounded: Rounding = np.rint
) -> tuple[Shorts, Ints, Doubles]:
    """Return weights and biases of a convolution to float32, and what one unit of each output's sums stands for.

    Args:
        weight: (out, in, taps), for one unit of the input.
        bias: (out,).
        reach: range of the inputs.
        rounded: rounding of weights.
    """
    times = _largest_factor(weight, bias, reach, MOST - 1)
    while True:
        whole, offset = rounded(weight * times[:, None, None]), np.rint(bias * times)
        too_large = _too_large(whole, offset, reach)
        if not too_large.any():
            return whole.astype(np.int16), offset.astype(np.int32), 1 / times
        times = np.where(too_large, _SMALLER * times, times)


def _too_large(weight: Doubles, bias: Doubles, reach: Reach) -> NDArray[np.bool_]:
    """Return the outputs of which a weight leaves 16 bits, or a sum 32."""
    largest = np.abs(weight).max(axis=(1, 2), initial=0)
    return np.asarray((largest > HIGHEST) | (extreme_sums(weight, bias, reach) > MOST))


def sums_fit(weight: Shorts, bias: Ints, reach: Reach) -> bool:
    """Return whether no partial sum of a convolution leaves 32 bits; arguments as of ``extreme_sums``."""
    return bool((extreme_sums(weight.astype(np.int64), bias.astype(np.int64), reach) <= MOST).all())


def as_factors(numbers: Doubles) -> Floats | None:
    """Return factors in float32, or ``None`` if all are 1."""
    found = numbers.astype(np.float32)
    return None if (found == 1).all() else found

"""Convolutions and normalisations of maps as NumPy arrays."""

from collections.abc import Iterator
from functools import reduce
from itertools import product
from typing import Any

import numpy as np
from array_builder import ArrayBuilder
from numpy.typing import NDArray

from lkdn_deploy.backends.native.ir import Floats

_PARTIAL_SUMS = 4
"""As in ``codegen.stage``."""

Maps = NDArray[Any]
"""A value: (channels, H, W)."""


def dense_sums(maps: Maps, weight: NDArray[Any], dilation: tuple[int, int]) -> Maps:
    """Return the sums of a convolution of (in, H, W), in the type of its operands.

    Args:
        maps: (in, H, W), with zeros around it.
        weight: (out, in, rows, columns).
        dilation: step between taps, vertically and horizontally.
    """
    (height, width), (rows, columns) = maps.shape[1:], weight.shape[2:]
    found = np.zeros((len(weight), height * width), maps.dtype)
    for i, j, window in _windows(maps, rows, columns, dilation):
        found += weight[:, :, i, j] @ window.reshape(len(maps), -1)
    return found.reshape(-1, height, width)


def depthwise_sums(maps: Maps, weight: NDArray[Any], dilation: tuple[int, int]) -> Maps:
    """Return the sums of a depthwise convolution of (channels, H, W), in the type of its operands.

    Args:
        maps: (channels, H, W), with zeros around it.
        weight: (channels, rows, columns).
        dilation: step between taps, vertically and horizontally.
    """
    found = np.zeros_like(maps)
    for i, j, window in _windows(maps, *weight.shape[1:], dilation):
        found += weight[:, i, j, None, None] * window
    return found


def _windows(maps: Maps, rows: int, columns: int, dilation: tuple[int, int]) -> Iterator[tuple[int, int, Maps]]:
    """Yield each tap of a window, and what it sees of maps with zeros around them."""
    height, width = maps.shape[1:]
    sides = [(size // 2 * step,) * 2 for size, step in zip((rows, columns), dilation, strict=True)]
    padded = np.pad(maps, [(0, 0), *sides])
    for i, j in product(range(rows), range(columns)):
        top, left = i * dilation[0], j * dilation[1]
        yield i, j, padded[:, top : top + height, left : left + width]


def normalise(
    maps: Floats, epsilon: float, scale: Floats, shift: Floats, builder: ArrayBuilder, *, centred: bool = False
) -> Floats:
    """Return a normalisation over channels, with the order of sums that generated code has.

    Args:
        maps: (channels, H, W).
        epsilon: what is added to the variance.
        scale: (channels,).
        shift: (channels,).
        builder: how ``fma`` rounds.
        centred: whether the mean is 0, and not subtracted.
    """
    share = np.float32(1 / len(maps))
    zero = np.zeros_like(maps[0])
    if not centred:
        sums = [zero] * _PARTIAL_SUMS
        for channel, it in enumerate(maps):
            sums[channel % _PARTIAL_SUMS] = sums[channel % _PARTIAL_SUMS] + it
        maps = maps - reduce(np.add, sums) * share
    sums = [zero] * _PARTIAL_SUMS
    for channel, it in enumerate(maps):
        sums[channel % _PARTIAL_SUMS] = builder.fma(it, it, sums[channel % _PARTIAL_SUMS])
    factor = np.float32(1) / np.sqrt(builder.fma(reduce(np.add, sums), share, np.float32(epsilon)))
    return np.asarray(builder.fma(maps * factor, scale[:, None, None], shift[:, None, None]), np.float32)

"""The identities that the fuser is made of, one function each.

Weights are (out, in / groups, kh, kw) as in PyTorch, biases (out,). Every function takes floats of any kind, computes
in float64 and returns float64; none changes its arguments. All convolutions have stride 1. ``*`` is convolution.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

Array = NDArray[np.float64]


def identity_into_pointwise(weight: ArrayLike) -> Array:
    """Fold a shortcut around a 1x1 convolution: ``W * x + x = (W + I) * x``.

    Exact for (C, C, 1, 1) without groups, whether or not there is a bias.
    """
    kernel = _as_kernel(weight)
    if kernel.shape[2:] != (1, 1) or kernel.shape[0] != kernel.shape[1]:
        msg = f"a shortcut needs as many outputs as inputs and a 1x1 kernel, got {kernel.shape}"
        raise ValueError(msg)
    return kernel + np.eye(len(kernel))[:, :, None, None]


def identity_into_depthwise(weight: ArrayLike) -> Array:
    """Fold a shortcut around a depthwise convolution: ``K * x + x = (K + delta) * x``, delta a one at the centre.

    Exact for (C, 1, k, k), k odd, with k // 2 of zero padding.
    """
    kernel = _as_depthwise(weight)
    kernel[:, :, kernel.shape[2] // 2, kernel.shape[3] // 2] += 1
    return kernel


def pointwise_into_depthwise(
    weight: ArrayLike, bias: ArrayLike, point: ArrayLike, point_bias: ArrayLike
) -> tuple[Array, Array]:
    """Add a parallel depthwise 1x1: ``K * x + b + p x + c = (K + p delta) * x + (b + c)``.

    Exact for (C, 1, k, k) with k // 2 of zero padding and (C, 1, 1, 1): both read the same pixel at the centre.
    """
    return parallel([(_as_depthwise(weight), bias), (_as_depthwise(point), point_bias)])


def parallel(branches: Sequence[tuple[ArrayLike, ArrayLike]]) -> tuple[Array, Array]:
    """Add parallel convolutions of one input: the sum of their kernels, the smaller centred in the largest.

    Exact if kernel sizes are odd and each branch is zero-padded by half its kernel, so that all see the same border.
    """
    kernels = [_as_kernel(weight) for weight, _ in branches]
    height, width = (max(kernel.shape[axis] for kernel in kernels) for axis in (2, 3))
    total = np.zeros((*kernels[0].shape[:2], height, width))
    for kernel in kernels:
        if kernel.shape[:2] != total.shape[:2] or not kernel.shape[2] % 2 or not kernel.shape[3] % 2:
            msg = f"parallel convolutions must agree in channels and have odd kernels, got {kernel.shape}"
            raise ValueError(msg)
        top, left = (height - kernel.shape[2]) // 2, (width - kernel.shape[3]) // 2
        total[:, :, top : top + kernel.shape[2], left : left + kernel.shape[3]] += kernel
    return total, np.sum([np.asarray(bias, np.float64) for _, bias in branches], axis=0)


def pointwise_then_conv(
    point: ArrayLike, point_bias: ArrayLike, weight: ArrayLike, bias: ArrayLike
) -> tuple[Array, Array]:
    """Compose a 1x1 convolution (P, c) and a following k x k one (K, b): kernel ``K P``, bias ``b + sum(K) c``.

    Exact everywhere only if the map between them is bordered with ``c``, the 1x1's own bias: that is what the 1x1 makes
    of a zero outside the image, so the composed convolution may be zero-padded. With a border of *zeros* between
    them, as a padded second convolution would have it, the two differ at the image's border by the taps that fall
    outside, times c.
    """
    inner, kernel = _as_kernel(point), _as_kernel(weight)
    if inner.shape[2:] != (1, 1) or inner.shape[0] != kernel.shape[1]:
        msg = f"a 1x1 convolution with {kernel.shape[1]} outputs is needed, got {inner.shape}"
        raise ValueError(msg)
    composed = np.einsum("omhw,mi->oihw", kernel, inner[:, :, 0, 0])
    return composed, np.asarray(bias, np.float64) + kernel.sum(axis=(2, 3)) @ np.asarray(point_bias, np.float64)


def replicated_input(weight: ArrayLike, copies: int) -> Array:
    """Let a convolution read its input once: ``W * [x, ..., x] = (W_1 + ... + W_n) * x``.

    Exact always. (O, copies * C, kh, kw) -> (O, C, kh, kw).
    """
    kernel = _as_kernel(weight)
    out, channels, height, width = kernel.shape
    if channels % copies:
        msg = f"{channels} input channels are not {copies} copies of anything"
        raise ValueError(msg)
    folded: Array = kernel.reshape(out, copies, channels // copies, height, width).sum(axis=1)
    return folded


def _as_kernel(weight: ArrayLike) -> Array:
    """A float64 copy."""
    kernel = np.array(weight, np.float64)
    if kernel.ndim != 4:
        msg = f"a convolution's weight has 4 axes, got shape {kernel.shape}"
        raise ValueError(msg)
    return kernel


def _as_depthwise(weight: ArrayLike) -> Array:
    kernel = _as_kernel(weight)
    if kernel.shape[1] != 1 or not kernel.shape[2] % 2 or not kernel.shape[3] % 2:
        msg = f"a depthwise kernel of odd size is needed, got {kernel.shape}"
        raise ValueError(msg)
    return kernel

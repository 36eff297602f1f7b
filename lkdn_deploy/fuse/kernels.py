"""The identities of re-parameterisation, one a function: branches that are linear become one convolution.

Weights are (out, in / groups, kh, kw) as in PyTorch, biases (out,). All convolutions have stride 1, and ``*`` is
convolution. Functions leave their arguments as they are. They take NumPy arrays of any type, compute in float64 and
return it; or tensors of PyTorch, on which they compute in the tensors' own type and stay differentiable.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

Array = Any
"""A NumPy array, or a ``torch.Tensor``."""


def identity_into_pointwise(weight: Array) -> Array:
    """Fold a shortcut around a 1x1 convolution: ``W * x + x = (W + I) * x``.

    Exact for (C, C, 1, 1) without groups, whether or not there is a bias.

    Raises:
        ValueError: if the weight has another shape.
    """
    kernel = _kernel(weight)
    if kernel.shape[2:] != (1, 1) or kernel.shape[0] != kernel.shape[1]:
        msg = f"a shortcut needs as many outputs as inputs and a 1x1 kernel, got {tuple(kernel.shape)}"
        raise ValueError(msg)
    identity = _zeros(kernel, kernel.shape)
    channels = range(len(kernel))
    identity[channels, channels] = 1
    return kernel + identity


def identity_into_depthwise(weight: Array) -> Array:
    """Fold a shortcut around a depthwise convolution: ``K * x + x = (K + delta) * x``, delta a one at the centre.

    Exact for (C, 1, k, k), k odd, with k // 2 of zero padding.

    Raises:
        ValueError: if the weight has another shape.
    """
    kernel = _depthwise(weight)
    delta = _zeros(kernel, kernel.shape)
    delta[:, :, kernel.shape[2] // 2, kernel.shape[3] // 2] = 1
    return kernel + delta


def parallel(branches: Sequence[tuple[Array, Array]]) -> tuple[Array, Array]:
    """Add parallel convolutions of one input: the sum of their kernels, the smaller ones centred in the largest.

    All are dense, or all depthwise. Exact if kernel sizes are odd and each branch is zero-padded by half its kernel, so
    that all see the same border.

    Raises:
        ValueError: if the branches differ in channels, or a kernel's size is even.
    """
    kernels = [_kernel(weight) for weight, _ in branches]
    height, width = (max(kernel.shape[axis] for kernel in kernels) for axis in (2, 3))
    total = _zeros(kernels[0], (*kernels[0].shape[:2], height, width))
    for kernel in kernels:
        if kernel.shape[:2] != total.shape[:2] or not kernel.shape[2] % 2 or not kernel.shape[3] % 2:
            msg = f"parallel convolutions must agree in channels and have odd kernels, got {tuple(kernel.shape)}"
            raise ValueError(msg)
        top, left = (height - kernel.shape[2]) // 2, (width - kernel.shape[3]) // 2
        total[:, :, top : top + kernel.shape[2], left : left + kernel.shape[3]] += kernel
    return total, sum(_exact(bias) for _, bias in branches)


def pointwise_then_conv(point: Array, point_bias: Array, weight: Array, bias: Array) -> tuple[Array, Array]:
    """Compose a 1x1 convolution (P, c) and a k x k one (K, b) behind it: kernel ``K P``, bias ``b + sum(K) c``.

    Exact everywhere only if the map between them is bordered with ``c``, the 1x1's own bias: that is what the 1x1 makes
    of a zero outside the image, so the composed convolution may be zero-padded. With a border of *zeros* between
    them, as a padded second convolution would have it, the two differ at the image's border by the taps that fall
    outside, times c.

    Args:
        point: P, (M, I, 1, 1).
        point_bias: c, (M,).
        weight: K, (O, M, k, k).
        bias: b, (O,).

    Raises:
        ValueError: if the first is no 1x1 convolution, or its outputs are not the inputs of the second.
    """
    inner, kernel = _kernel(point), _kernel(weight)
    if inner.shape[2:] != (1, 1) or inner.shape[0] != kernel.shape[1]:
        msg = f"a 1x1 convolution with {kernel.shape[1]} outputs is needed, got {tuple(inner.shape)}"
        raise ValueError(msg)
    # (O, M, h, w) -> (O, w, h, M) @ (M, I) -> (O, I, h, w)
    composed = (kernel.swapaxes(1, 3) @ inner[:, :, 0, 0]).swapaxes(1, 3)
    return composed, _exact(bias) + kernel.sum(axis=(2, 3)) @ _exact(point_bias)


def replicated_input(weight: Array, copies: int) -> Array:
    """Let a convolution read copies of its input once: ``W * [x, ..., x] = (W_1 + ... + W_n) * x``.

    Exact always. (O, copies * C, kh, kw) -> (O, C, kh, kw).

    Raises:
        ValueError: if the input channels are no multiple of ``copies``.
    """
    kernel = _kernel(weight)
    out, channels, *size = kernel.shape
    if channels % copies:
        msg = f"{channels} input channels are not {copies} copies of anything"
        raise ValueError(msg)
    return kernel.reshape(out, copies, channels // copies, *size).sum(axis=1)


def _kernel(weight: Array) -> Array:
    if weight.ndim != 4:
        msg = f"a convolution's weight has 4 axes, got shape {tuple(weight.shape)}"
        raise ValueError(msg)
    return _exact(weight)


def _depthwise(weight: Array) -> Array:
    kernel = _kernel(weight)
    if kernel.shape[1] != 1 or not kernel.shape[2] % 2 or not kernel.shape[3] % 2:
        msg = f"a depthwise kernel of odd size is needed, got {tuple(kernel.shape)}"
        raise ValueError(msg)
    return kernel


def _exact(values: Array) -> Array:
    """Return arrays in float64, and tensors as they are."""
    return values if hasattr(values, "new_zeros") else np.asarray(values, np.float64)


def _zeros(like: Array, shape: Sequence[int]) -> Array:
    return like.new_zeros(tuple(shape)) if hasattr(like, "new_zeros") else np.zeros(shape)

"""The algebra of re-parameterisation: convolutions that follow one another, or stand side by side, become one.

Weights are (out, in / groups, height, width) as in PyTorch, biases (out,); every stride is 1. Arrays are NumPy's, or
tensors of PyTorch, which stay differentiable; both are computed in their own type.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import gcd
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = Any
"""A NumPy array, or a ``torch.Tensor``."""


class NotOneConvolutionError(ValueError):
    """Layers that compute something else than any one zero-padded convolution does, and why."""


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """A part of a network as one convolution of its input, which zeros surround without end.

    The part's result is that of the convolution on all of the picture and ``margin`` around it. What lies further out
    does not exist: a convolution without padding uses the margin up, and padding adds to it.
    """

    weight: Array
    bias: Array | None
    """``None`` if there is none: then a zero gives a zero."""
    groups: int
    margin: tuple[int, int] = (0, 0)
    """Number of rows and columns on each side of the picture; negative if the result is smaller than it."""
    unchanged: bool = False
    """Whether it is the identity, with which nothing has to be multiplied."""

    @classmethod
    def identity(cls, channels: int, like: Array) -> "Affine":
        """Return the map that changes nothing, with arrays of the kind of ``like``."""
        shape = (channels, 1, 1, 1)
        return cls(
            like.new_ones(shape) if hasattr(like, "new_ones") else np.ones(shape), None, channels, unchanged=True
        )

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of the kernel."""
        height, width = self.weight.shape[2:]
        return height, width

    def constant(self, values: NDArray[np.float64]) -> Array:
        """Return fixed numbers as an array of the map's own kind."""
        return self.weight.new_tensor(values) if hasattr(self.weight, "new_tensor") else values

    def pad(self, amount: Sequence[int], *, carried: bool = False) -> "Affine":
        """Add rows and columns around the result, of zeros, or ``carried``, of what the layers so far make of zeros.

        The convolution goes on outside the picture with its bias, but with other values as far as its kernel still
        reaches the picture. So this is exact only beyond that, and with zeros only if there is no bias.

        Raises:
            NotOneConvolutionError: if it is not exact.
        """
        axes = [axis for axis in (0, 1) if amount[axis]]
        if any(self.margin[axis] < self.size[axis] // 2 for axis in axes):
            msg = f"the result of a {_by(self.size)} convolution is padded, and one convolution would go on there"
            raise NotOneConvolutionError(msg)
        if axes and not carried and self.bias is not None and bool((self.bias != 0).any()):
            msg = "zeros pad the result of layers with a bias, and one convolution would go on there with the bias"
            raise NotOneConvolutionError(msg)
        return replace(self, margin=(self.margin[0] + amount[0], self.margin[1] + amount[1]))

    def then(self, weight: Array, bias: Array | None = None, groups: int = 1) -> "Affine":
        """Append a convolution without padding: taps multiply, and the second one's weights carry the bias on.

        Raises:
            ValueError: if the weight does not fit the result so far, or its height or width is even.
        """
        common = gcd(self.groups, groups)
        inner, outer = _regrouped(self.weight, self.groups, common), _regrouped(weight, groups, common)
        (middle, read, height, width), (out, taken, *reach) = inner.shape, outer.shape
        if taken * common != middle or not reach[0] % 2 or not reach[1] % 2:
            msg = f"a convolution of {middle} channels and of odd size is needed, got {tuple(weight.shape)}"
            raise ValueError(msg)
        margin = self.margin[0] - reach[0] // 2, self.margin[1] - reach[1] // 2
        if self.unchanged:
            return Affine(weight, bias, groups, margin)
        total = _zeros(inner, (out, read, height + reach[0] - 1, width + reach[1] - 1))
        flat = inner.reshape(common, taken, -1)
        for row in range(reach[0]):
            for column in range(reach[1]):
                product = outer[:, :, row, column].reshape(common, -1, taken) @ flat
                total[:, :, row : row + height, column : column + width] += product.reshape(out, read, height, width)
        if self.bias is not None:
            carried = outer.sum((2, 3)).reshape(common, -1, taken) @ self.bias.reshape(common, taken, 1)
            bias = carried.reshape(-1) if bias is None else carried.reshape(-1) + bias
        return Affine(total, bias, common, margin)

    def plus(self, other: "Affine") -> "Affine":
        """Add the result of another map of the same input: kernels are centred on each other and added.

        Raises:
            ValueError: if the two differ in channels.
            NotOneConvolutionError: if their results differ in size.
        """
        if self.margin != other.margin:
            msg = f"results of different sizes are added, by {_by(self.margin)} and {_by(other.margin)} off the picture"
            raise NotOneConvolutionError(msg)
        common = gcd(self.groups, other.groups)
        kernels = [_regrouped(each.weight, each.groups, common) for each in (self, other)]
        if kernels[0].shape[:2] != kernels[1].shape[:2]:
            msg = f"branches differ in channels: {tuple(kernels[0].shape)} and {tuple(kernels[1].shape)}"
            raise ValueError(msg)
        height, width = (max(sizes) for sizes in zip(self.size, other.size, strict=True))
        one, two = (_centred(kernel, height, width) for kernel in kernels)
        biases = [bias for bias in (self.bias, other.bias) if bias is not None]
        return Affine(one + two, sum(biases[1:], biases[0]) if biases else None, common, self.margin)


def _regrouped(weight: Array, groups: int, fewer: int) -> Array:
    """Write a convolution with fewer groups, a divisor of theirs: zeros connect channels of different groups."""
    if groups == fewer:
        return weight
    out, read, *size = weight.shape
    merged = groups // fewer
    wide = _zeros(weight, (fewer, merged, out // groups, merged, read, *size))
    each = list(range(merged))
    wide[:, each, :, each] = weight.reshape(fewer, merged, out // groups, read, *size).swapaxes(0, 1)
    return wide.reshape(out, merged * read, *size)


def _centred(kernel: Array, height: int, width: int) -> Array:
    """Enlarge a kernel with zeros on all sides."""
    out, read, *size = kernel.shape
    if size == [height, width]:
        return kernel
    total = _zeros(kernel, (out, read, height, width))
    top, left = (height - size[0]) // 2, (width - size[1]) // 2
    total[:, :, top : top + size[0], left : left + size[1]] = kernel
    return total


def _zeros(like: Array, shape: Sequence[int]) -> Array:
    return like.new_zeros(tuple(shape)) if hasattr(like, "new_zeros") else np.zeros(shape)


def _by(size: Sequence[int]) -> str:
    return f"{size[0]}x{size[1]}"

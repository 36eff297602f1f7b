"""Branches of a network, described by the names of their weights, and the one convolution that each set becomes.

A block tells, for each convolution of its plain form, which branches add up to it. A branch is a chain of steps that
run one after the other; the empty chain is the identity. For example, two convolutions on a picture that is padded
once, beside a shortcut::

    {"conv": Merged(16, ((Pad((1, 1)), Convolution("a.weight", "a.bias"), Convolution("b.weight", "b.bias")), ()))}
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import reduce
from math import prod
from typing import Any, Protocol

import numpy as np

from lkdn_deploy.fuse.affine import Affine, Array, NotOneConvolutionError

Weights = Mapping[str, Array]
"""Weights of a block by their names in it."""


class Step(Protocol):
    """A layer of a branch."""

    @property
    def names(self) -> tuple[str, ...]:
        """Names of its weights, of which the last ones may be absent."""

    def apply(self, before: Affine, weights: Weights) -> Affine:
        """Return the steps before it and this one as one map."""

    def told(self, weights: Weights) -> str:
        """Return it in words, or "" if it needs none."""


Chain = tuple[Step, ...]


@dataclass(frozen=True, slots=True)
class Convolution:
    """A convolution of stride 1 with its own zero padding."""

    weight: str
    bias: str | None = None
    padding: tuple[int, int] = (0, 0)
    """Rows and columns on each side."""
    groups: int = 1
    mask: str | None = None
    """A fixed kernel, of which ``weight`` is the learnt scale."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in (self.weight, self.bias, self.mask) if name is not None)

    def apply(self, before: Affine, weights: Weights) -> Affine:
        bias = None if self.bias is None else weights[self.bias]
        return before.pad(self.padding).then(self._kernel(weights), bias, self.groups)

    def told(self, weights: Weights) -> str:
        return ("fixed " if self.mask else "") + _kind(self._kernel(weights), self.groups)

    def _kernel(self, weights: Weights) -> Array:
        return weights[self.weight] if self.mask is None else weights[self.weight] * weights[self.mask]


@dataclass(frozen=True, slots=True)
class BatchNorm:
    """Batch normalisation with the statistics of training, with or without a learnt scale and shift."""

    name: str
    eps: float = 1e-5

    @property
    def names(self) -> tuple[str, ...]:
        last = ("running_mean", "running_var", "weight", "bias", "num_batches_tracked")
        return tuple(f"{self.name}.{each}" for each in last)

    def apply(self, before: Affine, weights: Weights) -> Affine:
        mean, variance = (weights[name] for name in self.names[:2])
        scale, shift = (weights.get(name, other) for name, other in zip(self.names[2:4], (1, 0), strict=True))
        factor = scale / (variance + self.eps) ** 0.5
        return before.then(factor.reshape(-1, 1, 1, 1), shift - mean * factor, len(factor))

    def told(self, weights: Weights) -> str:
        return "batch norm"


@dataclass(frozen=True, slots=True)
class _Weightless:
    """A step without weights."""

    @property
    def names(self) -> tuple[str, ...]:
        return ()


@dataclass(frozen=True, slots=True)
class Pad(_Weightless):
    """Rows and columns around the result of the steps before, (rows, columns) on each side."""

    amount: tuple[int, int]
    carried: bool = False
    """Whether they hold what these steps make of zeros, so the bias of a 1x1 convolution, or else zeros."""

    def apply(self, before: Affine, weights: Weights) -> Affine:
        return before.pad(self.amount, carried=self.carried)

    def told(self, weights: Weights) -> str:
        return ""


@dataclass(frozen=True, slots=True)
class EachChannel(_Weightless):
    """A fixed kernel of odd size, applied to each channel without padding."""

    kernel: tuple[tuple[float, ...], ...]

    def apply(self, before: Affine, weights: Weights) -> Affine:
        one, channels = np.asarray(self.kernel), len(before.weight)
        return before.then(before.constant(np.broadcast_to(one, (channels, 1, *one.shape))), groups=channels)

    def told(self, weights: Weights) -> str:
        return f"fixed {len(self.kernel)}x{len(self.kernel[0])}"


@dataclass(frozen=True, slots=True)
class Repeat(_Weightless):
    """Copies of the picture, joined along the channels."""

    copies: int

    def apply(self, before: Affine, weights: Weights) -> Affine:
        same = np.tile(np.eye(len(before.weight)), (self.copies, 1))
        return before.then(before.constant(same[:, :, None, None]))

    def told(self, weights: Weights) -> str:
        return f"{self.copies} copies"


@dataclass(frozen=True, slots=True)
class Opaque(_Weightless):
    """A layer that is no convolution, and has to stay."""

    what: str
    """The layer in words."""

    def apply(self, before: Affine, weights: Weights) -> Affine:
        msg = f"{self.what} is no convolution of stride 1 and dilation 1 with zero padding, and no batch norm"
        raise NotOneConvolutionError(msg)

    def told(self, weights: Weights) -> str:
        return self.what


@dataclass(frozen=True, slots=True)
class Sum:
    """Branches within a chain, which are added."""

    branches: tuple[Chain, ...]

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for chain in self.branches for step in chain for name in step.names)

    def apply(self, before: Affine, weights: Weights) -> Affine:
        added = (reduce(lambda map_, step: step.apply(map_, weights), chain, before) for chain in self.branches)
        return reduce(Affine.plus, added)

    def told(self, weights: Weights) -> str:
        steps = [[words for step in chain if (words := step.told(weights))] for chain in self.branches]
        terms = [f"({', '.join(chain)})" if len(chain) > 1 else "".join(chain) or "identity" for chain in steps]
        return " + ".join(terms)


@dataclass(frozen=True, slots=True)
class Merged:
    """Branches of one input that become one convolution, zero-padded by half its kernel."""

    channels: int
    """Number of channels of the input."""
    branches: tuple[Chain, ...]


@dataclass(frozen=True, slots=True)
class FuseResult:
    """A state dict with weights of the plain form, and by the name of each block what was fused, or why not."""

    state: dict[str, Any]
    applied: dict[str, str]
    skipped: dict[str, str]


def fuse_state(state: Mapping[str, Array], blocks: Mapping[str, Mapping[str, Merged]]) -> FuseResult:
    """Replace the weights of branches by those of the convolutions that they become; the arguments stay as they are.

    A block is fused as a whole or left as it is: if that would not be exact, or if the convolution would have more
    weights than its branches and so cost more. Plain convolutions are computed from the branches alone: those that a
    file holds beside them may be out of date.

    Args:
        state: NumPy arrays or tensors by name. Fused arrays are in float64; fused tensors are differentiable.
        blocks: by the name of each block, the branches by the name of the plain convolution in it, which is "" if
            that takes the block's place.

    Raises:
        ValueError: if weights do not fit each other.
    """
    fused: dict[str, Any] = dict(state)
    applied, skipped = {}, {}
    for block, convolutions in blocks.items():
        prefix = f"{block}." if block else ""
        names = [name for merged in convolutions.values() for name in Sum(merged.branches).names]
        weights = {name: _exact(state[prefix + name]) for name in names if prefix + name in state}
        try:
            maps = {target: _cheaper(merged, weights) for target, merged in convolutions.items()}
        except NotOneConvolutionError as error:
            skipped[block] = str(error)
            continue
        applied[block] = "; ".join(
            f"{Sum(convolutions[target].branches).told(weights)} -> {_kind(one.weight, one.groups)}"
            for target, one in maps.items()
        )
        for name in weights:
            del fused[prefix + name]
        for target, one in maps.items():
            for kind, value in (("weight", one.weight), ("bias", one.bias)):
                name = prefix + (f"{target}.{kind}" if target else kind)
                fused.pop(name, None)
                fused |= {} if value is None else {name: value}
    return FuseResult(fused, applied, skipped)


def merge(merged: Merged, weights: Weights) -> Affine:
    """Return the convolution that branches become.

    Raises:
        NotOneConvolutionError: if no convolution that is zero-padded by half its kernel computes the same.
        ValueError: if weights do not fit each other.
    """
    start = Affine.identity(merged.channels, next(iter(weights.values()), None))
    whole = Sum(merged.branches).apply(start, weights)
    if whole.margin != (0, 0):
        msg = f"their result is {'larger' if max(whole.margin) > 0 else 'smaller'} than the picture"
        raise NotOneConvolutionError(msg)
    return whole


def _cheaper(merged: Merged, weights: Weights) -> Affine:
    """Return the convolution that branches become, if it has no more weights than they have."""
    whole, branches = merge(merged, weights), Sum(merged.branches)
    before = sum(prod(weights[name].shape) for name in set(branches.names) if name in weights)
    if prod(whole.weight.shape) > before:
        msg = f"{branches.told(weights)} would be a {_kind(whole.weight, whole.groups)} of more weights"
        raise NotOneConvolutionError(msg)
    return whole


def _kind(weight: Array, groups: int) -> str:
    """Return a convolution in words."""
    out, _, height, width = weight.shape
    grouped = "" if groups == 1 else "depthwise " if groups == out else "grouped "
    return f"{grouped}{height}x{width}"


def _exact(values: Array) -> Array:
    """Return arrays in float64, and tensors as they are."""
    return values if hasattr(values, "new_zeros") else np.asarray(values, np.float64)

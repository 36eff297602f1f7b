"""Random branches: what they become is compared with PyTorch on pictures of which every pixel is near the border."""

from collections.abc import Callable
from dataclasses import replace
from functools import reduce

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from lkdn_deploy.fuse.affine import NotOneConvolutionError
from lkdn_deploy.fuse.branches import (
    BatchNorm,
    Chain,
    Convolution,
    EachChannel,
    Merged,
    Pad,
    Repeat,
    Step,
    Sum,
    merge,
)

Weights = dict[str, Tensor]
SIZES = [(1, 1), (1, 1), (3, 3), (1, 3), (3, 1), (5, 5)]


class Writer:
    """Draws chains of steps, and weights for them."""

    def __init__(self, draw: st.DrawFn) -> None:
        self.draw = draw
        self.random = torch.Generator().manual_seed(draw(st.integers(0, 2**32)))
        self.weights: Weights = {}

    def chain(self, channels: int, out: int, depth: int = 0) -> Chain:
        """Draw a chain that ends with a convolution to ``out`` channels, or is empty.

        As in networks, its layers pad their own inputs, or the first input or one between is padded for all of them;
        or some do and others do not.
        """
        border = self.draw(st.sampled_from(["own", "own", "once", "once", "mixed"]))
        steps: list[Step] = []
        makers = [self.convolution, self.norm, self.copies]
        makers += [self.fixed] * (border != "own") + [self.pad] * (border == "mixed") + [self.sum] * (depth == 0)
        for make in self.draw(st.lists(st.sampled_from(makers), max_size=3, unique=True)):
            step, channels = make(channels)
            steps.append(step)
        if steps or channels != out:
            steps.append(self.convolution(channels, out)[0])
        if border == "mixed":
            return tuple(steps)
        sizes = [self.size(step) for step in steps]
        if border == "own":
            return tuple(
                replace(step, padding=(size[0] // 2, size[1] // 2)) if isinstance(step, Convolution) else step
                for step, size in zip(steps, sizes, strict=True)
            )
        steps = [replace(step, padding=(0, 0)) if isinstance(step, Convolution) else step for step in steps]
        rows, columns = (sum(size[axis] // 2 for size in sizes) for axis in (0, 1))
        place = self.draw(st.sampled_from([0, min(1, len(steps))]))
        return (*steps[:place], Pad((rows, columns), carried=self.draw(st.booleans())), *steps[place:])

    def size(self, step: Step) -> tuple[int, int]:
        if isinstance(step, EachChannel):
            return 3, 3
        height, width = self.weights[step.mask or step.weight].shape[2:] if isinstance(step, Convolution) else (1, 1)
        return height, width

    def convolution(self, channels: int, out: int | None = None) -> tuple[Step, int]:
        out = out or self.draw(st.sampled_from([2, 4]))
        groups = self.draw(st.sampled_from([each for each in (1, 2, 4) if channels % each == out % each == 0]))
        height, width = self.draw(st.sampled_from(SIZES))
        padding = self.draw(st.sampled_from([(0, 0), (height // 2, width // 2)]))
        weight, mask = self.value(out, channels // groups, height, width), None
        if self.draw(st.booleans()):
            weight, mask = self.value(out, 1, 1, 1), weight
        bias = self.value(out) if self.draw(st.booleans()) else None
        return Convolution(weight, bias, padding, groups, mask), out

    def pad(self, channels: int) -> tuple[Step, int]:
        return Pad(self.draw(st.sampled_from([(1, 1), (1, 0), (0, 1)])), self.draw(st.booleans())), channels

    def norm(self, channels: int) -> tuple[Step, int]:
        name = f"n{len(self.weights)}"
        kinds = ["running_mean", "running_var"] + ["weight", "bias"] * self.draw(st.booleans())
        for kind in kinds:
            self.weights[f"{name}.{kind}"] = torch.rand(channels, generator=self.random, dtype=torch.float64) + 0.5
        return BatchNorm(name), channels

    def fixed(self, channels: int) -> tuple[Step, int]:
        return EachChannel(((1.0, 0.5, -2.0),) * 3), channels

    def copies(self, channels: int) -> tuple[Step, int]:
        return Repeat(2), 2 * channels

    def sum(self, channels: int) -> tuple[Step, int]:
        return Sum((self.chain(channels, channels, 1), self.chain(channels, channels, 1))), channels

    def value(self, *shape: int) -> str:
        name = f"w{len(self.weights)}"
        self.weights[name] = torch.randn(shape, generator=self.random, dtype=torch.float64)
        return name


@st.composite
def cases(draw: st.DrawFn) -> tuple[Merged, Weights]:
    writer = Writer(draw)
    channels, out = draw(st.sampled_from([(2, 2), (4, 4), (2, 4)]))
    branches = tuple(writer.chain(channels, out) for _ in range(draw(st.integers(1, 3))))
    writer.value(1)
    return Merged(channels, branches), writer.weights


Result = tuple[Tensor, Tensor]
"""The result for a picture, and what the layers make of zeros, (1, C, 1, 1)."""


def run(chain: Chain, weights: Weights, before: Result) -> Result:
    """Run a chain layer by layer."""
    return reduce(lambda result, step: run_step(step, weights, result), chain, before)


def run_step(step: Step, weights: Weights, before: Result) -> Result:
    if isinstance(step, Sum):
        results, zeros = zip(*(run(chain, weights, before) for chain in step.branches), strict=True)
        if len({result.shape for result in results}) > 1:
            raise NotOneConvolutionError
        return sum(results), sum(zeros)  # type: ignore[return-value]
    x, zero = before
    if isinstance(step, Pad):
        rows, columns = step.amount
        padded = F.pad(x, (columns, columns, rows, rows))
        outside = 1 - F.pad(torch.ones_like(x), (columns, columns, rows, rows))
        return padded + outside * zero * step.carried, zero
    if isinstance(step, Convolution):
        rows, columns = step.padding
        x = F.pad(x, (columns, columns, rows, rows))
    layer = layer_of(step, weights)
    return layer(x), layer(zero.expand(-1, -1, 5, 5))[:, :, :1, :1]


def layer_of(step: Step, weights: Weights) -> Callable[[Tensor], Tensor]:
    match step:
        case Convolution():
            weight = weights[step.weight] if step.mask is None else weights[step.weight] * weights[step.mask]
            bias = None if step.bias is None else weights[step.bias]
            return lambda x: F.conv2d(x, weight, bias, groups=step.groups)
        case BatchNorm():
            mean, variance, scale, shift = (weights.get(name) for name in step.names[:4])
            return lambda x: F.batch_norm(x, mean, variance, scale, shift, eps=step.eps)
        case EachChannel():
            kernel = torch.tensor(step.kernel, dtype=torch.float64)
            return lambda x: F.conv2d(x, kernel.expand(x.shape[1], 1, -1, -1), groups=x.shape[1])
        case Repeat():
            return lambda x: torch.cat([x] * step.copies, dim=1)
    raise AssertionError(step)


def same(got: Tensor, want: Tensor) -> bool:
    return got.shape == want.shape and (got - want).abs().max().item() < 1e-10 * max(1.0, want.abs().max().item())


def one_convolution(merged: Merged, weights: Weights, x: Tensor) -> Tensor:
    """Return the result of the convolution that the branches are far from the border, on all of the picture."""
    channels, size = x.shape[1:3]
    middle = size // 2
    pictures = torch.zeros(1 + channels, channels, size, size, dtype=torch.float64)
    for channel in range(channels):
        pictures[1 + channel, channel, middle, middle] = 1
    result = run((Sum(merged.branches),), weights, (pictures, torch.zeros(1, channels, 1, 1, dtype=torch.float64)))[0]
    flat, *impulses = result
    middle, reach = result.shape[-1] // 2, 10
    window = (slice(None), *(slice(middle - reach, middle + reach + 1),) * 2)
    kernel = torch.stack([(impulse - flat)[window] for impulse in impulses], dim=1).flip(2, 3)
    return F.conv2d(x, kernel, flat[:, middle, middle], padding=reach)


@settings(max_examples=120)
@given(cases())
def test_branches_become_one_convolution_if_and_only_if_that_is_exact_at_the_border(
    case: tuple[Merged, Weights],
) -> None:
    merged, weights = case
    x = torch.randn(1, merged.channels, 41, 41, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    zero = torch.zeros(1, merged.channels, 1, 1, dtype=torch.float64)
    try:
        want = run((Sum(merged.branches),), weights, (x, zero))[0]
        exact = want.shape[2:] == x.shape[2:] and same(one_convolution(merged, weights, x), want)
    except NotOneConvolutionError:
        exact = False
    arrays = {name: value.numpy() for name, value in weights.items()}
    if not exact:
        with pytest.raises(NotOneConvolutionError):
            merge(merged, arrays)
        return
    for kind in (weights, arrays):
        found = merge(merged, kind)
        weight, bias = (value if value is None else torch.as_tensor(value) for value in (found.weight, found.bias))
        padding = [size // 2 for size in weight.shape[2:]]
        assert same(F.conv2d(x, weight, bias, padding=padding, groups=found.groups), want)

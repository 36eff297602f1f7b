"""Each identity against the convolutions it replaces, in float64."""

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from lkdn_deploy.fuse import kernels

EXACT = 1e-12
channels = st.integers(1, 6)
sizes = st.sampled_from([1, 3, 5])
seeds = st.integers(0, 2**32 - 1)


def conv(
    x: NDArray[np.float64], weight: NDArray[np.float64], bias: NDArray[np.float64], groups: int = 1
) -> torch.Tensor:
    """Stride 1, zero-padded by half the kernel."""
    padding = weight.shape[2] // 2
    return F.conv2d(*map(torch.from_numpy, (x, weight, bias)), padding=padding, groups=groups)


def assert_same(got: torch.Tensor, want: torch.Tensor) -> None:
    assert got.shape == want.shape
    assert (got - want).abs().max().item() < EXACT * max(1.0, want.abs().max().item())


@given(seeds, channels)
def test_a_shortcut_folds_into_a_pointwise_convolution(seed: int, c: int) -> None:
    random = np.random.default_rng(seed)
    x, weight, bias = random.normal(size=(2, c, 4, 5)), random.normal(size=(c, c, 1, 1)), random.normal(size=c)
    assert_same(conv(x, kernels.identity_into_pointwise(weight), bias), conv(x, weight, bias) + torch.from_numpy(x))


@given(seeds, channels, sizes)
def test_a_shortcut_folds_into_a_depthwise_convolution(seed: int, c: int, k: int) -> None:
    random = np.random.default_rng(seed)
    x, weight, bias = random.normal(size=(2, c, 4, 5)), random.normal(size=(c, 1, k, k)), random.normal(size=c)
    folded = kernels.identity_into_depthwise(weight)
    assert_same(conv(x, folded, bias, c), conv(x, weight, bias, c) + torch.from_numpy(x))


@given(seeds, channels, sizes)
def test_a_depthwise_pointwise_branch_folds_into_the_larger_kernel(seed: int, c: int, k: int) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(size=(1, c, 6, 3))
    weight, bias = random.normal(size=(c, 1, k, k)), random.normal(size=c)
    point, point_bias = random.normal(size=(c, 1, 1, 1)), random.normal(size=c)
    folded = kernels.parallel([(weight, bias), (point, point_bias)])
    assert_same(conv(x, *folded, c), conv(x, weight, bias, c) + conv(x, point, point_bias, c))


@given(seeds, channels, channels, st.lists(sizes, min_size=1, max_size=4))
def test_parallel_convolutions_add_up(seed: int, c: int, out: int, kernel_sizes: list[int]) -> None:
    random = np.random.default_rng(seed)
    x = random.normal(size=(1, c, 5, 4))
    branches = [(random.normal(size=(out, c, k, k)), random.normal(size=out)) for k in kernel_sizes]
    want = torch.stack([conv(x, *branch) for branch in branches]).sum(dim=0)
    assert_same(conv(x, *kernels.parallel(branches)), want)


def composed(seed: int, c: int, mid: int, out: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """The composed kernel's result, and the pair's with a border of the 1x1's bias and with one of zeros."""
    random = np.random.default_rng(seed)
    x = random.normal(size=(1, c, 5, 6))
    point, point_bias = random.normal(size=(mid, c, 1, 1)), random.normal(size=mid)
    weight, bias = random.normal(size=(out, mid, 3, 3)), random.normal(size=out)
    inner = conv(x, point, point_bias)
    bordered = torch.from_numpy(point_bias)[None, :, None, None].expand(1, mid, 7, 8).clone()
    bordered[:, :, 1:-1, 1:-1] = inner
    last = torch.from_numpy(weight), torch.from_numpy(bias)
    one = conv(x, *kernels.pointwise_then_conv(point, point_bias, weight, bias))
    return one, F.conv2d(bordered, *last), F.conv2d(inner, *last, padding=1)


@given(seeds, channels, channels, channels)
def test_a_pointwise_before_a_convolution_composes_if_the_border_is_its_bias(
    seed: int, c: int, mid: int, out: int
) -> None:
    one, with_bias_border, _ = composed(seed, c, mid, out)
    assert_same(one, with_bias_border)


def test_with_zeros_for_a_border_the_composition_differs_there_and_only_there() -> None:
    one, _, with_zero_border = composed(0, 3, 4, 2)
    difference = (one - with_zero_border).abs()
    assert difference[:, :, 1:-1, 1:-1].max() < EXACT * 100
    assert difference[:, :, 0].min() > 1e-3


@given(seeds, channels, channels, st.integers(1, 5), sizes)
def test_a_replicated_input_is_read_once(seed: int, c: int, out: int, copies: int, k: int) -> None:
    random = np.random.default_rng(seed)
    x, weight, bias = random.normal(size=(1, c, 4, 4)), random.normal(size=(out, copies * c, k, k)), np.zeros(out)
    want = conv(np.concatenate([x] * copies, axis=1), weight, bias)
    assert_same(conv(x, kernels.replicated_input(weight, copies), bias), want)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: kernels.identity_into_pointwise(np.zeros((4, 3, 1, 1))), "as many outputs as inputs"),
        (lambda: kernels.identity_into_pointwise(np.zeros((3, 3, 3, 3))), "1x1 kernel"),
        (lambda: kernels.identity_into_depthwise(np.zeros((3, 3, 3, 3))), "depthwise"),
        (lambda: kernels.identity_into_depthwise(np.zeros((3, 1, 4, 4))), "odd size"),
        (lambda: kernels.parallel([(np.zeros((2, 2, 1, 1)), 0), (np.zeros((2, 3, 1, 1)), 0)]), "agree"),
        (lambda: kernels.pointwise_then_conv(np.zeros((3, 2, 1, 1)), 0, np.zeros((1, 4, 3, 3)), 0), "4 outputs"),
        (lambda: kernels.replicated_input(np.zeros((2, 10, 1, 1)), 4), "not 4 copies"),
        (lambda: kernels.identity_into_depthwise(np.zeros((3, 1, 3))), "4 axes"),
    ],
)
def test_weights_that_do_not_meet_the_condition_are_refused(call: object, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        call()  # type: ignore[operator]


def test_tensors_are_fused_as_arrays_are_and_stay_differentiable() -> None:
    random = np.random.default_rng(0)
    shapes = {"pw": (4, 4, 1, 1), "dw": (4, 1, 3, 3), "rep": (4, 1, 1, 1), "conv": (6, 4, 3, 3), "b": (4,), "c": (6,)}
    arrays = {name: random.normal(size=shape) for name, shape in shapes.items()}
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in arrays.items()}

    def fused(w: dict[str, Any]) -> list[Any]:
        dense = kernels.pointwise_then_conv(kernels.identity_into_pointwise(w["pw"]), w["b"], w["conv"], w["c"])
        depthwise = kernels.parallel([(kernels.identity_into_depthwise(w["dw"]), w["b"]), (w["rep"], w["b"])])
        return [*dense, *depthwise, kernels.replicated_input(w["conv"], 2)]

    for got, want in zip(fused(tensors), fused(arrays), strict=True):
        assert_same(got, torch.from_numpy(want))
    sum(each.sum() for each in fused(tensors)).backward()
    assert all(tensor.grad is not None and tensor.grad.abs().min() > 0 for tensor in tensors.values())

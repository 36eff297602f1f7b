"""Bounds of time: kernels of a block of LKDN-S against figures counted by hand, a toy's times, and what must hold."""

from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from lkdn_deploy.bench.complexity.devices import DevicePeaks, find
from lkdn_deploy.bench.complexity.roofline import Fusion, RooflineKernel, bounds, kernels
from lkdn_deploy.bench.complexity.trace import Operation, trace
from lkdn_deploy.bench.results import Bounds
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_models import zoo
from lkdn_models.nets.lkdn import LKDB

X = (1, 4, 6, 8)
P = 48
TOY = DevicePeaks("toy", "Toy", {"fp32": 400.0, "fp16": 400.0}, 100.0, "made up")
Trace = Callable[..., tuple[Operation, ...]]
Fused = Callable[..., list[tuple[list[str], int, int, int]]]


@pytest.fixture
def fused(of: Trace) -> Fused:
    """Lists the kernels of a function: its operations' names, values read, written and of weights."""

    def listed(function: Callable[..., object], *layers: nn.Module) -> list[tuple[list[str], int, int, int]]:
        found = kernels(of(function, *layers), Fusion.POINTWISE)
        names = [[each.name for each in kernel.operations] for kernel in found]
        return [(name, each.read, each.written, each.weights) for name, each in zip(names, found, strict=True)]

    return listed


def conv() -> nn.Conv2d:
    """36 * 4 values of weights."""
    return nn.Conv2d(4, 4, 3, padding=1, bias=False)


CONV, WEIGHTS = "convolution", 144

REFINE = (798 + 42 + 1785 + 21 + 3528, 42, 21 + 42, 420 + 903 + 1764)
FUSED_BLOCK = [  # FLOPs, values read and written a pixel, values of weights
    (1785 + 21, 42, 21, 903),  # c1_d, GELU
    (3528, 42, 42, 1764),  # c1_r's 1x1
    REFINE,  # its depthwise, GELU, c2_d, GELU, c2_r's 1x1
    REFINE,  # c2_r's depthwise, GELU, c3_d, GELU, c3_r's 1x1
    (798 + 42 + 1764, 42, 21, 420 + 882),  # c3_r's depthwise, GELU, c4's 1x1
    (399 + 21 + 7098 + 3570, 21 + 3 * 21, 42 + 42, 210 + 3570 + 1806),  # c4's depthwise, GELU, concat, c5, 1x1
    (2142, 42, 42, 1092),  # the attention's depthwise 5x5
    (2142 + 42 + 3570 + 294 + 42, 3 * 42, 42, 1092 + 1806 + 84),  # the dilated one, product, c6, norm, shortcut
]


def test_pointwise_fusion_of_a_block_of_lkdn_s_is_as_counted_by_hand() -> None:
    block = LKDB(LkdnSpec.lkdn_s(4).deployed)
    found = kernels(trace(block, (1, 42, 5, 7)), Fusion.POINTWISE)
    assert [(kernel.flops, kernel.read, kernel.written, kernel.weights) for kernel in found] == [
        (35 * flops, 35 * read, 35 * written, weights) for flops, read, written, weights in FUSED_BLOCK
    ]
    assert sum(kernel.traffic("fp32") for kernel in found) == 4 * (35 * (462 + 378) + 19803)
    (kernel,) = kernels(trace(block, (1, 42, 5, 7)), Fusion.NETWORK)
    assert (kernel.read, kernel.written, kernel.weights) == (42 * 35, 42 * 35, 19803)


def toy() -> tuple[Operation, ...]:
    """On 16 pixels: 3x3 from 1 channel to 2, ReLU, 3x3 back to 1, without biases."""
    first, second = nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.Conv2d(2, 1, 3, padding=1, bias=False)
    return trace(nn.Sequential(first, nn.ReLU(), second), (1, 1, 4, 4))


def test_times_of_a_toy_on_a_toy() -> None:
    # Each convolution: 576 FLOPs, 16 + 32 + 18 values; ReLU: 32 FLOPs, 64 values. All but the last are bound by memory.
    in_fp32 = bounds(toy(), TOY, "fp32")
    assert in_fp32.layers == pytest.approx(1e3 * (2.64 + 2.56 + 2.64))
    assert in_fp32.pointwise == pytest.approx(1e3 * (2.64 + 2.64))
    assert in_fp32.network == pytest.approx(1e3 * ((576 + 32 + 576) / 400))
    # Half the bytes: the convolutions are bound by computing.
    in_fp16 = bounds(toy(), TOY, "fp16")
    assert in_fp16.layers == pytest.approx(1e3 * (1.44 + 1.28 + 1.44))
    assert in_fp16.pointwise == pytest.approx(1e3 * ((576 + 32) / 400 + 1.44))
    assert in_fp16.network == pytest.approx(1e3 * ((576 + 32 + 576) / 400))


@pytest.mark.parametrize("fusion", Fusion)
def test_half_precision_halves_the_bytes(fusion: Fusion) -> None:
    for kernel in kernels(toy(), fusion):
        assert kernel.traffic("fp32") == 2 * kernel.traffic("fp16") > 0


def test_a_pointwise_operation_joins_what_made_its_input(fused: Fused) -> None:
    assert fused(lambda x, layer: torch.sigmoid(layer(x)), conv()) == [([CONV, "sigmoid"], 4 * P, 4 * P, WEIGHTS)]
    # Of several inputs the latest counts.
    function = lambda x, a, b: b(a(x)) + a(x)  # noqa: E731
    assert fused(function, conv(), conv()) == [
        ([CONV], 4 * P, 4 * P, WEIGHTS),
        ([CONV], 4 * P, 4 * P, WEIGHTS),
        ([CONV, "add"], 8 * P, 4 * P, WEIGHTS),
    ]


def test_no_kernel_needs_what_a_later_one_makes(fused: Fused) -> None:
    def function(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        y = a(x)
        z = b(y)
        return y.sigmoid() + z  # the sigmoid joins the first, and comes last

    assert fused(function, conv(), conv()) == [
        ([CONV, "sigmoid"], 4 * P, 8 * P, WEIGHTS),
        ([CONV, "add"], 8 * P, 4 * P, WEIGHTS),
    ]


def test_what_is_needed_outside_its_kernel_is_written(fused: Fused) -> None:
    def function(x: Tensor, a: nn.Module, b: nn.Module) -> Tensor:
        y = a(x)
        return b(y.sigmoid()) * y

    assert fused(function, conv(), conv()) == [
        ([CONV, "sigmoid"], 4 * P, 8 * P, WEIGHTS),
        ([CONV, "mul"], 8 * P, 4 * P, WEIGHTS),
    ]
    # So is what the network returns, and what nobody reads is not.
    assert fused(lambda x, a: (lambda y: (y, y.sigmoid()))(a(x)), conv()) == [
        ([CONV, "sigmoid"], 4 * P, 8 * P, WEIGHTS)
    ]
    assert fused(lambda x: F.max_pool2d(x, 2)) == [(["max_pool2d_with_indices"], 4 * P, P, 0)]
    assert fused(lambda x: (x.sin(), x.cos())[1]) == [(["sin"], 4 * P, 0, 0), (["cos"], 4 * P, 4 * P, 0)]


def test_a_kernel_reads_a_tensor_once(fused: Fused) -> None:
    # Both sums are of the convolution's kernel, and both read the input.
    assert fused(lambda x, a: a(x) + x + x, conv()) == [([CONV, "add", "add"], 4 * P, 4 * P, WEIGHTS)]
    # And its parts once.
    halves = fused(lambda x, a: a(x)[:, :2] * x[:, :2] + x[:, 2:], conv())
    assert halves == [([CONV, "mul", "add"], 4 * P, 2 * P, WEIGHTS)]
    assert fused(lambda x: x[:, :2] * x[:, 2:]) == [(["mul"], 4 * P, 2 * P, 0)]
    assert fused(lambda x: x[:, :3] * x[:, 1:]) == [(["mul"], 4 * P, 3 * P, 0)]
    assert fused(lambda x: x[:, :1] * 2) == [(["mul"], P, P, 0)]


def test_a_kernel_reads_shared_weights_once(fused: Fused, of: Trace) -> None:
    function = lambda x, a, b: b(b(a(x)))  # noqa: E731
    pointwise = nn.Conv2d(4, 4, 1, bias=False)
    assert fused(function, conv(), pointwise) == [([CONV] * 3, 4 * P, 4 * P, WEIGHTS + 16)]
    layers = kernels(of(function, conv(), pointwise), Fusion.LAYERS)
    assert [kernel.weights for kernel in layers] == [WEIGHTS, 16, 16]


def test_in_place_changes_nothing(fused: Fused) -> None:
    assert fused(lambda x, a, b: b(a(x).relu_()), conv(), conv()) == fused(
        lambda x, a, b: b(a(x).relu()), conv(), conv()
    )


def test_nothing_takes_no_time() -> None:
    assert bounds(trace(nn.Identity(), X), TOY, "fp32") == Bounds("Toy", 0, 0, 0)


@pytest.mark.parametrize("precision", ["int8", "bf16"])
def test_a_precision_without_a_peak_is_refused(precision: str) -> None:
    with pytest.raises(UsageError, match=f"Toy has no peak for {precision}") as error:
        bounds([], TOY, precision)
    assert error.value.hint == "it has peaks for fp32, fp16"


@pytest.mark.parametrize("name", ["lkdn", "lkdn-s", "bsrn", "vapsr", "rfdn"])
@pytest.mark.parametrize("precision", ["fp32", "fp16"])
def test_the_more_is_fused_the_less_time(name: str, precision: str) -> None:
    with torch.device("meta"):
        network = zoo.find(name, 4).build(deployed=True)
    times = bounds(trace(network, (1, 3, 20, 24)), find("rtx3080"), precision)
    assert 0 < times.network < times.pointwise < times.layers


STEPS: list[Callable[[Tensor, Tensor], Tensor]] = [
    lambda x, y: F.conv2d(x, torch.ones(4, 4, 3, 3, device=x.device), padding=1) + y,
    lambda x, y: F.conv2d(x, torch.ones(4, 4, 1, 1, device=x.device)),
    lambda x, y: F.gelu(x),
    lambda x, y: x * y,
    lambda x, y: x * y.mean((2, 3), keepdim=True),
    lambda x, y: torch.cat([x[:, :2], y[:, 2:]], 1),
    lambda x, y: torch.cat(x.chunk(2, dim=1)[::-1], 1),
    lambda x, y: F.max_pool2d(y, 3, 1, 1) - x,
    lambda x, y: (x + 0).mul_(y),
]


@settings(max_examples=60, deadline=None)
@given(steps=st.lists(st.tuples(st.sampled_from(STEPS), st.integers(0), st.integers(0)), min_size=1, max_size=8))
def test_whatever_the_network(steps: list[tuple[Callable[[Tensor, Tensor], Tensor], int, int]], of: Trace) -> None:
    def function(x: Tensor) -> Tensor:
        made = [x]
        for step, first, second in steps:
            made.append(step(made[first % len(made)], made[second % len(made)]))
        return made[-1]

    operations = of(function)
    times = bounds(operations, TOY, "fp32")
    # Sums of the same in another order differ in the last digits.
    assert times.network <= times.pointwise * (1 + 1e-12)
    assert times.pointwise <= times.layers * (1 + 1e-12)
    for fusion in Fusion:
        found = kernels(operations, fusion)
        assert sorted(map(id, operations)) == sorted(id(each) for kernel in found for each in kernel.operations)
        assert in_order(found)


def in_order(found: tuple[RooflineKernel, ...]) -> bool:
    """Whether each kernel reads only what it or an earlier one wrote, or what no kernel wrote."""
    makers = {
        part.value: place
        for place, kernel in enumerate(found)
        for operation in kernel.operations
        for part in operation.writes
    }
    return all(
        makers.get(part.value, 0) <= place
        for place, kernel in enumerate(found)
        for operation in kernel.operations
        for part in operation.reads
    )

"""Traced operations: a block of LKDN-S against figures counted by hand, and each sort of call."""

from collections.abc import Callable
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from lkdn_deploy.bench.complexity.count import count
from lkdn_deploy.bench.complexity.op_kinds import OpKind
from lkdn_deploy.bench.complexity.trace import Operation, Part, trace
from lkdn_models.nets.blocks import PixelNorm
from lkdn_models.zoo import find

X = (1, 4, 6, 8)
"""4 channels of 48 pixels, as ``of`` traces."""
P = 48
Trace = Callable[..., tuple[Operation, ...]]
Call = Callable[..., object]


def elements(parts: tuple[Part, ...]) -> list[int]:
    return [part.elements for part in parts]


REFINEMENT = [  # (name, kind, FLOPs, values read and written a pixel, values of weights)
    ("convolution", OpKind.CONV_1X1, 2 * 42 * 21 + 21, 42, 21, 42 * 21 + 21),
    ("gelu", OpKind.ACTIVATION, 21, 21, 21, 0),
    ("convolution", OpKind.CONV_1X1, 2 * 42 * 42, 42, 42, 42 * 42),
    ("convolution", OpKind.DEPTHWISE, 42 * (2 * 9 + 1), 42, 42, 42 * 9 + 42),
    ("gelu", OpKind.ACTIVATION, 42, 42, 42, 0),
]
BLOCK = [
    *(3 * REFINEMENT),
    ("convolution", OpKind.CONV_1X1, 2 * 42 * 21, 42, 21, 42 * 21),
    ("convolution", OpKind.DEPTHWISE, 21 * (2 * 9 + 1), 21, 21, 21 * 9 + 21),
    ("gelu", OpKind.ACTIVATION, 21, 21, 21, 0),
    ("cat", OpKind.REARRANGING, 0, 4 * 21, 84, 0),
    ("convolution", OpKind.CONV_1X1, 2 * 84 * 42 + 42, 84, 42, 84 * 42 + 42),
    ("convolution", OpKind.CONV_1X1, 2 * 42 * 42 + 42, 42, 42, 42 * 42 + 42),
    ("convolution", OpKind.DEPTHWISE, 42 * (2 * 25 + 1), 42, 42, 42 * 25 + 42),
    ("convolution", OpKind.DEPTHWISE, 42 * (2 * 25 + 1), 42, 42, 42 * 25 + 42),
    ("mul", OpKind.ARITHMETIC, 42, 42 + 42, 42, 0),
    ("convolution", OpKind.CONV_1X1, 2 * 42 * 42 + 42, 42, 42, 42 * 42 + 42),
    ("layer_norm", OpKind.NORM, 7 * 42, 42, 42, 42 + 42),
    ("add", OpKind.ARITHMETIC, 42, 42 + 42, 42, 0),
]
"""LKDN-S's, in the order of ``LKDB.forward``: distil, refine, three times; c4; c5; attention; c6; norm; shortcut."""


@pytest.mark.parametrize(("height", "width"), [(5, 7), (42, 42), (16, 21)])
def test_a_block_of_lkdn_s_is_as_counted_by_hand(height: int, width: int) -> None:
    with torch.device("meta"):
        network = find("lkdn-s", 4).build(deployed=True)
    block = trace(network, (1, 3, height, width))[3:][: len(BLOCK)]  # after the copies' concatenation and a BSConv
    pixels = height * width
    found = [
        (each.name, each.kind, each.flops, *(sum(elements(part)) for part in (each.reads, each.writes, each.weights)))
        for each in block
    ]
    assert found == [
        (name, kind, flops * pixels, read * pixels, written * pixels, weights)
        for name, kind, flops, read, written, weights in BLOCK
    ]
    kernels = [operation for operation in block if not operation.pointwise]
    assert [elements(operation.weights)[0] for operation in kernels] == [378, 378, 378, 189, 1050, 1050]


@pytest.mark.parametrize("name", ["lkdn", "lkdn-s", "bsrn", "vapsr", "rfdn"])
def test_sums_are_the_figures_of_complexity(name: str) -> None:
    with torch.device("meta"):
        network = find(name, 4).build(deployed=True)
    shape = (1, 3, 20, 24)
    operations, counted = trace(network, shape), count(network, shape)
    for figure in set(asdict(counted)) - {"parameters", "peak_floats", "left_out"}:
        assert sum(operation.figures.get(figure, 0) for operation in operations) == getattr(counted, figure)
    layers = {OpKind.CONV_1X1, OpKind.DEPTHWISE, OpKind.OTHER_CONV, OpKind.LINEAR}
    flops = sum(operation.flops for operation in operations if operation.kind in layers)
    assert flops == 2 * counted.macs + counted.bias_additions
    left = sum(entry.calls for entry in counted.left_out.values())
    assert left == sum(not operation.figures.keys() - {"fvcore_others"} for operation in operations)
    # Every parameter is read, once: no network of these shares any.
    read = {part.value: part.elements for operation in operations for part in operation.weights}
    assert sum(read.values()) == counted.parameters
    assert [bool(operation.returned) for operation in operations] == [False] * (len(operations) - 1) + [True]


def last(x: Tensor) -> Tensor:
    """The channels put last, not contiguous."""
    return x.permute(0, 2, 3, 1)


@pytest.mark.parametrize(
    ("function", "layers", "kind", "flops"),
    [
        (nn.Conv2d(4, 6, 1), [], OpKind.CONV_1X1, (2 * 4 * 6 + 6) * P),
        (nn.Conv2d(4, 6, 1, groups=2), [], OpKind.CONV_1X1, (2 * 2 * 6 + 6) * P),
        (nn.Conv2d(4, 4, 1, groups=4), [], OpKind.DEPTHWISE, (2 * 4 + 4) * P),
        (nn.Conv2d(4, 8, 3, padding=1, groups=4), [], OpKind.DEPTHWISE, (18 * 8 + 8) * P),
        (nn.Conv2d(4, 6, 3, padding=1), [], OpKind.OTHER_CONV, (18 * 4 * 6 + 6) * P),
        (nn.Conv2d(4, 6, 3, padding=1, groups=2), [], OpKind.OTHER_CONV, (18 * 2 * 6 + 6) * P),
        (nn.ConvTranspose2d(4, 6, 2, stride=2), [], OpKind.OTHER_CONV, 2 * 4 * 4 * 6 * P + 6 * 4 * P),
        (lambda x: F.conv2d(x[:, :1], torch.ones(5, 1, 1, 1, device=x.device)), [], OpKind.CONV_1X1, 2 * 5 * P),
        (lambda x, layer: layer(last(x)), [nn.Linear(4, 5)], OpKind.LINEAR, (2 * 4 * 5 + 5) * P),
        (lambda x: x @ x.transpose(2, 3), [], OpKind.LINEAR, 2 * 4 * 6 * 6 * 8),
        (PixelNorm(4), [], OpKind.NORM, 7 * 4 * P),
        (lambda x: F.layer_norm(x, (6, 8)), [], OpKind.NORM, 5 * 4 * P),
        (nn.GroupNorm(2, 4), [], OpKind.NORM, 7 * 4 * P),
        (nn.BatchNorm2d(4), [], OpKind.NORM, 2 * 4 * P),
        (F.gelu, [], OpKind.ACTIVATION, 4 * P),
        (torch.sigmoid, [], OpKind.ACTIVATION, 4 * P),
        (lambda x: F.leaky_relu_(x, 0.1), [], OpKind.ACTIVATION, 4 * P),
        (nn.PReLU(4), [], OpKind.ACTIVATION, 4 * P),
        (lambda x: x + x[:, :1], [], OpKind.ARITHMETIC, 4 * P),
        (lambda x: x**2, [], OpKind.ARITHMETIC, 4 * P),
        (lambda x: torch.cat([x, x], 1), [], OpKind.REARRANGING, 0),
        (lambda x: F.pixel_shuffle(x, 2), [], OpKind.REARRANGING, 0),
        (lambda x: F.pad(x, (1, 1, 1, 1)), [], OpKind.REARRANGING, 0),
        (lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), [], OpKind.REARRANGING, 0),
        (lambda x: last(x).contiguous(), [], OpKind.REARRANGING, 0),
        (lambda x: x.repeat(1, 2, 1, 1), [], OpKind.REARRANGING, 0),
        (lambda x: F.interpolate(x, scale_factor=2), [], OpKind.RESAMPLING, 0),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bilinear"), [], OpKind.RESAMPLING, 4 * 4 * P),
        (lambda x: x.mean((2, 3)), [], OpKind.POOLING, 4 * P),
        (lambda x: F.max_pool2d(x, 2), [], OpKind.POOLING, 4 * P),
        (lambda x: F.adaptive_avg_pool2d(x, 2), [], OpKind.POOLING, 4 * P),
        (lambda x: x.softmax(1), [], OpKind.OTHER, 4 * P),
    ],
)
def test_kinds_and_their_flops(function: Call, layers: list[nn.Module], kind: OpKind, flops: int, of: Trace) -> None:
    operation = of(function, *layers)[-1]
    assert (operation.kind, operation.flops) == (kind, flops)


@pytest.mark.parametrize(
    ("function", "layers", "pointwise"),
    [
        (nn.Conv2d(4, 6, 1), [], True),
        (nn.Conv2d(4, 4, 1, groups=4), [], True),
        (lambda x, layer: layer(last(x)), [nn.Linear(4, 5)], True),
        (lambda x, layer: layer(last(x).flatten(0, 2)), [nn.Linear(4, 5)], True),
        (lambda x, layer: torch.addmm(layer.bias, last(x).reshape(-1, 4), layer.weight.t()), [nn.Linear(4, 5)], True),
        (lambda x, layer: layer(last(F.max_pool2d(x, 2))), [nn.Linear(4, 5)], True),
        (PixelNorm(4), [], True),
        (nn.BatchNorm2d(4), [], True),
        (nn.PReLU(4), [], True),
        (F.gelu, [], True),
        (torch.relu_, [], True),
        (lambda x: x + 1, [], True),
        (lambda x: x * x, [], True),
        (lambda x: x * x[:, :1], [], True),
        (lambda x: x * x.mean((2, 3), keepdim=True), [], True),
        (lambda x: torch.cat([x, x], 1), [], True),
        (lambda x: torch.cat([x, x], -3), [], True),
        (lambda x: last(x).contiguous(), [], True),
        (nn.Conv2d(4, 6, 3, padding=1), [], False),
        (nn.Conv2d(4, 6, 1, stride=2), [], False),
        (nn.Conv2d(4, 6, 1, padding=1), [], False),
        (nn.ConvTranspose2d(4, 6, 1), [], False),
        (nn.Linear(8, 5), [], False),
        (lambda x: x @ x.transpose(2, 3), [], False),
        (nn.LayerNorm(8), [], False),
        (nn.LayerNorm((4, 6, 8)), [], False),
        (nn.GroupNorm(2, 4), [], False),
        (lambda x: x + x[:, :, :, :1], [], False),
        (lambda x: x + x[:, :, :1], [], False),
        (lambda x: torch.cat([x, x], 2), [], False),
        (lambda x: F.pixel_shuffle(x, 2), [], False),
        (lambda x: F.pad(x, (1, 1)), [], False),
        (lambda x: F.interpolate(x, scale_factor=2), [], False),
        (lambda x: F.max_pool2d(x, 3, 1, 1), [], False),
        (lambda x: x.flip(3), [], False),
    ],
)
def test_what_works_pixel_by_pixel(function: Call, layers: list[nn.Module], pointwise: bool, of: Trace) -> None:
    assert of(function, *layers)[-1].pointwise is pointwise


def test_what_one_makes_the_next_reads(of: Trace) -> None:
    first, second = of(lambda x: torch.sigmoid(torch.tanh(x)))
    assert second.reads == first.writes
    assert first.reads[0].value not in {first.writes[0].value, second.writes[0].value}
    assert not first.returned
    assert second.returned == {second.writes[0].value}
    first, left, right, _ = of(lambda x: (lambda y: torch.sin(y) * torch.cos(y))(torch.tanh(x)))
    assert left.reads == right.reads == first.writes
    # A view is its tensor.
    first, second = of(lambda x: torch.sigmoid(last(torch.tanh(x)).flatten(1, 2)))
    assert second.reads == first.writes


def test_a_slice_has_its_elements_only(of: Trace) -> None:
    first, left, right = of(lambda x: [half.sigmoid() for half in torch.tanh(x).chunk(2, dim=1)])
    (made,) = first.writes
    assert left.reads == (Part(made.value, 0, 2 * P, 4 * P),)
    assert right.reads == (Part(made.value, 2 * P, 2 * P, 4 * P),)
    assert left.returned
    assert right.returned


def test_what_is_read_twice_by_one_or_broadcast_counts_once(of: Trace) -> None:
    assert elements(of(lambda x: x * x)[0].reads) == [4 * P]
    assert elements(of(lambda x: torch.cat([x, x, x], 1))[0].reads) == [4 * P]
    assert elements(of(lambda x: x[:, :2] * x[:, 2:])[0].reads) == [2 * P, 2 * P]
    assert elements(of(lambda x: x + x[:, :1].expand(-1, 4, -1, -1))[0].reads) == [4 * P, P]


def test_in_place_makes_a_new_value_of_the_tensor(of: Trace) -> None:
    made, changed, after = of(lambda x: torch.tanh(x).relu_().sigmoid())
    assert changed.reads == made.writes
    assert after.reads == changed.writes
    assert changed.writes[0].value != made.writes[0].value
    assert changed.name == "relu"


def test_in_place_on_a_part_writes_the_part(of: Trace) -> None:
    def function(x: Tensor) -> Tensor:
        y = torch.tanh(x)
        y[:, :1].mul_(2)
        return y.sigmoid()

    made, changed, after = of(function)
    assert changed.reads == (Part(made.writes[0].value, 0, P, 4 * P),)
    assert elements(changed.writes) == [P]
    assert after.reads == (Part(changed.writes[0].value, 0, 4 * P, 4 * P),)


def test_what_is_overwritten_is_not_read(of: Trace) -> None:
    def function(x: Tensor) -> Tensor:
        y = torch.empty_like(x)
        y[:, :1] = x[:, :1].tanh()
        y[:, 1:] = x[:, 1:].sin()
        return y.sigmoid()

    _, first, _, second, _ = operations = of(function)
    assert [operation.name for operation in operations] == ["tanh", "copy", "sin", "copy", "sigmoid"]
    assert elements(first.reads) == [P]
    assert elements(first.weights) == [0]
    assert elements(second.reads) == [3 * P, 0]
    assert second.reads[1].value == first.writes[0].value  # the rest of it goes on
    # As a whole.
    sin, copy = of(lambda x: torch.empty_like(x).copy_(x.sin()))
    assert copy.reads == sin.writes
    assert copy.weights == ()


def test_what_is_made_of_parameters_alone_is_no_operation(of: Trace) -> None:
    (operation,) = of(lambda x, layer: layer(x), weight_norm(nn.Conv2d(4, 7, 1)))
    assert elements(operation.weights) == [28, 7]
    # A shared parameter is one.
    first, second = of(lambda x, layer: layer(layer(x)), nn.Conv2d(4, 4, 1))
    assert first.weights == second.weights


def test_numbers_in_the_code_and_buffers_are_weights(of: Trace) -> None:
    (operation,) = of(lambda x: F.conv2d(x, torch.ones(5, 4, 1, 1, device=x.device)))
    assert elements(operation.weights) == [20]
    assert (operation.name, operation.flops) == ("fixed convolution", 2 * 4 * 5 * P)
    assert operation.figures == {"fvcore_others": 4 * 5 * P}
    assert elements(of(lambda x, layer: layer(x), nn.BatchNorm2d(4))[0].weights) == [4, 4, 4, 4]


def test_what_the_network_returns_as_a_view_is_returned(of: Trace) -> None:
    operations = of(lambda x: (x.sin(), last(x.cos())[0], x.tanh().sum())[1:])
    assert [bool(operation.returned) for operation in operations] == [False, True, False, True]
    (pool,) = of(lambda x: F.max_pool2d(x, 2))
    values, _ = pool.writes
    assert pool.returned == {values.value}


def test_what_takes_a_shape_alone_does_not_read(of: Trace) -> None:
    (operation,) = of(lambda x: torch.zeros_like(x) + x.new_ones(1) + x)
    assert elements(operation.reads) == elements(operation.weights) == [4 * P]


def test_a_network_that_does_nothing_has_none() -> None:
    assert trace(nn.Identity(), X) == ()

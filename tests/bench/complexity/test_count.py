"""Complexity figures of tiny networks against figures counted by hand."""

import copy
from collections.abc import Callable
from dataclasses import asdict

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.flop_counter import FlopCounterMode

from lkdn_deploy.bench.complexity.count import Complexity, Uncounted, count
from lkdn_deploy.bench.complexity.eager_memory import peak_floats
from lkdn_deploy.core.counting import Rule
from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_models.nets.blocks import CCA, PixelNorm
from lkdn_models.nets.bsrn import BSRN
from lkdn_models.nets.carn import CARN
from lkdn_models.nets.lapsrn import LapSRN
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.nets.memnet import MemNet
from lkdn_models.nets.pan import PAN

X = (2, 4, 6, 8)
"""A batch of 2 with 4 channels: 48 pixels each."""
PIXELS = 2 * 6 * 8
ELEMENTS = 4 * PIXELS

Function = Callable[..., Tensor]
Network = Callable[..., nn.Module]


class Fixed(nn.Module):
    """A convolution whose weights are numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("taps", torch.rand(6, 9), persistent=False)
        self.bias = nn.Parameter(torch.rand(6))

    def forward(self, x: Tensor) -> Tensor:
        return F.conv2d(x, self.taps.reshape(6, 1, 3, 3)[:4], self.bias[:4], groups=4)


def none_but(counted: Complexity, **figures: int) -> bool:
    """Whether these are the only sums that are not 0."""
    sums = {
        name: value
        for name, value in asdict(counted).items()
        if name not in {"parameters", "peak_floats", "left_out", "fvcore_others"}
    }
    return {name: value for name, value in sums.items() if value} == figures


def convolutions(macs: int, outputs: int, *, biases: int = 0, calls: int = 1, at_outputs: int = 0) -> dict[str, int]:
    return {
        "macs": macs,
        "macs_at_outputs": at_outputs or macs,
        **({"bias_additions": biases} if biases else {}),
        "activations": outputs,
        "convolutions": calls,
    }


@pytest.mark.parametrize(
    ("layer", "macs", "outputs", "biased"),
    [
        (nn.Conv2d(4, 7, 3, padding=1, bias=False), 9 * 4 * 7 * PIXELS, 7 * PIXELS, False),
        (nn.Conv2d(4, 7, 3, padding=1), 9 * 4 * 7 * PIXELS, 7 * PIXELS, True),
        (nn.Conv2d(4, 7, 3, padding="same", padding_mode="replicate"), 9 * 4 * 7 * PIXELS, 7 * PIXELS, True),
        (nn.Conv2d(4, 7, (1, 5)), 5 * 4 * 7 * 2 * 6 * 4, 7 * 2 * 6 * 4, True),
        (nn.Conv2d(4, 8, 3, padding=1, groups=4), 9 * 8 * PIXELS, 8 * PIXELS, True),
        (nn.Conv2d(4, 6, 3, padding=1, groups=2), 9 * 2 * 6 * PIXELS, 6 * PIXELS, True),
        (nn.Conv2d(4, 4, 5, padding=6, dilation=3, groups=4), 25 * 4 * PIXELS, 4 * PIXELS, True),
        (nn.Conv2d(4, 3, 3, stride=2), 9 * 4 * 3 * 2 * 2 * 3, 3 * 2 * 2 * 3, True),
        (weight_norm(nn.Conv2d(4, 7, 1)), 4 * 7 * PIXELS, 7 * PIXELS, True),
        (nn.Conv2d(4, 7, 1).requires_grad_(requires_grad=False), 4 * 7 * PIXELS, 7 * PIXELS, True),
    ],
)
def test_a_convolution_takes_its_kernel_at_every_output(
    layer: nn.Module, macs: int, outputs: int, biased: bool
) -> None:
    counted = count(layer, X)
    assert none_but(counted, **convolutions(macs, outputs, biases=outputs if biased else 0))
    assert counted.parameters == sum(value.numel() for value in layer.parameters())


@pytest.mark.parametrize(
    ("layer", "outputs"),
    [
        (nn.ConvTranspose2d(4, 6, 2, stride=2), 4 * PIXELS),
        (nn.ConvTranspose2d(4, 6, 9, stride=2, padding=4, output_padding=1), 4 * PIXELS),
        (nn.ConvTranspose2d(4, 6, 5, stride=(2, 3), padding=(2, 1), output_padding=(1, 0)), 6 * PIXELS),
        (nn.ConvTranspose2d(4, 6, 3, stride=1, padding=1, groups=2), PIXELS),
    ],
)
def test_a_transposed_convolution_takes_its_kernel_at_every_input_or_under_c_out_at_every_output(
    layer: nn.ConvTranspose2d, outputs: int
) -> None:
    kernel = layer.weight.numel()
    expected = convolutions(kernel * PIXELS, 6 * outputs, biases=6 * outputs, at_outputs=kernel * outputs)
    assert none_but(count(layer, X), **expected)


@pytest.mark.parametrize(
    ("function", "layer"),
    [
        (
            lambda x, layer: layer(F.pad(x, (1, 1, 1, 1))),
            nn.ConvTranspose2d(4, 1, 9, stride=2, padding=4 + 2, output_padding=1),
        ),
        (lambda x, layer: layer(x)[..., 1:-2, 1:-2], nn.ConvTranspose2d(4, 1, 9, stride=2, padding=2)),
    ],
)
def test_padding_before_a_transposed_convolution_and_cropping_after_it_do_not_count(
    function: Function, layer: nn.Module, call: Network
) -> None:
    counted = count(call(function, layer), X)
    assert counted.macs == 81 * 4 * PIXELS
    assert counted.macs_at_outputs == 81 * 4 * 4 * PIXELS


def last(x: Tensor) -> Tensor:
    """The channels put last, not contiguous."""
    return x.permute(0, 2, 3, 1)


class OnLast(nn.Module):
    """A layer on what ``prepare`` makes of an image whose channels were put last."""

    def __init__(self, layer: nn.Module, prepare: Function = lambda x: x) -> None:
        super().__init__()
        self.layer, self.prepare = layer, prepare

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(self.prepare(last(x)))


class Product(nn.Linear):
    """A linear layer that is written as a function."""

    def __init__(self, function: Function) -> None:
        super().__init__(4, 5)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(x, self.weight, self.bias)


LINEAR = {"macs": 4 * 5 * PIXELS, "macs_at_outputs": 4 * 5 * PIXELS}
BIASED = LINEAR | {"bias_additions": 5 * PIXELS}
POOL, NORM, RELU = {"pool_additions": ELEMENTS}, {"norm_elements": ELEMENTS}, {"relu_elements": ELEMENTS}


@pytest.mark.parametrize(
    ("network", "figures"),
    [
        (OnLast(nn.Linear(4, 5)), BIASED),
        (OnLast(nn.Linear(4, 5), Tensor.contiguous), BIASED),
        (OnLast(nn.Linear(4, 5), lambda x: x.flatten(0, 2)), BIASED),
        (Product(lambda x, weight, bias: torch.addmm(bias, last(x).reshape(-1, 4), weight.t())), BIASED),
        (Product(lambda x, weight, _: F.linear(last(x), weight)), LINEAR),
        (Product(lambda x, weight, _: last(x) @ weight.t()), LINEAR),
        (Product(lambda x, weight, _: torch.einsum("nchw,dc->ndhw", x, weight)), LINEAR),
        # Of (N * C) pairs of matrices of 6x8 and 8x6.
        (lambda x: x @ x.transpose(2, 3), {"macs": 8 * 6 * 6 * 8, "macs_at_outputs": 8 * 6 * 6 * 8}),
        (nn.AdaptiveAvgPool2d(1), POOL),
        (lambda x: F.adaptive_avg_pool2d(x, 1), POOL),
        (lambda x: x.mean((2, 3), keepdim=True), POOL),
        (lambda x: x.mean((-1, -2)), POOL),
        (lambda x: x.mean(dim=(3, 2)) + (x - 1).mean(dim=1)[:, :1, 0], POOL),
        (lambda x: (x**0.5).mean((2, 3)), POOL),
        (lambda x: (x**x).mean((2, 3)), POOL),
        (lambda x: (2**x).mean((2, 3)), POOL),
        (PixelNorm(4), NORM),
        (nn.LayerNorm(8, elementwise_affine=False), NORM),
        (lambda x: F.layer_norm(x, (6, 8)), NORM),
        *((relu, RELU) for relu in (nn.ReLU(), nn.ReLU(inplace=True), nn.ReLU6(), nn.LeakyReLU(0.1), nn.PReLU(4))),
        *((relu, RELU) for relu in (nn.ELU(), F.relu, torch.relu_, F.relu6, F.leaky_relu, F.elu)),
        (nn.BatchNorm2d(4), {"batch_norm_operations": 2 * ELEMENTS}),
        (nn.BatchNorm2d(4, affine=False), {"batch_norm_operations": ELEMENTS}),
    ],
)
def test_calls_count_by_their_kind_as_modules_or_functions(
    network: Function, figures: dict[str, int], call: Network
) -> None:
    assert none_but(count(call(network), X), **figures)


@pytest.mark.parametrize(
    ("network", "name", "elements"),
    [
        (lambda x: x.mean(1), "mean", ELEMENTS),
        (lambda x: x.mean((1, 2, 3)), "mean", ELEMENTS),
        (lambda x: x.mean(3), "mean", ELEMENTS),
        (lambda x: x.mean(), "mean", ELEMENTS),
        (lambda x: x.square().mean((2, 3)), "mean of squares", ELEMENTS),
        (lambda x: (x**2).mean((2, 3)), "mean of squares", ELEMENTS),
        (lambda x: (x * x).mean((2, 3)), "mean of squares", ELEMENTS),
        (lambda x: x.sum((2, 3)), "sum", ELEMENTS),
        (lambda x: x.std((2, 3)), "std", ELEMENTS),
        (lambda x: F.avg_pool2d(x, 2), "avg_pool2d", ELEMENTS),
        (nn.GELU(), "gelu", ELEMENTS),
        (nn.Sigmoid(), "sigmoid", ELEMENTS),
        (nn.SiLU(), "silu", ELEMENTS),
        (nn.SELU(), "selu", ELEMENTS),
        (nn.CELU(), "celu", ELEMENTS),
        (nn.Hardtanh(), "hardtanh", ELEMENTS),
        (nn.InstanceNorm2d(4, affine=True), "instance_norm", ELEMENTS),
        (nn.GroupNorm(2, 4), "native_group_norm", ELEMENTS),
        (torch.cos_, "cos", ELEMENTS),
        (Fixed(), "fixed convolution", ELEMENTS),
        (lambda x: F.conv2d(x, torch.ones(4, 1, 1, 1, device=x.device), groups=4), "fixed convolution", ELEMENTS),
        (lambda x: x @ torch.eye(8, device=x.device), "fixed mm", ELEMENTS),
        (lambda x: F.linear(x, torch.ones(8, 8, device=x.device)), "fixed linear", ELEMENTS),
        # As large as the largest tensor.
        (nn.PixelShuffle(2), "pixel_shuffle", ELEMENTS),
        (lambda x: F.interpolate(x, scale_factor=2), "upsample_nearest2d", 4 * ELEMENTS),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), "upsample_bicubic2d", 4 * ELEMENTS),
        (lambda x: F.interpolate(x, (2, 2), mode="bilinear"), "upsample_bilinear2d", ELEMENTS),
        (lambda x: torch.cat([x, x], 1), "cat", 2 * ELEMENTS),
        (lambda x: x + x[:, :1], "add", ELEMENTS),
        (lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), "reflection_pad2d", 4 * 2 * 8 * 10),
    ],
)
def test_what_no_rule_counts_is_named(network: Function, name: str, elements: int, call: Network) -> None:
    counted = count(call(network), X)
    assert none_but(counted)
    assert counted.left_out[name] == Uncounted(calls=1, elements=elements)
    assert counted.left_out.keys() - {name} <= {"square", "pow", "mul"}  # of the means of squares


def test_contrast_aware_attention_has_one_pool_though_it_takes_two_means() -> None:
    counted = count(CCA(4, reduction=2), X)
    assert counted.pool_additions == ELEMENTS
    assert counted.left_out["mean of squares"] == Uncounted(1, ELEMENTS)


def test_calls_of_one_name_add_up() -> None:
    assert count(nn.Sequential(nn.GELU(), nn.PixelShuffle(2), nn.GELU()), X).left_out == {
        "gelu": Uncounted(calls=2, elements=2 * ELEMENTS),
        "pixel_shuffle": Uncounted(calls=1, elements=ELEMENTS),
    }


@pytest.mark.parametrize(
    "function",
    [lambda x: x, last, lambda x: x[:, 1:], lambda x: x.reshape(2, -1), lambda x: x.unflatten(1, (2, 2)), torch.detach],
)
def test_a_view_is_no_operation(function: Function, call: Network) -> None:
    counted = count(call(function), X)
    assert none_but(counted)
    assert not counted.left_out


def test_weights_hang_on_parameters_however_they_are_made_of_them(call: Network) -> None:
    layer = nn.Conv2d(4, 4, 1, bias=False)
    network = call(lambda x, layer: F.conv2d(x, torch.zeros(4, 4, 1, 1, device=x.device).add_(layer.weight)), layer)
    counted = count(network, X)
    assert none_but(counted, **convolutions(16 * PIXELS, ELEMENTS))
    assert not counted.left_out


def test_weights_made_of_the_image_count(call: Network) -> None:
    network = call(lambda x: F.conv2d(x, x.mean((2, 3)).repeat(2, 1)[:, :, None, None]))
    assert count(network, X).macs == 4 * 4 * PIXELS


def test_shared_layers_count_at_every_call_and_their_parameters_once() -> None:
    layer = nn.Conv2d(4, 4, 1)
    twin = nn.Conv2d(4, 4, 1, bias=False)
    twin.weight = layer.weight
    counted = count(nn.Sequential(layer, layer, twin), X)
    assert none_but(counted, **convolutions(3 * 16 * PIXELS, 3 * ELEMENTS, biases=2 * ELEMENTS, calls=3))
    assert counted.parameters == 20
    assert count(Fixed(), X).parameters == 6  # buffers are none


def everything() -> nn.Module:
    """A network with a layer of each kind."""
    return nn.Sequential(
        nn.Conv2d(4, 6, 3, padding=1),
        nn.ReLU(),
        PixelNorm(6),
        nn.BatchNorm2d(6),
        nn.ConvTranspose2d(6, 2, 2, stride=2),
        nn.GELU(),
        nn.AdaptiveAvgPool2d(1),
    )


@pytest.mark.parametrize(
    ("rule", "extra"),
    [
        (Rule.C, 0),
        (Rule.C_OUT, 3 * 48),
        (Rule.B, 6 + 8),
        (Rule.B_POOLS, 6 + 8 + 8),
        (Rule.T, 4 * 6),
    ],
)
def test_rules_add_what_they_count(rule: Rule, extra: int) -> None:
    assert count(everything(), X).multi_adds(rule) == (9 * 4 * 6 + 4 * 6 * 2 + extra) * PIXELS


def test_the_challenge_counts_relu_and_batch_normalisation_and_transposed_convolutions_at_outputs() -> None:
    counted = count(everything(), X)
    assert counted.peak_floats == peak_floats(everything(), X)
    assert counted.ntire_flops == (9 * 4 * 6 + 4 * 4 * 6 * 2 + 6 + 2 * 6) * PIXELS


SMALL: list[tuple[Callable[[], nn.Module], int]] = [
    (lambda: LKDN(LkdnSpec(2, 1, 8, 6)), 3),
    (lambda: LKDN(LkdnSpec(3, 1, 8, 6, Block.RBSB, Upsampler.REP)), 3),
    (lambda: BSRN(2, blocks=1, channels=16), 3),
    (lambda: PAN(4, blocks=1, channels=8, enlarged_channels=4), 3),
    (lambda: CARN(4, channels=8, groups=4, shared=True), 3),
    (lambda: LapSRN(2, depth=1, channels=4, up_kernel=4), 1),
    (lambda: MemNet(blocks=2, units=2, channels=4), 1),
]


@pytest.mark.parametrize(("make", "channels"), SMALL)
def test_pytorch_s_own_counter_agrees(make: Callable[[], nn.Module], channels: int, without_memory: None) -> None:
    network, x = make().eval(), torch.empty(2, channels, 20, 19)
    with torch.no_grad(), FlopCounterMode(display=False) as theirs:
        network(x)
    counted = count(network, x.shape)
    assert theirs.get_total_flops() == 2 * counted.macs


@settings(max_examples=20)
@given(height=st.integers(3, 50), width=st.integers(3, 50), batch=st.integers(1, 3), times=st.integers(2, 3))
def test_operations_of_padded_networks_grow_with_the_picture(height: int, width: int, batch: int, times: int) -> None:
    network = everything()
    one = figures(count(network, (1, 4, height, width)))
    assert figures(count(network, (1, 4, times * height, width))) == {name: times * n for name, n in one.items()}
    assert figures(count(network, (batch, 4, height, width))) == {name: batch * n for name, n in one.items()}


def figures(counted: Complexity) -> dict[str, int]:
    """The figures that depend on the size."""
    elements = {name: left.elements for name, left in counted.left_out.items()}
    rest = {"parameters": 0, "convolutions": 0, "left_out": 0}
    return {name: value for name, value in (asdict(counted) | rest | elements).items() if value}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_the_type_of_the_values_changes_nothing(dtype: torch.dtype) -> None:
    assert count(everything().to(dtype), X) == count(everything(), X)


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_left_as_it_was(training: bool) -> None:
    network = nn.Sequential(nn.Dropout(), Fixed(), everything(), weight_norm(nn.Conv2d(2, 2, 1))).train(training)
    before = copy.deepcopy(network.state_dict())
    ids = [id(value) for value in [*network.parameters(), *network.buffers()]]
    count(network, X)
    assert ids == [id(value) for value in [*network.parameters(), *network.buffers()]]
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in before.items())
    assert all(value.device.type == "cpu" and value.requires_grad for value in network.parameters())
    for module in network.modules():
        assert module.training is training
        assert not module._forward_hooks
        assert not module._forward_pre_hooks

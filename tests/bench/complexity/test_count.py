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
        name: value for name, value in asdict(counted).items() if name not in {"parameters", "peak_floats", "left_out"}
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


@pytest.mark.parametrize(
    ("function", "biases"),
    [
        (lambda x, layer: layer(last(x)), 5),
        (lambda x, layer: layer(last(x).contiguous()), 5),
        (lambda x, layer: layer(last(x).flatten(0, 2)), 5),
        (lambda x, layer: torch.addmm(layer.bias, last(x).reshape(-1, 4), layer.weight.t()), 5),
        (lambda x, layer: F.linear(last(x), layer.weight), 0),
        (lambda x, layer: last(x) @ layer.weight.t(), 0),
        (lambda x, layer: torch.einsum("nchw,dc->ndhw", x, layer.weight), 0),
    ],
)
def test_a_linear_layer_takes_its_weights_at_every_position(function: Function, biases: int, call: Network) -> None:
    counted = count(call(function, nn.Linear(4, 5)), X)
    added = {"bias_additions": biases * PIXELS} if biases else {}
    assert none_but(counted, macs=4 * 5 * PIXELS, macs_at_outputs=4 * 5 * PIXELS, **added)


def test_the_product_of_two_maps_counts(call: Network) -> None:
    # Of (N * C) pairs of matrices of 6x8 and 8x6.
    counted = count(call(lambda x: x @ x.transpose(2, 3)), X)
    assert none_but(counted, macs=8 * 6 * 6 * 8, macs_at_outputs=8 * 6 * 6 * 8)


@pytest.mark.parametrize(
    "function",
    [
        nn.AdaptiveAvgPool2d(1),
        lambda x: F.adaptive_avg_pool2d(x, 1),
        lambda x: x.mean((2, 3), keepdim=True),
        lambda x: x.mean((-1, -2)),
        lambda x: x.mean(dim=(3, 2)) + (x - 1).mean(dim=1)[:, :1, 0],
        lambda x: (x**0.5).mean((2, 3)),
        lambda x: (x**x).mean((2, 3)),
        lambda x: (2**x).mean((2, 3)),
    ],
)
def test_a_global_average_pool_adds_every_element(function: Function, call: Network) -> None:
    assert none_but(count(call(function), X), pool_additions=ELEMENTS)


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: x.mean(1), "mean"),
        (lambda x: x.mean((1, 2, 3)), "mean"),
        (lambda x: x.mean(3), "mean"),
        (lambda x: x.mean(), "mean"),
        (lambda x: x.square().mean((2, 3)), "mean of squares"),
        (lambda x: (x**2).mean((2, 3)), "mean of squares"),
        (lambda x: (x * x).mean((2, 3)), "mean of squares"),
        (lambda x: x.sum((2, 3)), "sum"),
        (lambda x: x.std((2, 3)), "std"),
        (lambda x: F.avg_pool2d(x, 2), "avg_pool2d"),
    ],
)
def test_another_mean_is_no_global_average_pool(function: Function, name: str, call: Network) -> None:
    counted = count(call(function), X)
    assert none_but(counted)
    assert counted.left_out[name] == Uncounted(calls=1, elements=ELEMENTS)


def test_contrast_aware_attention_has_one_pool_though_it_takes_two_means() -> None:
    counted = count(CCA(4, reduction=2), X)
    assert counted.pool_additions == ELEMENTS
    assert counted.left_out["mean of squares"] == Uncounted(1, ELEMENTS)


@pytest.mark.parametrize(
    "network",
    [
        PixelNorm(4),
        nn.LayerNorm(8, elementwise_affine=False),
        lambda x: F.layer_norm(x, (6, 8)),
    ],
)
def test_a_layer_normalisation_reads_every_element(network: Function, call: Network) -> None:
    assert none_but(count(call(network), X), norm_elements=ELEMENTS)


@pytest.mark.parametrize(
    "network",
    [
        nn.ReLU(),
        nn.ReLU(inplace=True),
        nn.ReLU6(),
        nn.LeakyReLU(0.1),
        nn.PReLU(4),
        nn.ELU(),
        F.relu,
        torch.relu_,
        F.relu6,
        F.leaky_relu,
        F.elu,
    ],
)
def test_a_relu_counts_as_a_module_or_as_a_function(network: Function, call: Network) -> None:
    assert none_but(count(call(network), X), relu_elements=ELEMENTS)


@pytest.mark.parametrize(
    ("network", "name"),
    [
        (nn.GELU(), "gelu"),
        (nn.Sigmoid(), "sigmoid"),
        (nn.SiLU(), "silu"),
        (nn.SELU(), "selu"),
        (nn.CELU(), "celu"),
        (nn.Hardtanh(), "hardtanh"),
        (nn.InstanceNorm2d(4, affine=True), "instance_norm"),
        (nn.GroupNorm(2, 4), "native_group_norm"),
        (torch.cos_, "cos"),
    ],
)
def test_what_no_rule_counts_is_named(network: Function, name: str, call: Network) -> None:
    counted = count(call(network), X)
    assert none_but(counted)
    assert counted.left_out == {name: Uncounted(calls=1, elements=ELEMENTS)}


@pytest.mark.parametrize(
    ("network", "name", "elements"),
    [
        (nn.PixelShuffle(2), "pixel_shuffle", ELEMENTS),
        (lambda x: F.interpolate(x, scale_factor=2), "upsample_nearest2d", 4 * ELEMENTS),
        (lambda x: F.interpolate(x, scale_factor=2, mode="bicubic"), "upsample_bicubic2d", 4 * ELEMENTS),
        (lambda x: F.interpolate(x, (2, 2), mode="bilinear"), "upsample_bilinear2d", ELEMENTS),
        (lambda x: torch.cat([x, x], 1), "cat", 2 * ELEMENTS),
        (lambda x: x + x[:, :1], "add", ELEMENTS),
        (lambda x: F.pad(x, (1, 1, 1, 1), mode="reflect"), "reflection_pad2d", 4 * 2 * 8 * 10),
    ],
)
def test_it_is_as_large_as_its_largest_tensor(network: Function, name: str, elements: int, call: Network) -> None:
    assert count(call(network), X).left_out == {name: Uncounted(calls=1, elements=elements)}


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


@pytest.mark.parametrize(("affine", "operations"), [(True, 2), (False, 1)])
def test_a_batch_normalisation_scales_and_shifts(affine: bool, operations: int) -> None:
    assert none_but(count(nn.BatchNorm2d(4, affine=affine), X), batch_norm_operations=operations * ELEMENTS)


def test_fixed_weights_make_no_layer() -> None:
    counted = count(Fixed(), X)
    assert none_but(counted)
    assert counted.left_out == {"fixed convolution": Uncounted(calls=1, elements=ELEMENTS)}
    assert counted.parameters == 6


@pytest.mark.parametrize(
    ("function", "name"),
    [
        (lambda x: F.conv2d(x, torch.ones(4, 1, 1, 1, device=x.device), groups=4), "fixed convolution"),
        (lambda x: x @ torch.eye(8, device=x.device), "fixed mm"),
        (lambda x: F.linear(x, torch.ones(8, 8, device=x.device)), "fixed linear"),
    ],
)
def test_nor_do_weights_that_are_made_on_the_way(function: Function, name: str, call: Network) -> None:
    counted = count(call(function), X)
    assert none_but(counted)
    assert name in counted.left_out


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


@pytest.mark.parametrize(("make", "channels"), SMALL)
def test_wrapping_changes_nothing(make: Callable[[], nn.Module], channels: int) -> None:
    network, shape = make(), (1, channels, 16, 17)
    assert count(nn.Sequential(nn.Sequential(network)), shape) == count(network, shape)


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


@settings(max_examples=30)
@given(
    inputs=st.integers(1, 4),
    outputs=st.integers(1, 4),
    groups=st.integers(1, 3),
    kernel=st.integers(1, 4),
    stride=st.integers(1, 3),
    size=st.integers(4, 12),
)
def test_a_convolution_multiplies_as_often_as_one_written_out(
    inputs: int, outputs: int, groups: int, kernel: int, stride: int, size: int
) -> None:
    layer = nn.Conv2d(groups * inputs, groups * outputs, kernel, stride, bias=False, groups=groups)
    places = len(range(0, size - kernel + 1, stride))
    products = (
        1
        for _ in range(places * places)
        for _ in range(groups * outputs)
        for _ in range(inputs)
        for _ in range(kernel * kernel)
    )
    assert count(layer, (1, groups * inputs, size, size)).macs == sum(products)


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

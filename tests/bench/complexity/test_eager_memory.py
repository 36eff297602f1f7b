"""Memory of activations, against figures counted by hand and against what PyTorch's allocator is asked for."""

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.profiler import ProfilerActivity, profile

from lkdn_deploy.bench.complexity.eager_memory import peak_floats
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_models.nets.bicubic import Bicubic
from lkdn_models.nets.blocks import BSRB, PixelNorm
from lkdn_models.nets.lkdn import LKDN

SIZE = (4, 5)
PIXELS = 20


def channels(network: nn.Module, inputs: int = 3) -> float:
    """The answer by pixel of the input."""
    return peak_floats(network, (1, inputs, *SIZE)) / PIXELS


def conv(inputs: int, outputs: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, padding=1)


def kept(x: Tensor) -> Tensor:
    a = x.exp()
    b = a.sin()
    return b + a  # x, a, b and the sum


def dropped(x: Tensor) -> Tensor:
    a = x.exp()
    a = a.sin()
    a = a.cos()
    return a.exp()  # x, and two of them at a time


def in_place(x: Tensor) -> Tensor:
    return F.relu_(x.exp().sin_())


def views(x: Tensor) -> Tensor:
    a = x.exp()
    first, rest = a[:, :1], a[:, 1:]
    del a  # whose memory its parts keep
    return torch.cat([rest, first], dim=1).permute(0, 2, 3, 1)


def joined(x: Tensor) -> Tensor:
    a = x.exp()
    b = torch.cat([x, a], dim=1)
    del a
    return b.sigmoid()  # x, b and as much again


def wider(x: Tensor) -> Tensor:
    return F.interpolate(x, scale_factor=2, mode="nearest").amax(dim=1, keepdim=True)  # x, four times it, and a third


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.Identity(), 3),
        (conv(3, 5), 3 + 5),
        (nn.Sequential(conv(3, 5), conv(5, 7), conv(7, 2)), 3 + 5 + 7),
        (nn.Sequential(conv(3, 5), nn.GELU(), conv(5, 4)), 3 + 5 + 5),
        (nn.Sequential(conv(3, 5), nn.ReLU(inplace=True), conv(5, 4)), 3 + 5 + 4),
        (nn.Sequential(*(conv(3, 3) for _ in range(9))), 3 * 3),
        (kept, 4 * 3),
        (dropped, 3 * 3),
        (in_place, 2 * 3),
        (views, 3 * 3),
        (joined, 3 + 6 + 6),
        (wider, 3 + 12 + 4),
        (nn.Sequential(conv(3, 8), nn.PixelShuffle(2)), 3 + 8 + 8),
        # The picture, with its border of 2, two columns on either side, its filtered images, and these shuffled.
        (Bicubic(3, 2), 3 + 3 * (8 * 9 + 2 * 8 * 2) / PIXELS + 2 * 12),
    ],
)
def test_it_is_what_is_counted_by_hand(network, expected: float, call) -> None:
    assert channels(call(network)) == expected


def test_memory_that_is_needed_twice_at_different_times_counts_once() -> None:
    two, nine = (nn.Sequential(*(nn.Sequential(conv(3, 9), conv(9, 3)) for _ in range(n))) for n in (2, 9))
    # A pair's input is kept until the pair is done, and so is the picture.
    assert channels(two) == channels(nine) == 3 + 3 + 9 + 3


@pytest.mark.parametrize("make", [LkdnSpec.lkdn, LkdnSpec.lkdn_s])
@pytest.mark.parametrize("scale", [2, 3, 4])
def test_lkdn_is_at_its_worst_where_the_blocks_are_fused(make, scale: int) -> None:
    spec = make(scale).deployed
    # All blocks' outputs, these joined, what the 1x1 makes of it, the shortcut; and the input.
    assert channels(LKDN(spec)) == (2 * spec.blocks + 2) * spec.channels + 3


@settings(max_examples=20)
@given(batch=st.integers(1, 3), height=st.integers(2, 40), width=st.integers(2, 40))
def test_it_grows_with_the_number_of_pixels(batch: int, height: int, width: int) -> None:
    network = nn.Sequential(conv(3, 4), nn.GELU(), BSRB(4), PixelNorm(4), conv(4, 12), nn.PixelShuffle(2))
    pixels = batch * height * width
    assert peak_floats(network, (batch, 3, height, width)) * PIXELS == peak_floats(network, (1, 3, *SIZE)) * pixels


def pyramid(x: Tensor) -> Tensor:
    a = F.gelu(x)
    b = torch.cat([x, a], dim=1)
    c = b.sigmoid()
    del b
    return c * torch.cat([a, x], dim=1)


def allocated(network: nn.Module, x: Tensor) -> int:
    """The most bytes that a real run holds at once, its input among them."""
    with torch.inference_mode():
        network(x)  # so that nothing is made for the first time
        with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
            network(x)
    events = (event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]")
    now = peak = x.nbytes
    for event in sorted(events, key=lambda event: event.start_ns()):
        now += event.nbytes()
        peak = max(peak, now)
    return peak


@pytest.mark.parametrize("function", [kept, dropped, in_place, views, joined, wider, pyramid])
def test_a_real_run_asks_for_as_much(function, call) -> None:
    x = torch.rand(2, 3, 32, 48)
    assert allocated(call(function), x) == 4 * peak_floats(call(function), x.shape)


def test_a_real_run_of_convolutions_asks_for_no_less() -> None:
    network, x = LKDN(LkdnSpec(2, 2, 8, 8)).eval(), torch.rand(1, 3, 32, 48)
    assert allocated(network, x) >= 4 * peak_floats(network, x.shape)


def test_it_is_run_as_it_is_deployed() -> None:
    network = nn.Sequential(nn.Dropout(), nn.BatchNorm2d(3)).train()
    assert channels(network[:1]) == 3  # in training it makes a mask
    peak_floats(network, (1, 3, *SIZE))
    assert network[1].num_batches_tracked == 0


def test_values_are_counted_and_not_bytes() -> None:
    assert channels(nn.PixelShuffle(1)) == 2 * 3
    for dtype in (torch.float16, torch.bfloat16, torch.float64):
        assert channels(nn.Sequential(conv(3, 5), conv(5, 7)).to(dtype)) == 15

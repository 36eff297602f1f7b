"""Results of any size, and textures that tile."""

import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lkdn_deploy import Upscaler, load
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.protocols import SequentialSession
from lkdn_deploy.imaging.bands import ArrayRows, WrappedRows
from lkdn_deploy.imaging.metrics import psnr_y
from lkdn_deploy.imaging.resample import imresize
from lkdn_deploy.imaging.resize import OutputSize, reduce_bands
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.samples import sample_pixels

PHOTOGRAPH = sample_pixels()[60:116, 90:160]
random = np.random.default_rng(0)


class Blurred(SequentialSession):
    """Repeats each pixel of a picture that it has blurred over ``radius`` pixels, zeros beyond its edges."""

    backend, fixed_size = "stand-in", None

    def __init__(self, scale: int = 2, radius: int | None = 3, smallest: int = 1) -> None:
        self.metadata = ArtifactMetadata(
            model="blurred", scale=scale, receptive_radius=radius, live_channels=12, fused=True, smallest=smallest
        )
        self._radius = radius or 3

    def run(self, batch: np.ndarray) -> np.ndarray:
        padded = np.pad(batch.astype(np.float64), ((0, 0), (0, 0), *[(self._radius,) * 2] * 2))
        height, width = batch.shape[2:]
        spread = range(2 * self._radius + 1)
        total = sum(padded[:, :, top : top + height, left : left + width] for top in spread for left in spread)
        scale = self.metadata.scale
        return (total / len(spread) ** 2).astype(np.float32).repeat(scale, axis=2).repeat(scale, axis=3)

    def bytes_per_pixel(self) -> int:
        return 100


def noise(height: int, width: int, channels: int = 3) -> np.ndarray:
    return random.integers(0, 256, (height, width, channels), np.uint8)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_bands_of_the_result_are_those_of_the_whole_picture_reduced(channels: int) -> None:
    size = OutputSize(scale=Fraction(7, 5))
    upscaler, plain = Upscaler(Blurred(), tile=16, size=size), Upscaler(Blurred(), tile=16)
    picture = noise(61, 43, channels)
    large = plain.upscale(picture).pixels
    expected = np.concatenate(list(reduce_bands([large], large.shape[:2], (85, 60))))
    result = upscaler.upscale(picture)
    assert np.array_equal(result.pixels, expected)
    assert result.tiles > 4
    with upscaler.bands(picture) as bands:
        assert bands.shape == expected.shape
        assert np.array_equal(np.concatenate(list(bands)), expected)


def test_a_network_of_a_larger_scale_serves_for_a_smaller_one() -> None:
    """The reduced result is close to what was taken away from the picture, and much closer than bicubic is."""
    low = imresize(PHOTOGRAPH, Fraction(1, 2))
    reduced = load(bundled()["lkdn-s", 4], scale=2)(low)
    assert reduced.shape == PHOTOGRAPH.shape
    assert psnr_y(reduced, PHOTOGRAPH, 2) > psnr_y(imresize(low, 2), PHOTOGRAPH, 2) + 0.3


@pytest.mark.parametrize(
    ("scale", "network", "shape"),
    [(None, 4, (40, 28)), (2, 2, (20, 14)), (1.5, 2, (15, 11)), ("7/3", 3, (23, 16)), (Fraction(4), 4, (40, 28))],
)
def test_the_smallest_bundled_network_that_serves_is_taken(
    scale: float | str | Fraction | None, network: int, shape: tuple[int, int]
) -> None:
    with load(scale=scale) as upscaler:
        assert upscaler.scale == network
        assert upscaler(noise(10, 7)).shape == (*shape, 3)
    with pytest.raises(UsageError, match="the session is closed"):
        upscaler(noise(10, 7))


def test_a_width_or_a_box_is_made_of_the_default_scale() -> None:
    picture = noise(10, 7)
    assert [load(**size)(picture).shape for size in ({"width": 20}, {"height": 11}, {"fit": (30, 30)})] == [
        (29, 20, 3),
        (11, 8, 3),
        (30, 21, 3),
    ]
    with pytest.raises(UsageError, match="got scale and width"):
        load(scale=2, width=20)


def test_a_file_serves_up_to_its_own_scale(tmp_path: Path) -> None:
    path = tmp_path / "network.onnx"
    shutil.copy(bundled()["lkdn-s", 3], path)
    assert load(path, 1.5).scale == load(path, 3).scale == load(path).scale == 3
    with pytest.raises(UsageError, match=r"x4 or more is needed, but .*network.onnx is lkdn-s x3"):
        load(path, "3.01")


@given(st.integers(1, 30), st.integers(1, 30), st.integers(0, 40), st.integers(0, 80), st.integers(1, 30))
def test_wrapped_rows_go_on_at_the_opposite_edge(height: int, width: int, margin: int, top: int, rows: int) -> None:
    picture = noise(height, width)
    source = WrappedRows(ArrayRows(picture), margin)
    expected = picture[np.arange(-margin, height + margin) % height][:, np.arange(-margin, width + margin) % width]
    assert source.shape == expected.shape
    top = min(top, len(expected) - 1)
    bottom = min(top + rows, len(expected))
    assert np.array_equal(source.read(top, bottom), expected[top:bottom])
    assert np.array_equal(expected[source.inner], picture)


@settings(max_examples=40)
@given(
    st.tuples(st.integers(1, 24), st.integers(1, 24)),
    st.tuples(st.integers(0, 23), st.integers(0, 23)),
    st.sampled_from((None, 9)),
    st.sampled_from((1, 3)),
    st.sampled_from((1, 30)),
)
def test_a_rolled_texture_gives_the_rolled_result(
    size: tuple[int, int], shift: tuple[int, int], tile: int | None, channels: int, smallest: int
) -> None:
    texture = noise(*size, channels)
    upscale = Upscaler(Blurred(smallest=smallest), tile=tile, wrap=True)
    result = upscale(texture)
    assert result.shape == (2 * size[0], 2 * size[1], channels)
    assert np.array_equal(upscale(np.roll(texture, shift, (0, 1))), np.roll(result, [2 * by for by in shift], (0, 1)))
    # The surroundings are what a picture of nine such textures has in its middle.
    middle = Upscaler(Blurred())(np.tile(texture, (3, 3, 1)))[2 * size[0] : 4 * size[0], 2 * size[1] : 4 * size[1]]
    if min(size) > 3:
        assert np.array_equal(result, middle)


def test_a_rolled_texture_gives_the_rolled_result_in_another_size_too() -> None:
    texture = noise(24, 36)
    upscale = Upscaler(Blurred(), wrap=True, size=OutputSize(scale=Fraction(3, 2)))
    rolled = upscale(np.roll(texture, (10, 14), (0, 1)))
    assert np.array_equal(rolled, np.roll(upscale(texture), (15, 21), (0, 1)))
    assert not np.array_equal(upscale(texture), Upscaler(Blurred(), size=OutputSize(scale=Fraction(3, 2)))(texture))


def test_a_network_itself_wraps() -> None:
    texture = PHOTOGRAPH[:32, :48]
    upscale = load(scale=2, wrap=True)
    rolled = upscale(np.roll(texture, (9, 30), (0, 1))).astype(int)
    assert np.abs(rolled - np.roll(upscale(texture), (18, 60), (0, 1))).max() <= 1


def test_a_network_that_sees_the_whole_picture_does_not_wrap() -> None:
    with pytest.raises(UsageError, match="computes every pixel from the whole picture, so no margin makes it tile"):
        Upscaler(Blurred(radius=None), wrap=True)


def test_sizes_that_cannot_be_had_are_refused_before_any_work() -> None:
    upscaler = Upscaler(Blurred(), size=OutputSize(width=100))
    assert upscaler.result_size(30, 60) == (50, 100)
    with pytest.raises(UsageError, match=r"x2.5 is wanted of 40x30 pixels, but the network has x2 only"):
        upscaler.check_size(30, 40)
    with pytest.raises(UsageError, match=r"that would be 0.8333 times its size"):
        upscaler(noise(30, 120))

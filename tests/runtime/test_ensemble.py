"""The self-ensemble: the mean over the eight symmetries of a square, of which nothing else depends on the order."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkdn_deploy import Upscaler, load
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.protocols import SequentialSession
from lkdn_deploy.imaging.metrics import psnr_y
from lkdn_deploy.imaging.testsets import find_sets, read_pair
from lkdn_deploy.runtime.ensemble import EnsembleSession
from lkdn_deploy.samples import sample_pixels

PHOTOGRAPH = sample_pixels()[60:100, 90:150]
SYMMETRIES = (np.flipud, np.fliplr, lambda image: image.swapaxes(0, 1), np.rot90)


class Skewed(SequentialSession):
    """Not equivariant, and with values between those of 8 bits and outside of 0..1."""

    backend = "stand-in"
    metadata = ArtifactMetadata(model="skewed", scale=2, receptive_radius=2, live_channels=12, fused=True)

    def __init__(self, fixed_size: tuple[int, int] | None = None, largest: tuple[int, int] | None = None) -> None:
        self.fixed_size, self.largest = fixed_size, largest
        self.shapes: list[tuple[int, ...]] = []

    def run(self, batch: np.ndarray) -> np.ndarray:
        self.shapes.append(batch.shape[2:])
        large = batch.repeat(2, axis=2).repeat(2, axis=3)
        return 1.2 * large - 0.3 * np.roll(large, 1, axis=2) + 0.1 * np.roll(large, 2, axis=3)

    def bytes_per_pixel(self) -> int:
        return 100


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1))
def test_it_commutes_with_every_symmetry_bit_for_bit(height: int, width: int, seed: int) -> None:
    upscale = Upscaler(EnsembleSession(Skewed()))
    for image in (
        np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8),
        np.random.default_rng(seed).random((height, width, 3), np.float32),
    ):
        for turned in SYMMETRIES:
            assert np.array_equal(upscale(turned(image)), turned(upscale(image)))


def test_it_is_the_mean_of_eight_before_anything_is_clipped_or_rounded() -> None:
    batch = np.random.default_rng(0).random((2, 3, 6, 5), np.float32)
    results = []
    for quarter in range(4):
        for mirrored in (False, True):
            turned = np.rot90(batch[..., ::-1] if mirrored else batch, quarter, (2, 3))
            back = np.rot90(Skewed().run(turned), -quarter, (2, 3))
            results.append(back[..., ::-1] if mirrored else back)
    expected = np.mean(results, axis=0, dtype=np.float64).astype(np.float32)
    assert expected.max() > 1
    session = EnsembleSession(Skewed())
    assert np.array_equal(session.run(batch), expected)
    for each, result in zip(
        (batch, batch[:, :, :4], batch), session.run_many([batch, batch[:, :, :4], batch]), strict=True
    ):
        assert np.array_equal(result, session.run(each))


def test_windows_change_their_shape_once_each() -> None:
    skewed = Skewed()
    list(EnsembleSession(skewed).run_many([np.zeros((1, 3, 6, 5), np.float32)] * 2))
    assert skewed.shapes == [(6, 5)] * 4 + [(5, 6)] * 8 + [(6, 5)] * 4


def test_sizes_that_an_artefact_takes_in_one_direction_only_are_refused() -> None:
    with pytest.raises(UsageError, match="turns pictures by a quarter, but this artefact takes 6x4 pixels only"):
        EnsembleSession(Skewed(fixed_size=(4, 6)))
    assert EnsembleSession(Skewed(fixed_size=(6, 6))).fixed_size == (6, 6)
    assert EnsembleSession(Skewed(largest=(400, 300))).largest == (300, 300)


def test_its_memory_is_that_of_the_network_and_of_the_sum() -> None:
    plain, session = Skewed(), EnsembleSession(Skewed())
    assert session.window_bytes(10, 20) == plain.window_bytes(10, 20) + 200 * 4 * 3 * 12
    assert session.bytes_per_pixel() == 100 + 4 * 3 * 12


def test_tiles_give_the_whole_pictures_result() -> None:
    whole, tiled = (load(scale=2, self_ensemble=True, tile=tile) for tile in (None, 20))
    image = np.tile(PHOTOGRAPH, (4, 3, 1))[:150, :160].astype(np.float32) / 255
    assert len(tiled.plan(*image.shape[:2])) > 1
    assert np.abs(tiled(image) - whole(image)).max() <= 1e-5


def test_it_gains_on_a_test_picture(data: Path) -> None:
    (pictures,) = (found for found in find_sets(data / "testsets" / "Set5", 4))
    baby = next(picture for picture in pictures.pictures if "butterfly" in picture.name or "003" in picture.name)
    low, high = read_pair(baby, 4, 4)
    plain, gained = (psnr_y(load(self_ensemble=each)(low), high, 4) for each in (False, True))
    assert gained > plain + 0.01

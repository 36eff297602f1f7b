"""A small checkpoint, and the quality of what is made of published ones."""

from collections.abc import Callable
from pathlib import Path

import pytest

from lkdn_deploy import Upscaler
from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_models.training.evaluate import mean, measure, measure_luma, open_set


@pytest.fixture(scope="session")
def weights(random_checkpoint: Callable[[LkdnSpec], Path]) -> Path:
    """A small network in training form, called ``lkdn-b1-c8-a8`` and of scale 2."""
    return random_checkpoint(LkdnSpec(2, 1, 8, 8, Block.RBSB, Upsampler.REP))


@pytest.fixture
def assert_quality(data: Path) -> Callable[..., None]:
    """Measure an upscaler on a test set, and compare PSNR and SSIM on luma; a network of luma as its paper does."""

    def check(upscaler: Upscaler, name: str, psnr: float, ssim: float, *, on_luma: bool = False) -> None:
        pictures = open_set(data / "testsets" / name, upscaler.scale)
        quality = mean(measure_luma(upscaler.session.run, pictures) if on_luma else measure(upscaler, pictures))
        assert quality.psnr_y == pytest.approx(psnr, abs=0.005), name
        assert quality.ssim_y == pytest.approx(ssim, abs=0.0001), name

    return check

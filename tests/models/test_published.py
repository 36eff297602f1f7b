"""Published weights in PyTorch, on Set5.

Those at x4 are measured in ``tests/export/test_zoo_quality.py``, LKDN's in ``tests/export/test_published.py``.
"""

from pathlib import Path

import pytest

from lkdn_models.checkpoint import load_checkpoint
from lkdn_models.rgb import as_rgb
from lkdn_models.training.evaluate import in_torch, mean, measure, open_set


@pytest.mark.parametrize(
    ("file", "name", "scale", "psnr", "ssim"),
    [
        ("BSRN/net_g_BSRN_x2.pth", "bsrn", 2, 38.083, 0.9608),
        ("BSRN/net_g_BSRN_x3.pth", "bsrn", 3, 34.450, 0.9276),
        ("PAN/PANx2_DF2K.pth", "pan", 2, 38.001, 0.9605),
        ("PAN/PANx3_DF2K.pth", "pan", 3, 34.400, 0.9272),
        ("VapSR/VapSR_X2.pth", "vapsr", 2, 38.107, 0.9609),
        ("VapSR/VapSR_X3.pth", "vapsr", 3, 34.525, 0.9281),
    ],
)
def test_published_weights_have_their_quality(
    file: str, name: str, scale: int, psnr: float, ssim: float, data: Path
) -> None:
    checkpoint = load_checkpoint(data / "weights" / file, scale)
    assert (checkpoint.name, checkpoint.scale) == (name, scale)
    network = as_rgb(checkpoint.build(), checkpoint.input, scale).eval()
    quality = mean(measure(in_torch(network), open_set(data / "testsets" / "Set5", scale)))
    assert quality.psnr_y == pytest.approx(psnr, abs=0.005)
    assert quality.ssim_y == pytest.approx(ssim, abs=0.0001)

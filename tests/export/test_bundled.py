"""The bundled model: the artefact is what the bundled checkpoint gives, and its card tells the truth."""

import re
from pathlib import Path

import numpy as np
import pytest

from lkdn_deploy import load
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.export.job import ExportSettings, export_onnx, open_checkpoint
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.samples import sample_pixels
from lkdn_models.training.evaluate import bicubic, mean, measure, open_set
from lkdn_models.zoo import find


def test_the_default_model_is_bundled_in_both_forms() -> None:
    assert {("lkdn-s", 2), ("lkdn-s", 3), ("lkdn-s", 4)} <= bundled().keys()
    assert open_checkpoint(None).spec == LkdnSpec.lkdn_s(4)


@pytest.mark.parametrize(("model", "scale"), bundled(), ids=lambda value: str(value))
def test_the_artefact_is_what_the_checkpoint_gives(tmp_path: Path, model: str, scale: int) -> None:
    checkpoint = open_checkpoint(None, model, scale)
    report = export_onnx(checkpoint, tmp_path / "again.onnx", ExportSettings())
    shipped, again = load(model, scale), load(report.path)
    assert shipped.session.metadata.weights_sha256 == checkpoint.sha256
    assert shipped.session.metadata.fused
    image = sample_pixels().astype(np.float32) / 255
    assert np.abs(shipped(image) - again(image)).max() <= 1e-6


@pytest.mark.parametrize(("model", "scale"), bundled(), ids=lambda value: str(value))
def test_the_card_states_the_quality_that_is_measured_and_it_beats_bicubic(data: Path, model: str, scale: int) -> None:
    card = find(model, scale).bundled.with_suffix(".md").read_text()
    upscaler = load(model, scale)
    for name in ("Set5", "Set14"):
        cell = r" ([\d.]+) / (0\.\d{4}) \|"
        row = re.search(rf"^\| {name} \|{cell}{cell}", card, re.M)
        assert row
        pictures = open_set(data / "testsets" / name, scale)
        network, plain = (mean(measure(upscale, pictures)) for upscale in (upscaler, bicubic(scale)))
        for measured, (psnr, ssim) in ((network, row.group(1, 2)), (plain, row.group(3, 4))):
            assert measured.psnr_y == pytest.approx(float(psnr), abs=0.005)
            assert measured.ssim_y == pytest.approx(float(ssim), abs=0.0001)
        assert network.psnr_y > plain.psnr_y + 1
        assert network.ssim_y > plain.ssim_y

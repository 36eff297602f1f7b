"""Quality on a set of pictures."""

import numpy as np
import pytest
import torch
from PIL import Image

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.imaging.metrics import psnr_y, ssim_y
from lkdn_deploy.imaging.resample import downsample, imresize
from lkdn_models.training.evaluate import LumaQuality, ValidationSet, bicubic, in_torch, mean, measure, open_set


def write(path, height, width, seed=0):
    """A smooth random picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    coarse = np.random.default_rng(seed).uniform(0, 255, (-(-height // 4), -(-width // 4), 3))
    image = imresize(coarse, 4)[:height, :width].clip(0, 255).astype(np.uint8)
    Image.fromarray(image).save(path)
    return image


def test_a_folder_of_pictures_is_cropped_and_reduced(tmp_path):
    first, second = write(tmp_path / "mine" / "a.png", 45, 50), write(tmp_path / "mine" / "b.bmp", 36, 33, seed=1)
    pictures = open_set(tmp_path / "mine", 3)
    assert pictures.name == "mine"
    assert [name for name, _, _ in pictures.pairs] == ["a", "b"]
    for (_, low, high), image in zip(pictures.pairs, (first[:, :48], second), strict=True):
        assert np.array_equal(high, image)
        assert np.array_equal(low, downsample(image, 3))


def test_a_set_laid_out_by_scale_gives_the_pictures_of_the_scale(tmp_path):
    for scale, side in ((2, 40), (4, 48)):
        write(tmp_path / "Set0" / f"x{scale}" / "HR" / "a.png", side, side)
        write(tmp_path / "Set0" / f"x{scale}" / "LR" / "a.png", side // scale, side // scale)
    pictures = open_set(tmp_path / "Set0", 4)
    assert pictures.name == "Set0"
    ((_, low, high),) = pictures.pairs
    assert high.shape == (48, 48, 3)
    assert np.array_equal(low, downsample(high, 4))


def test_the_published_sets_are_found(data):
    pictures = open_set(data / "testsets" / "Set5", 4)
    assert (pictures.name, len(pictures.pairs)) == ("Set5", 5)


def test_the_working_folder_has_a_name(tmp_path, monkeypatch):
    write(tmp_path / "here" / "a.png", 32, 32)
    monkeypatch.chdir(tmp_path / "here")
    assert open_set(".", 2).name == "here"


def test_a_folder_without_pictures_of_the_scale_is_refused(tmp_path):
    write(tmp_path / "x2" / "HR" / "a.png", 32, 32)
    with pytest.raises(InputError, match="holds no image") as caught:
        open_set(tmp_path, 4)
    assert "x4/HR" in caught.value.hint


def test_a_picture_that_cannot_be_read_or_measured_is_named(tmp_path):
    write(tmp_path / "a.png", 19, 40)
    with pytest.raises(InputError, match=r"a\.png is 40x19: .* 20x20 or more"):
        open_set(tmp_path, 4)
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"a\.png is not an image that can be read"):
        open_set(tmp_path, 4)
    write(tmp_path / "b.png", 20, 40)
    with pytest.warns(UserWarning, match=r"left out: .*a\.png is not an image"):
        assert len(measure(bicubic(4), open_set(tmp_path, 4))) == 1


def test_quality_is_measured_picture_by_picture_with_the_scale_as_border(tmp_path):
    for seed, name in enumerate("ab"):
        write(tmp_path / f"{name}.png", 48, 60, seed)
    pictures = open_set(tmp_path, 3)
    values = measure(bicubic(3), pictures)
    for value, (_, low, high) in zip(values, pictures.pairs, strict=True):
        image = imresize(low, 3)
        assert value == LumaQuality(psnr_y(image, high, 3), ssim_y(image, high, 3))
    assert values[0] != values[1]


def test_the_original_itself_has_the_best_quality():
    low = np.zeros((8, 8, 3), np.uint8)
    high = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    assert measure(lambda _: high, ValidationSet("one", [("a", low, high)])) == [LumaQuality(float("inf"), 1.0)]


def test_a_result_of_another_size_is_refused(tmp_path):
    write(tmp_path / "a.png", 48, 48)
    with pytest.raises(ValueError, match="one size"):
        measure(bicubic(2), open_set(tmp_path, 4))


def test_the_mean_is_that_of_each_figure():
    assert mean([LumaQuality(30.0, 0.75), LumaQuality(34.0, 1.0)]) == LumaQuality(32.0, 0.875)


def test_a_network_gets_0_to_1_and_its_result_is_clamped_and_rounded():
    class Stretch(torch.nn.Module):
        """Twice the size; 0..255 becomes -10.2..265.2 grey levels, and a half."""

        def __init__(self):
            super().__init__()
            self.gain = torch.nn.Parameter(torch.tensor(1.08))

        def forward(self, x):
            assert x.dtype == torch.float32
            assert x.shape[:2] == (1, 3)
            return torch.nn.functional.interpolate(x * self.gain - 0.04, scale_factor=2)

    low = np.arange(8 * 10 * 3, dtype=np.uint8).reshape(8, 10, 3)
    low[0, 0] = 255
    low.setflags(write=False)  # as a decoded image is
    expected = np.clip(np.round(low * 1.08 - 10.2), 0, 255).astype(np.uint8)
    assert np.array_equal(in_torch(Stretch())(low), expected.repeat(2, axis=0).repeat(2, axis=1))

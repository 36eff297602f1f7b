"""Random crops from a folder of photographs."""

import numpy as np
import pytest
import torch
from PIL import Image

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.imaging.resample import downsample
from lkdn_models.data import CropSettings, CropSource, load_photos


def write(path, height, width, seed=0):
    """A picture whose every pixel differs, so that crops can be found again."""
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    Image.fromarray(image).save(path)
    return image


def as_bytes(tensor):
    return (tensor * 255).round().byte().permute(0, 2, 3, 1).numpy()


def find(image, crop):
    """Top and left of a crop that was mirrored and turned, and how; fails if it is not there exactly once."""
    height, width = crop.shape[:2]
    windows = np.lib.stride_tricks.sliding_window_view(image, (height, width, 3))[:, :, 0]
    hits = []
    for mirror in (False, True):
        for turns in range(4):
            seen = np.rot90(crop, -turns)
            seen = seen[:, ::-1] if mirror else seen
            hits += [
                (int(y), int(x), mirror, turns)
                for y, x in np.argwhere((windows == seen).reshape(*windows.shape[:2], -1).all(axis=2))
            ]
    (hit,) = hits
    return hit


@pytest.mark.parametrize("scale", [2, 3])
def test_crops_are_aligned_and_low_resolution_comes_from_the_whole_photograph(tmp_path, scale):
    high = write(tmp_path / "a.png", 50, 61)
    settings = CropSettings(patch=8, batch=12, candidates=2)
    source = CropSource(load_photos(tmp_path, scale, settings), scale, settings, seed=3)
    low_batch, high_batch = source.batch(0)
    assert low_batch.shape == (12, 3, 8, 8)
    assert high_batch.shape == (12, 3, 8 * scale, 8 * scale)
    assert low_batch.dtype == torch.float32
    assert low_batch.is_contiguous(memory_format=torch.channels_last)
    low = downsample(high, scale)
    ways = set()
    for small, large in zip(as_bytes(low_batch), as_bytes(high_batch), strict=True):
        top, left, *way = find(low, small)
        assert find(high, large) == (scale * top, scale * left, *way)
        ways.add(tuple(way))
    assert len(ways) > 3


def test_a_batch_depends_on_seed_and_number_only(tmp_path):
    for number in range(3):
        write(tmp_path / f"{number}.png", 40, 40, seed=number)
    settings = CropSettings(patch=8, batch=4)
    photos = load_photos(tmp_path, 2, settings)
    source = CropSource(photos, 2, settings, seed=1)
    later = [source.batch(number)[0] for number in (0, 1, 2)][2]
    assert torch.equal(later, CropSource(photos, 2, settings, seed=1).batch(2)[0])
    assert not torch.equal(later, source.batch(3)[0])
    assert not torch.equal(later, CropSource(photos, 2, settings, seed=2).batch(2)[0])


def test_processes_share_a_batch(tmp_path):
    write(tmp_path / "a.png", 40, 40)
    settings = CropSettings(patch=8, batch=6)
    source = CropSource(load_photos(tmp_path, 2, settings), 2, settings, seed=1)
    whole = source.batch(7)[1]
    assert torch.equal(whole[0::2], source.batch(7, part=0, parts=2)[1])
    assert torch.equal(whole[1::2], source.batch(7, part=1, parts=2)[1])


def test_more_candidates_find_more_detail(tmp_path):
    image = np.full((64, 128, 3), 128, np.uint8)
    image[:, 96:] = np.random.default_rng(0).integers(0, 256, (64, 32, 3))
    Image.fromarray(image).save(tmp_path / "a.png")

    def spread(candidates):
        settings = CropSettings(patch=8, batch=64, candidates=candidates)
        return CropSource(load_photos(tmp_path, 2, settings), 2, settings, 0).batch(0)[1].std(dim=(2, 3)).mean()

    assert spread(4) > 1.5 * spread(1)


def test_photographs_above_max_side_are_shrunk_by_a_whole_factor(tmp_path):
    write(tmp_path / "a.png", 90, 130)
    (photo,) = load_photos(tmp_path, 2, CropSettings(patch=8, batch=1, max_side=64))
    assert photo.high.shape == (30, 44, 3)  # 130 / 3 rounded up


def test_an_unreadable_image_is_named_and_left_out(tmp_path):
    write(tmp_path / "good.png", 40, 40)
    (tmp_path / "broken.png").write_bytes((tmp_path / "good.png").read_bytes()[:500])
    (tmp_path / "notes.txt").write_text("not an image")
    with pytest.warns(UserWarning, match=r"broken\.png"):
        photos = load_photos(tmp_path, 2, CropSettings(patch=8, batch=1))
    assert len(photos) == 1


def test_a_folder_of_nothing_readable_is_refused(tmp_path):
    (tmp_path / "broken.png").write_bytes(b"not a png")
    with pytest.warns(UserWarning, match="left out"), pytest.raises(InputError, match="no readable image"):
        load_photos(tmp_path, 2, CropSettings(patch=8, batch=1))


def test_an_empty_or_missing_folder_is_refused_with_a_hint(tmp_path):
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(InputError) as refused:
            load_photos(folder, 2, CropSettings(patch=8, batch=1))
        assert str(folder) in refused.value.message
        assert "folder of photographs" in refused.value.hint


def test_a_too_small_photograph_is_refused_naming_the_size_needed(tmp_path):
    write(tmp_path / "small.png", 30, 200)
    with pytest.raises(InputError, match=r"small\.png is 200x30.*32x32"):
        load_photos(tmp_path, 2, CropSettings(patch=16, batch=1))


@pytest.mark.parametrize("setting", [{"patch": 4}, {"batch": 0}, {"candidates": 0}, {"max_side": -1}])
def test_settings_out_of_range_are_named(setting):
    with pytest.raises(UsageError, match=next(iter(setting))):
        CropSettings(**{"patch": 8, "batch": 1, **setting})

"""Random crops, and the photographs that they are drawn from."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.imaging.resample import downsample
from lkdn_models.data import CropSettings, CropSource
from lkdn_models.data.decoded import factors


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


def source_of(photos, scale=2, seed=1, **settings):
    return CropSource(photos, scale, CropSettings(**{"patch": 8, "batch": 4, **settings}), seed)


@pytest.mark.parametrize("scale", [2, 3])
@pytest.mark.parametrize("candidates", [1, 2])
def test_crops_are_aligned_and_low_resolution_comes_from_the_whole_photograph(
    tmp_path, write, photos_of, scale, candidates
):
    high = write(tmp_path / "a.png", 50, 61)
    source = source_of(photos_of(tmp_path, scale=scale).training, scale, batch=12, candidates=candidates)
    low_batch, high_batch = source.batch(0)
    assert low_batch.shape == (12, 3, 8, 8)
    assert high_batch.shape == (12, 3, 8 * scale, 8 * scale)
    assert low_batch.dtype == high_batch.dtype == torch.float32
    assert low_batch.is_contiguous(memory_format=torch.channels_last)
    assert source.nbytes() == low_batch.nbytes + high_batch.nbytes
    low = downsample(high, scale)
    ways = set()
    for small, large, name in zip(as_bytes(low_batch), as_bytes(high_batch), source.names(0), strict=True):
        top, left, *way = find(low, small)
        assert find(high, large) == (scale * top, scale * left, *way)
        assert name == f"{tmp_path / 'a.png'} at {scale * left},{scale * top}"
        ways.add(tuple(way))
    assert len(ways) > 3


def test_a_batch_depends_on_seed_and_number_only(tmp_path, write, photos_of):
    for number in range(3):
        write(tmp_path / f"{number}.png", 40, 40, seed=number)
    photos = photos_of(tmp_path).training
    source = source_of(photos)
    later = [source.batch(number)[0] for number in (0, 1, 2)][2]
    assert torch.equal(later, source_of(photos).batch(2)[0])
    assert not torch.equal(later, source.batch(3)[0])
    assert not torch.equal(later, source_of(photos, seed=2).batch(2)[0])


def test_processes_share_a_batch(tmp_path, write, photos_of):
    write(tmp_path / "a.png", 40, 40)
    source = source_of(photos_of(tmp_path).training, batch=6)
    whole, names = source.batch(7)[1], source.names(7)
    for part in (0, 1):
        assert torch.equal(whole[part::2], source.batch(7, part, parts=2)[1])
        assert names[part::2] == source.names(7, part, parts=2)
        assert source.nbytes(part, 2) == source.nbytes() / 2


def test_every_position_of_every_photograph_is_equally_likely(tmp_path, write, photos_of):
    write(tmp_path / "one.png", 16, 16)  # one position
    write(tmp_path / "six.png", 18, 20)
    names = source_of(photos_of(tmp_path).training, batch=4096).names(0)
    _, counts = np.unique(names, return_counts=True)
    assert len(counts) == 7
    assert ((counts - 4096 / 7) ** 2).sum() / (4096 / 7) < 22.5  # chi-square, 6 degrees, one in a thousand


def test_more_candidates_find_more_detail(tmp_path, photos_of):
    image = np.full((64, 128, 3), 128, np.uint8)
    image[:, 96:] = np.random.default_rng(0).integers(0, 256, (64, 32, 3))
    Image.fromarray(image).save(tmp_path / "a.png")

    def spread(candidates):
        source = source_of(photos_of(tmp_path).training, batch=64, candidates=candidates)
        return source.batch(0)[1].std(dim=(2, 3)).mean()

    assert spread(4) > 1.5 * spread(1)


def test_photographs_are_used_at_each_size_once(tmp_path, write, photos_of):
    write(tmp_path / "large.png", 90, 130)
    write(tmp_path / "small.png", 40, 60)
    photos = photos_of(tmp_path, max_sides=(64, 1000, 70, 65)).training
    assert [(photo.name, photo.factor, photo.high.shape) for photo in photos] == [
        ("large.png", 1, (90, 130, 3)),
        ("large.png", 2, (44, 64, 3)),  # 45x65, cropped to a multiple of the scale
        ("large.png", 3, (30, 44, 3)),
        ("small.png", 1, (40, 60, 3)),
    ]
    for photo in photos:
        assert np.array_equal(photo.low, downsample(photo.high, 2))
    shrunk = photos[2:3]
    assert {name.partition(" at ")[0] for name in source_of(shrunk).names(0)} == {
        f"{tmp_path / 'large.png'} shrunk by 3"
    }


@given(st.integers(1, 5000), st.integers(1, 5000), st.lists(st.integers(8, 6000), max_size=4))
def test_each_size_is_reached_by_the_least_factor(width, height, sides):
    longer, found = max(width, height), factors((width, height), sides)
    assert found == sorted(set(found))
    assert all(any(-(-longer // factor) <= side for factor in found) for side in sides)
    for factor in found:
        assert factor == 1 or any(-(-longer // factor) <= side < -(-longer // (factor - 1)) for side in sides)
    assert len(found) <= max(1, len(sides))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_held_out_photographs_are_in_training_at_no_size(tmp_path, write, photos_of, seed):
    for number in range(6):
        write(tmp_path / "a" / f"{number}.png", 80, 80, seed=number)
    settings = {"max_sides": (80, 40), "held_out": 2, "seed": seed}
    photos = photos_of(tmp_path / "a", **settings)
    training, held_out = ([photo.name for photo in part] for part in (photos.training, photos.held_out))
    assert len(training) == 8
    assert len(held_out) == 4
    assert len(set(held_out)) == 2
    assert not set(training) & set(held_out)
    assert [photo.name for photo in photos_of(tmp_path / "a", **settings).held_out] == held_out
    (tmp_path / "a").rename(tmp_path / "moved")
    assert [photo.name for photo in photos_of(tmp_path / "moved", **settings).held_out] == held_out


def test_the_seed_chooses_who_is_held_out(tmp_path, write, photos_of):
    for number in range(6):
        write(tmp_path / f"{number}.png", 40, 40, seed=number)
    chosen = {photos_of(tmp_path, held_out=1, seed=seed).held_out[0].name for seed in range(12)}
    assert len(chosen) > 2


def test_something_must_be_left_to_train_on(tmp_path, write, photos_of, cache):
    write(tmp_path / "0.png", 40, 40)
    write(tmp_path / "1.png", 40, 40)
    with pytest.raises(UsageError, match="held_out is 2, but there are 2 photographs"):
        photos_of(tmp_path, held_out=2, max_sides=(40, 20))
    assert list(cache.iterdir()) == []  # refused before anything is decoded
    assert len(photos_of(tmp_path, held_out=1).training) == 1


@pytest.mark.parametrize("cached", [False, True])
def test_a_too_small_photograph_is_refused_naming_the_size_needed(tmp_path, write, photos_of, cached):
    write(tmp_path / "small.png", 30, 200)
    if cached:
        photos_of(tmp_path)
    with pytest.raises(InputError, match=r"small\.png is 200x30: too small for a crop of 32x32"):
        photos_of(tmp_path, patch=16)


def test_a_photograph_too_small_once_shrunk_says_so(tmp_path, write, photos_of):
    write(tmp_path / "small.png", 30, 200)
    with pytest.raises(InputError, match=r"200x30 and shrunk by 2: too small for a crop of 16x16"):
        photos_of(tmp_path, max_sides=(200, 100))  # 100x15


@pytest.mark.parametrize(
    "setting", [{"patch": 4}, {"batch": 0}, {"candidates": 0}, {"max_sides": (2000, 0)}, {"held_out": -1}]
)
def test_settings_out_of_range_are_named(setting):
    with pytest.raises(UsageError, match=next(iter(setting))):
        CropSettings(**{"patch": 8, "batch": 1, **setting})


def test_a_share_of_each_batch_is_of_drawings(tmp_path, write, photos_of):
    for name in ("photos", "drawings"):
        (tmp_path / name).mkdir()
        write(tmp_path / name / "a.png", 40, 40)
    photos, drawings = (photos_of(tmp_path / name).training for name in ("photos", "drawings"))
    source = CropSource(photos, 2, CropSettings(patch=8, batch=8, graphics=0.25), 1, drawings)
    for index in range(5):
        names = source.names(index)
        assert sum(str(tmp_path / "drawings") in name for name in names) == 2
        assert sum(str(tmp_path / "drawings") in name for name in source.names(index, 1, 2)) == 1


def test_half_of_the_crops_of_drawings_are_reduced_by_block_means(tmp_path, write, photos_of):
    write(tmp_path / "a.png", 40, 40)
    photos = photos_of(tmp_path).training
    source = CropSource(photos, 2, CropSettings(patch=8, batch=40, graphics=0.5), 1, photos)
    low, high = source.batch(0)
    means = torch.nn.functional.avg_pool2d(high, 2)
    exact = ((low - means).abs().amax(dim=(1, 2, 3)) < 0.51 / 255).tolist()
    assert 4 <= sum(exact[:20]) <= 16
    assert not any(exact[20:])

"""Maps of how far a network is behind its teacher, and the crops that are drawn by them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_models.data import CropSettings, CropSource, Photo
from lkdn_models.data.hard_places import HardPlaces, read_lags, write_lags
from lkdn_models.training.distillation import lag_map

CPU = torch.device("cpu")


def photo(width: int, height: int) -> Photo:
    """A photograph that is not decoded: only its size counts."""
    return Photo(Path("a.png"), (2 * width, 2 * height), 1, (width, height), 2, Path("a.npy"))


def nearest(low: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.interpolate(low, scale_factor=2)


def darker(low: torch.Tensor) -> torch.Tensor:
    return nearest(low) * 0.9


def test_a_map_holds_the_excess_of_the_squared_error_by_cells_of_8x8(tmp_path, write, photos_of):
    write(tmp_path / "a.png", 52, 310)  # wider than a window; 155x26 at low resolution, of which 152x24 are whole cells
    (one,) = photos_of(tmp_path).training
    low, high = (torch.from_numpy(np.array(pixels)).permute(2, 0, 1)[None] / 255 for pixels in (one.low, one.high))
    excess = ((darker(low) - high) ** 2 - (nearest(low) - high) ** 2).mean(1)[:, :48, :304]
    expected = torch.nn.functional.avg_pool2d(excess, 16)[0].clamp(min=0)
    found = lag_map(one, darker, nearest, CPU)
    assert found.shape == (3, 19)
    assert found.max() > 0
    np.testing.assert_allclose(found, expected.numpy(), atol=1e-6)


def test_a_network_that_is_no_worse_lags_nowhere(tmp_path, write, photos_of):
    write(tmp_path / "a.png", 64, 64)
    (one,) = photos_of(tmp_path).training
    assert not lag_map(one, nearest, nearest, CPU).any()


def test_crops_are_drawn_where_the_lag_is():
    lags = [np.zeros((6, 9), np.float32), np.zeros((5, 5), np.float32)]
    lags[0][2, 7] = 1.0
    photos = [photo(75, 50), photo(40, 40)]
    places = HardPlaces(photos, lags, 16)
    for number in range(200):
        chosen, top, left = places.draw(np.random.default_rng(number))
        assert chosen is photos[0]
        assert 16 - 16 < top < 24
        assert 56 - 16 < left < 64


def test_twice_the_lag_is_drawn_more_often_but_not_twice_as_often():
    lags = [np.full((2, 2), value, np.float32) for value in (1.0, 2.0)]
    photos = [photo(16, 16), photo(16, 16)]
    places = HardPlaces(photos, lags, 16)
    drawn = sum(places.draw(np.random.default_rng(number))[0] is photos[1] for number in range(2000))
    # 2^0.8 / (1 + 2^0.8) = 0.635 of them, with a standard deviation of 22.
    assert abs(drawn - 2000 * 0.635) < 100


def test_without_any_lag_all_places_are_alike():
    photos = [photo(16, 16), photo(16, 16)]
    places = HardPlaces(photos, [np.zeros((2, 2), np.float32)] * 2, 16)
    drawn = sum(places.draw(np.random.default_rng(number))[0] is photos[1] for number in range(400))
    assert 140 < drawn < 260


@given(st.data())
def test_crops_lie_in_their_photograph(data):
    patch = data.draw(st.integers(8, 40))
    sides = st.integers(patch, 90)
    photos = [photo(data.draw(sides), data.draw(sides)) for _ in range(data.draw(st.integers(1, 3)))]
    rng = np.random.default_rng(data.draw(st.integers(0, 1 << 20)))
    lags = [(rng.random((one.size[1] // 8, one.size[0] // 8)) ** 8).astype(np.float32) for one in photos]
    places = HardPlaces(photos, lags, patch)
    for _ in range(20):
        chosen, top, left = places.draw(rng)
        assert 0 <= top <= chosen.size[1] - patch
        assert 0 <= left <= chosen.size[0] - patch


def test_maps_are_read_as_they_were_written(tmp_path):
    photos = [photo(75, 50), photo(40, 40)]
    lags = [np.random.default_rng(0).random(shape).astype(np.float32) for shape in ((6, 9), (5, 5))]
    write_lags(tmp_path / "lags.npy", lags)
    for found, expected in zip(read_lags(tmp_path / "lags.npy", photos), lags, strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(
    "values",
    [
        np.zeros(24, np.float32),
        np.zeros(25, np.float64),
        np.full(25, np.nan, np.float32),
        np.full(25, -1, np.float32),
        np.array([None] * 25),
    ],
)
def test_a_file_of_other_maps_is_refused(tmp_path, values):
    np.save(tmp_path / "lags.npy", values)
    with pytest.raises(InputError, match=r"lags\.npy cannot be read"):
        read_lags(tmp_path / "lags.npy", [photo(40, 40)])


@pytest.mark.parametrize("damage", [lambda data: data[:-9], lambda data: b"\x93NUMPY" + data[:4], lambda _: b""])
def test_a_damaged_file_of_maps_is_refused(tmp_path, damage):
    write_lags(tmp_path / "lags.npy", [np.zeros((5, 5), np.float32)])
    data = (tmp_path / "lags.npy").read_bytes()
    (tmp_path / "lags.npy").write_bytes(damage(data))
    with pytest.raises(InputError, match=r"lags\.npy cannot be read"):
        read_lags(tmp_path / "lags.npy", [photo(40, 40)])


def test_a_share_of_each_batch_is_of_hard_places(tmp_path, write, photos_of):
    for name in ("a.png", "b.png"):
        write(tmp_path / name, 80, 80)
    photos = photos_of(tmp_path).training
    lags = [np.full((5, 5), float(one.name == "b.png"), np.float32) for one in photos]
    source = CropSource(photos, 2, CropSettings(patch=8, batch=40, hard=0.75), 1, (), lags)
    easy, hard = source.names(0)[:10], source.names(0)[10:]
    assert all("b.png" in name for name in hard)
    assert any("a.png" in name for name in easy)
    low, high = source.batch(0)
    assert (*low.shape, *high.shape) == (40, 3, 8, 8, 40, 3, 16, 16)


@pytest.mark.parametrize("setting", [{"hard": 1.0}, {"hard": -0.1}, {"hard": 0.6, "graphics": 0.5}])
def test_shares_out_of_range_are_named(setting):
    with pytest.raises(UsageError, match="hard"):
        CropSettings(patch=8, batch=1, **setting)

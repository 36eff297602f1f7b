"""The upscaler in Python, on the networks themselves."""

import copy
import dataclasses
from collections.abc import Callable, Generator, Iterable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

import lkdn_deploy
from lkdn_deploy import Upscaler, load
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.export.job import ExportSettings, export_onnx
from lkdn_deploy.imaging.pixels import from_batch, to_batch
from lkdn_deploy.samples import sample_pixels
from lkdn_models.checkpoint import load_checkpoint

NETWORKS = (pytest.param("lkdn", marks=pytest.mark.long), "lkdn-s")
TILES = (96, 160, 256)
random = np.random.default_rng(0)


def textured(height: int, width: int) -> np.ndarray:
    """A photograph tiled to any size, with noise on it, in 0..1."""
    photograph = sample_pixels()[: height or 1, : width or 1]
    repeats = (-(-height // photograph.shape[0]), -(-width // photograph.shape[1]), 1)
    image = np.tile(photograph, repeats)[:height, :width].astype(np.float32) / 255
    return np.clip(image + random.normal(0, 0.05, image.shape).astype(np.float32), 0, 1)


@pytest.fixture(scope="module")
def upscaler_of(random_artefact: Callable[[str], Path]) -> Callable[[str], Upscaler]:
    return cache(lambda name: load(random_artefact(name)))


def assert_tiled_is_whole(upscaler: Upscaler, image: np.ndarray, tile: int) -> int:
    """Compare in float and in 8 bits; gives the number of tiles."""
    tiled = Upscaler(upscaler.session, tile=tile)
    whole = upscaler(image)
    assert np.mean((whole == 0) | (whole == 1)) < 0.2  # where it is clipped, nothing is compared
    assert np.abs(tiled(image) - whole).max() <= 1e-5
    levels = np.rint(image * 255).astype(np.uint8)
    assert np.abs(tiled(levels).astype(int) - upscaler(levels)).max() <= 1
    return len(tiled.plan(*image.shape[:2]))


@pytest.mark.long
@pytest.mark.parametrize("tile", TILES)
@pytest.mark.parametrize("name", NETWORKS)
def test_tiles_give_the_whole_image_when_one_side_is_a_pixel_longer_than_a_tile(
    upscaler_of: Callable[[str], Upscaler], name: str, tile: int
) -> None:
    halo = upscaler_of(name).session.metadata.receptive_radius
    # A pixel too long for one window in height, narrow in width so that the test is quick.
    assert assert_tiled_is_whole(upscaler_of(name), textured(tile + 2 * halo + 1, 31), tile) == 2
    assert assert_tiled_is_whole(upscaler_of(name), textured(33, tile + 1), tile) == 1


@settings(max_examples=25)
@given(st.integers(1, 100), st.integers(1, 100), st.integers(8, 40))
def test_tiles_give_the_whole_image_where_corners_edges_and_middle_meet(
    upscaler_of: Callable[[str], Upscaler], height: int, width: int, tile: int
) -> None:
    assert_tiled_is_whole(upscaler_of("one block"), textured(height, width), tile)


def test_a_halo_one_pixel_short_would_show(
    upscaler_of: Callable[[str], Upscaler], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The tests above can fail: the network does look as far as its halo."""
    upscaler = upscaler_of("one block")
    session = copy.copy(upscaler.session)
    short = dataclasses.replace(session.metadata, receptive_radius=session.metadata.receptive_radius - 1)
    monkeypatch.setattr(session, "metadata", short)
    image = textured(90, 90)
    assert np.abs(Upscaler(session, tile=20)(image) - upscaler(image)).max() > 1e-5


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
@pytest.mark.parametrize("channels", [None, 1, 2, 3, 4])
def test_an_array_comes_back_of_its_own_kind(
    upscaler_of: Callable[[str], Upscaler], dtype: type[np.generic], channels: int | None
) -> None:
    shape = (9, 7) if channels is None else (9, 7, channels)
    image = random.random(shape).astype(np.float32)
    if np.issubdtype(dtype, np.integer):
        image = (image * np.iinfo(dtype).max).astype(dtype)  # type: ignore[type-var]
    large = upscaler_of("lkdn-s")(image)
    assert large.dtype == dtype
    assert large.shape == (36, 28, *shape[2:])


def test_depths_agree(upscaler_of: Callable[[str], Upscaler]) -> None:
    levels = sample_pixels()[:40, :40]
    upscaler = upscaler_of("lkdn-s")
    eight = upscaler(levels).astype(np.float64) / 255
    sixteen = upscaler(levels.astype(np.uint16) * 257).astype(np.float64) / 65535
    floating = upscaler(levels.astype(np.float32) / 255)
    assert np.abs(eight - floating).max() <= 0.5 / 255 + 1e-6
    assert np.abs(sixteen - floating).max() <= 0.5 / 65535 + 1e-6


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA"])
def test_a_pil_image_comes_back_as_one(upscaler_of: Callable[[str], Upscaler], mode: str) -> None:
    image = Image.fromarray(sample_pixels()[:12, :10]).convert(mode)
    large = upscaler_of("lkdn-s")(image)
    assert (large.mode, large.size) == (mode, (40, 48))


def test_what_lies_under_full_transparency_does_not_matter(upscaler_of: Callable[[str], Upscaler]) -> None:
    image = np.dstack([sample_pixels()[:32, :32], np.full((32, 32), 255, np.uint8)])
    image[:, 16:, 3] = 0
    other = image.copy()
    other[:, 16:, :3] = [0, 255, 0]
    first, second = upscaler_of("lkdn-s")(image), upscaler_of("lkdn-s")(other)
    assert np.array_equal(first, second)


def test_constant_alpha_stays_exactly_as_it_is(upscaler_of: Callable[[str], Upscaler]) -> None:
    image = np.dstack([sample_pixels()[:8, :8], np.full((8, 8), 77, np.uint8)])
    assert (upscaler_of("lkdn-s")(image)[:, :, 3] == 77).all()


def test_progress_counts_tiles_up_to_all_of_them(random_artefact: Callable[[str], Path]) -> None:
    seen: list[tuple[int, int]] = []
    upscaler = load(random_artefact("one block"), tile=16)
    image = np.dstack([textured(160, 150), np.linspace(0, 1, 150, dtype=np.float32)[None].repeat(160, axis=0)])
    upscaler(image, progress=lambda done, total: seen.append((done, total)))
    total = 2 * len(upscaler.plan(160, 150))
    assert total > 20
    assert seen == [(done, total) for done in range(total + 1)]


def test_tiles_follow_from_the_memory_budget(random_artefact: Callable[[str], Path]) -> None:
    session = open_session(random_artefact("lkdn-s"))
    counts = []
    for budget in (200 << 20, 800 << 20):
        plan = Upscaler(session, memory_budget=budget).plan(3000, 2000)
        rows, columns = plan[0].window
        assert session.window_bytes(rows.stop - rows.start, columns.stop - columns.start) <= budget
        counts.append(len(plan))
    assert counts[0] > counts[1] > 1
    assert len(Upscaler(session, memory_budget=800 << 20).plan(100, 120)) == 1


def test_an_artefact_of_one_size_does_larger_images_in_windows_of_that_size(
    random_checkpoint: Callable[[LkdnSpec], Path], tmp_path: Path, upscaler_of: Callable[[str], Upscaler]
) -> None:
    checkpoint = load_checkpoint(random_checkpoint(LkdnSpec(2, 1, 8, 8)))
    upscaler = load(export_onnx(checkpoint, tmp_path / "static.onnx", ExportSettings(static=(40, 64))).path)
    image = textured(95, 64)
    assert len(upscaler.plan(95, 64)) == 7  # 25 rows, five times 10, and then 20
    assert np.abs(upscaler(image) - upscaler_of("one block")(image)).max() <= 1e-5
    with pytest.raises(UsageError, match="takes 64x40 pixels, the image has 64x39"):
        upscaler(textured(39, 64))
    with pytest.raises(UsageError, match="the tile size cannot be chosen: the artefact takes 64x40 pixels only"):
        Upscaler(upscaler.session, tile=8)
    narrow = load(export_onnx(checkpoint, tmp_path / "narrow.onnx", ExportSettings(static=(30, 30))).path)
    assert narrow(textured(30, 30)).shape == (60, 60, 3)
    with pytest.raises(UsageError, match="leaves nothing between two halos of 15"):
        narrow(textured(31, 30))


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"scale": 5}, UsageError, "expected a scale above 1 and at most 4, such as 2, 1.5 or 4/3, got 5"),
        ({"scale": "1"}, UsageError, "expected a scale above 1"),
        ({"tile": 0}, UsageError, "tile must be a whole number of 1 or more, got 0"),
        ({"memory_budget": 0}, UsageError, "memory_budget must be a whole number of 1 or more"),
        ({"threads": 0}, UsageError, "threads must be a whole number from 1 to 256, got 0"),
        ({"threads": 100_000}, UsageError, "threads must be a whole number from 1 to 256"),
        ({"threads": 2.5}, UsageError, "threads must be a whole number from 1 to 256, got 2.5"),
        ({"tile": "3"}, UsageError, "tile must be a whole number of 1 or more, got '3'"),
        ({"backend": "tpu"}, UsageError, "no such backend"),
    ],
)
def test_a_wrong_option_is_refused(
    random_artefact: Callable[[str], Path], options: dict[str, int], error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said):
        load(random_artefact("lkdn-s"), **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("image", ["in.png", None, [[1, 2], [3, 4]]])
def test_what_is_no_image_is_refused(upscaler_of: Callable[[str], Upscaler], image: object) -> None:
    with pytest.raises(UsageError, match="expected a PIL image or a numpy array, got"):
        upscaler_of("one block")(image)  # type: ignore[call-overload]


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_no_number_is_no_pixel(bad: float, monkeypatch: pytest.MonkeyPatch) -> None:
    upscaler = load("lkdn-s", 2)
    run_many = upscaler.session.run_many

    def spoilt(batches: Iterable[np.ndarray]) -> Generator[np.ndarray, None, None]:
        for result in run_many(batches):
            result[0, 1, 5, 5] = bad
            yield result

    monkeypatch.setattr(upscaler.session, "run_many", spoilt)
    with pytest.raises(InputError, match=f"lkdn-s on {upscaler.session.backend} gave values that are not finite"):
        upscaler(textured(12, 12))


def test_a_session_that_makes_pixels_makes_those_of_its_values(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("llvmlite")
    upscaler = load("lkdn-s", 2, backend="native")
    image = (textured(40, 50) * 255).astype(np.uint8)
    expected = from_batch(upscaler.session.run(to_batch(image)), 3, image.dtype)
    tiled = Upscaler(upscaler.session, tile=16)
    # What of a picture is not RGB without gaps takes the way of the values.
    with_alpha = tiled(np.dstack([image, np.full_like(image[:, :, 0], 200)]))
    assert np.array_equal(with_alpha[:, :, :3], tiled(image))

    monkeypatch.setattr(upscaler.session, "run_many", pytest.fail)
    assert np.array_equal(upscaler(image), expected)
    assert np.array_equal(upscaler(image[::-1, ::-1, ::-1][::-1, ::-1, ::-1]), expected)

    def spoilt(batch: np.ndarray, *args: Any) -> None:
        batch[0, 1, 5, 5] = np.nan
        fill(batch, *args)

    fill = upscaler.session.fill
    monkeypatch.setattr(upscaler.session, "fill", spoilt)
    with pytest.raises(InputError, match="lkdn-s on native-cpu gave values that are not finite"):
        upscaler(image)


def test_an_upscaler_and_the_package_describe_themselves(upscaler_of: Callable[[str], Upscaler]) -> None:
    assert repr(upscaler_of("lkdn-s")).startswith("<Upscaler: lkdn-s x4 on ")
    assert {"load", "Upscaler", "__version__"} <= set(dir(lkdn_deploy))


def test_unusual_arrays_are_taken_as_their_values_and_nan_is_named(upscaler_of: Callable[[str], Upscaler]) -> None:
    upscaler, grey = upscaler_of("one block"), sample_pixels()[:12, :12, 0]
    with pytest.warns(PendingDeprecationWarning):
        matrix = np.matrix(grey)
    assert np.array_equal(upscaler(matrix), upscaler(grey))
    for value in (np.nan, np.inf):
        with pytest.raises(UsageError, match="the image holds values that are NaN or infinite"):
            upscaler(np.full((8, 8, 3), value, np.float32))

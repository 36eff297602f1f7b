"""Figures of details, and where the pictures of an evaluation go."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lkdn_deploy.bench.quality.crops import Crop, caption, draw
from lkdn_deploy.bench.quality.evaluation import Borders, bicubic, evaluate
from lkdn_deploy.bench.quality.gallery import Gallery, difference
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.imaging.metrics import psnr_y, ssim_y
from lkdn_deploy.imaging.testsets import TestSet, find_sets
from lkdn_deploy.samples import sample_pixels

RED = (230, 30, 30)
HIGH = sample_pixels()[:80, :120]


def test_a_crop_is_read_from_the_right() -> None:
    assert Crop.parse("Set5/a:b.png:1, 2,3,4") == Crop("Set5/a:b.png", 1, 2, 3, 4)


@pytest.mark.parametrize("text", ["a", "a:1,2,3", ":1,2,3,4", "a:1,2,3,4,5", "a:-1,2,3,4", "a:1,2,3,x", "a:1,2,3,²"])
def test_what_is_no_crop_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="expected a crop as IMG:X,Y,W,H in pixels"):
        Crop.parse(text)
    with pytest.raises(UsageError, match="and has no pixels"):
        Crop.parse("a:1,2,0,4")


def test_a_crop_may_touch_the_edge_and_not_pass_it() -> None:
    crop = Crop("a", 100, 60, 20, 20)
    crop.check((120, 80))
    for size in ((119, 80), (120, 79)):
        with pytest.raises(UsageError, match="reaches to 120, 80, but the picture ends at"):
            crop.check(size)


def test_the_caption_has_psnr_and_ssim_of_the_detail_alone() -> None:
    detail, other = HIGH[:20, :30], HIGH[3:23, :30]
    assert caption(other, detail) == f"{psnr_y(other, detail, 0):.2f} / {ssim_y(other, detail, 0):.4f}"
    assert caption(other[:10], detail[:10]) == f"{psnr_y(other[:10], detail[:10], 0):.2f} dB"


def whole_pixels(sheet: NDArray[np.uint8], detail: NDArray[np.uint8], factor: int) -> list[tuple[int, int]]:
    """Positions of the enlarged detail, row and column."""
    large = detail.repeat(factor, axis=0).repeat(factor, axis=1)
    height, width = large.shape[:2]
    rows, columns = np.nonzero((sheet[: -height + 1 or None, : -width + 1 or None] == large[0, 0]).all(axis=2))
    return [
        (int(top), int(left))
        for top, left in zip(rows, columns, strict=True)
        if np.array_equal(sheet[top : top + height, left : left + width], large)
    ]


@pytest.mark.parametrize(("count", "factor", "rows"), [(1, 16, 1), (2, 16, 1), (4, 11, 2), (9, 11, 3)])
def test_every_detail_is_enlarged_by_a_whole_number_in_a_neat_grid(count: int, factor: int, rows: int) -> None:
    crop = Crop("a", 30, 40, 20, 12)
    random = np.random.default_rng(0)
    panels = [(f"model {index}", random.integers(0, 256, (12, 20, 3), np.uint8)) for index in range(count)]
    sheet = draw("one/a, x4", HIGH, crop, panels)
    places = [whole_pixels(sheet, detail, factor) for detail in (crop.cut(HIGH), *(detail for _, detail in panels))]
    assert all(len(place) == 1 for place in places)
    assert [place[0] for place in places] == sorted(place[0] for place in places)  # row by row, from the left
    assert len({place[0][0] for place in places}) == rows
    assert len({place[0][1] for place in places}) == -(-(count + 1) // rows)
    assert (sheet[[0, -1]] == 255).all()
    assert (sheet[:, [0, -1]] == 255).all()


@pytest.mark.parametrize("shape", [(80, 120), (300, 20), (20, 300), (15, 15)])
def test_the_rectangle_is_on_the_whole_picture_where_the_crop_is(shape: tuple[int, int]) -> None:
    high = np.full((*shape, 3), (1, 200, 77), np.uint8)
    crop = Crop("a", shape[1] - 6, shape[0] - 4, 6, 4)
    sheet = draw("a", high, crop, [("b", crop.cut(high))])
    marked = (sheet == RED).all(axis=2)
    left_part = (sheet == (1, 200, 77)).all(axis=2) | marked
    columns = np.flatnonzero(marked.any(axis=0))
    rows = np.flatnonzero(marked.any(axis=1))
    first = np.flatnonzero(left_part.any(axis=0))[0]
    whole = np.flatnonzero(left_part[:, columns[-1]])
    size = whole[-1] + 1 - whole[0], columns[-1] + 1 - first
    zoom = max(size) / max(shape)
    assert size == pytest.approx((zoom * shape[0], zoom * shape[1]), abs=1)
    assert columns[-1] + 1 - columns[0] == pytest.approx(zoom * 6 + 3, abs=2)
    assert rows[-1] + 1 - rows[0] == pytest.approx(zoom * 4 + 3, abs=2)


def test_large_crops_and_single_pixels_are_drawn() -> None:
    large = np.zeros((500, 700, 3), np.uint8)
    assert draw("a", large, Crop("a", 0, 0, 700, 500), [("b", large)]).shape[1] > 1400
    assert draw("a", large, Crop("a", 3, 4, 1, 1), [("b", large[:1, :1])]).shape[0] > 300


def test_the_difference_is_of_luma_and_four_times() -> None:
    image = HIGH.copy()
    image[0, 0] = 255 - image[0, 0]
    assert image[5, 5].max() <= 245
    image[5, 5] += 10
    grey = difference(image, HIGH)
    assert grey.shape == (80, 120, 1)
    assert np.count_nonzero(grey) == 2
    assert grey[5, 5, 0] == round(4 * 10 * 219 / 255)


@pytest.fixture
def sets(tmp_path: Path) -> list[TestSet]:
    """Two sets with a picture of one name."""
    for name in ("one/a", "one/b", "two/a"):
        path = tmp_path / "sets" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(HIGH[:, :118]).save(path)
    return find_sets(tmp_path / "sets", 4)


def run_all(gallery: Gallery, sets: list[TestSet], scale: int = 4) -> None:
    for one in sets:
        list(evaluate(bicubic(scale), one, Borders.of(scale), seen=gallery.watch(bicubic(scale), one)))


def test_pictures_are_saved_by_model_and_set(tmp_path: Path, sets: list[TestSet]) -> None:
    gallery = Gallery({4: sets}, [bicubic(4)], [], save=tmp_path / "out")
    run_all(gallery, sets)
    saved = sorted(path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.png"))
    names = ["one/a", "one/a_diff", "one/b", "one/b_diff", "two/a", "two/a_diff"]
    assert saved == [f"bicubic_x4/{name}.png" for name in names]
    assert gallery.draw() == []
    with Image.open(tmp_path / "out" / "bicubic_x4" / "one" / "a.png") as image:
        assert (image.mode, image.size) == ("RGB", (116, 80))
    with Image.open(tmp_path / "out" / "bicubic_x4" / "one" / "a_diff.png") as image:
        assert (image.mode, image.size) == ("L", (116, 80))
    with pytest.raises(UsageError, match=r"a\.png \(and 5 more\) exists"):
        Gallery({4: sets}, [bicubic(4)], [], save=tmp_path / "out")
    run_all(Gallery({4: sets}, [bicubic(4)], [], save=tmp_path / "out", overwrite=True), sets)


def test_crops_are_drawn_with_bicubic_once(tmp_path: Path, sets: list[TestSet]) -> None:
    crop = Crop("one/a", 8, 8, 24, 20)
    gallery = Gallery({4: sets}, [bicubic(4)], [crop, crop, Crop("b.png", 0, 0, 9, 9)], save=tmp_path / "out")
    assert gallery.draw() == []  # nothing was seen yet
    run_all(gallery, sets)
    first, second = gallery.draw()
    assert (first.name, second.name) == ("a_8_8_24_20.png", "b_0_0_9_9.png")
    with Image.open(first) as image:
        image.load()
        detail = crop.cut(HIGH)
        assert len(whole_pixels(np.asarray(image), detail, round(320 / 24))) == 1
    with pytest.raises(UsageError, match="exists"):
        Gallery({4: sets}, [], [crop], save=tmp_path / "out")


def test_crops_of_one_place_are_told_apart_by_set_and_scale(tmp_path: Path, sets: list[TestSet]) -> None:
    crops = [Crop("one/a", 8, 8, 24, 20), Crop("two/a", 8, 8, 24, 20)]
    gallery = Gallery({2: sets, 4: sets}, [], crops, save=tmp_path / "out")
    run_all(gallery, sets)
    run_all(gallery, sets, 2)
    assert sorted(path.name for path in gallery.draw()) == [
        f"{name}_a_8_8_24_20_x{scale}.png" for name in ("one", "two") for scale in (2, 4)
    ]


@pytest.mark.parametrize(
    ("crop", "said"),
    [
        (Crop("a", 0, 0, 9, 9), "2 pictures are called a"),
        (Crop("b", 100, 0, 17, 9), "reaches to 117, 9, but the picture ends at 116, 80"),  # cropped to a multiple of 4
    ],
)
def test_a_crop_of_several_pictures_or_outside_is_refused(sets: list[TestSet], crop: Crop, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        Gallery({4: sets}, [], [crop])


def test_a_crop_of_what_cannot_be_read_is_refused(tmp_path: Path, sets: list[TestSet]) -> None:
    (tmp_path / "sets" / "one" / "b.png").write_bytes(b"no picture")
    with pytest.raises(InputError, match=r"b\.png is not an image"):
        Gallery({4: sets}, [], [Crop("b", 0, 0, 9, 9)])


def test_pictures_that_would_have_one_name_are_refused(tmp_path: Path) -> None:
    for name in ("a", "a_diff"):
        Image.fromarray(HIGH).save(tmp_path / f"{name}.png")
    found = find_sets(tmp_path, 4)
    with pytest.raises(UsageError, match="1 of the 4 pictures to save would have the same name as another"):
        Gallery({4: found}, [bicubic(4)], [], save=tmp_path / "out")

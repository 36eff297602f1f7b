"""Test sets in every layout that is known, made on the spot."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.imaging.resample import downsample
from lkdn_deploy.imaging.testsets import LAYOUTS, ImagePair, find_sets, read_pair

Found = list[tuple[str, list[tuple[str, str, str | None]]]]


def write(path: Path, height: int = 24, width: int = 24, seed: int = 0) -> NDArray[np.uint8]:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    Image.fromarray(image).save(path)
    return image


def touch(root: Path, *names: str) -> None:
    """Create empty files, since finding must not open them."""
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def found(folder: Path, root: Path, scale: int = 4, make_lr: bool = False) -> Found:
    """Return the sets, with the name and the files, relative to ``root``, of each picture."""

    def seen(path: Path | None) -> str | None:
        return None if path is None else path.relative_to(root).as_posix()

    return [
        (one.name, [(picture.name, str(seen(picture.high)), seen(picture.low)) for picture in one.pictures])
        for one in find_sets(folder, scale, make_lr)
    ]


# Files, the folder that is given, and the name, originals and low-resolution pictures of the set that is in it at x4.
LAID_OUT: dict[str, tuple[list[str], str, str, str, str | None]] = {
    "by scale": (["Set5/x4/HR/a.png", "Set5/x4/LR/a.png", "Set5/x2/HR/b.png"], "Set5", "Set5", "x4/HR/a", "x4/LR/a"),
    "the folder of a scale": (["Set5/x4/HR/a.png", "Set5/x4/LR/a.png"], "Set5/x4", "Set5", "x4/HR/a", "x4/LR/a"),
    "its originals": (["Set5/x4/HR/a.png", "Set5/x4/LR/a.png"], "Set5/x4/HR", "Set5", "x4/HR/a", "x4/LR/a"),
    "by scale, without LR": (["Set5/x4/HR/a.png"], "Set5", "Set5", "x4/HR/a", None),
    "BasicSR": (
        ["Set5/GTmod12/a.png", "Set5/original/a.png", "Set5/LRbicx4/a.png", "Set5/LRbicx2/a.png"],
        "Set5",
        "Set5",
        "GTmod12/a",
        "LRbicx4/a",
    ),
    "BasicSR, named by scale": (
        ["Set5/GTmod12/a.png", "Set5/LRbicx4/ax4.png"],
        "Set5",
        "Set5",
        "GTmod12/a",
        "LRbicx4/ax4",
    ),
    "cropped for each scale": (
        ["Set5/GTmod2/a.png", "Set5/GTmod3/a.png", "Set5/GTmod4/a.png", "Set5/LRbicx4/a.png"],
        "Set5",
        "Set5",
        "GTmod4/a",
        "LRbicx4/a",
    ),
    "not cropped": (["Set5/original/a.png", "Set5/LRbicx4/a.png"], "Set5", "Set5", "original/a", "LRbicx4/a"),
    "cropped for another scale": (["Set5/GTmod3/a.png", "Set5/GT/a.png"], "Set5", "Set5", "GT/a", None),
    "EDSR": (
        ["Set5/HR/a.png", "Set5/LR_bicubic/X4/ax4.png", "Set5/LR_bicubic/X2/ax2.png"],
        "Set5",
        "Set5",
        "HR/a",
        "LR_bicubic/X4/ax4",
    ),
    "EDSR, another scale": (["Set5/HR/a.png", "Set5/LR_bicubic/X2/ax2.png"], "Set5", "Set5", "HR/a", None),
    "two folders": (["mine/HR/a.png", "mine/LR/a.png"], "mine", "mine", "HR/a", "LR/a"),
    "plain": (["mine/a.png", "mine/notes.txt"], "mine", "mine", "a", None),
}


@pytest.mark.parametrize("layout", LAID_OUT)
def test_a_set_is_found_in_every_layout(layout: str, tmp_path: Path) -> None:
    files, given, name, high, low = LAID_OUT[layout]
    touch(tmp_path, *files)
    root = tmp_path / Path(given).parts[0]
    expected = [(name, [("a", f"{high}.png", low and f"{low}.png")])]
    assert found(tmp_path / given, root) == expected
    assert found(tmp_path / given, root, make_lr=True) == [(name, [("a", f"{high}.png", None)])]


@pytest.mark.parametrize("given", ["", "DIV2K", "DIV2K/DIV2K_valid_HR"])
def test_div2k_is_found_from_its_root_its_tree_and_its_originals_without_what_is_for_training(
    tmp_path: Path, given: str
) -> None:
    high, low = "DIV2K/DIV2K_valid_HR/0801.png", "DIV2K/DIV2K_valid_LR_bicubic/X4/0801x4.png"
    touch(tmp_path, high, low, "DIV2K/DIV2K_train_HR/0001.png", "DIV2K/DIV2K_train_LR_bicubic/X4/0001x4.png")
    assert found(tmp_path / given, tmp_path) == [("DIV2K_valid", [("0801", high, low)])]
    train = found(tmp_path / "DIV2K" / "DIV2K_train_HR", tmp_path / "DIV2K")
    assert train == [("DIV2K_train", [("0001", "DIV2K_train_HR/0001.png", "DIV2K_train_LR_bicubic/X4/0001x4.png")])]


def test_a_folder_of_sets_gives_all_of_the_scale_by_number(tmp_path: Path) -> None:
    touch(tmp_path, "Set14/x4/HR/a.png", "Set5/HR/a.png", "photos/a.jpg", "Other/x2/HR/a.png", ".hidden/a.png")
    assert [name for name, _ in found(tmp_path, tmp_path)] == ["Set5", "Set14", "photos"]
    assert [name for name, _ in found(tmp_path, tmp_path, 2)] == ["Other", "Set5", "photos"]


def test_parts_of_a_set_are_no_sets(tmp_path: Path) -> None:
    touch(
        tmp_path, "Set5/x2/HR/a.png", "Set5/x2/LR/a.png", "B/LRbicx4/a.png", "C/LR_bicubic/X4/ax4.png", "D/GTmod3/a.png"
    )
    for folder in ("Set5", "Set5/x2", "Set5/x2/HR", "B", "B/LRbicx4", "C", "C/LR_bicubic/X4", "D", ""):
        with pytest.raises(InputError, match="holds no test set for x4") as caught:
            find_sets(tmp_path / folder, 4)
        assert all(layout in str(caught.value.hint) for layout in LAYOUTS)


def test_what_is_no_folder_is_named(tmp_path: Path) -> None:
    touch(tmp_path, "a.png")
    with pytest.raises(InputError, match="gone cannot be read: No such file"):
        find_sets(tmp_path / "gone", 4)
    with pytest.raises(InputError, match=r"a\.png cannot be read: Not a directory"):
        find_sets(tmp_path / "a.png", 4)


def test_the_working_folder_has_a_name_and_a_link_keeps_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touch(tmp_path, "real/a.png")
    (tmp_path / "Set5").symlink_to(tmp_path / "real")
    monkeypatch.chdir(tmp_path / "real")
    assert find_sets(".", 4)[0].name == "real"
    assert find_sets(tmp_path / "Set5", 4)[0].name == "Set5"


def test_pictures_of_one_stem_keep_their_suffix(tmp_path: Path) -> None:
    touch(tmp_path, "a.png", "a.jpg", "b.png")
    assert [picture.name for picture in find_sets(tmp_path, 2)[0].pictures] == ["a.jpg", "a.png", "b"]


@pytest.mark.parametrize(("low", "missing"), [("a.png", "b.png"), ("ax4.png", "bx4.png")])
def test_a_missing_low_resolution_file_is_said_and_not_made(tmp_path: Path, low: str, missing: str) -> None:
    write(tmp_path / "GT" / "a.png"), write(tmp_path / "GT" / "b.png")
    write(tmp_path / "LRbicx4" / low, 6, 6)
    first, second = find_sets(tmp_path, 4)[0].pictures
    assert read_pair(first, 4)[0].shape == (6, 6, 3)
    with pytest.raises(InputError, match=rf"LRbicx4/{missing} is missing: .* of b\.png") as caught:
        read_pair(second, 4)
    assert "--make-lr" in str(caught.value.hint)


def test_the_original_is_cropped_and_its_low_resolution_version_read_or_made(tmp_path: Path) -> None:
    high, low = write(tmp_path / "a.png", 30, 27), write(tmp_path / "low.png", 7, 6, seed=1)
    made, cropped = read_pair(ImagePair("a", tmp_path / "a.png"), 4)
    assert np.array_equal(cropped, high[:28, :24])
    assert np.array_equal(made, downsample(high[:28, :24], 4))
    given, cropped = read_pair(ImagePair("a", tmp_path / "a.png", tmp_path / "low.png"), 4)
    assert np.array_equal(cropped, high[:28, :24])
    assert np.array_equal(given, low)


def test_a_low_resolution_picture_of_another_size_is_refused_with_both(tmp_path: Path) -> None:
    write(tmp_path / "a.png", 30, 27), write(tmp_path / "low.png", 8, 6)
    with pytest.raises(InputError, match=r"low\.png is 6x8: expected 6x7, since .*a\.png is 27x30"):
        read_pair(ImagePair("a", tmp_path / "a.png", tmp_path / "low.png"), 4)


@pytest.mark.parametrize(("border", "need"), [(None, 16), (0, 12), (4, 20)])
def test_what_is_too_small_for_the_window_inside_the_border_is_refused(
    tmp_path: Path, border: int | None, need: int
) -> None:
    write(tmp_path / "a.png", 40, need - 1)
    with pytest.raises(InputError, match=rf"is {need - 1}x40: quality at x2 is measured on {need}x{need} or more"):
        read_pair(ImagePair("a", tmp_path / "a.png"), 2, border)
    write(tmp_path / "a.png", 40, need)
    read_pair(ImagePair("a", tmp_path / "a.png"), 2, border)


@pytest.mark.parametrize("spoil", [lambda path: path.unlink(), lambda path: path.write_bytes(b"no picture")])
def test_files_that_cannot_be_read_are_named(tmp_path: Path, spoil: Callable[[Path], object]) -> None:
    write(tmp_path / "a.png"), write(tmp_path / "low.png", 6, 6)
    picture = ImagePair("a", tmp_path / "a.png", tmp_path / "low.png")
    spoil(tmp_path / "low.png")
    with pytest.raises(InputError, match=r"low\.png is (missing|not an image)"):
        read_pair(picture, 4)
    spoil(tmp_path / "a.png")
    with pytest.raises(InputError, match=r"a\.png (does not exist|is not an image)"):
        read_pair(picture, 4)


def test_the_published_sets_are_found_with_their_low_resolution_pictures(data: Path) -> None:
    sets = find_sets(data / "testsets", 3)
    assert [(one.name, len(one.pictures)) for one in sets] == [("Set5", 5), ("Set14", 14)]
    for picture in sets[0].pictures:
        low, high = read_pair(picture, 3)
        assert high.shape == (3 * low.shape[0], 3 * low.shape[1], 3)

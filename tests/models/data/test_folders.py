"""The photographs that are found in folders, and their pairs."""

import functools
import os
import re
import shutil

import numpy as np
import pytest
from PIL import Image

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.imaging.resample import downsample


@pytest.fixture
def df2k(tmp_path, write):
    """The published trees at scale 4, side by side; low-resolution images that no shrinking would give."""
    for high, low, name in (
        ("DIV2K/DIV2K_train_HR", "DIV2K/DIV2K_train_LR_bicubic/X4", "0001"),
        ("DIV2K/DIV2K_train_HR", "DIV2K/DIV2K_train_LR_bicubic/X4", "0002"),
        ("DIV2K/DIV2K_valid_HR", "DIV2K/DIV2K_valid_LR_bicubic/X4", "0801"),
        ("Flickr2K/Flickr2K_HR", "Flickr2K/Flickr2K_LR_bicubic/X4", "000001"),
    ):
        write(tmp_path / high / f"{name}.png", 40, 48, seed=int(name))
        write(tmp_path / low / f"{name}x4.png", 10, 12, seed=int(name))
    return tmp_path


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.mark.parametrize(
    ("folders", "names"),
    [
        (["DIV2K"], ["0001.png", "0002.png"]),
        (["Flickr2K"], ["000001.png"]),
        (["DIV2K", "Flickr2K"], ["000001.png", "0001.png", "0002.png"]),
        (["."], ["000001.png", "0001.png", "0002.png"]),
        (["Flickr2K", ".", "DIV2K"], ["000001.png", "0001.png", "0002.png"]),
    ],
)
def test_published_trees_are_found_by_their_roots_without_the_validation_images(df2k, photos_of, folders, names):
    photos = photos_of(*(df2k / folder for folder in folders), scale=4).training
    assert [photo.name for photo in photos] == names
    for photo in photos:
        tree = photo.path.parent.with_name(photo.path.parent.name.replace("_HR", "_LR_bicubic"))
        assert np.array_equal(photo.high, pixels(photo.path))
        assert np.array_equal(photo.low, pixels(tree / "X4" / f"{photo.path.stem}x4.png"))


def test_a_folder_of_high_resolution_images_itself_is_a_plain_one(df2k, photos_of):
    photos = photos_of(df2k / "DIV2K" / "DIV2K_valid_HR", scale=2).training
    assert [photo.name for photo in photos] == ["0801.png"]
    assert np.array_equal(photos[0].low, downsample(photos[0].high, 2))


def test_a_plain_folder_may_hold_a_folder_of_any_name(tmp_path, write, photos_of):
    write(tmp_path / "a.png", 40, 40)
    write(tmp_path / "beach_HR" / "b.png", 40, 40)
    assert [photo.name for photo in photos_of(tmp_path).training] == ["a.png"]


def test_a_file_found_twice_is_used_once(tmp_path, write, photos_of):
    write(tmp_path / "a.png", 40, 40)
    (tmp_path / "link.png").symlink_to("a.png")
    assert len(photos_of(tmp_path, tmp_path / ".." / tmp_path.name).training) == 1


def test_high_resolution_pixels_without_a_partner_are_cut_off(tmp_path, write, photos_of):
    high = write(tmp_path / "A_HR" / "1.png", 43, 41)
    write(tmp_path / "A_LR_bicubic" / "X4" / "1x4.png", 10, 10)
    (photo,) = photos_of(tmp_path, scale=4).training
    assert np.array_equal(photo.high, high[:40, :40])


def test_a_tree_without_the_scale_is_refused_naming_the_way_out(df2k, photos_of):
    with pytest.raises(InputError, match=r"DIV2K_train_HR has no .* x3: .*X3 is missing") as refused:
        photos_of(df2k / "DIV2K", scale=3)
    hint = refused.value.hint
    assert f"give {df2k / 'DIV2K' / 'DIV2K_train_HR'} itself" in hint
    assert len(photos_of(df2k / "DIV2K" / "DIV2K_train_HR", scale=3).training) == 2


def test_a_tree_with_one_half_lacking_is_refused(df2k, photos_of):
    (df2k / "Flickr2K" / "Flickr2K_LR_bicubic").rename(df2k / "elsewhere")
    for folder in (df2k, df2k / "Flickr2K"):
        with pytest.raises(InputError, match=r"Flickr2K_HR has no low-resolution images"):
            photos_of(folder, scale=4)


@pytest.mark.parametrize("name", ["DIV2K_train_HR/0002.png", "DIV2K_train_LR_bicubic/X4/0002x4.png"])
def test_a_missing_partner_is_named(df2k, photos_of, name):
    (df2k / "DIV2K" / name).unlink()
    with pytest.raises(InputError, match=rf"{name} is missing"):
        photos_of(df2k / "DIV2K", scale=4)


def test_a_pair_of_wrong_sizes_is_refused_saying_the_size_expected(df2k, write, photos_of):
    write(df2k / "DIV2K/DIV2K_train_LR_bicubic/X4/0002x4.png", 20, 24)
    with pytest.raises(InputError, match=r"0002x4\.png is 24x20: expected 12x10, since 0002\.png is 48x40"):
        photos_of(df2k / "DIV2K", scale=4)


def test_half_a_pair_that_cannot_be_read_leaves_out_both(df2k, photos_of):
    (df2k / "DIV2K/DIV2K_train_LR_bicubic/X4/0001x4.png").write_bytes(b"not a png")
    for _ in range(2):  # made, and found in the cache
        with pytest.warns(UserWarning, match=r"0001x4\.png"):
            photos = photos_of(df2k / "DIV2K", scale=4).training
        assert [photo.name for photo in photos] == ["0002.png"]


def test_pairs_are_not_shrunk(df2k, photos_of):
    with pytest.raises(UsageError, match=r"max_sides is \[20\]") as refused:
        photos_of(df2k / "DIV2K", scale=4, max_sides=(20,))
    assert str(df2k / "DIV2K" / "DIV2K_train_HR") in refused.value.hint


def test_an_unreadable_image_is_named_and_left_out(tmp_path, write, photos_of):
    write(tmp_path / "good.png", 40, 40)
    (tmp_path / "broken.png").write_bytes((tmp_path / "good.png").read_bytes()[:500])  # its header is whole
    (tmp_path / "nothing.jpg").write_bytes(b"")
    (tmp_path / "lost.png").symlink_to("nowhere")
    (tmp_path / "notes.txt").write_text("not an image")
    for _ in range(2):
        with pytest.warns(UserWarning, match="left out") as caught:
            photos = photos_of(tmp_path).training
        assert [photo.name for photo in photos] == ["good.png"]
        for name in ("broken.png", "nothing.jpg", "lost.png"):
            assert sum(name in str(warning.message) for warning in caught) == 1


@pytest.mark.parametrize("whole", [0, 60])
def test_a_folder_of_nothing_readable_is_refused(tmp_path, write, photos_of, cache, whole):
    write(tmp_path / "broken.png", 40, 40)
    (tmp_path / "broken.png").write_bytes((tmp_path / "broken.png").read_bytes()[:whole])
    with pytest.warns(UserWarning, match="left out"), pytest.raises(InputError, match="read"):
        photos_of(tmp_path)
    assert list(cache.iterdir()) == []


def test_an_empty_or_missing_folder_is_refused_with_a_hint(tmp_path, write, photos_of):
    write(tmp_path / "full" / "a.png", 40, 40)
    (tmp_path / "empty").mkdir()
    for folder in (tmp_path / "empty", tmp_path / "nowhere"):
        with pytest.raises(InputError) as refused:
            photos_of(tmp_path / "full", folder)
        assert str(folder) in refused.value.message
        assert "folder of photographs" in refused.value.hint


def test_the_digest_tells_other_photographs_from_the_same_ones_elsewhere(tmp_path, write, photos_of):
    for name in ("a", "b", "c"):
        write(tmp_path / "here" / f"{name}.png", 60, 72, seed=ord(name))
    first = photos_of(tmp_path / "here", max_sides=(72, 36)).digest
    assert re.fullmatch(r"[0-9a-f]{64}", first)
    shutil.copytree(tmp_path / "here", tmp_path / "there")
    os.utime(tmp_path / "there" / "a.png", ns=(1, 1))
    there = functools.partial(photos_of, tmp_path / "there", max_sides=(72, 36))
    assert there().digest == first
    others = {
        "sizes": there(max_sides=(72,)).digest,
        "scale": there(scale=3).digest,
        "held out": there(held_out=1).digest,
        "held out by another seed": there(held_out=1, seed=3).digest,
    }
    (tmp_path / "there" / "a.png").rename(tmp_path / "there" / "d.png")
    others["name"] = there().digest
    (tmp_path / "there" / "d.png").rename(tmp_path / "there" / "a.png")
    write(tmp_path / "there" / "a.png", 61, 72)  # one row more, which x2 cuts off
    others["full size"] = there().digest
    (tmp_path / "there" / "a.png").unlink()
    others["one less"] = there().digest
    assert len({first, *others.values()}) == 1 + len(others), others

"""Photographs are decoded once; what is found in the cache is current and whole, and bounded on the disk."""

import os
import shutil
import time
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lkdn_deploy.core.errors import InputError
from lkdn_models.data import CropSettings, decoded, default_folder, open_photos


@pytest.fixture
def folder(tmp_path, write):
    for number in range(3):
        write(tmp_path / "photos" / f"{number}.png", 40, 50, seed=number)
    return tmp_path / "photos"


@pytest.fixture
def read(monkeypatch):
    """The names of the files that are decoded from now on."""
    names, read_rgb = [], decoded.read_rgb

    def counted(path):
        names.append(path.name)
        return read_rgb(path)

    monkeypatch.setattr(decoded, "read_rgb", counted)
    return names


def pixels(photos):
    return [(photo.name, photo.factor, photo.low.tobytes(), photo.high.tobytes()) for photo in photos.training]


def arrays(cache):
    return sorted(cache.glob("*.npy"))


def size_of(cache):
    return sum(path.stat().st_size for path in cache.iterdir())


def test_photographs_are_decoded_once(folder, photos_of, read):
    calls = []
    first = pixels(photos_of(folder, max_sides=(50, 25), progress=lambda done, total: calls.append((done, total))))
    assert len(first) == 6
    assert sorted(read) == ["0.png", "1.png", "2.png"]
    assert calls == [(1, 3), (2, 3), (3, 3)]
    # The choice of crops changes nothing, nor do links and other names of the folder, or sizes in another order.
    folder.with_name("link").symlink_to(folder)
    for name in (folder / ".." / "photos", folder.with_name("link")):
        photos = photos_of(name, max_sides=(25, 50), seed=5, patch=9, progress=lambda *call: calls.append(call))
        assert pixels(photos) == first
    assert len(read) == len(calls) == 3


def test_folders_in_any_order_and_with_more_photographs_share_what_is_decoded(folder, tmp_path, write, photos_of, read):
    write(tmp_path / "more" / "1.png", 40, 40)
    photos_of(folder)
    first = pixels(photos_of(folder, tmp_path / "more"))
    assert pixels(photos_of(tmp_path / "more", folder)) == first
    assert len(read) == 4


def test_pixels_are_mapped_and_cannot_be_written(folder, photos_of):
    photo = photos_of(folder).training[0]
    base = photo.high
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        photo.high[0, 0, 0] = 1


def test_more_photographs_than_files_may_be_open_at_once_are_mapped(folder, photos_of, monkeypatch):
    monkeypatch.setattr(decoded, "_mapped", decoded.lru_cache(1)(decoded._map))
    expected = pixels(photos_of(folder))
    photos = photos_of(folder)
    assert pixels(photos) == pixels(photos) == expected


@pytest.mark.parametrize("change", ["edited", "added", "removed", "touched"])
def test_a_change_of_the_photographs_is_noticed_and_the_old_array_deleted(folder, write, photos_of, cache, change):
    before, kept = pixels(photos_of(folder)), arrays(cache)
    if change == "edited":
        write(folder / "1.png", 40, 50, seed=9)
    elif change == "added":
        write(folder / "3.png", 40, 50)
    elif change == "removed":
        (folder / "1.png").unlink()
    else:
        os.utime(folder / "1.png", ns=(1, 1))
    after = pixels(photos_of(folder))
    assert (after == before) is (change == "touched")
    assert [name for name, *_ in after] == sorted(path.name for path in folder.iterdir())
    unchanged = set(kept) & set(arrays(cache))
    assert (len(unchanged), len(arrays(cache))) == {"added": (3, 4), "removed": (3, 3)}.get(change, (2, 3))


def test_a_photograph_replaced_by_another_of_its_size_and_time_is_noticed(folder, write, photos_of):
    before, facts = pixels(photos_of(folder)), (folder / "1.png").stat()
    write(folder / "other.png", 40, 50, seed=9)
    assert (folder / "other.png").stat().st_size == facts.st_size
    os.utime(folder / "other.png", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    (folder / "other.png").replace(folder / "1.png")
    after = pixels(photos_of(folder))
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


def test_other_settings_and_folders_have_arrays_of_their_own(folder, photos_of, cache, read):
    for settings in ({}, {"scale": 3}, {"max_sides": (25,)}):
        photos_of(folder, **settings)
    shutil.copytree(folder, folder.with_name("copy"))
    photos_of(folder.with_name("copy"))
    assert len(arrays(cache)) == len(read) == 12
    photos_of(folder)
    assert len(read) == 12


def test_arrays_are_in_the_users_cache_by_default(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    open_photos([folder], 2, CropSettings(patch=8, batch=1), seed=0)
    assert default_folder() == tmp_path / "home" / "lkdn-deploy" / "training"
    assert len(arrays(default_folder())) == 3


def test_a_photograph_that_can_be_read_again_is_taken_in(folder, photos_of):
    whole, facts = (folder / "1.png").read_bytes(), (folder / "1.png").stat()
    for content in (bytes(len(whole)), whole[:-100] + bytes(100)):  # without a header, and with a whole one
        (folder / "1.png").write_bytes(content)
        os.utime(folder / "1.png", ns=(facts.st_atime_ns, facts.st_mtime_ns))
        with pytest.warns(UserWarning, match="left out"):
            assert len(photos_of(folder).training) == 2
    (folder / "1.png").write_bytes(whole)
    os.utime(folder / "1.png", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    assert len(photos_of(folder).training) == 3


@pytest.fixture(scope="module")
def one(tmp_path_factory, write):
    """A photograph, its array, and what is in it."""
    folder, cache = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("cache")
    write(folder / "0.png", 20, 20)

    def reopened():
        return pixels(open_photos([folder], 2, CropSettings(patch=8, batch=1), 0, cache))

    found = reopened()
    (path,) = cache.iterdir()
    return SimpleNamespace(path=path, whole=path.read_bytes(), pixels=found, reopened=reopened)


@given(st.data())
def test_a_damaged_array_is_made_again(one, data):
    if data.draw(st.booleans()):
        damaged = one.whole[: data.draw(st.integers(0, len(one.whole) - 1))]
    else:
        # A flipped bit of a pixel is not noticed: to read them all is what the cache saves.
        at, flip = data.draw(st.integers(0, 60)), data.draw(st.integers(1, 255))
        damaged = one.whole[:at] + bytes([one.whole[at] ^ flip]) + one.whole[at + 1 :]
    one.path.write_bytes(damaged)
    assert one.reopened() == one.pixels
    one.path.write_bytes(one.whole)


@pytest.mark.parametrize(
    "content", [b"", b"PK\x03\x04" + bytes(100), b"\x80\x04pickle", b"\x93NUMPY\x01\x00" + b"[" * 9999]
)
def test_another_file_in_its_place_is_replaced(one, content):
    one.path.write_bytes(content)
    assert one.reopened() == one.pixels
    assert one.path.read_bytes() == one.whole


def test_an_array_of_another_decoder_is_made_again(one, monkeypatch):
    monkeypatch.setattr(decoded, "VERSION", decoded.VERSION + 1)
    assert one.reopened() == one.pixels
    assert not one.path.exists()
    monkeypatch.undo()
    one.reopened()


def test_arrays_used_longest_ago_make_room_and_other_files_stay(tmp_path, write, photos_of, cache, read):
    (cache / "mine.npy").write_bytes(bytes(99))
    os.utime(cache / "mine.npy", (1, 1))
    for name in "abc":
        write(tmp_path / name / f"{name}.png", 40, 40)
    photos_of(tmp_path / "a")
    each = arrays(cache)[0].stat().st_size
    photos_of(tmp_path / "b")
    for path in cache.glob("*.*.npy"):
        age = 2000 if path.stat().st_mtime_ns == min(p.stat().st_mtime_ns for p in cache.glob("*.*.npy")) else 1000
        os.utime(path, (time.time() - age,) * 2)
    photos_of(tmp_path / "a")  # used again
    photos_of(tmp_path / "c", limit=int(2.5 * each))
    assert (cache / "mine.npy").exists()
    assert read == ["a.png", "b.png", "c.png"]
    photos_of(tmp_path / "a")
    photos_of(tmp_path / "c")
    assert len(read) == 3
    photos_of(tmp_path / "b")
    assert read[3:] == ["b.png"]


def test_photographs_above_the_limit_are_refused_before_anything_is_decoded_or_deleted(folder, photos_of, cache, read):
    photos_of(folder, scale=3)
    with pytest.raises(InputError, match=r"take 2\.1e-05 GiB, more than the 1\.86e-05 GiB") as refused:
        photos_of(folder, limit=20_000)
    assert "fewer photographs, or lower max_sides" in refused.value.hint
    assert len(arrays(cache)) == len(read) == 3
    photos_of(folder, limit=23_000)


@pytest.mark.parametrize("free", [20_000, 25_000])
def test_what_is_not_needed_makes_room_on_a_small_disk_unless_that_is_not_enough(
    folder, tmp_path, write, photos_of, cache, read, monkeypatch, free
):
    write(tmp_path / "more" / "1.png", 40, 40)
    photos_of(tmp_path / "more")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=free - size_of(cache)))
    if free > 22_500:
        photos_of(folder)
        assert len(arrays(cache)) == 3
    else:
        with pytest.raises(InputError, match="has room for") as refused:
            photos_of(folder)
        assert "another folder" in refused.value.hint
        assert read == ["1.png"]


@contextmanager
def full_disk():
    """No file may grow beyond a few bytes; the one that this test's own output goes to included, so keep it short."""
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_disk_that_fills_up_meanwhile_leaves_nothing_half_written(folder, photos_of, cache):
    with pytest.raises(InputError, match="cannot be written") as refused, full_disk():
        photos_of(folder)
    assert str(cache) in refused.value.message
    assert "another folder" in refused.value.hint
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_refused_with_a_hint(folder, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be created") as refused:
        open_photos([folder], 2, CropSettings(patch=8, batch=1), 0, tmp_path / "file" / "cache")
    assert "another folder" in refused.value.hint


def test_two_processes_that_decode_the_same_photographs_both_get_them(folder, photos_of, cache):
    inner = []

    def meanwhile(done, total):
        if done == 2:
            inner.append(photos_of(folder))

    outer = photos_of(folder, progress=meanwhile)
    assert pixels(outer) == pixels(inner[0])
    assert len(list(cache.iterdir())) == 3


def test_what_a_killed_process_left_is_removed_and_what_is_being_written_is_not(folder, photos_of, cache):
    for name, age in (("dead", 7200), ("live", 60)):
        part = cache / f".{name}.part.npy"
        part.write_bytes(b"half")
        os.utime(part, (time.time() - age,) * 2)
    photos_of(folder)
    assert [path.name for path in cache.glob(".*")] == [".live.part.npy"]


def test_an_interrupted_decoding_keeps_what_it_has_and_nothing_half_written(folder, write, photos_of, cache, read):
    for number in range(3, 30):
        write(folder / f"{number:02}.png", 40, 50, seed=number)

    def interrupt(done, total):
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        photos_of(folder, progress=interrupt)
    kept = arrays(cache)
    assert 2 <= len(kept) < 30
    assert [path for path in cache.iterdir() if path not in kept] == []
    read.clear()
    assert len(photos_of(folder).training) == 30
    assert len(read) == 30 - len(kept)

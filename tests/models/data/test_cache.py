"""Photographs are decoded once; what is found in the cache is current and whole, and bounded on the disk."""

import hashlib
import json
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
from lkdn_models.data import CropSettings, default_folder, open_photos, plan
from lkdn_models.data.pack import TAIL, VERSION


@pytest.fixture
def folder(tmp_path, write):
    for number in range(3):
        write(tmp_path / "photos" / f"{number}.png", 40, 50, seed=number)
    return tmp_path / "photos"


@pytest.fixture
def decoded(monkeypatch):
    """The names of the files that are decoded from now on."""
    names, read = [], plan.read_rgb

    def counted(path):
        names.append(path.name)
        return read(path)

    monkeypatch.setattr(plan, "read_rgb", counted)
    return names


def pixels(photos):
    return [(photo.name, photo.factor, photo.low.tobytes(), photo.high.tobytes()) for photo in photos.training]


def test_photographs_are_decoded_once(folder, photos_of, decoded, monkeypatch):
    told = []
    first = pixels(photos_of(folder, max_sides=(50, 25), progress=lambda done, total: told.append((done, total))))
    assert len(first) == 6
    assert sorted(decoded) == ["0.png", "1.png", "2.png"]
    assert told == [(1, 3), (2, 3), (3, 3)]
    monkeypatch.setattr(plan, "read_size", None)  # not even headers
    # How crops are drawn changes nothing, nor do names of the same folder or sizes in another order.
    photos = photos_of(folder / ".." / "photos", max_sides=(25, 50), seed=5, patch=9, progress=told.append)
    assert pixels(photos) == first
    assert len(decoded) == len(told) == 3


def test_folders_count_in_any_order(folder, tmp_path, write, photos_of, decoded):
    write(tmp_path / "more" / "1.png", 40, 40)
    first = pixels(photos_of(folder, tmp_path / "more"))
    assert pixels(photos_of(tmp_path / "more", folder)) == first
    assert len(decoded) == 4


def test_pixels_are_mapped_and_cannot_be_written(folder, photos_of):
    photo = photos_of(folder).training[0]
    base = photo.high
    while isinstance(base.base, np.ndarray):
        base = base.base
    assert isinstance(base, np.memmap)
    with pytest.raises(ValueError, match="read-only"):
        photo.high[0, 0, 0] = 1


@pytest.mark.parametrize("change", ["edited", "added", "removed", "touched"])
def test_a_change_of_the_photographs_is_noticed_and_the_old_pack_deleted(folder, write, photos_of, cache, change):
    before = pixels(photos_of(folder))
    (pack,) = cache.iterdir()
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
    assert len(list(cache.iterdir())) == 1
    assert not pack.exists()


def test_a_photograph_put_in_the_place_of_another_of_its_size_and_time_is_noticed(folder, write, photos_of):
    before, facts = pixels(photos_of(folder)), (folder / "1.png").stat()
    write(folder / "other.png", 40, 50, seed=9)
    assert (folder / "other.png").stat().st_size == facts.st_size
    os.utime(folder / "other.png", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    (folder / "other.png").replace(folder / "1.png")
    assert (folder / "1.png").stat().st_mtime_ns == facts.st_mtime_ns
    after = pixels(photos_of(folder))
    assert [old == new for old, new in zip(before, after, strict=True)] == [True, False, True]


def test_reading_photographs_and_links_to_them_change_nothing(folder, photos_of, decoded):
    photos_of(folder)
    (folder.with_name("link")).symlink_to(folder)
    for path in folder.iterdir():
        path.read_bytes()
    photos_of(folder)
    photos_of(folder.with_name("link"))
    assert len(decoded) == 3


def test_other_settings_and_folders_have_packs_of_their_own(folder, photos_of, cache, decoded):
    for settings in ({}, {"scale": 3}, {"max_sides": (25,)}):
        photos_of(folder, **settings)
    shutil.copytree(folder, folder.with_name("copy"))
    photos_of(folder.with_name("copy"))
    assert len(list(cache.iterdir())) == 4
    assert len(decoded) == 12
    photos_of(folder)
    assert len(decoded) == 12


def test_packs_are_in_the_users_cache_unless_told_otherwise(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("platformdirs.user_cache_path", lambda name: tmp_path / name)
    open_photos([folder], 2, CropSettings(patch=8, batch=1), seed=0)
    assert default_folder() == tmp_path / "lkdn-deploy" / "training"
    assert len(list(default_folder().iterdir())) == 1


def test_a_photograph_that_can_be_read_again_is_taken_in(folder, photos_of):
    whole = (folder / "1.png").read_bytes()
    facts = (folder / "1.png").stat()
    (folder / "1.png").write_bytes(bytes(len(whole)))
    os.utime(folder / "1.png", ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with pytest.warns(UserWarning, match="left out"):
        assert len(photos_of(folder).training) == 2
    (folder / "1.png").write_bytes(whole)
    os.utime(folder / "1.png", ns=(facts.st_atime_ns, facts.st_mtime_ns))  # the same size and time as the broken one
    assert len(photos_of(folder).training) == 3


# --- damage


@pytest.fixture(scope="module")
def packed(tmp_path_factory, write):
    """A folder of photographs, its cache, its pack, and what is in it."""
    folder, cache = tmp_path_factory.mktemp("photos"), tmp_path_factory.mktemp("cache")
    write(folder / "0.png", 20, 20, seed=0)
    write(folder / "1.png", 20, 20, seed=1)

    def reopened():
        return pixels(open_photos([folder], 2, CropSettings(patch=8, batch=1), 0, cache))

    found = reopened()
    (path,) = cache.iterdir()
    return SimpleNamespace(path=path, whole=path.read_bytes(), pixels=found, reopened=reopened)


@given(st.data())
def test_a_damaged_pack_is_made_again(packed, data):
    whole = packed.whole
    start = 2 * 20 * 20 * 3 * 5 // 4
    if data.draw(st.booleans()):
        length = data.draw(st.integers(0, len(whole) - 1))
        damaged = whole[:length]
    else:
        at, flip = data.draw(st.integers(start, len(whole) - 1)), data.draw(st.integers(1, 255))
        damaged = whole[:at] + bytes([whole[at] ^ flip]) + whole[at + 1 :]
    packed.path.write_bytes(damaged)
    assert packed.reopened() == packed.pixels
    assert packed.path.read_bytes() == whole


def split(whole):
    """The pixels, the index and the tail of a pack."""
    length, *_ = TAIL.unpack(whole[-TAIL.size :])
    end = len(whole) - TAIL.size
    return whole[: end - length], whole[end - length : end], whole[end:]


def joined(pixels, index, tail, version=None):
    """A pack as one who knows the format would write it."""
    _, _, current, signature = TAIL.unpack(tail)
    facts = len(index), hashlib.sha256(index).digest(), current if version is None else version, signature
    return pixels + index + TAIL.pack(*facts)


def forged(whole, change):
    """A pack with a changed index."""
    start, index, tail = split(whole)
    table = json.loads(index)
    change(table)
    return joined(start, json.dumps(table).encode(), tail)


def put(row, column, value):
    def change(table):
        table["photos"][row][column] = value

    return change


@pytest.mark.parametrize(
    "change",
    [
        put(1, 6, -1),
        put(1, 6, 1501),
        put(1, 6, 1500.0),
        put(0, 5, 0),
        put(0, 4, -10),
        put(0, 4, 10**30),
        put(0, 4, True),
        put(0, 3, 0),
        put(0, 0, 7),
        lambda table: table["photos"].clear(),
        lambda table: table["photos"][0].pop(),
        lambda table: table.update(photos=None),
        lambda table: table.update(left_out=[1]),
        lambda table: table.update(scale=3),
        lambda table: table.update(key="0" * 64),
        lambda table: table.update(bytes=2999),
        lambda table: table.pop("key"),
    ],
)
def test_an_index_is_not_trusted(packed, change):
    packed.path.write_bytes(forged(packed.whole, change))
    assert packed.reopened() == packed.pixels
    assert packed.path.read_bytes() == packed.whole


@pytest.mark.parametrize("index", [b"[" * 100_000, b'{"key":' * 100_000, b"9" * 10_000, b"\xff", b"null"])
def test_an_index_that_json_chokes_on_is_not_a_pack(packed, index):
    start, _, tail = split(packed.whole)
    packed.path.write_bytes(joined(start, index, tail))
    assert packed.reopened() == packed.pixels
    assert packed.path.read_bytes() == packed.whole


def test_a_pack_of_an_older_version_is_made_again(packed):
    start, index, tail = split(packed.whole)
    packed.path.write_bytes(joined(start, index, tail, version=VERSION - 1))
    assert packed.reopened() == packed.pixels
    assert packed.path.read_bytes() == packed.whole


def test_what_is_unchanged_is_a_pack(packed):
    assert forged(packed.whole, lambda table: None) == packed.whole


# --- space


def size_of(cache):
    return sum(path.stat().st_size for path in cache.iterdir())


def test_packs_used_longest_ago_make_room(tmp_path, write, photos_of, cache, decoded):
    for name in "abc":
        write(tmp_path / name / f"{name}.png", 40, 40)
    photos_of(tmp_path / "a")
    one = size_of(cache)
    photos_of(tmp_path / "b")
    for age, path in enumerate(sorted(cache.iterdir(), key=lambda path: path.stat().st_mtime_ns, reverse=True), 1):
        os.utime(path, (time.time() - 1000 * age,) * 2)
    photos_of(tmp_path / "a")  # used again
    photos_of(tmp_path / "c", limit=int(2.5 * one))
    assert size_of(cache) < 2.5 * one
    assert decoded == ["a.png", "b.png", "c.png"]
    photos_of(tmp_path / "a")
    photos_of(tmp_path / "c")
    assert len(decoded) == 3
    photos_of(tmp_path / "b")
    assert decoded[3:] == ["b.png"]


def test_a_pack_above_the_limit_is_refused_before_anything_is_decoded_or_deleted(folder, photos_of, cache, decoded):
    photos_of(folder, scale=3)
    with pytest.raises(InputError, match=r"take 2\.1e-05 GiB, more than the 1\.86e-05 GiB") as refused:
        photos_of(folder, limit=20_000)
    assert "fewer photographs, or lower max_sides" in refused.value.hint
    assert len(decoded) == 3
    assert len(list(cache.iterdir())) == 1
    photos_of(folder, limit=23_000)


def test_a_disk_without_room_is_refused_before_anything_is_decoded(folder, photos_of, decoded, monkeypatch):
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=20_000))
    with pytest.raises(InputError, match="has room for") as refused:
        photos_of(folder)
    assert "another folder" in refused.value.hint
    assert decoded == []


def test_packs_make_room_on_a_small_disk(folder, tmp_path, write, photos_of, cache, monkeypatch):
    write(tmp_path / "more" / "1.png", 40, 40)
    photos_of(tmp_path / "more")
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=25_000 - size_of(cache)))
    photos_of(folder)
    assert len(list(cache.iterdir())) == 1


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


def test_a_disk_that_fills_up_meanwhile_leaves_nothing_behind(folder, photos_of, cache):
    with pytest.raises(InputError, match="cannot be written") as refused, full_disk():
        photos_of(folder)
    assert str(cache) in refused.value.message
    assert "another folder" in refused.value.hint
    assert list(cache.iterdir()) == []


def test_a_cache_that_cannot_be_made_is_refused_with_a_hint(folder, tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(InputError, match="cannot be written") as refused:
        open_photos([folder], 2, CropSettings(patch=8, batch=1), 0, tmp_path / "file" / "cache")
    assert "another folder" in refused.value.hint


# --- several processes


def test_two_that_make_the_same_pack_at_once_both_get_it(folder, photos_of, cache):
    inner = []

    def meanwhile(done, total):
        if done == 2:
            inner.append(photos_of(folder))

    outer = photos_of(folder, progress=meanwhile)
    assert pixels(outer) == pixels(inner[0])
    assert len(list(cache.iterdir())) == 1


def test_what_a_killed_process_left_is_removed_and_what_is_being_made_is_not(folder, photos_of, cache):
    for name, age in (("dead", 7200), ("live", 60)):
        part = cache / f".{name}.part.pack"
        part.write_bytes(b"half")
        os.utime(part, (time.time() - age,) * 2)
    photos_of(folder)
    assert [path.name for path in cache.glob(".*")] == [".live.part.pack"]


def test_a_process_that_is_interrupted_leaves_nothing_behind(folder, photos_of, cache):
    def interrupt(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        photos_of(folder, progress=interrupt)
    assert list(cache.iterdir()) == []

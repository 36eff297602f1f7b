"""The user's cache: only files that are undamaged and private to the user are used."""

import os
import time
from pathlib import Path

import pytest

from lkdn_deploy.core.cache import Store, make_folder, recent_folder, write_private
from lkdn_deploy.core.errors import InputError

STORE = Store("kind", ".onnx")
POSIX = pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions and links")


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return STORE.folder


def test_a_file_is_found_by_name_and_kind() -> None:
    path = STORE.write("name", b"code")
    assert (path.read_bytes(), path.suffix) == (b"code", ".onnx")
    assert (STORE.read("name"), STORE.find("name")) == (b"code", path)
    assert STORE.read("nam") is None
    assert STORE.find("other") is None
    assert Store("other", ".onnx").read("name") is None


def test_a_new_file_replaces_the_one_of_its_name(cache: Path) -> None:
    STORE.write("name", b"old")
    STORE.write("name", b"new")
    assert STORE.read("name") == b"new"
    assert len(list(cache.iterdir())) == 1


@pytest.mark.parametrize("data", [b"", b"short", b"\0" * 40])
def test_a_damaged_file_is_not_used(data: bytes) -> None:
    STORE.write("name", b"code").write_bytes(data)
    assert STORE.read("name") is None
    assert STORE.find("name") is None


@POSIX
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_file_that_others_could_have_written_is_not_used(cache: Path, what: str, mode: int) -> None:
    path = STORE.write("name", b"code")
    place = cache if what == "folder" else path
    place.chmod(mode)
    assert STORE.read("name") is None
    place.chmod(0o700)
    assert STORE.read("name") == b"code"


def test_a_file_of_other_content_or_with_a_zeroed_page_or_renamed_is_not_used() -> None:
    path = STORE.write("name", bytes(range(256)) * 64)
    for content in (path.read_bytes()[:4096] + b"\0" * 4096 + path.read_bytes()[8192:], path.read_bytes()[::-1]):
        path.write_bytes(content)
        assert STORE.load("name") is None
    path = STORE.write("name", b"code")
    path.rename(path.with_name(path.name.replace("name.", "other.")))
    assert STORE.read("other") is None


@POSIX
@pytest.mark.parametrize("mask", [0o000, 0o002, 0o022, 0o077])
def test_the_folders_are_private_and_their_files_found_again_whatever_the_umask_is(cache: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        path = STORE.write("name", b"code")
        assert STORE.read("name") == b"code"
    finally:
        os.umask(before)
    assert [it.stat().st_mode & 0o777 for it in (cache, cache.parent)] == [0o700] * 2
    assert path.stat().st_mode & 0o777 == 0o600


@POSIX
def test_a_folder_of_the_user_that_others_can_write_to_is_closed_when_something_is_stored(cache: Path) -> None:
    STORE.write("old", b"code")
    cache.chmod(0o777)
    cache.parent.chmod(0o775)
    STORE.write("name", b"code")
    assert STORE.read("name") == b"code"
    assert [it.stat().st_mode & 0o777 for it in (cache, cache.parent)] == [0o700] * 2


@POSIX
def test_nothing_is_read_or_written_through_a_link(cache: Path, tmp_path: Path) -> None:
    """A file of the same content elsewhere may belong to somebody who changes it after it was checked."""
    path = STORE.write("name", b"code")
    elsewhere = tmp_path / "elsewhere"
    path.rename(elsewhere)
    for link in (path.symlink_to, path.hardlink_to):
        link(elsewhere)
        assert STORE.read("name") is None
        path.unlink()
    elsewhere.chmod(0o644)
    path.symlink_to(elsewhere)
    STORE.write("name", b"code")
    write_private(path, b"code")
    assert not path.is_symlink()
    assert STORE.read("name") == b"code"
    assert (elsewhere.read_bytes(), elsewhere.stat().st_mode & 0o777) == (b"code", 0o644)
    inner = tmp_path / "folder"
    cache.rename(inner)
    cache.symlink_to(inner)
    assert STORE.read("name") is None
    before = sorted(inner.iterdir())
    with pytest.raises(InputError, match="cannot be written"):
        STORE.write("new", b"code")
    assert sorted(inner.iterdir()) == before


@POSIX
def test_a_pipe_in_the_cache_is_not_waited_for(cache: Path) -> None:
    path = STORE.write("name", b"code")
    path.unlink()
    os.mkfifo(path)
    assert STORE.read("name") is None


def test_the_least_recently_used_files_are_removed() -> None:
    store = Store("few", most=2)
    for age, name in enumerate("ab"):
        os.utime(store.write(name, b"code"), (age, age))
    assert store.read("a") == b"code"
    store.write("c", b"code")
    assert [store.read(name) for name in "abc"] == [b"code", None, b"code"]


def test_the_bytes_of_a_kind_are_bounded_but_the_last_file_stays() -> None:
    store = Store("large", most_bytes=100)
    for age, name in enumerate("abc"):
        os.utime(store.write(name, bytes(40)), (age, age))
    assert [store.read(name) is not None for name in "abc"] == [False, True, True]
    store.write("d", bytes(1000))
    assert [store.read(name) is not None for name in "abcd"] == [False, False, False, True]


def test_what_a_killed_process_left_is_removed_after_an_hour(cache: Path) -> None:
    STORE.write("name", b"code")
    parts = [cache / f".{digit * 12}.part" for digit in "ab"]
    for part in parts:
        part.touch()
    os.utime(parts[0], (time.time() - 4000,) * 2)
    STORE.write("name", b"new")
    assert [part.exists() for part in parts] == [False, True]


def test_the_least_recently_used_folders_of_a_library_are_removed() -> None:
    for age, name in enumerate("abc"):
        made = recent_folder("library", name, most=2)
        (made / "engine").touch()
        os.utime(made, (age, age))
    assert sorted(it.name for it in made.parent.iterdir()) == ["b", "c"]
    recent_folder("library", "b", most=2)
    recent_folder("library", "d", most=2)
    assert sorted(it.name for it in made.parent.iterdir()) == ["b", "d"]


def test_a_cache_that_cannot_be_written_is_an_error_only_where_its_file_is_needed(tmp_path: Path, cache: Path) -> None:
    cache.parent.parent.mkdir(parents=True)
    cache.parent.write_text("a file in the way")
    STORE.keep("name", b"code")
    assert STORE.read("name") is None
    with pytest.raises(InputError, match="cannot be created") as caught:
        STORE.write("name", b"code")
    assert "XDG_CACHE_HOME" in (caught.value.hint or "")
    with pytest.raises(InputError):
        make_folder(tmp_path / "cache" / "lkdn-deploy" / "x")

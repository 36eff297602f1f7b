"""The user's cache: only files that are undamaged and private to the user are used."""

import os
from pathlib import Path

import pytest

from lkdn_deploy.core.cache import Store, make_folder
from lkdn_deploy.core.errors import InputError

STORE = Store("kind", ".onnx")


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


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
@pytest.mark.parametrize("what", ["folder", "file"])
def test_a_file_that_others_could_have_written_is_not_used(cache: Path, what: str, mode: int) -> None:
    path = STORE.write("name", b"code")
    place = cache if what == "folder" else path
    place.chmod(mode)
    assert STORE.read("name") is None
    place.chmod(0o700)
    assert STORE.read("name") == b"code"


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="POSIX permissions")
def test_the_folder_is_private(cache: Path) -> None:
    STORE.write("name", b"code")
    assert cache.stat().st_mode & 0o777 == 0o700


def test_the_least_recently_used_files_are_removed() -> None:
    store = Store("few", most=2)
    for age, name in enumerate("ab"):
        os.utime(store.write(name, b"code"), (age, age))
    assert store.read("a") == b"code"
    store.write("c", b"code")
    assert [store.read(name) for name in "abc"] == [b"code", None, b"code"]


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

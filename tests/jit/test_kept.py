"""Compiled code in the user's cache: only what is whole and only the user's own is taken."""

import os
from pathlib import Path

import pytest

from lkdn_deploy.jit import kept


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return kept.folder("kind")


def test_what_is_kept_is_found_by_its_name_and_kind() -> None:
    kept.keep("kind", "name", b"code")
    assert kept.find("kind", "name") == b"code"
    assert kept.find("kind", "other") is None
    assert kept.find("other", "name") is None


@pytest.mark.parametrize("data", [b"", b"short", b"\0" * 40])
def test_what_is_not_whole_is_not_taken(cache: Path, data: bytes) -> None:
    kept.keep("kind", "name", b"code")
    (cache / "name").write_bytes(data)
    assert kept.find("kind", "name") is None


@pytest.mark.skipif(not hasattr(os, "geteuid"), reason="rights as POSIX has them")
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
@pytest.mark.parametrize("what", ["folder", "file"])
def test_what_others_could_have_written_is_not_taken(cache: Path, what: str, mode: int) -> None:
    kept.keep("kind", "name", b"code")
    place = cache if what == "folder" else cache / "name"
    place.chmod(mode)
    assert kept.find("kind", "name") is None
    place.chmod(0o700)
    assert kept.find("kind", "name") == b"code"


def test_the_folder_is_the_users_alone(cache: Path) -> None:
    kept.keep("kind", "name", b"code")
    if hasattr(os, "geteuid"):
        assert cache.stat().st_mode & 0o777 == 0o700


def test_those_used_last_are_kept(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kept, "MOST", 2)
    for age, name in enumerate("ab"):
        kept.keep("kind", name, b"code")
        os.utime(cache / name, (age, age))
    assert kept.find("kind", "a") == b"code"
    kept.keep("kind", "c", b"code")
    assert sorted(path.name for path in cache.iterdir()) == ["a", "c"]

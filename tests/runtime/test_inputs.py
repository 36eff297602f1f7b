"""The inputs that are taken of files and folders, and those that are not."""

import os
from pathlib import Path, PurePath

import pytest

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.runtime.inputs import described, find_inputs

SUFFIXES = ["a.jfif", "b.jpe", "c.GIF", "d.mpo", "e.avif", "f.jxl", "g.heic", "h.HEIF", "i.hif", "j.tif", "k.dib"]


def touched(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


def test_a_folder_gives_the_images_and_says_of_the_rest_why_not(tmp_path: Path) -> None:
    touched(tmp_path, *SUFFIXES, "l.txt", "m.nef", "n", "o.txt", ".hidden.png", "more/p.png")
    found = find_inputs([tmp_path], recursive=False)
    assert [file.path for file in found.files] == [tmp_path / name for name in SUFFIXES]
    assert found.folders == (tmp_path,)
    assert described(found.not_taken) == (
        "1 .nef (camera raw), 2 .txt, 1 folder (searched with --recursive), 1 hidden, 1 without suffix"
    )


def test_the_tree_is_kept_when_folders_are_searched(tmp_path: Path) -> None:
    touched(tmp_path, "b.png", "a.png", "z/c.png", "z/y/d.png", "m/e.txt", ".git/f.png")
    found = find_inputs([tmp_path], recursive=True)
    assert [file.relative for file in found.files] == [PurePath(p) for p in ("a.png", "b.png", "z/c.png", "z/y/d.png")]
    assert described(found.not_taken) == "1 .txt, 1 hidden"


def test_links_to_files_are_taken_and_links_to_folders_are_not(tmp_path: Path) -> None:
    touched(tmp_path, "in/sub/a.png", "elsewhere/b.png")
    (tmp_path / "in" / "sub" / "up").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "round").symlink_to(tmp_path / "in" / "round")
    (tmp_path / "in" / "other").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "in" / "b.png").symlink_to(tmp_path / "elsewhere" / "b.png")
    (tmp_path / "in" / "lost.png").symlink_to(tmp_path / "nowhere.png")
    found = find_inputs([tmp_path / "in"], recursive=True)
    assert [file.relative for file in found.files] == [PurePath(p) for p in ("b.png", "lost.png", "sub/a.png")]
    assert "2 link to a folder" in described(found.not_taken)
    assert [file.relative for file in find_inputs([tmp_path / "in" / "other"], recursive=True).files] == [
        PurePath("b.png")
    ]


def test_files_are_taken_as_they_are_named_and_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    touched(tmp_path, "in/a.png", "in/b.txt")
    monkeypatch.chdir(tmp_path)
    sources = [Path("in/b.txt"), Path("in/a.png"), Path("in"), tmp_path / "in" / "." / "a.png", Path("gone.png")]
    found = find_inputs(sources, recursive=False)
    assert [file.path for file in found.files] == [Path("in/b.txt"), Path("in/a.png"), Path("gone.png")]
    assert {file.relative.parent for file in found.files} == {PurePath()}


def test_a_folder_without_images_is_refused(tmp_path: Path) -> None:
    touched(tmp_path, "in/a.txt", "in/sub/b.png")
    with pytest.raises(InputError, match=r"in holds no image, but 1 \.txt, 1 folder"):
        find_inputs([tmp_path / "in"], recursive=False)
    assert len(find_inputs([tmp_path / "in"], recursive=True).files) == 1


def test_a_folder_that_cannot_be_read_is_an_error_and_the_others_are_searched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched(tmp_path, "a.png", "locked/b.png", "open/c.png")
    scan = os.scandir

    def scan_but_one(path: Path) -> object:
        if path == tmp_path / "locked":
            raise PermissionError(13, "Permission denied", str(path))
        return scan(path)

    monkeypatch.setattr(os, "scandir", scan_but_one)
    found = find_inputs([tmp_path], recursive=True)
    assert [file.path.name for file in found.files] == ["a.png", "c.png"]
    assert [(entry.path.name, entry.error) for entry in found.not_taken] == [("locked", True)]
    with pytest.raises(InputError, match="locked cannot be read: Permission denied"):
        find_inputs([tmp_path / "locked"], recursive=True)

"""``lkdn-upscale`` on folders: what is taken, what is refused, what is said, and how a run is gone on with."""

import errno
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from small_pictures import RGB, RGBA, save_pictures

from lkdn_deploy.cli._outcomes import OutcomePrinter
from lkdn_deploy.cli._upscale_options import FORMATS
from lkdn_deploy.imaging.files.formats import FORMATS as TABLE
from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.files.read import read_picture
from lkdn_deploy.imaging.files.write import write_picture
from lkdn_deploy.runtime.journal import Journal

JOURNAL = ".lkdn-upscale.jsonl"
Upscale = Callable[..., int]


@pytest.fixture
def computed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the inputs that go through the network."""
    names: list[str] = []
    shown = OutcomePrinter.progress

    def watched(self: OutcomePrinter, job: Any, done: int, total: int) -> None:
        if done == 0:
            names.append(job.source.name)
        shown(self, job, done, total)

    monkeypatch.setattr(OutcomePrinter, "progress", watched)
    return names


def files(folder: Path) -> dict[str, bytes]:
    """Return the content of all files of a tree but for journals."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".lkdn-upscale")
    }


def mixed_tree(top: Path) -> tuple[set[str], set[str]]:
    """Make a tree of 300 files of all kinds; return the outputs that it should give, and the inputs that must fail."""
    kinds: list[tuple[str, str, Callable[[Path], object]]] = [
        ("rgb.png", "rgb.png", RGB.save),
        ("rgba.png", "rgba.png", RGBA.save),
        ("grey.png", "grey.png", RGB.convert("L").save),
        ("grey alpha.png", "grey alpha.png", RGBA.convert("LA").save),
        ("palette.png", "palette.png", RGB.quantize(8).save),
        ("one bit.png", "one bit.png", RGB.convert("1").save),
        ("jpeg.JPG", "jpeg.JPG", RGB.save),
        ("cmyk.jpeg", "cmyk.jpeg", RGB.convert("CMYK").save),
        ("lossless.webp", "lossless.webp", lambda path: RGBA.save(path, lossless=True)),
        ("tiff.tif", "tiff.tif", RGB.save),
        ("bitmap.bmp", "bitmap.bmp", RGB.save),
        ("still.gif", "still.png", RGB.save),
        ("ünïcode \u2028.png", "ünïcode \u2028.png", RGB.save),
        (
            "sixteen.png",
            "sixteen.png",
            lambda path: write_picture(path, Picture(np.asarray(RGB).astype(np.uint16) * 99)),
        ),
        ("deep.tiff", "deep.tiff", lambda path: write_picture(path, Picture(np.asarray(RGBA).astype(np.uint16) * 257))),
        ("twelve.avif", "twelve.avif", lambda path: write_picture(path, Picture(np.asarray(RGB)))),
        ("text.jxl", "text.jxl", lambda path: write_picture(path, Picture(np.asarray(RGB)))),
    ]
    folders = ["", "a", "a/b", "a/b/c", "with space", "x.png.d"]
    expected = set()
    originals: dict[str, bytes] = {}
    for index in range(238):
        name, result, make = kinds[index % len(kinds)]
        folder, number = folders[index % len(folders)], f"{index:03} "
        path = top / folder / (number + name)
        path.parent.mkdir(parents=True, exist_ok=True)
        if name not in originals:
            make(path)
            originals[name] = path.read_bytes()
        path.write_bytes(originals[name])
        expected.add((Path(folder) / (number + result)).as_posix())
    damage: list[Callable[[bytes], bytes]] = [
        lambda data: data[: len(data) // 2],
        lambda data: b"",
        lambda data: b"no picture at all",
        lambda data: data[:40] + bytes(len(data) - 40),
    ]
    damaged = {f"{folders[index % 6]}/damaged {index}.png".lstrip("/") for index in range(12)}
    for index, name in enumerate(sorted(damaged)):
        (top / name).write_bytes(damage[index % 4](originals["rgb.png"]))
    for index in range(38):
        suffix = ("txt", "nef", "db", "xmp", "zip")[index % 5]
        (top / folders[index % 6] / f"junk {index}.{suffix}").write_bytes(b"junk")
    for index in range(8):
        (top / folders[index % 6] / f".hidden {index}.png").write_bytes(originals["rgb.png"])
    for name in ("twin.png", "twin.gif", "a/b/pair.gif", "a/b/pair.png"):
        (top / name).write_bytes(originals["rgb.png" if name.endswith("png") else "still.gif"])
    (top / "a" / "b" / "loop").symlink_to(top)
    return expected, damaged


def test_a_tree_of_300_mixed_files(tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture[str]) -> None:
    """Two pairs of inputs that would become one file are refused before any work; without them all else is done."""
    top, out = tmp_path / "in", tmp_path / "out"
    expected, damaged = mixed_tree(top)
    assert len(files(top)) == 300
    before = files(top)
    assert upscale(top, out, "--recursive") == 2
    err = capsys.readouterr().err
    for twins in (f"{top / 'twin.gif'} and {top / 'twin.png'}", f"{top / 'a/b/pair.gif'} and {top / 'a/b/pair.png'}"):
        assert f"{twins} would both become" in err
    assert not out.exists()

    (top / "twin.gif").rename(top / "twin of old.gif")
    (top / "a" / "b" / "pair.png").unlink()
    expected |= {"twin.png", "twin of old.png", "a/b/pair.png"}
    assert upscale(top, out, "--recursive") == 1
    said = capsys.readouterr()
    assert set(files(out)) == expected
    assert {Path(line).relative_to(out).as_posix() for line in said.out.split("\n")[:-1]} == expected
    lines = said.err.splitlines()
    at = lines.index("failed:")
    assert lines[at - 1].startswith("241 done, 0 skipped, 12 failed of 253 images in ")
    assert len(lines[at + 1 : -1]) == 12
    for name in damaged:
        assert sum(str(top / name) in line for line in lines[at + 1 : -1]) == 1
    assert lines[-1] == "error: 12 of 253 images could not be upscaled"
    assert "note: left out of the input folders: " in said.err
    for part in ("8 .txt", "8 hidden", "8 .nef (camera raw)", "1 link to a folder"):
        assert part in said.err
    for name in expected:
        width, height = (28, 24)
        found = read_picture(out / name)
        assert (found.width, found.height) == (width, height)
    del before["twin.gif"], before["a/b/pair.png"]
    assert {**before, "twin of old.gif": (top / "twin of old.gif").read_bytes()} == files(top)


def test_every_entry_has_its_line_of_json(tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture[str]) -> None:
    save_pictures(tmp_path / "in", "a.png", "s/b.png")
    (tmp_path / "in" / "c.png").write_bytes(b"")
    (tmp_path / "in" / "s" / "d.txt").touch()
    assert upscale(tmp_path / "in", tmp_path / "out", "-r", "--json", "--quiet") == 1
    capsys.readouterr()
    assert upscale(tmp_path / "in", tmp_path / "out", "-r", "--json", "--quiet", "--skip-existing") == 1
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    found = {Path(line["input"]).name: line for line in lines}
    assert {name: line["status"] for name, line in found.items()} == {
        "a.png": "skipped",
        "b.png": "skipped",
        "c.png": "failed",
        "d.txt": "not taken",
    }
    assert found["d.txt"]["reason"] == ".txt"
    assert found["a.png"]["reason"] == "the output exists"
    assert "is empty" in found["c.png"]["error"]


def test_names_and_formats_are_chosen(tmp_path: Path, upscale: Upscale) -> None:
    save_pictures(tmp_path / "in", "a.png", "s/b.jpg")
    options = ["--recursive", "--name", "{stem}_x{scale}{ext}", "--format", "webp"]
    assert upscale(tmp_path / "in", tmp_path / "out", *options) == 0
    assert set(files(tmp_path / "out")) == {"a_x2.webp", "s/b_x2.webp"}
    with Image.open(tmp_path / "out" / "a_x2.webp") as image:
        assert image.format == "WEBP"


def test_one_file_and_a_folder_have_the_same_bytes_for_the_same_options(tmp_path: Path, upscale: Upscale) -> None:
    save_pictures(tmp_path / "in", "a.png")
    for options in (["--format", "jpg", "--quality", "30"], ["--format", "png"], ["--format", "webp"]):
        suffix = options[1]
        one = tmp_path / f"one.{suffix}"
        assert upscale(tmp_path / "in" / "a.png", one, *options) == 0
        assert upscale(tmp_path / "in", tmp_path / f"out {suffix}", *options) == 0
        assert (tmp_path / f"out {suffix}" / f"a.{suffix}").read_bytes() == one.read_bytes()


def test_the_formats_of_the_option_are_those_of_the_table() -> None:
    assert set(FORMATS) == {kind.suffixes[0][1:] for kind in TABLE if kind.suffixes}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--name", "{width}{ext}"], "expected a name made of"),
        (["--name", "../{stem}{ext}"], "would lead to another folder"),
        (["--shard", "5/4"], "expected a share such as 3/16"),
        (["--skip-existing", "--overwrite"], "--skip-existing and --overwrite exclude each other"),
        (["--skip-existing", "--resume"], "exclude each other"),
        (["--quiet", "--verbose"], "exclude each other"),
        (["--format", "gif"], "--format"),
    ],
)
def test_wrong_options_are_refused_before_work(
    tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    save_pictures(tmp_path / "in", "a.png")
    assert upscale(tmp_path / "in", tmp_path / "out", *options) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--name", "{stem}{ext}"], "--name is for outputs in a folder"),
        (["--shard", "1/2"], "--shard is for outputs in a folder"),
        (["--format", "jpg"], "--format jpg contradicts the suffix of"),
    ],
)
def test_options_for_folders_are_refused_where_one_output_is_named(
    tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture[str], options: list[str], said: str
) -> None:
    save_pictures(tmp_path, "a.png")
    assert upscale(tmp_path / "a.png", tmp_path / "out.png", *options) == 2
    assert said in capsys.readouterr().err


def test_the_folder_of_the_inputs_is_no_folder_for_outputs(
    tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture[str]
) -> None:
    save_pictures(tmp_path / "in", "a.png")
    before = files(tmp_path)
    for target in (tmp_path / "in", tmp_path / "in" / "large"):
        assert upscale(tmp_path / "in", target, "--recursive", "--name", "{stem}_x2{ext}", "--overwrite") == 2
        assert "the next run would take the outputs for inputs" in capsys.readouterr().err
    assert files(tmp_path) == before


def test_shares_make_up_the_whole_and_each_is_resumed_for_itself(
    tmp_path: Path, upscale: Upscale, computed: list[str]
) -> None:
    save_pictures(tmp_path / "in", *(f"{folder}/{index}.png" for folder in "ab" for index in range(6)))
    assert upscale(tmp_path / "in", tmp_path / "whole", "-r") == 0
    assert len(computed) == 12
    for index in (1, 2, 3):
        assert upscale(tmp_path / "in", tmp_path / "out", "-r", "--shard", f"{index}/3") == 0
    assert files(tmp_path / "out") == files(tmp_path / "whole")
    assert len(computed) == 24
    assert {path.name for path in (tmp_path / "out").iterdir() if path.is_file()} == {
        f".lkdn-upscale.{index}of3.jsonl" for index in (1, 2, 3)
    }
    assert upscale(tmp_path / "in", tmp_path / "out", "-r", "--resume") == 0
    assert upscale(tmp_path / "in", tmp_path / "out", "-r", "--resume", "--shard", "1/2") == 0
    assert len(computed) == 24
    assert upscale(tmp_path / "in", tmp_path / "none", "-r", "--shard", "999983/999983") == 0
    assert len(computed) == 24


def test_a_run_is_resumed_whether_it_was_asked_for_or_not(
    tmp_path: Path, upscale: Upscale, computed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    save_pictures(tmp_path / "in", "a.png", "b.png", "s/c.png")
    arguments = [tmp_path / "in", tmp_path / "out", "--recursive"]
    assert upscale(*arguments) == 0
    done = files(tmp_path / "out")
    (tmp_path / "out" / "b.png").unlink()
    assert upscale(*arguments, "--resume") == 0
    assert computed == ["a.png", "b.png", "c.png", "b.png"]
    assert files(tmp_path / "out") == done
    assert "1 done, 2 skipped, 0 failed of 3 images" in capsys.readouterr().err
    assert upscale(*arguments, "--resume", "--quality", 20) == 0  # PNG has none
    assert len(computed) == 4
    assert upscale(*arguments, "--resume", "--backend", "ort-cpu") == 0
    assert len(computed) == 7
    assert upscale(*arguments) == 1
    assert len(computed) == 7


def test_what_another_run_finishes_meanwhile_is_skipped(
    tmp_path: Path, upscale: Upscale, computed: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    save_pictures(tmp_path / "in", "a.png")
    target = tmp_path / "out" / "a.png"
    assert upscale(tmp_path / "in", tmp_path / "out") == 0
    target.rename(tmp_path / "aside.png")
    look_up = Journal.look_up

    def finished_just_after(*args: Any) -> str:
        found = look_up(*args)
        if not target.exists():
            (tmp_path / "aside.png").rename(target)
        return found

    monkeypatch.setattr(Journal, "look_up", finished_just_after)
    assert upscale(tmp_path / "in", tmp_path / "out", "--resume") == 0
    assert computed == ["a.png"]


def test_what_changed_is_done_again_whatever_the_clock_says(
    tmp_path: Path, upscale: Upscale, computed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    save_pictures(tmp_path / "in", "a.png", "b.png", "c.png")
    arguments = [tmp_path / "in", tmp_path / "out", "--resume"]
    assert upscale(*arguments) == 0
    for index, path in enumerate([*(tmp_path / "in").iterdir(), *(tmp_path / "out").iterdir()]):
        os.utime(path, (index * 10**9, index * 10**9))
    assert upscale(*arguments) == 0
    assert len(computed) == 3
    times = (tmp_path / "in" / "b.png").stat()
    shutil.copy(tmp_path / "in" / "a.png", tmp_path / "in" / "b.png")
    os.utime(tmp_path / "in" / "b.png", ns=(times.st_atime_ns, times.st_mtime_ns))
    assert upscale(*arguments, "--verbose") == 0
    assert "b.png is made again, since the input changed" in capsys.readouterr().err
    assert computed[3:] == ["b.png"]
    assert len({(tmp_path / "out" / name).read_bytes() for name in ("a.png", "b.png")}) == 1


def test_one_file_is_resumed_too_and_has_no_journal_otherwise(
    tmp_path: Path, upscale: Upscale, computed: list[str]
) -> None:
    save_pictures(tmp_path, "a.png")
    assert upscale(tmp_path / "a.png", tmp_path / "one.png") == 0
    assert not (tmp_path / JOURNAL).exists()
    assert upscale(tmp_path / "a.png", tmp_path / "two.png", "--resume") == 0
    assert upscale(tmp_path / "a.png", tmp_path / "two.png", "--resume") == 0
    assert upscale(tmp_path / "a.png", tmp_path / "one.png", "--skip-existing") == 0
    assert computed == ["a.png", "a.png"]


def test_an_input_that_is_deleted_in_between_fails_alone(
    tmp_path: Path, upscale: Upscale, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    save_pictures(tmp_path / "in", *["a.png", "b.png", "c.png", "d.png", "e.png"])
    shown = OutcomePrinter.progress

    def deleting(self: OutcomePrinter, job: Any, done: int, total: int) -> None:
        (tmp_path / "in" / "d.png").unlink(missing_ok=True)
        shown(self, job, done, total)

    monkeypatch.setattr(OutcomePrinter, "progress", deleting)
    assert upscale(tmp_path / "in", tmp_path / "out") == 1
    assert f"error: {tmp_path / 'in' / 'd.png'} does not exist" in capsys.readouterr().err
    assert set(files(tmp_path / "out")) == {"a.png", "b.png", "c.png", "e.png"}


def test_names_that_are_too_long_fail_alone(
    tmp_path: Path, upscale: Upscale, capsys: pytest.CaptureFixture[str]
) -> None:
    save_pictures(tmp_path / "in", f"{'n' * 240}.png", "b.png")
    arguments = [tmp_path / "in" / f"{'m' * 300}.png", tmp_path / "in", tmp_path / "out"]
    assert upscale(*arguments, "--resume", "--name", f"{{stem}}{'_' * 20}{{ext}}") == 1
    assert capsys.readouterr().err.count("File name too long") == 4  # once as it happens, once in the summary
    assert set(files(tmp_path / "out")) == {f"b{'_' * 20}.png"}


def test_a_folder_that_cannot_be_written_is_one_error_before_work(
    tmp_path: Path, upscale: Upscale, computed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    save_pictures(tmp_path / "in", "a.png", "s/b.png")
    assert upscale(tmp_path / "in", "/proc/out", "-r") == 1
    assert "error: the folder /proc/out cannot be created" in capsys.readouterr().err
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "s").write_bytes(b"a file")
    assert upscale(tmp_path / "in", tmp_path / "out", "-r") == 1
    assert f"the folder {tmp_path / 'out' / 's'} cannot be created" in capsys.readouterr().err
    assert computed == []


def test_the_run_ends_with_the_first_output_that_has_no_room(
    tmp_path: Path,
    upscale: Upscale,
    computed: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    save_pictures(tmp_path / "in", *(f"{index}.png" for index in range(6)))
    replace = Path.replace

    def full(self: Path, target: Path) -> Path:
        if target.name == "1.png":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return replace(self, target)

    monkeypatch.setattr(Path, "replace", full)
    assert upscale(tmp_path / "in", tmp_path / "out") == 1
    assert "the disk is full, with 5 images left to upscale" in capsys.readouterr().err
    assert len(computed) <= 4
    monkeypatch.undo()
    assert upscale(tmp_path / "in", tmp_path / "out", "--resume") == 0
    assert len(files(tmp_path / "out")) == 6


@pytest.fixture
def small_disk(tmp_path: Path) -> Any:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = shutil.which("mount")
    options = ["-t", "tmpfs", "-o", "size=256k", "none", str(folder)]
    if mount is None or subprocess.run([mount, *options], capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system is not permitted here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_a_full_disk_ends_the_run_and_nothing_is_lost(
    tmp_path: Path, small_disk: Path, upscale: Upscale, computed: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "in").mkdir()
    noise = np.random.default_rng(0)
    for index in range(12):
        Image.fromarray(noise.integers(0, 256, (24, 24, 3), np.uint8)).save(tmp_path / "in" / f"{index:02}.png")
    assert upscale(tmp_path / "in", tmp_path / "whole") == 0
    whole = files(tmp_path / "whole")
    size = sum(map(len, whole.values()))
    (small_disk / "ballast").write_bytes(bytes((256 << 10) - size // 2))
    computed.clear()
    assert upscale(tmp_path / "in", small_disk / "out") == 1
    err = capsys.readouterr().err
    assert "No space left on device" in err
    assert "error: the disk is full, with " in err
    assert "--resume" in err
    assert 0 < len(computed) < 12
    done = files(small_disk / "out")
    assert all(whole[name] == content for name, content in done.items())
    assert not list((small_disk / "out").glob(".*.part*"))
    (small_disk / "ballast").unlink()
    computed.clear()
    assert upscale(tmp_path / "in", small_disk / "out", "--resume") == 0
    assert set(computed) == set(whole) - set(done)
    assert files(small_disk / "out") == whole

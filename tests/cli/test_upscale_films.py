"""``lkdn-upscale`` of films."""

import json
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest

from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli._upscale_options import CODECS
from lkdn_deploy.cli.upscale import command
from lkdn_deploy.samples import sample_pixels

av = pytest.importorskip("av")


def film(path: Path, count: int = 6, picture: np.ndarray | None = None) -> Path:
    """Write a film of a part of a picture that moves, by default of a photograph."""
    photograph = sample_pixels()[:60] if picture is None else picture
    with av.open(str(path), "w") as container:
        track = container.add_stream("libx264", rate=25, width=32, height=24, options={"crf": "10"})
        for number in range(count):
            pixels = np.ascontiguousarray(photograph[number : number + 24, 2 * number : 2 * number + 32])
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25)
            container.mux(track.encode(frame))
        container.mux(track.encode(None))
    return path


def test_a_film_is_upscaled_and_its_path_printed(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, target = film(tmp_path / "film.mkv"), tmp_path / "large.mp4"
    assert run(command, [str(source), str(target), "--scale", "2"]) == 0
    said = capfd.readouterr()
    assert said.out.strip() == str(target)
    assert "32x24 -> 64x48, 6 pictures with lkdn-s x2" in said.err
    with av.open(str(target)) as result:
        assert [frame.width for frame in result.decode(video=0)] == [64] * 6


def test_films_go_into_a_folder_and_one_that_fails_does_not_end_the_rest(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    whole, damaged = film(tmp_path / "whole.mkv"), tmp_path / "damaged.avi"
    damaged.write_bytes(b"RIFF0000AVI nothing")
    words = [str(damaged), str(whole), str(tmp_path / "large"), "--scale", "2", "--json", "--end", "0.1"]
    assert run(command, words) == 1
    lines = [json.loads(line) for line in capfd.readouterr().out.splitlines()]
    assert [line["status"] for line in lines] == ["failed", "done"]
    assert (lines[1]["pictures"], lines[1]["codec"]) == (3, "libx264")
    assert sorted(path.name for path in (tmp_path / "large").iterdir()) == [".lkdn-upscale.jsonl", "whole.mkv"]
    assert run(command, [*words, "--resume"]) == 1
    assert '"status": "skipped"' in capfd.readouterr().out  # though the first run had no --resume


def test_a_finished_film_is_skipped_on_request(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, target = film(tmp_path / "film.mkv"), tmp_path / "large.mkv"
    words = [str(source), str(target), "--scale", "2", "--preset", "ultrafast"]
    assert run(command, [*words, "--resume"]) == 0
    assert run(command, words) == 2
    assert "already exists" in capfd.readouterr().err
    before = target.stat().st_mtime_ns
    assert run(command, [*words, "--resume", "--json"]) == 0
    assert run(command, [*words, "--skip-existing", "--json"]) == 0
    assert capfd.readouterr().out.count('"skipped"') == 2
    assert target.stat().st_mtime_ns == before
    assert run(command, [*words, "--resume", "--crf", "20", "--quiet"]) == 0
    assert target.stat().st_mtime_ns > before
    assert capfd.readouterr().err == ""


@pytest.mark.long
def test_in_fixed_point_the_end_says_how_ranges_were_used(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    noise = 255 * np.random.default_rng(1).integers(0, 2, (60, 90, 1), np.uint8).repeat(3, axis=2)
    films = [film(tmp_path / "usual.mkv"), film(tmp_path / "noise.mkv", 3, noise)]
    words = [*map(str, films), str(tmp_path / "large"), "--scale", "2", "--precision", "int16", "--verbose"]
    assert run(command, [*words, "--json"]) == 0
    said = capfd.readouterr()
    usual, hostile = (json.loads(line)["fixed_point"] for line in said.out.splitlines())
    assert (usual["windows"], usual["again"]) == (6, 0)
    assert (hostile["windows"], hostile["again"]) == (3, 3)
    assert 0 < max(usual["used"].values()) < max(hostile["used"].values()) == 1
    assert "fixed point: 0 of 6 windows computed again in FP32; most of their ranges used: " in said.err
    assert "fixed point: 3 of 3 windows computed again in FP32; " in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["film.mkv", "photo.png", "large"], "two commands"),
        (["photo.png", "large.png", "--crf", "20"], "--crf is for films"),
        (["photo.png", "large.png", "--crf", "0"], "--crf is for films"),
        (["film.mkv", "large.mkv", "--max-memory", "1G"], "--max-memory is for pictures"),
        (["film.mkv", "large.mkv", "--quality", "20"], "--quality is for pictures"),
        (["film.mkv", "large.png"], ".mkv"),
        (["film.mkv", "-"], "films are read from files"),
        (["-", "large.mkv"], "films are read from files"),
        (["film.mkv", "large.mkv", "--start", "soon"], "hh:mm:ss"),
    ],
)
def test_options_that_do_not_fit_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(command, words) == 2
    assert said in capfd.readouterr().err


def test_without_pyav_the_extra_is_named(tmp_path: Path) -> None:
    code = "import sys; sys.modules['av'] = None\nfrom lkdn_deploy.cli.upscale import main; main()"
    words = [sys.executable, "-c", code, str(film(tmp_path / "film.mkv")), str(tmp_path / "large.mkv")]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, "Traceback" in done.stderr) == (3, False)
    assert ".[video]" in done.stderr


def test_the_options_name_the_codecs_that_there_are() -> None:
    from lkdn_deploy.video import encoding

    assert tuple(encoding.CODECS) == CODECS

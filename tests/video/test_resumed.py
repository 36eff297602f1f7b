"""Films that are broken off: nothing half is left, nothing finished is computed again, and the film is the same."""

import errno
import json
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from film_maker import Doubler, Recipe, make_film

from lkdn_deploy import Upscaler
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.runtime.journal import Journal
from lkdn_deploy.video.rendering import FilmSettings, begin_film, render
from lkdn_deploy.video.segments import folder_for, locked

FRAMES, SEGMENT = 40, 6


@pytest.fixture
def film(tmp_path: Path) -> Path:
    return make_film(tmp_path / "film.mkv", Recipe(times=range(FRAMES), sounds=[("aac", "deu")]))


class Broken(Exception):  # noqa: N818 - it is no error
    """The run ends here."""


def run(film: Path, target: Path, stop: int | None = None, **settings: Any) -> int:
    """Render, broken off after some pictures if ``stop`` says so, and return how many were computed."""
    session = Doubler()

    def progress(done: int, total: int | None) -> None:
        if stop is not None and done >= stop:
            raise Broken

    before = threads()
    chosen = FilmSettings(segment=SEGMENT, preset="ultrafast", **settings)
    begun = begin_film(film, target, chosen)
    if stop is None:
        render(Upscaler(session), begun, progress=progress)
    else:
        with pytest.raises(Broken):
            render(Upscaler(session), begun, progress=progress)
        assert not target.exists()
    assert threads() <= before
    return session.runs


def threads() -> set[threading.Thread]:
    """Return the package's threads; those of other tests' sessions may still be there."""
    return {thread for thread in threading.enumerate() if thread.name.startswith("lkdn-")}


def pictures(path: Path) -> list[tuple[int, bytes]]:
    with av.open(str(path)) as film:
        return [(frame.pts, frame.to_ndarray().tobytes()) for frame in film.decode(video=0)]


def finished(target: Path) -> int:
    return len(list(folder_for(target).glob("*.segment")))


def test_a_film_that_is_broken_off_again_and_again_is_that_of_one_run(film: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one.mkv", tmp_path / "other.mkv"
    assert run(film, one) == FRAMES
    before = 0
    for stop in (3, 8, 20, 21, 39, 40):
        computed = run(film, other, stop, resume=True)
        assert computed == max(stop - before * SEGMENT, 0)
        assert finished(other) >= before
        before = finished(other)
    assert run(film, other, resume=True) == FRAMES - min(before * SEGMENT, FRAMES)
    assert one.read_bytes() == other.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mkv", "one.mkv", "other.mkv"]


def test_only_segments_of_the_same_film_and_settings_are_used(film: Path, tmp_path: Path) -> None:
    target = tmp_path / "large.mkv"
    run(film, target, 20)
    kept = finished(target)
    assert kept >= 2
    with pytest.raises(UsageError, match="broken off"):
        begin_film(film, target, FilmSettings())
    assert run(film, target, 20, crf=20, resume=True) == 20
    assert run(film, target, 30, crf=20, resume=True) == 30 - SEGMENT * kept
    make_film(film, Recipe(times=range(FRAMES), size=(32, 26)))
    assert run(film, target, 30, crf=20, resume=True) == 30
    first = folder_for(target) / "000000.segment"
    first.write_bytes(first.read_bytes()[:-40] + b"x" + first.read_bytes()[-39:])
    assert run(film, target, crf=20, resume=True) == FRAMES
    assert run(film, target, crf=20, overwrite=True) == FRAMES


def test_a_journal_knows_finished_films(film: Path, tmp_path: Path) -> None:
    target = tmp_path / "large.mkv"
    settings = FilmSettings(resume=True)

    def begin(journal: Journal, chosen: FilmSettings = settings) -> Any:
        journal.load([target])
        return begin_film(film, target, chosen, journal)

    render(Upscaler(Doubler()), begin(Journal(tmp_path, b"work")))
    assert begin(Journal(tmp_path, b"work")).finished
    assert not begin(Journal(tmp_path, b"other work")).finished
    assert not begin(Journal(tmp_path, b"work"), FilmSettings(resume=True, crf=20)).finished
    with pytest.raises(UsageError, match="already exists"):
        begin_film(film, target, settings)


def test_two_runs_do_not_make_one_film(film: Path, tmp_path: Path) -> None:
    target = tmp_path / "large.mkv"
    with locked(folder_for(target)), pytest.raises(UsageError, match="another run"):
        render(Upscaler(Doubler()), begin_film(film, target, FilmSettings()))
    assert run(film, target) == FRAMES


def test_files_of_others_are_never_removed(film: Path, tmp_path: Path) -> None:
    target, others = tmp_path / "large.mkv", tmp_path / "others"
    others.mkdir()
    (others / "000000.segment").write_bytes(b"theirs")
    folder_for(target).symlink_to(others)
    with pytest.raises(InputError, match="it is a link"):
        render(Upscaler(Doubler()), begin_film(film, target, FilmSettings(overwrite=True)))
    assert (others / "000000.segment").exists()
    folder_for(target).unlink()
    folder_for(target).mkdir()
    (folder_for(target) / "notes.txt").write_bytes(b"theirs")
    assert run(film, target) == FRAMES
    assert [path.name for path in folder_for(target).iterdir()] == ["notes.txt"]


def test_errors_of_any_side_end_all_sides(film: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = threads()
    target = tmp_path / "large.mkv"

    class Failing(Doubler):
        def run(self, batch: np.ndarray) -> np.ndarray:
            if self.runs == 9:
                msg = "the device is gone"
                raise InputError(msg)
            return super().run(batch)

    def full(_descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(InputError, match="device is gone"):
        render(Upscaler(Failing()), begin_film(film, target, FilmSettings(segment=SEGMENT)))
    assert finished(target) == 1
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(InputError, match="No space left"):
            render(Upscaler(Doubler()), begin_film(film, target, FilmSettings(segment=SEGMENT, overwrite=True)))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mkv"]
    begun = begin_film(film, target, FilmSettings())
    film.write_bytes(film.read_bytes() + b"more")
    film.unlink()
    with pytest.raises(InputError, match=r"film\.mkv"):
        render(Upscaler(Doubler()), begun)
    assert list(tmp_path.iterdir()) == []
    assert threads() <= before


def killed_and_resumed(tmp_path: Path, frames: int, kills: int, seed: int) -> None:
    """Kill the command at random moments, and compare the film, and what was computed, with those of one run."""
    film = make_film(tmp_path / "film.mkv", Recipe(times=range(frames), size=(48, 32), sounds=[("aac", "deu")]))
    one, other = tmp_path / "one.mkv", tmp_path / "other.mkv"
    code = "from lkdn_deploy.cli.upscale import main; main()"
    words = [sys.executable, "-c", code, str(film)]
    options = ["--scale", "2", "--preset", "ultrafast", "--resume", "--json"]
    start = time.monotonic()
    subprocess.run([*words, str(one), *options], check=True, capture_output=True)
    length, rng = time.monotonic() - start, random.Random(seed)  # noqa: S311
    states: dict[str, tuple[int, int]] = {}
    for _ in range(kills):
        with subprocess.Popen(
            [*words, str(other), *options], stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            try:
                process.wait(rng.uniform(0.1, 0.5 + length / 4))
            except subprocess.TimeoutExpired:
                process.kill()
        if other.exists():
            break
        now = {
            path.name: (path.stat().st_ino, path.stat().st_mtime_ns)
            for path in folder_for(other).glob("[0-9]*.segment")
        }
        assert {name: now.get(name) for name in states} == states  # what was finished is still that file
        states = now
    if not other.exists():
        done = subprocess.run([*words, str(other), *options], check=True, capture_output=True, text=True)
        assert json.loads(done.stdout)["computed"] == max(frames - 120 * len(states), 0)
    assert pictures(one) == pictures(other)


def test_a_killed_film_is_resumed(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, 260, 2, 0)


@pytest.mark.long
def test_a_film_is_killed_twenty_times(tmp_path: Path) -> None:
    killed_and_resumed(tmp_path, 1500, 20, 1)

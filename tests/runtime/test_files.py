"""Many files through one upscaler: in order, each for itself, whole or not at all."""

import errno
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image
from twice import Twice, assert_doubled, images

import lkdn_deploy.runtime.files as module
import lkdn_deploy.runtime.memory as memory_module
import lkdn_deploy.runtime.reading as reading_module
from lkdn_deploy import Upscaler
from lkdn_deploy.core.errors import InputError, OutOfDeviceMemory, UsageError
from lkdn_deploy.imaging.files import png
from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.files.read import read_picture
from lkdn_deploy.imaging.files.write import write_picture
from lkdn_deploy.imaging.tiles import Tile
from lkdn_deploy.runtime.files import upscale_files
from lkdn_deploy.runtime.outcomes import Failed, Job, Upscaled
from lkdn_deploy.runtime.reading import begin
from lkdn_deploy.runtime.tiling import UpscaledRows
from lkdn_deploy.samples import sample_pixels

Watch = Callable[[str, Callable[[Path], object]], None]


@pytest.fixture
def upscaler() -> Upscaler:
    return Upscaler(Twice())


@pytest.fixture
def before(monkeypatch: pytest.MonkeyPatch) -> Watch:
    """``before(name, call)``: ``call`` gets the path before each reading, or writing, of a picture."""

    def watch(name: str, call: Callable[[Path], object]) -> None:
        place = reading_module if name == "read_picture" else module
        function = getattr(place, name)

        def watched(path: Path, *args: Any, **options: Any) -> Any:
            call(path)
            return function(path, *args, **options)

        monkeypatch.setattr(place, name, watched)

    return watch


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_results_come_in_the_order_of_the_jobs_and_say_what_was_done(
    count: int, tmp_path: Path, upscaler: Upscaler
) -> None:
    jobs = images(tmp_path, count)
    outcomes = list(upscale_files(upscaler, iter(jobs)))
    assert [outcome.job for outcome in outcomes] == jobs
    assert_doubled(*jobs)
    for outcome in outcomes:
        assert isinstance(outcome, Upscaled)
        assert (outcome.width, outcome.height, outcome.tiles, outcome.exact) == (100, 80, 1, True)
        assert (outcome.header.width, outcome.header.depth, outcome.notes) == (50, 8, ())


def test_a_result_is_in_its_place_when_it_is_given(tmp_path: Path, upscaler: Upscaler) -> None:
    for outcome in upscale_files(upscaler, images(tmp_path, 4)):
        assert_doubled(outcome.job)


@pytest.mark.parametrize("bad", [0, 1, 2, 3])
def test_a_bad_file_does_not_spoil_the_others(bad: int, tmp_path: Path, upscaler: Upscaler) -> None:
    jobs = images(tmp_path, 4)
    whole = jobs[bad].source.read_bytes()
    jobs[bad].source.write_bytes(whole[: len(whole) // 2])
    outcomes = list(upscale_files(upscaler, jobs))
    assert [outcome.job for outcome in outcomes] == jobs
    assert [isinstance(outcome, Failed) for outcome in outcomes] == [index == bad for index in range(4)]
    failed = outcomes[bad]
    assert isinstance(failed, Failed)
    assert isinstance(failed.error, InputError)
    assert f"{bad}.png" in failed.error.message
    assert not jobs[bad].target.exists()
    assert_doubled(*(job for job in jobs if job is not jobs[bad]))


def test_each_way_to_fail_is_an_error_of_that_job(
    tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch, before: Watch
) -> None:
    jobs = images(tmp_path, 6)
    jobs[0] = Job(tmp_path / "gone.png", jobs[0].target)
    jobs[1] = Job(jobs[1].source, jobs[1].source)  # exists
    jobs[2] = Job(jobs[2].source, tmp_path / "2.xyz")
    full, run = jobs[4].target, Twice.run

    def write_but_one(path: Path) -> None:
        if path == full:
            msg = "the disk is full"
            raise InputError(msg)

    def run_but_one(self: Twice, batch: np.ndarray) -> np.ndarray:
        if np.array_equal(np.rint(batch[0, 0] * 255), read_picture(jobs[3].source).pixels[:, :, 0]):
            raise MemoryError
        return run(self, batch)

    before("write_bands", write_but_one)
    monkeypatch.setattr(Twice, "run", run_but_one)
    outcomes = list(upscale_files(upscaler, jobs))
    errors = [(type(outcome.error), outcome.error.message) for outcome in outcomes if isinstance(outcome, Failed)]
    assert [kind for kind, _ in errors] == [InputError, UsageError, UsageError, InputError, InputError]
    for (_, said), part in zip(errors, ["does not exist", "exists", "'.xyz'", "fit into memory", "disk"], strict=True):
        assert part in said
    assert isinstance(outcomes[5], Upscaled)
    assert_doubled(jobs[5])


def test_one_is_read_and_one_written_while_the_network_works(tmp_path: Path, before: Watch) -> None:
    """Each waits for the others to have begun: one after the other, none would."""
    begun = {name: threading.Event() for name in ("the third read", "the second run", "the first written")}

    def together(name: str) -> None:
        begun[name].set()
        assert all(event.wait(20) for event in begun.values())

    class Waiting(Twice):
        runs = 0

        def run(self, batch: np.ndarray) -> np.ndarray:
            self.runs += 1
            if self.runs == 2:
                together("the second run")
            return super().run(batch)

    jobs = images(tmp_path, 3)
    before("read_picture", lambda path: path == jobs[2].source and together("the third read"))
    before("write_bands", lambda path: path == jobs[0].target and together("the first written"))
    assert all(isinstance(outcome, Upscaled) for outcome in upscale_files(Upscaler(Waiting()), jobs))
    assert_doubled(*jobs)


def test_a_picture_whose_reading_was_begun_is_not_read_again(tmp_path: Path, upscaler: Upscaler, before: Watch) -> None:
    jobs, paths = images(tmp_path, 2), []
    before("read_picture", paths.append)
    first = begin(jobs[0])
    assert first.picture is not None
    assert all(isinstance(outcome, Upscaled) for outcome in upscale_files(upscaler, jobs, first=first))
    assert paths == [job.source for job in jobs]
    assert_doubled(*jobs)


def test_an_error_of_reading_beforehand_is_that_of_the_job(tmp_path: Path, upscaler: Upscaler) -> None:
    (job,) = images(tmp_path, 1)
    job.source.write_bytes(job.source.read_bytes()[:200])
    (failed,) = upscale_files(upscaler, [job], first=begin(job))
    assert isinstance(failed, Failed)
    assert "0.png: the image cannot be decoded" in failed.error.message


def test_a_large_picture_is_not_read_before_it_is_known_to_fit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (job,) = images(tmp_path, 1)
    monkeypatch.setattr(reading_module, "_EAGER_PIXELS", 40 * 50 - 1)
    assert begin(job).picture is None


def test_the_plan_that_ran_is_reported_after_memory_ran_out(tmp_path: Path) -> None:
    class Small(Twice):
        windows = 0

        def run(self, batch: np.ndarray) -> np.ndarray:
            if batch[0, 0].size > 66 * 66:
                msg = "the GPU is out of memory"
                raise OutOfDeviceMemory(msg)
            self.windows += 1
            return super().run(batch)

    Image.fromarray(sample_pixels()[:120, :150]).save(tmp_path / "in.png")
    job, session = Job(tmp_path / "in.png", tmp_path / "out.png"), Small()
    (outcome,) = upscale_files(Upscaler(session), [job])
    assert isinstance(outcome, Upscaled)
    assert outcome.tiles == session.windows > 1
    assert_doubled(job)


def test_no_more_than_one_is_read_ahead_and_one_behind(
    tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch, before: Watch
) -> None:
    counts = {"read": 0, "written": 0}
    held = []
    write = module.write_bands

    def reading(_: Path) -> None:
        counts["read"] += 1
        held.append(counts["read"] - counts["written"])

    def writing(*what: Any, **options: Any) -> tuple[str, ...]:
        time.sleep(0.05)
        notes = write(*what, **options)
        counts["written"] += 1
        return notes

    before("read_picture", reading)
    monkeypatch.setattr(module, "write_bands", writing)
    jobs = images(tmp_path, 8)
    asked: list[Job] = []

    def lazily() -> Iterator[Job]:
        for job in jobs:
            asked.append(job)
            yield job

    for index, _ in enumerate(upscale_files(upscaler, lazily())):
        assert len(asked) <= index + 4
    assert counts == {"read": 8, "written": 8}
    assert 2 <= max(held) <= 3


def test_jobs_wait_for_each_other_where_memory_is_short(
    tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch, before: Watch
) -> None:
    """Enough for one: 40 x 50 pixels of 3 bytes, four times that, 100 bytes a pixel in the network, and its values."""
    jobs, held = images(tmp_path, 4), []
    before("read_picture", lambda _: held.append(sum(job.target.exists() for job in jobs)))
    need = 40 * 50 * (3 + 12 + 100 + 12 * 5)
    monkeypatch.setattr(memory_module, "_ENGINE", 0)
    monkeypatch.setattr(memory_module, "_taken", lambda: 0)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("memory", (), {"available": need}))
    assert all(isinstance(outcome, Upscaled) for outcome in upscale_files(upscaler, jobs))
    assert held == [0, 1, 2, 3]  # each begins when the one before it is written
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("memory", (), {"available": need - 1}))
    (failed,) = upscale_files(upscaler, [Job(jobs[0].source, tmp_path / "large.png")])
    assert isinstance(failed, Failed)
    assert "x2 of 50x40 needs 1 MiB beside the program, 0 MiB are free" in failed.error.message


def large_job(folder: Path, name: str = "out.png") -> Job:
    write_picture(folder / "in.tif", Picture(np.tile(sample_pixels()[:120, :150], (6, 1, 1))))
    return Job(folder / "in.tif", folder / name)


@pytest.mark.parametrize("name", ["out.png", "out.jpg", "out.tif", "out.webp"])
def test_a_picture_that_does_not_fit_is_read_in_parts_with_the_same_result(
    name: str, tmp_path: Path, upscaler: Upscaler, monkeypatch: pytest.MonkeyPatch, before: Watch
) -> None:
    job, read = large_job(tmp_path, name), []
    (whole,) = upscale_files(upscaler, [job])
    content = job.target.read_bytes()
    job.target.unlink()
    before("read_picture", read.append)
    monkeypatch.setattr(memory_module, "MAX_PIXELS", 1000)
    (parts,) = upscale_files(Upscaler(Twice(), memory_budget=100 * 100 * 100), [job])
    assert isinstance(whole, Upscaled)
    assert isinstance(parts, Upscaled)
    assert parts.tiles > whole.tiles == 1
    assert job.target.read_bytes() == content
    assert read == []


def test_a_result_that_cannot_be_written_stops_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: Watch
) -> None:
    session, job = Twice(), large_job(tmp_path)
    monkeypatch.setattr(png, "_STRIPE", 1 << 10)
    deflated = png.deflate_blocks

    def fail_later(samples: Any, calls: list[int] = []) -> bytes:  # noqa: B006 - it counts
        calls.append(1)
        if len(calls) > 100:
            msg = "the disk is full"
            raise OSError(errno.ENOSPC, msg)
        return deflated(samples)

    monkeypatch.setattr(png, "deflate_blocks", fail_later)
    runs: list[int] = []
    (failed,) = upscale_files(Upscaler(session, tile=30), [job], progress=lambda _, done, __: runs.append(done))
    assert isinstance(failed, Failed)
    assert "out.png cannot be written: the disk is full" in failed.error.message
    assert 2 < max(runs) < len(Upscaler(session, tile=30).plan(720, 150))
    assert names(tmp_path) == {"in.tif"}


def test_a_network_that_fails_after_some_rows_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run, runs = Twice.run, []

    def fail_later(self: Twice, batch: Any) -> Any:
        runs.append(1)
        if len(runs) == 40:
            msg = "the engine stopped"
            raise InputError(msg)
        return run(self, batch)

    monkeypatch.setattr(Twice, "run", fail_later)
    first, second = images(tmp_path, 2)
    outcomes = list(upscale_files(Upscaler(Twice(), tile=30), [large_job(tmp_path), first, second]))
    assert [type(outcome) for outcome in outcomes] == [Failed, Upscaled, Upscaled]
    assert "the engine stopped" in outcomes[0].error.message  # type: ignore[union-attr]
    assert not (tmp_path / "out.png").exists()
    assert not list(tmp_path.glob(".*"))
    assert_doubled(first, second)


def test_at_most_two_bands_are_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bands: list[weakref.ref[np.ndarray]] = []
    most = 0
    make = UpscaledRows._new_band

    def watched(self: UpscaledRows, tile: Tile) -> Any:
        nonlocal most
        band = make(self, tile)
        bands.append(weakref.ref(band))
        most = max(most, sum(each() is not None for each in bands))
        return band

    monkeypatch.setattr(UpscaledRows, "_new_band", watched)
    monkeypatch.setattr(png, "_STRIPE", 1 << 10)
    (outcome,) = upscale_files(Upscaler(Twice(), tile=30), [large_job(tmp_path)])
    assert isinstance(outcome, Upscaled)
    assert len(bands) > 10
    assert most <= 3  # of the one before, a stripe may still be in an encoder


def test_a_job_that_reads_what_another_writes_reads_it_written(tmp_path: Path, upscaler: Upscaler) -> None:
    (first,) = images(tmp_path, 1)
    second = Job(first.target, tmp_path / "x4.png")
    third = Job(tmp_path / "." / "x4.png", tmp_path / "x8.png")
    assert all(isinstance(outcome, Upscaled) for outcome in upscale_files(upscaler, [first, second, third]))
    assert_doubled(first, second, third)
    assert read_picture(tmp_path / "x8.png").width == 400


def test_of_two_jobs_for_one_target_the_second_finds_it_there(tmp_path: Path, upscaler: Upscaler) -> None:
    first, second = images(tmp_path, 2)
    done, failed = upscale_files(upscaler, [first, Job(second.source, first.target)])
    assert isinstance(done, Upscaled)
    assert isinstance(failed, Failed)
    assert "exists" in failed.error.message
    assert_doubled(first)


@pytest.mark.parametrize("stop", ["close", "interrupt"])
def test_what_is_broken_off_leaves_whole_files_only_and_no_thread(
    stop: str, tmp_path: Path, upscaler: Upscaler, before: Watch
) -> None:
    before("write_bands", lambda _: time.sleep(0.2))
    jobs = images(tmp_path, 6)

    def interrupt(job: Job, done: int, _total: int) -> None:
        if job == jobs[2] and done and stop == "interrupt":
            raise KeyboardInterrupt

    threads = threading.active_count()
    with closing(upscale_files(upscaler, jobs, progress=interrupt)) as outcomes:
        if stop == "interrupt":
            with pytest.raises(KeyboardInterrupt):
                list(outcomes)
        else:
            next(outcomes)
    assert threading.active_count() == threads
    sources = {job.source.name for job in jobs}
    assert names(tmp_path) == sources | {"0_x2.png", "1_x2.png"}
    assert_doubled(*jobs[:2])


def test_progress_names_the_job_and_begins_with_none_done(tmp_path: Path) -> None:
    seen: list[tuple[Job, int, int]] = []
    jobs = images(tmp_path, 2)
    upscaler = Upscaler(Twice(), tile=10)
    list(upscale_files(upscaler, jobs, progress=lambda *step: seen.append(step)))
    tiles = len(upscaler.plan(40, 50))
    assert seen == [(job, done, tiles) for job in jobs for done in range(tiles + 1)]


def test_notes_of_reading_and_writing_are_kept_once_each(tmp_path: Path, upscaler: Upscaler) -> None:
    write_picture(tmp_path / "deep.png", Picture(sample_pixels()[:8, :8].astype(np.uint16) * 257))
    (done,) = upscale_files(upscaler, [Job(tmp_path / "deep.png", tmp_path / "x2.jpg")])
    assert isinstance(done, Upscaled)
    assert [note.split(" bits")[0] for note in done.notes] == ["reduced from 16 to 8"]


def test_an_error_that_is_kept_keeps_no_picture(tmp_path: Path) -> None:
    seen: list[weakref.ref[np.ndarray]] = []

    class Failing(Twice):
        def run(self, batch: np.ndarray) -> np.ndarray:
            seen.append(weakref.ref(batch))
            try:
                raise RuntimeError
            except RuntimeError as error:
                msg = "the engine stopped"
                raise InputError(msg) from error

    outcomes = list(upscale_files(Upscaler(Failing()), images(tmp_path, 3)))
    assert [outcome.error.message for outcome in outcomes if isinstance(outcome, Failed)] == ["the engine stopped"] * 3
    assert len(seen) == 3
    assert all(picture() is None for picture in seen)

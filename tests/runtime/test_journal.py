"""A journal says of outputs only what the files themselves confirm."""

import json
import logging
import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from twice import Twice, assert_doubled, images

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import publish
from lkdn_deploy.runtime.files import upscale_files
from lkdn_deploy.runtime.journal import Journal, SourceState, work_digest
from lkdn_deploy.runtime.outcomes import Failed, Job, Skipped, Upscaled
from lkdn_deploy.runtime.settings import OutputSettings
from lkdn_deploy.runtime.upscaler import Upscaler

SETTINGS = OutputSettings().canonical()
WORK = work_digest(b"network", "{}", "1")


@pytest.fixture
def source(tmp_path: Path) -> Path:
    (tmp_path / "a.png").write_bytes(b"the input")
    return tmp_path / "a.png"


@pytest.fixture
def output(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "a.png"


def journal(output: Path, *, work: bytes = WORK, share: str | None = None) -> Journal:
    return Journal(output.parent, work, share=share)


def done(output: Path, source: Path, content: bytes = b"the output", **options: str | bytes) -> None:
    """Write an output with its line."""
    seal = journal(output, **options).seal(output, SourceState.read(source), SETTINGS)  # type: ignore[arg-type]
    with publish(output, seal) as part:
        part.write_bytes(content)


def found(output: Path, source: Path, *, work: bytes = WORK, settings: str = SETTINGS) -> str:
    """Return what a later run finds."""
    later = journal(output, work=work)
    later.load([output])
    return later.look_up(output, SourceState.read(source), settings)


def test_what_was_done_is_finished_for_the_same_work_alone(source: Path, output: Path) -> None:
    done(output, source)
    assert found(output, source) == "finished"
    assert found(output, source, settings=OutputSettings(quality=3).canonical()) == "outdated"
    for other in ((b"other", "{}", "1"), (b"network", "x", "1"), (b"network", "{}", "2")):
        assert found(output, source, work=work_digest(*other)) == "outdated"


@pytest.mark.parametrize("same_time", [True, False])
def test_an_input_that_changed_is_seen_whatever_its_size_and_time(source: Path, output: Path, same_time: bool) -> None:
    done(output, source)
    before = source.stat()
    source.write_bytes(b"THE INPUT")
    os.utime(source, ns=(before.st_atime_ns, before.st_mtime_ns if same_time else 0))
    assert found(output, source) == "outdated"
    source.write_bytes(b"the input")
    assert found(output, source) == "finished"


def test_an_output_that_changed_is_somebody_elses(source: Path, output: Path) -> None:
    done(output, source)
    before = output.stat()
    output.write_bytes(b"THE OUTPUT")
    os.utime(output, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert found(output, source) == "unknown"
    output.write_bytes(b"longer than the output")
    assert found(output, source) == "unknown"
    output.unlink()
    assert found(output, source) == "unknown"
    output.mkdir()
    assert found(output, source) == "unknown"


def test_clocks_decide_nothing(source: Path, output: Path) -> None:
    done(output, source)
    for path in (source, output, output.parent / ".lkdn-upscale.jsonl"):
        for time in (0, 1 << 33):
            os.utime(path, (time, time))
            assert found(output, source) == "finished"


def test_a_run_that_was_killed_before_the_name_was_given_has_a_line_that_proves_nothing(
    source: Path, output: Path
) -> None:
    seal = journal(output).seal(output, SourceState.read(source), SETTINGS)
    (output.parent / ".part").write_bytes(b"the output")
    seal(output.parent / ".part")
    assert found(output, source) == "unknown"
    output.write_bytes(b"an older file")
    assert found(output, source) == "unknown"


def test_no_order_of_lines_matters(source: Path, output: Path) -> None:
    done(output, source, b"first")
    done(output, source, b"second")
    for content in (b"first", b"second"):
        output.write_bytes(content)
        assert found(output, source) == "finished"
    for index in range(20):
        done(output, source, b"%d" % index)
    output.write_bytes(b"first")
    assert found(output, source) == "unknown"  # only the last lines on an output are kept in memory
    output.write_bytes(b"19")
    assert found(output, source) == "finished"


DIGESTS = ("sha256", "input_sha256", "work_sha256")
TORN: list[bytes] = [
    *(b"", b"\n\n", b"{", b"null", b"[]", b"[" * 30_000, b'{"output": "a.png"}', b"\xff\xfe{\0", b"1" * 9999),
    b'{"output": ["a.png"], "size": 1}',
    b"x" * 100_000,
    b"\0" * 3_000_000,
    *(
        json.dumps({"output": "a.png", "size": size, **dict.fromkeys(DIGESTS, digest)}).encode()
        for size, digest in ((10**30, "0" * 64), (10, "g" * 64), (True, "0" * 64), (10, 3))
    ),
]


@pytest.mark.parametrize("torn", TORN, ids=range(len(TORN)))
def test_what_is_no_line_spoils_no_other(source: Path, output: Path, torn: bytes) -> None:
    done(output, source)
    path = output.parent / ".lkdn-upscale.jsonl"
    line = path.read_bytes()
    for content in (torn + line, line + b"\n" + torn, line[: len(line) // 2] + line):
        path.write_bytes(content)
        assert found(output, source) == "finished"
    path.write_bytes(line + torn)
    done(output, source, b"once more")
    assert found(output, source) == "finished"


def test_of_a_journal_without_end_only_the_end_is_read(
    source: Path, output: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lkdn_deploy.runtime.journal.MOST_BYTES", 1 << 22)  # reading a GiB takes seconds
    path = output.parent / ".lkdn-upscale.jsonl"
    with path.open("wb") as file:
        file.truncate(1 << 40)  # a hole
    done(output, source)
    assert found(output, source) == "finished"


def test_memory_is_that_of_the_outputs_of_the_run(source: Path, output: Path) -> None:
    done(output, source)
    line = json.loads((output.parent / ".lkdn-upscale.jsonl").read_bytes())
    with (output.parent / ".lkdn-upscale.1of2.jsonl").open("w") as file:
        file.writelines(json.dumps({**line, "output": f"{index}.png"}) + "\n" for index in range(1000))
    later = journal(output)
    later.load([output])
    assert later._lines.keys() == {"a.png"}
    assert later.look_up(output, SourceState.read(source), SETTINGS) == "finished"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_a_journal_that_is_no_file_is_neither_read_nor_written(
    kind: str, tmp_path: Path, source: Path, output: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, victim = output.parent / ".lkdn-upscale.jsonl", tmp_path / "victim"
    victim.touch()
    {"link": lambda: path.symlink_to(victim), "pipe": lambda: os.mkfifo(path), "folder": path.mkdir}[kind]()
    with caplog.at_level(logging.WARNING):
        done(output, source)
    assert "cannot be written, so --resume will not know" in caplog.text
    assert output.read_bytes() == b"the output"
    assert victim.read_bytes() == b""
    with pytest.raises(InputError, match=r"the journal .* cannot be read"):
        found(output, source)


def test_the_outputs_are_whole_where_the_journal_cannot_be_written_and_it_is_said_once(
    source: Path, output: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, text: write(descriptor, text[:20]))
    kept = journal(output)
    for name in ("a.png", "b.png"):
        path = output.with_name(name)
        with publish(path, kept.seal(path, SourceState.read(source), SETTINGS)) as part:
            part.write_bytes(b"the output")
    assert output.with_name("b.png").read_bytes() == b"the output"
    assert caplog.text.count("No space left on device") == 1
    monkeypatch.undo()
    done(output, source)
    assert found(output, source) == "finished"


def test_all_journals_of_the_folder_are_read(source: Path, output: Path) -> None:
    done(output, source, share="3of16")
    assert [path.name for path in output.parent.iterdir() if path != output] == [".lkdn-upscale.3of16.jsonl"]
    assert found(output, source) == "finished"


def test_lines_of_several_writers_are_whole(source: Path, output: Path) -> None:
    state, names = SourceState.read(source), [[f"{writer}-{index}.png" for index in range(40)] for writer in range(4)]

    def write(mine: list[str]) -> None:
        own = journal(output)
        for name in mine:
            path = output.with_name(name)
            with publish(path, own.seal(path, state, SETTINGS)) as part:
                part.write_bytes(name.encode())

    threads = [threading.Thread(target=write, args=(mine,)) for mine in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    lines = (output.parent / ".lkdn-upscale.jsonl").read_bytes().split(b"\n")
    assert lines[0] == b""
    assert {json.loads(line)["output"] for line in lines[1:]} == {name for mine in names for name in mine}
    assert len(lines) == 161


def test_names_of_all_kinds_are_found_again(source: Path, output: Path) -> None:
    for name in ("sub/a b.png", "ü\u2028.png", 'quote".png', "line\nbreak.png", os.fsdecode(b"\xff.png")):
        path = output.parent / name
        path.parent.mkdir(exist_ok=True)
        own = journal(output)
        with publish(path, own.seal(path, SourceState.read(source), SETTINGS)) as part:
            part.write_bytes(name.encode("utf-8", "surrogateescape"))
        later = journal(output)
        later.load([path])
        assert later.look_up(path, SourceState.read(source), SETTINGS) == "finished"


def upscaled(jobs: list[Job], *, resume: bool = True) -> tuple[list[Upscaled | Skipped | Failed], int]:
    """Return the outcomes, and how many pictures went through the network."""
    runs = []

    class Counting(Twice):
        def run(self, batch: object) -> object:  # type: ignore[override]
            runs.append(batch)
            return super().run(batch)  # type: ignore[arg-type]

    kept = Journal(jobs[0].target.parent, WORK)
    if resume:
        kept.load([job.target for job in jobs])
    return list(upscale_files(Upscaler(Counting()), jobs, journal=kept)), len(runs)


def kinds(outcomes: list[Upscaled | Skipped | Failed]) -> str:
    return "".join(type(outcome).__name__[0] for outcome in outcomes)


def test_a_second_run_computes_nothing_and_one_that_was_broken_off_the_rest(tmp_path: Path) -> None:
    jobs = images(tmp_path, 5)
    outcomes, runs = upscaled(jobs[:2], resume=False)
    assert (kinds(outcomes), runs) == ("UU", 2)
    outcomes, runs = upscaled(jobs)
    assert (kinds(outcomes), runs) == ("SSUUU", 3)
    contents = [job.target.read_bytes() for job in jobs]
    outcomes, runs = upscaled(jobs)
    assert (kinds(outcomes), runs) == ("SSSSS", 0)
    assert [outcome.job for outcome in outcomes] == jobs
    assert [job.target.read_bytes() for job in jobs] == contents


def test_what_is_outdated_is_replaced_and_what_is_unknown_is_kept(tmp_path: Path) -> None:
    jobs = images(tmp_path, 4)
    upscaled(jobs, resume=False)
    jobs[0].source.write_bytes(jobs[1].source.read_bytes())
    jobs[2].target.write_bytes(b"somebody's own")
    jobs[3].source.unlink()
    outcomes, runs = upscaled(jobs)
    assert (kinds(outcomes), runs) == ("USFF", 1)
    assert_doubled(jobs[0])
    assert jobs[2].target.read_bytes() == b"somebody's own"
    said = [outcome.error for outcome in outcomes if isinstance(outcome, Failed)]
    assert "2_x2.png exists, and is no result that the journal beside it knows" in said[0].message
    assert "does not exist" in said[1].message
    assert jobs[3].target.exists()


def test_a_lost_journal_takes_nothing_with_it(tmp_path: Path) -> None:
    jobs = images(tmp_path, 2)
    upscaled(jobs, resume=False)
    (tmp_path / ".lkdn-upscale.jsonl").unlink()
    contents = [job.target.read_bytes() for job in jobs]
    assert kinds(upscaled(jobs)[0]) == "FF"
    assert [job.target.read_bytes() for job in jobs] == contents
    overwriting = [Job(job.source, job.target, overwrite=True) for job in jobs]
    assert kinds(upscaled(overwriting)[0]) == "UU"
    assert kinds(upscaled(overwriting)[0]) == "SS"


def test_an_input_that_changes_while_it_is_read_is_done_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import lkdn_deploy.runtime.reading as reading

    (job,) = images(tmp_path, 1)
    read = reading.read_picture

    def read_and_touch(path: Path) -> object:
        picture = read(path)
        os.utime(path, (1, 1))
        return picture

    monkeypatch.setattr(reading, "read_picture", read_and_touch)
    (outcome,), _ = upscaled([job])
    assert isinstance(outcome, Upscaled)
    assert "changed while it was read" in outcome.notes[-1]
    monkeypatch.undo()
    assert not (tmp_path / ".lkdn-upscale.jsonl").exists()


def test_what_another_run_finished_meanwhile_is_not_done_again(tmp_path: Path) -> None:
    jobs = images(tmp_path, 3)

    def interrupted() -> Iterator[Job]:
        yield jobs[0]
        upscaled(jobs[1:])
        yield from jobs[1:]

    kept = Journal(tmp_path, WORK)
    kept.load([job.target for job in jobs])
    assert kinds(list(upscale_files(Upscaler(Twice()), interrupted(), journal=kept))) == "USS"


def test_what_exists_is_skipped_by_name_if_asked(tmp_path: Path) -> None:
    jobs = [Job(job.source, job.target, skip_existing=True) for job in images(tmp_path, 3)]
    jobs[0].target.write_bytes(b"anything")
    jobs[1].target.symlink_to("nowhere")
    outcomes = list(upscale_files(Upscaler(Twice()), jobs))
    assert kinds(outcomes) == "SSU"
    assert jobs[0].target.read_bytes() == b"anything"

"""Files that fsspec opens: searched, staged, upscaled, and noted in a journal."""

import asyncio
import pickle
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import fsspec
import pytest
from cluster_pictures import save

from lkdn_deploy import load
from lkdn_deploy.cluster.actor import ClusterTask, JobReport, UpscaleActor
from lkdn_deploy.cluster.scribe import FileLines, Scribe, StoreLines
from lkdn_deploy.cluster.staging import Staging
from lkdn_deploy.cluster.stores import StoreFolder, is_url, local_path, split_url
from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.hub.choice import NetworkChoice
from lkdn_deploy.runtime.files import upscale_files
from lkdn_deploy.runtime.inputs import find_inputs
from lkdn_deploy.runtime.jobs import plan_jobs
from lkdn_deploy.runtime.journal import Journal
from lkdn_deploy.runtime.outcomes import Failed, Job, Skipped, Upscaled
from lkdn_deploy.runtime.settings import OutputSettings

CHOICE = NetworkChoice(backend="native")


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[fsspec.AbstractFileSystem]:
    """The file system in memory, with pictures in ``/photos``, and the same in ``tmp_path / "in"``."""
    system = fsspec.filesystem("memory")
    save(tmp_path / "in", 4)
    system.put(str(tmp_path / "in") + "/", "/photos/", recursive=True)
    system.pipe_file("/photos/.hidden.png", b"")
    system.pipe_file("/photos/note.txt", b"")
    yield system
    system.rm("/", recursive=True)


def staged(base: Path) -> Staging:
    return Staging(base, {"in": StoreFolder("memory://photos/"), "out": StoreFolder("memory://large")})


def planned(staging: Staging) -> list[Job]:
    source, target = staging.folder("in"), staging.folder("out")
    inputs = find_inputs([source], recursive=True, elsewhere=staging.listings())
    return plan_jobs(inputs, target, OutputSettings())


def worker(staging: Staging, append: object = lambda _: None) -> UpscaleActor:
    digest = b"work"
    task = ClusterTask(CHOICE, (CHOICE.find(None),), staging, (staging.folder("out"), digest), None)
    return UpscaleActor(pickle.loads(pickle.dumps(task)), 1, append)  # type: ignore[arg-type]  # noqa: S301


def test_urls_are_told_from_paths() -> None:
    assert all(map(is_url, ("s3://bucket/a", "zip://a.png::s3://bucket/x.zip")))
    assert not any(map(is_url, ("a/b.png", "C://x", "-", "a b://c")))
    assert local_path("file:///a/b.png") == "/a/b.png"
    assert split_url("s3://bucket/a/b.png") == ("s3://bucket/a", "b.png")
    assert split_url("zip://x/a.png::file:///z.zip") == ("zip://x::file:///z.zip", "a.png")
    with pytest.raises(UsageError, match="names no file"):
        split_url("s3://bucket")


def test_a_folder_is_searched_as_one_on_a_disk(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    store = StoreFolder("memory://photos")
    for recursive in (True, False):
        files, others = store.search(recursive)
        here = find_inputs([tmp_path / "in"], recursive=True).files if recursive else ()
        assert [file.relative for file in files] == [file.relative for file in here]
        assert {".txt", "hidden"} <= {other.reason for other in others}


def test_names_that_lead_elsewhere_are_not_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    store = StoreFolder("memory://photos")
    names = ["/photos/../x.png", "/photos/a//b.png", "/photos/a\\..\\b.png", "/elsewhere/x.png", "/photos/good.png"]

    class Hostile:
        def find(self, *_: object, **__: object) -> dict[str, dict[str, str]]:
            return {name: {"name": name, "type": "file"} for name in names}

    monkeypatch.setattr(store, "_connection", lambda: (Hostile(), "/photos"))
    files, others = store.search(recursive=True)
    assert [str(file.relative) for file in files] == ["good.png"]
    assert [other.reason for other in others] == ["name that leads elsewhere"] * 3


def test_results_and_journal_are_those_of_one_machine(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    staging = staged(tmp_path / "base")
    jobs, lines = planned(staging), list[bytes]()
    reports = [*worker(staging, lines.append).upscale(jobs, None)]
    sent = [pickle.loads(pickle.dumps(report)).outcome(job) for report, job in zip(reports, jobs, strict=True)]  # noqa: S301
    assert all(isinstance(outcome, Upscaled) and outcome.job in jobs for outcome in sent)

    folder = tmp_path / "out"
    here = plan_jobs(find_inputs([tmp_path / "in"], recursive=True), folder, OutputSettings())
    for job in here:
        job.target.parent.mkdir(parents=True, exist_ok=True)
    with load(backend="native", threads=1) as upscaler:
        assert len([*upscale_files(upscaler, here, journal=Journal(folder, b"work"))]) == 4
    assert sorted(lines) == sorted((folder / ".lkdn-upscale.jsonl").read_bytes().split(b"\n")[1:])
    for job in here:
        name = job.target.relative_to(folder).as_posix()
        assert memory.cat_file(f"/large/{name}") == job.target.read_bytes()
    assert len(memory.find("/large")) == 4

    memory.pipe_file("/large/.lkdn-upscale.jsonl", b"\n".join(lines))
    (tmp_path / "base" / "out").mkdir(parents=True)
    staging.fetch_journals(staging.folder("out"))
    journal = Journal(staging.folder("out"), b"work")
    journal.load([job.target for job in jobs])
    memory.pipe_file("/large/a/000.png", b"changed by somebody")
    again = [
        report.outcome(jobs[0]) for report in worker(staging).upscale(jobs, journal.excerpt(j.target for j in jobs))
    ]
    assert isinstance(again[0], Failed)
    assert "memory://large/a/000.png exists, and is no result that the journal" in again[0].error.message
    assert all(isinstance(outcome, Skipped) for outcome in again[1:])
    assert memory.cat_file("/large/a/000.png") == b"changed by somebody"


def test_failures_name_the_url_and_leave_others_alone(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    staging = staged(tmp_path / "base")
    jobs = planned(staging)
    memory.pipe_file("/photos/a/000.png", memory.cat_file("/photos/a/000.png")[:60])
    memory.rm_file("/photos/b/001.png")
    memory.pipe_file("/large/c/002.png", b"")
    outcomes = [report.outcome(job) for report, job in zip(worker(staging).upscale(jobs, None), jobs, strict=True)]
    texts = {o.job.source.name: o.error.message if isinstance(o, Failed) else "done" for o in outcomes}
    assert "memory://photos/a/000.png" in texts["000.png"]
    assert texts["001.png"] == "memory://photos/b/001.png does not exist"
    assert texts["002.png"] == "memory://large/c/002.png exists"
    assert texts["003.png"] == "done"
    assert str(tmp_path) not in "".join(texts.values())


def test_files_and_stores_are_bounded_and_named(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    store = StoreFolder("memory://photos")
    with pytest.raises(InputError, match=r"memory://photos/a/000\.png: it is larger than 10 bytes"):
        store.download("a/000.png", tmp_path / "x", 10)
    with pytest.raises(InputError, match=r"memory://photos/no\.png does not exist"):
        store.download("no.png", tmp_path / "x")
    with pytest.raises((InputError, MissingError), match="nothing://x"):
        StoreFolder("nothing://x").is_folder()


def test_an_upload_that_fails_leaves_nothing(
    memory: fsspec.AbstractFileSystem, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: object, **__: object) -> None:
        msg = "the line is dead"
        raise ConnectionError(msg)

    (tmp_path / "file").write_bytes(b"x" * 100)
    monkeypatch.setattr(type(memory), "mv", broken)
    with pytest.raises(InputError, match=r"memory://large/a\.png cannot be read or written: the line is dead"):
        StoreFolder("memory://large").upload(tmp_path / "file", "a.png")
    assert not memory.find("/large")


async def many(scribe: Scribe, count: int) -> None:
    await asyncio.gather(*(scribe.append(b'{"line": %d}' % index) for index in range(count)))


def test_the_scribe_writes_every_line_once(memory: fsspec.AbstractFileSystem, tmp_path: Path) -> None:
    expected = {b'{"line": %d}' % index for index in range(500)}
    asyncio.run(many(Scribe(FileLines(tmp_path / "journal")), 500))
    assert (tmp_path / "journal").read_bytes().count(b"\n") == 500
    assert {*(tmp_path / "journal").read_bytes().split(b"\n")} == expected | {b""}

    lines = StoreLines(StoreFolder("memory://large"))
    asyncio.run(many(Scribe(lines), 500))
    for _ in range(3):
        lines.write([b"x" * (1 << 17)] * 2)
    pieces = memory.find("/large")
    assert len(pieces) > 2
    text = b"".join(map(memory.cat_file, pieces))
    assert expected <= {*text.split(b"\n")}
    folder = tmp_path / "base" / "out"
    folder.mkdir(parents=True)
    staged(tmp_path / "base").fetch_journals(folder)
    assert len([*folder.iterdir()]) == len(pieces)


def test_a_scribe_that_cannot_write_says_so_to_all(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="directory"):
        asyncio.run(many(Scribe(FileLines(tmp_path)), 3))


def test_reports_of_a_full_disk_say_so() -> None:
    import errno

    error = InputError(f"{Path('b').absolute()}: it is full")
    error.__cause__ = OSError(errno.ENOSPC, "full")
    job = Job(Path("a"), Path("b"))
    outcome = pickle.loads(pickle.dumps(JobReport.of(Failed(job, error)))).outcome(job)  # noqa: S301
    assert outcome.error.__cause__.errno == errno.ENOSPC
    assert outcome.error.message == "b: it is full"  # as the driver calls it
    assert partial(JobReport.of, Skipped(job, "why"))().outcome(job).reason == "why"

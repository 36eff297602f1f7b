"""Engines kept between runs: found for what they were built for, and for nothing else."""

import dataclasses
import hashlib
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from artefacts_fake import METADATA, OTHER, SPEC

from lkdn_deploy.backends.trt import engine_cache
from lkdn_deploy.backends.trt.engine_cache import KERNELS, StoredEngine, find_engine, keep, log_path, sidecar_path
from lkdn_deploy.backends.trt.engine_spec import EngineSpec
from lkdn_deploy.backends.trt.record import EngineRecord, Tensor
from lkdn_deploy.core.errors import InputError

Made = tuple[bytes, EngineRecord, str]


def made(spec: EngineSpec = SPEC, engine: bytes = b"an engine") -> Made:
    digest = hashlib.sha256(engine).hexdigest()
    record = EngineRecord(spec, METADATA, Tensor("lr", "float32"), Tensor("sr", "float32"), digest, None)
    return engine, record, "info: done\n"


def kept(spec: EngineSpec = SPEC, engine: bytes = b"an engine") -> StoredEngine:
    return keep(spec, lambda _: made(spec, engine))


def never(reason: str) -> Made:
    pytest.fail(f"built: {reason}")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of engines, which does not exist yet."""
    return tmp_path / "cache" / "lkdn-deploy" / "engines"


def test_an_engine_is_built_once(folder: Path) -> None:
    reasons: list[str] = []

    def make(reason: str) -> Made:
        reasons.append(reason)
        return made()

    first = keep(SPEC, make)
    assert reasons == [first.reason]
    assert "there is none yet" in first.reason
    assert first == StoredEngine(folder / f"{SPEC.digest}.engine", b"an engine", made()[1], first.reason)
    assert keep(SPEC, never) == dataclasses.replace(first, reason="")
    assert log_path(first.path).read_text() == "info: done\n"


def other_spec(path: Path) -> None:
    sidecar_path(path).write_text(made(dataclasses.replace(SPEC, driver="1"))[1].to_json())


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-1]), "cut short or replaced"),
        (lambda path: path.write_bytes(b"of someone else"), "cut short or replaced"),
        (lambda path: sidecar_path(path).unlink(), r"there is no \w+.json"),
        (lambda path: path.unlink(), r"there is no \w+.engine"),
        (lambda path: sidecar_path(path).write_bytes(b"{"), "the side-car is damaged"),
        (other_spec, "for another specification"),
        pytest.param(
            lambda path: path.chmod(0o666),
            "other users could have written",
            marks=pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions"),
        ),
    ],
)
def test_what_is_not_as_described_is_built_again_with_the_reason(
    harm: Callable[[Path], None], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    harm(kept().path)
    caplog.set_level(logging.INFO)
    again = kept(engine=b"new")
    assert again.data == b"new"
    assert re.search(reason, again.reason)
    assert again.reason in caplog.text
    assert isinstance(engine_cache.load(SPEC), StoredEngine)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")
def test_it_is_found_again_whatever_the_umask_is() -> None:
    before = os.umask(0o002)
    try:
        kept()
    finally:
        os.umask(before)
    assert isinstance(engine_cache.load(SPEC), StoredEngine)


def test_a_failed_build_leaves_nothing(folder: Path) -> None:
    def fail(_reason: str) -> Made:
        msg = "no"
        raise InputError(msg)

    with pytest.raises(InputError, match="no"):
        keep(SPEC, fail)
    assert {path.suffix for path in folder.iterdir()} <= {".lock"}
    assert kept().data == b"an engine"  # the lock is free


_PROCESS = """
import sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]) / "fakes")]
from test_engine_cache import SPEC, keep, made

def make(reason):
    with open(sys.argv[2], "a") as file:
        file.write("built\\n")
    print("building", flush=True)
    time.sleep(float(sys.argv[3]))
    return made()

print(keep(SPEC, make).record.spec.digest)
"""


def process(counter: Path, seconds: float) -> subprocess.Popen[str]:
    code = [sys.executable, "-c", _PROCESS, str(Path(__file__).parent), str(counter), str(seconds)]
    return subprocess.Popen(code, stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_build_once(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    both = [process(counter, 1) for _ in range(2)]
    outputs = [one.communicate(timeout=60)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert all(SPEC.digest in output for output in outputs)
    assert counter.read_text() == "built\n"


@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed otherwise")
def test_a_build_that_is_killed_leaves_nothing_and_no_lock(tmp_path: Path, folder: Path) -> None:
    killed = process(tmp_path / "counter", 60)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "building\n"
    killed.kill()
    killed.communicate(timeout=60)
    assert {path.suffix for path in folder.iterdir()} <= {".lock"}
    assert kept().reason


def test_a_folder_that_cannot_be_created_is_an_error(folder: Path) -> None:
    folder.parent.mkdir(parents=True)
    folder.write_text("a file in its place")
    with pytest.raises(InputError, match="cannot be created") as caught:
        keep(SPEC, never)
    assert "XDG_CACHE_HOME" in (caught.value.hint or "")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_still_read(folder: Path) -> None:
    kept()
    folder.chmod(0o500)
    try:
        assert keep(SPEC, never).reason == ""
        with pytest.raises(InputError, match="cannot be written to"):
            keep(dataclasses.replace(SPEC, batch=2), never)
    finally:
        folder.chmod(0o700)


def test_an_engine_for_several_gpus_serves_each(caplog: pytest.LogCaptureFixture) -> None:
    path = kept().path
    exact = dataclasses.replace(SPEC, targets=("sm89",))
    for target in SPEC.targets:
        found = find_engine(dataclasses.replace(SPEC, targets=(target,)))
        assert found is not None
        assert found.record.spec == SPEC
    assert find_engine(dataclasses.replace(SPEC, targets=("sm120",))) is None
    for name in OTHER.keys() - {"targets"}:
        assert find_engine(dataclasses.replace(exact, **{name: OTHER[name]})) is None, name
    assert not caplog.records
    path.write_bytes(b"cut short")
    assert find_engine(exact) is None
    assert "cut short" in caplog.text
    assert find_engine(kept(exact, b"for one").record.spec) == StoredEngine(
        engine_cache.engine_path(exact), b"for one", made(exact, b"for one")[1]
    )


def aged(spec: EngineSpec, days: float) -> Path:
    """Keep an engine that was last used so many days ago."""
    path = kept(spec).path
    then = time.time() - days * 24 * 3600
    for file in path.parent.glob(f"{path.stem}.*"):
        os.utime(file, (then, then))
    return path


def test_entries_are_listed_and_pruned_by_last_use_and_number(folder: Path) -> None:
    assert engine_cache.entries() == []
    specs = [dataclasses.replace(SPEC, runtime_version=str(days)) for days in range(4)]
    paths = [aged(spec, days) for days, spec in enumerate(specs)]
    listed = engine_cache.entries()
    assert [entry.path for entry in listed] == paths
    assert [entry.record.spec for entry in listed if entry.record] == specs
    assert all(entry.size > len(b"an engine") for entry in listed)
    assert [entry.path for entry in engine_cache.prune(days=2.5)] == paths[3:]
    assert [entry.path for entry in engine_cache.prune(newest=2)] == paths[2:3]
    keep(specs[1], never)
    assert [entry.path for entry in engine_cache.entries()] == [paths[1], paths[0]]
    kernels = KERNELS.write(made()[1].engine_sha256, b"compiled")
    assert [entry.path for entry in engine_cache.prune()] == [paths[1], paths[0]]
    assert list(folder.iterdir()) == []
    assert not kernels.exists()


def test_the_number_of_engines_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_cache, "MOST", 2)
    old = [aged(dataclasses.replace(SPEC, batch=days), days) for days in (3, 2)]
    new = kept().path
    assert [entry.path for entry in engine_cache.entries()] == [new, old[1]]


def test_remains_of_killed_builds_are_listed_as_such_and_removed(folder: Path) -> None:
    sidecar_path(kept().path).unlink()
    (entry,) = engine_cache.entries()
    assert entry.record is None
    old, new = folder / ".0123.part.engine", folder / ".4567.part.engine"
    old.write_bytes(b"half")
    new.write_bytes(b"half, and being written")
    os.utime(old, (0, 0))
    assert engine_cache.prune() == [entry]
    assert list(folder.iterdir()) == [new]


@pytest.mark.parametrize("name", OTHER)
def test_timings_are_those_of_a_gpu_and_runtime_whatever_is_built(name: str) -> None:
    one = dataclasses.replace(SPEC, targets=("sm89",))
    same = engine_cache.timing_name(dataclasses.replace(one, **{name: OTHER[name]})) == engine_cache.timing_name(one)
    of_a_gpu = ("runtime", "runtime_version", "targets", "system", "gpu", "driver")
    assert same == (name not in of_a_gpu)

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
from typing import Any

import pytest

from lkdn_deploy.backends.trt import engine_cache as cache
from lkdn_deploy.backends.trt.engine_cache import Found, Kept, Key, Made
from lkdn_deploy.backends.trt.record import Profile, SideCar, Tensor
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError

KEY = Key(
    artefact_sha256="a" * 64,
    runtime="tensorrt-rtx",
    runtime_version="1.7.1.116",
    targets=("sm86", "sm89"),
    gpu="",
    driver="",
    system="Linux x86_64",
    profile=Profile((32, 32), (256, 256), (512, 512)),
    precision="fp16",
    io="fp32",
    options={"workspace": "4096 MiB"},
)
OTHER: dict[str, Any] = {
    "artefact_sha256": "b" * 64,
    "runtime": "tensorrt",
    "runtime_version": "1.7.1.117",
    "targets": ("sm86",),
    "gpu": "NVIDIA GeForce RTX 4090",
    "driver": "595.10",
    "system": "Windows AMD64",
    "profile": Profile((32, 32), (256, 256), (512, 512), 2),
    "precision": "fp32",
    "io": "uint8",
    "options": {"workspace": "4097 MiB"},
}


def made(key: Key, engine: bytes = b"an engine") -> Made:
    sidecar = SideCar(
        metadata=ArtifactMetadata("lkdn-s", 4, 63, 507, True),
        input=Tensor("lr", "float32"),
        output=Tensor("sr", "float32"),
        profile=key.profile,
        runtime=key.runtime,
        runtime_version=key.runtime_version,
        targets=key.targets,
        gpu=key.gpu,
        driver=key.driver,
        system=key.system,
        artefact_sha256=key.artefact_sha256,
        engine_sha256=hashlib.sha256(engine).hexdigest(),
        key=key.digest,
        audit=None,
    )
    return Made(engine, sidecar, "info: done\n")


def never(reason: str) -> Made:
    pytest.fail(f"built: {reason}")


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Of the cache; it is not there yet."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "lkdn-deploy" / "engines"


def test_engines_lie_in_the_users_cache(folder: Path) -> None:
    assert cache.engine_path(KEY) == folder / f"{KEY.digest}.engine"


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(Key)])
def test_any_change_changes_the_key(name: str) -> None:
    changed = dataclasses.replace(KEY, **{name: OTHER[name]})
    assert changed.digest != KEY.digest
    assert dataclasses.replace(changed, **{name: getattr(KEY, name)}).digest == KEY.digest


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(Profile)])
def test_any_change_of_the_sizes_changes_the_key(name: str) -> None:
    new = {"minimum": (32, 31), "optimum": (256, 257), "maximum": (513, 512), "batch": 2}
    profile = dataclasses.replace(KEY.profile, **{name: new[name]})
    assert dataclasses.replace(KEY, profile=profile).digest != KEY.digest


def test_the_order_of_options_does_not_matter() -> None:
    one, two = ({"a": "1", "b": "2"}, {"b": "2", "a": "1"})
    assert dataclasses.replace(KEY, options=one).digest == dataclasses.replace(KEY, options=two).digest


def test_an_engine_is_built_once(folder: Path) -> None:
    reasons: list[str] = []

    def make(reason: str) -> Made:
        reasons.append(reason)
        return made(KEY)

    first = cache.keep(KEY, make)
    assert reasons == [first.reason]
    assert "there is none yet" in first.reason
    assert cache.keep(KEY, never) == Kept(first.found, "")
    assert first.found == Found(folder / f"{KEY.digest}.engine", b"an engine", made(KEY).sidecar)
    assert cache.log_path(first.found.path).read_text() == "info: done\n"


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def foreign(path: Path) -> None:
    path.write_bytes(b"of someone else")


def no_sidecar(path: Path) -> None:
    cache.sidecar_path(path).unlink()


def no_engine(path: Path) -> None:
    path.unlink()


def damaged(path: Path) -> None:
    cache.sidecar_path(path).write_bytes(cache.sidecar_path(path).read_bytes()[:100])


def of_another_key(path: Path) -> None:
    other = dataclasses.replace(KEY, driver="1")
    cache.sidecar_path(path).write_text(made(other).sidecar.to_json())


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (truncate, "cut short, or another one"),
        (foreign, "cut short, or another one"),
        (no_sidecar, r"there is no \w+.json"),
        (no_engine, r"there is no \w+.engine"),
        (damaged, "the side-car is damaged"),
        (of_another_key, "of another key"),
    ],
)
def test_what_is_not_what_it_says_is_built_again_with_the_reason(
    harm: Callable[[Path], None], reason: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = cache.keep(KEY, lambda _: made(KEY)).found.path
    harm(path)
    caplog.set_level(logging.INFO)
    again = cache.keep(KEY, lambda _: made(KEY, b"new"))
    assert again.found.engine == b"new"
    assert re.search(reason, again.reason)
    assert again.reason in caplog.text
    assert isinstance(cache.load(KEY), Found)


def test_a_failed_build_leaves_nothing(folder: Path) -> None:
    def fail(_reason: str) -> Made:
        msg = "no"
        raise InputError(msg)

    with pytest.raises(InputError, match="no"):
        cache.keep(KEY, fail)
    assert {path.suffix for path in folder.iterdir()} <= {".lock"}
    assert cache.keep(KEY, lambda _: made(KEY)).found.engine == b"an engine"  # the lock is free


_PROCESS = """
import os, sys, time
from pathlib import Path
sys.path[:0] = [sys.argv[1], str(Path(sys.argv[1]) / "fakes")]
from test_engine_cache import KEY, made
from lkdn_deploy.backends.trt import engine_cache as cache

def make(reason):
    with open(sys.argv[2], "a") as file:
        file.write("built\\n")
    print("building", flush=True)
    time.sleep(float(sys.argv[3]))
    return made(KEY)

print(cache.keep(KEY, make).found.sidecar.key)
"""


def process(counter: Path, seconds: float) -> subprocess.Popen[str]:
    code = [sys.executable, "-c", _PROCESS, str(Path(__file__).parent), str(counter), str(seconds)]
    return subprocess.Popen(code, stdout=subprocess.PIPE, text=True)


def test_two_processes_at_once_build_once(tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    both = [process(counter, 1) for _ in range(2)]
    outputs = [one.communicate(timeout=60)[0] for one in both]
    assert [one.returncode for one in both] == [0, 0]
    assert all(KEY.digest in output for output in outputs)
    assert counter.read_text() == "built\n"


@pytest.mark.skipif(sys.platform == "win32", reason="processes are killed otherwise")
def test_a_build_that_is_killed_leaves_nothing_and_no_lock(tmp_path: Path, folder: Path) -> None:
    killed = process(tmp_path / "counter", 60)
    assert killed.stdout is not None
    assert killed.stdout.readline() == "building\n"
    killed.kill()
    killed.communicate(timeout=60)
    assert {path.suffix for path in folder.iterdir()} <= {".lock"}
    assert cache.keep(KEY, lambda _: made(KEY)).reason


def test_a_folder_that_cannot_be_written_to_is_said(folder: Path) -> None:
    folder.parent.mkdir()
    folder.write_text("a file in its place")
    with pytest.raises(InputError, match="cannot be written to") as caught:
        cache.keep(KEY, never)
    assert "XDG_CACHE_HOME" in (caught.value.hint or "")


@pytest.mark.skipif(sys.platform == "win32" or os.geteuid() == 0, reason="root may write everywhere")
def test_a_read_only_folder_is_said_and_still_read(folder: Path) -> None:
    cache.keep(KEY, lambda _: made(KEY))
    folder.chmod(0o500)
    try:
        assert cache.keep(KEY, never).reason == ""
        with pytest.raises(InputError, match="cannot be written to"):
            cache.keep(dataclasses.replace(KEY, io="uint8"), never)
    finally:
        folder.chmod(0o700)


def test_an_engine_for_several_gpus_serves_each() -> None:
    cache.keep(KEY, lambda _: made(KEY))
    for target in KEY.targets:
        found = cache.find_engine(dataclasses.replace(KEY, targets=(target,)))
        assert found is not None
        assert found.sidecar.targets == KEY.targets
    assert cache.find_engine(dataclasses.replace(KEY, targets=("sm120",))) is None
    exact = dataclasses.replace(KEY, targets=("sm89",))
    cache.keep(exact, lambda _: made(exact, b"for one"))
    found = cache.find_engine(exact)
    assert found is not None
    assert found.engine == b"for one"


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(Key) if item.name != "targets"])
def test_an_engine_that_differs_in_anything_else_does_not_serve(name: str) -> None:
    cache.keep(KEY, lambda _: made(KEY))
    wanted = dataclasses.replace(KEY, **{"targets": ("sm89",), name: OTHER[name]})
    assert cache.find_engine(wanted) is None


def test_a_damaged_engine_for_several_gpus_is_not_used_and_said(caplog: pytest.LogCaptureFixture) -> None:
    truncate(cache.keep(KEY, lambda _: made(KEY)).found.path)
    assert cache.find_engine(dataclasses.replace(KEY, targets=("sm89",))) is None
    assert "cut short" in caplog.text


def aged(key: Key, days: float) -> Path:
    """An engine of so many days."""
    path = cache.keep(key, lambda _: made(key)).found.path
    then = time.time() - days * 24 * 3600
    for file in path.parent.glob(f"{path.stem}.*"):
        os.utime(file, (then, then))
    return path


def test_entries_are_listed_and_pruned_by_age_and_number(folder: Path) -> None:
    assert cache.entries() == []
    keys = [dataclasses.replace(KEY, runtime_version=str(days)) for days in range(4)]
    paths = [aged(key, days) for days, key in enumerate(keys)]
    listed = cache.entries()
    assert [entry.path for entry in listed] == paths
    assert [entry.sidecar.runtime_version for entry in listed if entry.sidecar] == ["0", "1", "2", "3"]
    assert all(entry.size > len(b"an engine") for entry in listed)
    assert [entry.path for entry in cache.prune(days=2.5)] == paths[3:]
    assert [entry.path for entry in cache.prune(newest=2)] == paths[2:3]
    assert [entry.path for entry in cache.entries()] == paths[:2]
    assert [entry.path for entry in cache.prune()] == paths[:2]
    assert list(folder.iterdir()) == []


def test_remains_of_killed_builds_are_listed_as_such_and_removed(folder: Path) -> None:
    path = cache.keep(KEY, lambda _: made(KEY)).found.path
    no_sidecar(path)
    (entry,) = cache.entries()
    assert entry.sidecar is None
    old, new = folder / ".0123.part.engine", folder / ".4567.part.engine"
    old.write_bytes(b"half")
    new.write_bytes(b"half, and being written")
    os.utime(old, (0, 0))
    assert cache.prune() == [entry]
    assert list(folder.iterdir()) == [new]


def test_what_is_measured_in_builds_is_of_a_gpu_and_not_of_an_artefact() -> None:
    for name in OTHER:
        other = dataclasses.replace(KEY, **{name: OTHER[name]})
        same = name in ("artefact_sha256", "profile", "precision", "io", "options")
        assert (cache.timing_path(other) == cache.timing_path(KEY)) == same

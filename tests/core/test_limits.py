"""Cores and memory under control groups, of which a folder of files stands in."""

import os
from pathlib import Path

import psutil
import pytest

from lkdn_deploy.core import limits

GIB = 1 << 30


@pytest.fixture(autouse=True)
def groups(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(limits, "_MOUNTS", tmp_path / "mounts")
    monkeypatch.setattr(limits, "_GROUPS", tmp_path / "groups")
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    monkeypatch.setattr(psutil, "virtual_memory", lambda: type("memory", (), {"available": 16 * GIB}))
    return tmp_path


def write(folder: Path, groups: str, files: dict[str, str]) -> None:
    (folder / "groups").write_text(groups)
    for name, text in files.items():
        path = folder / "mounts" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def test_without_control_groups_the_machine_counts() -> None:
    assert (limits.cores(), limits.available_memory()) == (8, 16 * GIB)


@pytest.mark.parametrize(("text", "cores"), [("max 100000", 8), ("250000 100000", 3), ("50000 100000", 1), ("x", 8)])
def test_a_quota_of_cores_counts(groups: Path, text: str, cores: int) -> None:
    write(groups, "0::/a/b\n", {"a/b/cpu.max": text})
    assert limits.cores() == cores
    write(groups, "0::/a/b/c\n", {})  # the limit of a group above
    assert limits.cores() == cores


@pytest.mark.parametrize(("quota", "cores"), [("-1", 8), ("200000", 2)])
def test_version_1_counts_too(groups: Path, quota: str, cores: int) -> None:
    names = {"cpu/cpu.cfs_quota_us": quota, "cpu/cpu.cfs_period_us": "100000", "cpu.max": "max 100000"}
    write(groups, "3:cpu,cpuacct:/on/the/host\n0::/\n", names)
    assert limits.cores() == cores


@pytest.mark.parametrize(
    "files",
    [
        {
            "a/memory.max": str(2 * GIB),
            "a/memory.current": str(GIB),
            "a/memory.stat": f"anon 7\ninactive_file {GIB // 2}",
        },
        {"memory/a/memory.limit_in_bytes": str(2 * GIB), "memory/a/memory.usage_in_bytes": str(GIB // 2)},
    ],
)
def test_a_limit_of_memory_counts_less_what_is_used(groups: Path, files: dict[str, str]) -> None:
    write(groups, "4:memory:/a\n0::/a\n", files)
    assert limits.available_memory() == 3 * GIB // 2


def test_an_unlimited_or_exhausted_group(groups: Path) -> None:
    write(groups, "0::/a\n", {"a/memory.max": "max", "a/memory.current": str(GIB)})
    assert limits.available_memory() == 16 * GIB
    write(groups, "0::/a\n", {"a/memory.max": str(GIB)})
    (groups / "mounts/a/memory.current").write_text(str(2 * GIB))
    assert limits.available_memory() == 0

"""``lkdn-upscale --ray`` on two nodes on this machine: workers, a node and the driver are lost, and no file is."""

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from cluster_pictures import journal_lines, outputs, save, written

COUNT = 40
CODE = "from lkdn_deploy.cli import upscale; upscale()"

pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("default")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one CPU each."""
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    from ray.cluster_utils import Cluster

    found = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    found.add_node(num_cpus=1)
    yield found
    found.shutdown()


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with pictures in ``in``, and what one machine makes of them in ``whole``."""
    folder = tmp_path_factory.mktemp("pictures")
    save(folder / "in", COUNT, 200, 120)
    words = [sys.executable, "-c", CODE, "in", "whole", "-r", "--quiet", "--scale", "2"]
    subprocess.run(words, cwd=folder, check=True, stdout=subprocess.DEVNULL)
    return folder


def started(cluster: Any, source: Path, target: str, *options: str) -> "subprocess.Popen[str]":
    words = [sys.executable, "-c", CODE, "--ray", cluster.address, "in", target, "-r", "--scale", "2", "--json"]
    return subprocess.Popen([*words, *options], cwd=source, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def until(condition: Callable[[], bool]) -> None:
    for _ in range(2400):
        if condition():
            return
        time.sleep(0.05)
    msg = "it did not happen within two minutes"
    raise AssertionError(msg)


def workers() -> list[psutil.Process]:
    """Return the processes of workers."""
    found = []
    for process in psutil.process_iter():
        try:
            if any("UpscaleActor" in word for word in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def statuses(process: "subprocess.Popen[str]") -> list[str]:
    said, err = process.communicate(timeout=300)
    assert process.returncode == 0, err
    return [json.loads(line)["status"] for line in said.splitlines()]


def check(source: Path, target: str, kept: dict[str, tuple[int, int]], again: int) -> None:
    """Check that nothing is lost, and that what was finished before is as it was.

    Args:
        source: the folder.
        target: name of the output folder in it.
        kept: what was finished before the fault.
        again: most outputs that may have been begun twice.
    """
    assert outputs(source / target) == outputs(source / "whole")
    assert kept.items() <= written(source / target).items()
    one = [json.dumps(line, sort_keys=True) for line in journal_lines(source / "whole")]
    lines = [json.dumps(line, sort_keys=True) for line in journal_lines(source / target)]
    assert {*lines} == {*one}
    assert len(one) <= len(lines) <= len(one) + again


def test_results_names_and_journal_are_those_of_one_machine(cluster: Any, source: Path) -> None:
    assert statuses(started(cluster, source, "plain")) == ["done"] * COUNT
    check(source, "plain", {}, 0)
    assert statuses(started(cluster, source, "plain", "--resume")) == ["skipped"] * COUNT


def test_a_worker_that_is_killed_loses_nothing(cluster: Any, source: Path) -> None:
    process = started(cluster, source, "killed")
    kept = {}
    for count in (3, 12):
        until(lambda count=count: len(outputs(source / "killed")) >= count)  # type: ignore[misc]
        victims = workers()
        kept |= written(source / "killed")
        victims[0].send_signal(signal.SIGKILL)
    found = statuses(process)
    assert len(found) == COUNT
    assert {*found} <= {"done", "skipped"}  # finished by a worker that was lost before it could say so
    check(source, "killed", kept, 6)


def test_a_node_that_is_removed_loses_nothing(cluster: Any, source: Path) -> None:
    node = cluster.add_node(num_cpus=1)
    process = started(cluster, source, "removed")
    until(lambda: len(outputs(source / "removed")) >= 6 and len(workers()) == 3)
    kept = written(source / "removed")
    cluster.remove_node(node, allow_graceful=False)
    assert len(statuses(process)) == COUNT
    check(source, "removed", kept, 3)


def test_a_driver_that_is_killed_is_followed_by_one_that_goes_on(cluster: Any, source: Path) -> None:
    process = started(cluster, source, "resumed")
    until(lambda: len(outputs(source / "resumed")) >= 8)
    process.kill()
    process.communicate()
    until(lambda: not workers())
    kept = written(source / "resumed")
    assert 8 <= len(kept) < COUNT
    found = statuses(started(cluster, source, "resumed", "--resume"))
    assert found.count("skipped") == len(kept)
    assert found.count("done") == COUNT - len(kept)
    check(source, "resumed", kept, 6)


def test_files_in_stores_are_those_of_one_machine(cluster: Any, source: Path) -> None:
    (source / "stored").mkdir()
    words = [sys.executable, "-c", CODE, "--ray", cluster.address, "-r", "--scale", "2"]
    words += [f"local://{source / 'in'}", f"local://{source / 'stored'}"]
    done = subprocess.run(words, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert f"local://{source / 'stored'}/a/000.png" in done.stdout.splitlines()
    check(source, "stored", {}, 0)


def test_a_cluster_that_is_not_there_is_said(source: Path) -> None:
    words = [sys.executable, "-c", CODE, "--ray", "127.0.0.1:1", "in", "none/", "-r"]
    done = subprocess.run(words, cwd=source, capture_output=True, text=True, check=False)
    assert done.returncode == 3
    assert "no Ray cluster can be reached at 127.0.0.1:1" in done.stderr
    assert "Traceback" not in done.stderr

"""Facts about this machine, and about GPUs as a stand-in for nvidia-smi reports them."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from lkdn_deploy.bench import machine
from lkdn_deploy.bench.machine import brief, facts, gpus, machine_facts
from lkdn_deploy.core.limits import cores

Install = Callable[[str], None]
H100 = "NVIDIA H100 80GB HBM3, 550.54.15, 81559 MiB, 1980 MHz, 1980 MHz, [N/A], 2619 MHz, 700.00 W, 31"


@pytest.fixture
def nvidia_smi(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Puts a shell script in its place; ``$1`` is what is asked of each GPU."""

    def install(script: str) -> None:
        program = tmp_path / "nvidia-smi"
        program.write_text(script if script.startswith("\x7f") else f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))

    return install


def test_the_facts_are_there_and_can_be_written_as_json() -> None:
    found = machine_facts(3)
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert {"load before", "cpu clock MHz", "cpu governor", "system", "gpus"} <= set(found)
    assert found["threads"] == 3
    assert found["cpu"]
    assert found["cores"] == cores() >= 1
    assert 0 < found["free memory GiB"] <= found["memory GiB"]
    assert {"lkdn-deploy", "numpy", "torch"} <= set(found["versions"])
    assert all(found["versions"].values())
    assert "threads" not in machine_facts()
    assert [each.split()[0] for each in brief(found)] in (["CPU", "load"], ["CPU", "GPU", "load"])


def test_a_machine_that_tells_nothing_of_itself_is_no_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(psutil, "cpu_freq", lambda: None)
    found = machine_facts(root=tmp_path)  # without /proc and /sys
    assert found["cpu clock MHz"] is found["cpu governor"] is None
    assert found["cpu"]


def test_there_are_no_gpus_without_a_driver(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert gpus() == []


def test_every_gpu_is_told_by_what_was_asked(nvidia_smi: Install) -> None:
    # Which fields are asked for, and that only they come, without a header.
    nvidia_smi(
        '[ "$2" = --format=csv,noheader ] || exit 2\n'
        'case "$1" in --query-gpu=name,driver_version,memory.total,clocks.current.sm,*) ;; *) exit 2 ;; esac\n'
        f"echo {shlex.quote(H100)}; echo {shlex.quote(H100.replace('31', '55'))}"
    )
    first, second = gpus()
    assert first == {
        "name": "NVIDIA H100 80GB HBM3",
        "driver": "550.54.15",
        "memory": "81559 MiB",
        "clock now": "1980 MHz",
        "clock at most": "1980 MHz",
        "clock set for applications": "[N/A]",
        "memory clock now": "2619 MHz",
        "power limit": "700.00 W",
        "temperature": "31",
    }
    assert second == first | {"temperature": "55"}


def test_a_version_that_does_not_know_a_field_is_asked_for_what_all_know(nvidia_smi: Install) -> None:
    nvidia_smi(
        'if [ "$1" = --query-gpu=name,driver_version,memory.total ]; then echo "Tesla T4, 390.1, 15079 MiB"\n'
        "else echo 'Field \"clocks.applications.graphics\" is not a valid field to query.'; exit 2; fi"
    )
    assert gpus() == [{"name": "Tesla T4", "driver": "390.1", "memory": "15079 MiB"}]


@pytest.mark.parametrize(
    "script",
    [
        "echo No devices were found",
        "echo 'NVIDIA-SMI has failed, because it could not communicate with the driver, sorry'; exit 9",
        r"printf '\377\376\n\n,\n'",
        "exit 0",
        "kill -9 $$",
        "\x7fELF no program",
    ],
)
def test_what_is_no_answer_is_no_gpu(nvidia_smi: Install, script: str) -> None:
    nvidia_smi(script)
    assert gpus() == []


def test_a_driver_that_hangs_is_not_waited_for(nvidia_smi: Install, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "TIMEOUT", 0.2)
    nvidia_smi("exec /bin/sleep 60")
    assert gpus() == []


def test_facts_in_mappings_and_lists_have_the_names_of_both() -> None:
    machine = {"cores": 2, "known": None, "versions": {"numpy": "2.4"}, "gpus": [{"name": "A"}, {"name": "B"}]}
    assert facts(machine) == {
        "cores": "2",
        "known": "-",
        "versions numpy": "2.4",
        "gpus 0 name": "A",
        "gpus 1 name": "B",
    }


@pytest.mark.parametrize(
    ("machine", "words"),
    [
        ({}, []),
        ({"cpu": "P", "load before": [0.123, 1.0, 2.0]}, ["CPU P", "load 0.12"]),
        ({"cpu": "P", "load before": None, "gpus": []}, ["CPU P"]),
        ({"cpu": "P", "gpus": [{"name": "A", "driver": "5"}]}, ["CPU P", "GPU A"]),
        ({"cpu": "P", "gpus": [{"name": "A"}, {"name": "B"}]}, ["CPU P", "GPU A, B"]),
    ],
)
def test_brief_has_what_is_known(machine: dict[str, Any], words: list[str]) -> None:
    assert brief(machine) == words

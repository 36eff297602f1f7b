"""The machine's facts, in words."""

from typing import Any

import pytest

from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.bench.report.machine_text import brief, facts


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


def test_brief_knows_the_names_that_this_machine_gives() -> None:
    found = brief(machine_facts())
    assert found[0].startswith("CPU ")
    assert any(each.startswith("load ") for each in found)

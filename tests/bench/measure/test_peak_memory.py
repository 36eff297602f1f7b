"""The memory of a run, measured in a process of its own."""

from pathlib import Path
from typing import Any

import pytest

from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.bench.measure.peak_memory import peak_memory
from lkdn_deploy.bench.opening import ModelChoice
from lkdn_deploy.bench.results import Memory
from lkdn_deploy.core.errors import LkdnError
from lkdn_deploy.runtime.bundled import bundled

SIZE = (160, 200)
BUNDLED = ModelChoice("lkdn-s", 4)


def measured(engine: str = "ort-cpu", size: Any = SIZE, choice: ModelChoice = BUNDLED) -> Memory:
    found = peak_memory(choice, engine, "fp32", 1, size)
    assert found is not None
    assert found.device == "host"
    return found


@pytest.fixture(scope="module")
def alive() -> float:
    """MiB of what is alive at once at ``SIZE``."""
    metadata = open_session(bundled()["lkdn-s", 4]).metadata
    return 4 * metadata.live_channels * SIZE[0] * SIZE[1] / 2**20


@pytest.mark.parametrize("engine", ["ort-cpu", "openvino", pytest.param("torch", marks=pytest.mark.long)])
def test_a_larger_picture_takes_more(engine: str, alive: float) -> None:
    large, small = (measured(engine, size).peak_mib for size in (SIZE, (80, 100)))
    assert 0 < small < large
    # What is alive, and not the process with its packages.
    assert 0.8 * alive < large < 3 * alive


@pytest.mark.parametrize(
    ("choice", "called", "reason"),
    [
        (ModelChoice("edsr", 4), "edsr", "no network is called edsr"),
        (ModelChoice(weights=Path("gone.pth")), r"gone\.pth", "gone.pth: cannot be read: No such file"),
    ],
)
def test_a_model_that_cannot_be_opened_gives_the_reason(choice: ModelChoice, called: str, reason: str) -> None:
    with pytest.raises(LkdnError, match=f"the memory of {called} on ort-cpu could not be measured") as error:
        measured(choice=choice)
    assert reason in str(error.value.hint)


def test_a_process_that_breaks_gives_its_last_line() -> None:
    with pytest.raises(LkdnError, match="could not be measured") as error:
        measured(size=(1, -1))
    assert str(error.value.hint).startswith("ValueError: ")
    assert "\n" not in str(error.value.hint)

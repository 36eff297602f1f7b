"""The memory of a run, measured in a process of its own."""

from dataclasses import replace

import pytest

from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.bench.measure.peak_memory import Task, peak_memory
from lkdn_deploy.core.errors import LkdnError
from lkdn_deploy.runtime.bundled import bundled

TASK = Task("lkdn-s", 4, None, "ort-cpu", "fp32", 1, (160, 200))


@pytest.fixture(scope="module")
def alive() -> float:
    """MiB of what is alive at once in ``TASK``."""
    metadata = open_session(bundled()["lkdn-s", 4]).metadata
    return 4 * metadata.live_channels * TASK.size[0] * TASK.size[1] / 2**20


@pytest.mark.parametrize("engine", ["ort-cpu", "openvino"])
def test_a_larger_picture_takes_more(engine: str, alive: float) -> None:
    large, small = (peak_memory(replace(TASK, engine=engine, size=size)) for size in (TASK.size, (80, 100)))
    assert large is not None and small is not None  # noqa: PT018
    assert (large.device, small.device) == ("host", "host")
    assert 0 < small.peak_mib < large.peak_mib
    # What is alive, and not the process with its packages.
    assert 0.8 * alive < large.peak_mib < 3 * alive


def test_pytorch_is_measured_too(alive: float) -> None:
    found = peak_memory(replace(TASK, engine="torch"))
    assert found is not None
    assert found.device == "host"
    assert 0.8 * alive < found.peak_mib < 3 * alive


def test_a_model_that_cannot_be_opened_gives_the_reason() -> None:
    with pytest.raises(LkdnError, match="the memory of edsr on ort-cpu could not be measured") as error:
        peak_memory(replace(TASK, model="edsr"))
    assert "edsr x4 does not come with the package" in str(error.value.hint)


def test_weights_that_are_not_there_are_named() -> None:
    with pytest.raises(LkdnError, match=r"the memory of gone\.pth on ort-cpu could not be measured") as error:
        peak_memory(replace(TASK, model=None, weights="gone.pth"))
    assert "gone.pth: cannot be read: No such file" in str(error.value.hint)


def test_a_process_that_breaks_gives_its_last_line() -> None:
    with pytest.raises(LkdnError, match="could not be measured") as error:
        peak_memory(replace(TASK, size=(1, -1)))
    assert str(error.value.hint).startswith("ValueError: ")
    assert "\n" not in str(error.value.hint)

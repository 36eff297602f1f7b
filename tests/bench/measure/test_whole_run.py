"""A whole run in a process of its own, as the script of the NTIRE 2023 challenge makes it."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.bench.measure.harness import timed_run
from lkdn_deploy.bench.measure.torch_session import TorchSession
from lkdn_deploy.bench.measure.whole_run import whole_run
from lkdn_deploy.bench.opening import ModelChoice
from lkdn_deploy.core.errors import LkdnError
from lkdn_deploy.export.job import open_checkpoint
from lkdn_deploy.runtime.bundled import bundled
from lkdn_models.zoo import find

BUNDLED = ModelChoice("lkdn-s", 4)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    """A folder of three pictures, the second the largest."""
    for index, size in enumerate(((8, 8), (96, 96), (8, 8))):
        np.save(tmp_path / f"{index}.npy", np.zeros((1, 3, *size), np.float32))
    return tmp_path


def test_every_image_is_timed_once_in_its_order_and_the_memory_is_of_all(images: Path) -> None:
    run = whole_run(BUNDLED, "ort-cpu", "fp32", 1, images)
    assert len(run.samples) == 3
    assert run.samples[1] > run.samples[2]  # 144 times the pixels
    assert (run.device_samples, run.building) == ((), None)
    assert run.opening > 0
    live = open_session(bundled()["lkdn-s", 4]).metadata.live_channels
    assert run.memory
    assert run.memory.device == "host"
    assert 0.8 * 4 * live * 96**2 / 2**20 < run.memory.peak_mib


def test_what_cannot_be_opened_or_read_gives_the_reason(images: Path) -> None:
    with pytest.raises(LkdnError, match="the run of edsr on ort-cpu failed") as error:
        whole_run(ModelChoice("edsr", 4), "ort-cpu", "fp32", 1, images)
    assert "no network is called edsr" in str(error.value.hint)
    (images / "0.npy").write_bytes(b"nothing")
    with pytest.raises(LkdnError, match="failed"):
        whole_run(BUNDLED, "ort-cpu", "fp32", 1, images)


@pytest.mark.parametrize("converts", [True, False])
def test_pytorchs_network_is_timed_without_the_conversion_of_its_range(
    converts: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    weights = tmp_path / "rfdn.pth"
    torch.save(find("rfdn-aim", 4).build().state_dict(), weights)
    session = TorchSession(open_checkpoint(weights, "rfdn-aim", 4), device="cpu")
    seen: list[tuple[Any, float]] = []
    forward = session.forward
    monkeypatch.setattr(session, "forward", lambda x, **part: seen.append((part, float(x.max()))) or forward(x, **part))
    run = timed_run(session, np.ones((1, 3, 16, 16), np.float32), converts=converts)
    run()
    ((part, most),) = seen
    assert bool(part) != converts
    assert most == (1 if converts else 255)

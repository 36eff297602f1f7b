"""Puts the stand-ins in ``fakes/`` where tests can import them."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "fakes"))


@pytest.fixture(autouse=True)
def quick_collections() -> Iterator[None]:
    """These tests collect garbage hundreds of times, and what other tests have loaded need not be gone through."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def one_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in calls one session of ONNX Runtime, and what it is compared with to the last bit must too."""
    monkeypatch.setattr("lkdn_deploy.backends.ort.WORTH", 1 << 62)

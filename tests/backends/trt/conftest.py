"""Makes the stand-ins in ``fakes/`` importable, and gives each test a cache of its own."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent / "fakes"))


@pytest.fixture(autouse=True)
def quick_collections() -> Iterator[None]:
    """These tests collect garbage hundreds of times, which need not go through what other tests have loaded."""
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(autouse=True)
def surroundings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty cache, and ONNX Runtime with a single session, as the stand-in has: results are equal to the bit."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr("lkdn_deploy.backends.ort.FIXED_SIZE_PIXELS", 1 << 62)


@pytest.hookimpl(tryfirst=True)  # before tests are chosen by their marks
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """One way is enough by default for tests that take long."""
    for item in items:
        if isinstance(item, pytest.Function) and "both_ways" in item.fixturenames:
            slow = "bundled" in item.fixturenames or item.originalname == "test_every_call_at_every_place"
            if slow and item.callspec.params["both_ways"] == "at once":
                item.add_marker(pytest.mark.long)


@pytest.fixture(params=["late", "at once"])
def both_ways(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The stand-in of a GPU works as late as it may, then as early."""
    from device_fake import FakeDevice

    monkeypatch.setattr(FakeDevice, "at_once", request.param == "at once")


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    """A small artefact."""
    from artefacts_fake import twice

    return twice(tmp_path / "twice.onnx")

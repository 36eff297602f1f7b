"""Damaged artefacts end in an error that names them, or in the picture that ONNX Runtime computes, too."""

from pathlib import Path

import pytest

pytest.importorskip("llvmlite")

from artefact_attempt import open_and_run
from damaged_graphs import make
from fuzzing import fuzz, needs_fork


@needs_fork
@pytest.mark.parametrize("count", [pytest.param(40, id="few"), pytest.param(3000, id="many", marks=pytest.mark.long)])
def test_damaged_artefacts_are_refused_or_give_the_same_picture(
    count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LKDN_NATIVE_DEBUG", "1")
    report = fuzz(make, open_and_run, tmp_path / "damaged.onnx", count)
    assert report.findings == {}
    assert report.outcomes["a picture on both"] > 0

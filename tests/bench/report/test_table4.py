"""The paper's Table 4 beside what was measured."""

from dataclasses import replace
from typing import Any

import pytest

from lkdn_deploy.bench.report.html import html
from lkdn_deploy.bench.report.notes import notes
from lkdn_deploy.bench.report.table4 import paper_table
from lkdn_deploy.bench.report.text import markdown, text
from lkdn_deploy.bench.results import Cost, Protocol, Report, SetQuality


@pytest.fixture
def both(make: Any) -> Report:
    """BSRN, LKDN and LKDN-S on two engines."""
    cost = Cost(321_992, 18_327_900_000, 1, 134, (180, 320))
    rated = (SetQuality("Set5", 5, 32.4, 0.9, 30.5), SetQuality("DIV2K_valid_HR", 100, 30.9, 0.85, 29.178))
    trt = {"backend": "trt", "precision": "fp16"}
    return make.report(
        make.row("lkdn", typical=2.0, cost=cost, quality=rated, **trt),
        make.row("bsrn", typical=4.0, **trt),
        make.row("lkdn", "torch-cuda", typical=30.0),
        make.row("lkdn-s", typical=1.0, **trt),
        make.row("bsrn", "torch-cuda", typical=20.0),
    )


def test_the_papers_figures_stand_above_those_measured(both: Report) -> None:
    table = paper_table(both)
    assert table
    assert table.rows == (
        ("bsrn x4", "paper", "-", "29.07", "352", "19.4", "83.75", "1.00"),
        ("lkdn x4", "paper", "-", "29.18", "322", "18.3", "85.65", "1.02"),
        ("lkdn x4", "trt", "fp16", "29.18", "322.0", "18.33", "2.00", "0.50"),
        ("bsrn x4", "trt", "fp16", "-", "-", "-", "4.00", "1.00"),
        ("lkdn x4", "torch-cuda", "fp32", "-", "-", "-", "30.00", "1.50"),
        ("lkdn-s x4", "trt", "fp16", "-", "-", "-", "1.00", "0.25"),
        ("bsrn x4", "torch-cuda", "fp32", "-", "-", "-", "20.00", "1.00"),
    )
    for written in (text(both), markdown(both), html(both)):
        assert "Table 4" in written
    assert max(map(len, text(both).splitlines())) <= 80


def test_it_is_there_for_its_networks_at_its_scale_only(both: Report, make: Any) -> None:
    rows = both.rows
    assert paper_table(replace(both, rows=rows[:1])) is None  # nothing to compare with
    assert paper_table(replace(both, rows=(rows[1], rows[3]))) is None
    assert paper_table(replace(both, rows=tuple(replace(row, scale=2) for row in rows))) is None
    assert paper_table(replace(both, settings=replace(both.settings, protocol=Protocol.NTIRE_2024))) is None
    assert paper_table(make.report(make.row("lkdn", typical=None), make.row("bsrn"))) is None


def test_tf32_is_stated(make: Any) -> None:
    names = ("torch-cuda", "torch-cuda-tf32", "trt", "trt-no-tf32", "ort-cpu")
    found = notes(make.report(*(make.row(backend=name) for name in names), make.row("half", "trt", precision="fp16")))
    said = [note.partition(", is ")[2] for note in found if note.startswith("TF32")]
    assert said == [
        "off: lkdn-s x4 torch-cuda fp32, lkdn-s x4 trt-no-tf32 fp32.",
        "on: lkdn-s x4 torch-cuda-tf32 fp32.",
        "allowed, as is the engine's default: lkdn-s x4 trt fp32.",
    ]

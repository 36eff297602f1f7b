"""The pictures: that they are pictures, of what they should be, the same each time, and readable."""

import re
from collections.abc import Callable
from dataclasses import replace
from itertools import combinations
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from lkdn_deploy.bench.report.plots import BOUNDS, COLOURS, MOST_KINDS, kinds_plot, quality_plot, roofline_plot
from lkdn_deploy.bench.results import Bounds, Protocol, Report, SetQuality

Plot = Callable[[Report], str | None]
PLOTS: tuple[Plot, ...] = (quality_plot, kinds_plot, roofline_plot)
SVG = "{http://www.w3.org/2000/svg}"


def words(drawn: str | None) -> list[str]:
    """All that can be read in a picture."""
    assert drawn
    # Made by the function under test, of a made-up report.
    return ["".join(each.itertext()).strip("\u200b") for each in ET.fromstring(drawn).iter(f"{SVG}text")]  # noqa: S314


@pytest.mark.parametrize("plot", PLOTS)
def test_a_picture_is_xml_that_neither_tells_the_time_nor_refers_to_anything(full: Report, plot: Plot) -> None:
    drawn = plot(full)
    assert drawn is not None
    root = ET.fromstring(drawn)  # noqa: S314
    assert root.tag == f"{SVG}svg"
    assert root.get("aria-label")
    assert "date" not in drawn.lower()
    addresses = set(re.findall(r"https?://[^\"' ]+", drawn))
    assert addresses == {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}
    assert plot(full) == drawn
    ids = re.findall(r' id="([^"]*)"', drawn)
    assert len(ids) == len(set(ids))
    assert set(re.findall(r"(?:href=\"|url\()#([\w-]+)", drawn)) == set(ids)


def test_parts_of_different_pictures_have_different_names(full: Report) -> None:
    names = [set(re.findall(r' id="([^"]*)"', plot(full) or "")) for plot in PLOTS]
    assert not any(one & other for one, other in combinations(names, 2))


@pytest.mark.parametrize("plot", PLOTS)
def test_nothing_is_drawn_of_nothing(plot: Plot, make: Any) -> None:
    assert plot(make.report()) is None
    assert plot(make.report(make.row())) is None
    bounds, quality = Bounds("P", 3.0, 2.0, 1.0), (SetQuality("Set5", 5, 32.0, 0.9),)
    assert plot(make.report(make.row(typical=None, bounds=bounds, quality=quality))) is None


@pytest.mark.parametrize("plot", PLOTS)
def test_what_has_no_colour_has_that_of_the_text_around(full: Report, plot: Plot) -> None:
    drawn = plot(full) or ""
    colours = set(re.findall(r"#[0-9a-fA-F]{6}\b", re.sub(r"<style>.*?</style>", "", drawn)))
    assert colours <= {colour.lower() for colour in COLOURS}
    texts = re.findall(r"<text [^>]*>", drawn)
    assert texts
    assert all("fill: currentColor" in text for text in texts)


def test_quality_is_drawn_against_latency_and_without_it_latency_against_operations(full: Report) -> None:
    assert {"PSNR in dB", "median latency in ms", "lkdn-s x4", "lkdn x4", "ort-cpu", "torch cpu"} <= set(
        words(quality_plot(full))
    )
    without = replace(full, rows=tuple(replace(row, quality=()) for row in full.rows))
    assert {"median latency in ms", "Multi-Adds in G"} <= set(words(quality_plot(without)))
    ntire = replace(without, settings=replace(full.settings, protocol=Protocol.NTIRE_2023))
    assert {"mean latency in ms", "FLOPs in G"} <= set(words(quality_plot(ntire)))


def test_precisions_are_told_apart_where_there_are_several(full: Report) -> None:
    assert "fp32" not in words(quality_plot(full))
    rows = (*full.rows, replace(full.rows[0], precision="fp16"))
    assert {"fp32", "fp16"} <= set(words(quality_plot(replace(full, rows=rows))))


def test_each_row_with_kinds_has_a_bar(full: Report) -> None:
    rows = (*full.rows[:2], replace(full.rows[2], kinds={}))
    found = words(kinds_plot(replace(full, rows=rows)))
    assert [row.title for row in rows if row.title in found] == [row.title for row in rows[:2]]
    assert {"Conv", "Gelu", "LayerNorm", "305", "195"} <= set(found)
    assert "others" not in found


def test_kinds_beyond_the_colours_are_summed(full: Report) -> None:
    kinds = {f"kind {index}": 100.0 - index for index in range(MOST_KINDS + 4)}
    found = words(kinds_plot(replace(full, rows=(replace(full.rows[0], kinds=kinds),))))
    shown = [word for word in found if word.startswith("kind ")]
    assert shown == [f"kind {index}" for index in range(MOST_KINDS - 1)]
    assert "others" in found
    assert f"{sum(kinds.values()):.3g}" in found


def test_the_roofline_has_a_line_a_row_and_says_what_the_marks_are(full: Report) -> None:
    found = words(roofline_plot(replace(full, rows=(*full.rows[:3], replace(full.rows[3], bounds=None)))))
    assert [row.title in found for row in full.rows] == [True, True, True, False]
    assert {name for *_, name in BOUNDS} <= set(found)


@pytest.mark.parametrize("plot", PLOTS)
@pytest.mark.parametrize(
    "word", ["<b>&\"'", "$x_{", "_hidden", "a --> b", "\u8d85\u89e3\u50cf", "\x1b\x00\ud800", "#010203"]
)
def test_names_are_only_names(make: Any, plot: Plot, word: str) -> None:
    drawn = plot(make.hostile(word))
    found = " ".join(words(drawn))
    assert word in found or not word.isprintable()
    assert "<b>" not in (drawn or "")


@pytest.mark.parametrize("count", [3, len(COLOURS), 30])
def test_each_model_has_a_name_and_a_colour_in_the_legend(count: int, make: Any) -> None:
    quality = (SetQuality("Set5", 5, 32.0, 0.9),)
    rows = [make.row(f"model-{index}", typical=100.0 + index, quality=quality) for index in range(count)]
    drawn = quality_plot(make.report(*rows))
    assert drawn
    assert [word for word in words(drawn) if word.startswith("model-")] == [
        f"model-{index} x4" for index in range(count)
    ]
    assert len(set(re.findall(r"fill: (#[0-9a-f]{6})", drawn))) == count

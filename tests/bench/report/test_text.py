"""A report as text: its width, its alignment, what it says and what it does not."""

import re
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from lkdn_deploy.bench.report.notes import notes
from lkdn_deploy.bench.report.text import markdown, text
from lkdn_deploy.bench.results import Bounds, Copies, LeftOut, Protocol, Ratio, Report, WarmUp


def test_short_rows_are_lines_of_aligned_columns(make: Any) -> None:
    lines = text(make.report(make.row("a", typical=9.5), make.row("bcd", typical=123.4))).splitlines()
    first, second = (next(line for line in lines if line.startswith(name)) for name in ("a x4", "bcd x4"))
    assert "    9.50 " in first
    assert "  123.40 " in second
    assert first.index(".50 ") == second.index(".40 ")
    assert first[first.index("[") - 1] == second[second.index("[") - 1] == " "
    assert len(first) == len(second)


def test_wide_rows_have_their_names_on_lines_of_their_own(full: Report) -> None:
    lines = text(full).splitlines()
    place = lines.index("lkdn-s x4  ort-cpu  fp32")
    assert re.fullmatch(r" +199\.0 \[\d+\.\d\.\.\d+\.\d\] +0\.64 \[0\.62, 0\.67\] +29\.40 +100 +33", lines[place + 1])
    ends = {len(line) for line in lines if line.endswith(" 33")}
    assert len(ends) == 1


@pytest.mark.parametrize("length", [1, 30, 90, 400])
@pytest.mark.parametrize("typical", [1e-3, 8e9])
def test_no_line_is_wider_than_a_terminal(full: Report, make: Any, length: int, typical: float) -> None:
    words = "n" * length
    row = make.row(
        words,
        words,
        precision=words,
        weights="random",
        problem=f"{words} {words}",
        latency=make.latency(
            typical, ratio=Ratio(typical, 0.5, 2 * typical), copies=Copies.TIMED, warm_up=WarmUp(1, 1.0, stable=False)
        ),
    )
    rows = (*full.rows, row)
    report = replace(full, rows=rows, left_out=(LeftOut(words, words),), interrupted=True, machine={"cpu": words})
    lines = text(report).splitlines()
    assert max(map(len, lines)) <= 80
    # Nothing is cut off: the row's name, wherever it is broken.
    assert f"{words}x4" in "".join("".join(lines).split())


def test_columns_that_no_row_fills_are_not_there(make: Any) -> None:
    found = text(make.report(make.row(), make.row("other")))
    for words in ("PSNR", "MiB", "roof", "ratio:", "Counted"):
        assert words not in found


def test_what_is_not_known_is_a_dash(full: Report, make: Any) -> None:
    row = make.row("untimed", typical=None)
    lines = text(replace(full, rows=(*full.rows, row))).splitlines()
    assert lines[lines.index("untimed x4  ort-cpu  fp32") + 1].split() == ["-"] * 7


def test_a_report_without_rows_and_one_without_times_are_tables_too(make: Any) -> None:
    assert "model  backend  prec." in text(make.report())
    assert re.search(r"lkdn-s x4  ort-cpu  fp32 +-$", text(make.report(make.row(typical=None))), re.MULTILINE)
    assert markdown(make.report())


def test_the_first_row_is_one_by_itself_only_where_others_are_held_against_it(make: Any) -> None:
    other = make.row("b", latency=make.latency(ratio=Ratio(0.5, 0.4, 0.6)))
    assert "1.00" in text(make.report(make.row(typical=300.0), other))
    assert "1.00" not in text(make.report(make.row(typical=300.0), make.row("b")))


def test_a_small_ratio_has_two_digits(make: Any) -> None:
    other = make.row("b", latency=make.latency(ratio=Ratio(0.0312, 0.03, 0.033)))
    assert "0.031 [0.030, 0.033]" in text(make.report(make.row(typical=300.0), other))


def test_the_protocols_have_their_own_titles_and_statistics(full: Report) -> None:
    steady = text(full)
    ntire = text(replace(full, settings=replace(full.settings, protocol=Protocol.NTIRE_2023, input_size=None)))
    assert "protocol steady, input 320x180, 2 threads, 30 rounds" in steady
    assert "protocol ntire2023, input the images' own size, 2 threads" in ntire
    for words, where, elsewhere in (
        ("Multi-Adds G", steady, ntire),
        ("[p5..p95]", steady, ntire),
        (" 311.0 ", steady, ntire),
        ("on luma", steady, ntire),
        ("FLOPs G", ntire, steady),
        (" 466.5 ", ntire, steady),
        ("on RGB, border 4", ntire, steady),
    ):
        assert words in where
        assert words not in elsewhere


def test_the_share_of_the_roofline_is_of_the_figure_that_is_shown(full: Report) -> None:
    row = replace(full.rows[0], bounds=Bounds("P", 200.0, 155.5, 100.0))
    report = replace(full, rows=(row,))
    assert " 50\n" in text(report)  # of a median of 311 ms
    assert " 33\n" in text(replace(report, settings=replace(full.settings, protocol=Protocol.NTIRE_2023)))  # mean 466.5


def test_a_model_is_counted_once_and_another_scale_is_another_model(full: Report) -> None:
    rows = (*full.rows, replace(full.rows[0], scale=2, latency=None))
    lines = text(replace(full, rows=rows)).splitlines()
    counted = lines[lines.index("Counted") + 2 :]
    assert [line.split()[:2] for line in counted] == [["lkdn-s", "x4"], ["lkdn", "x4"], ["lkdn-s", "x2"]]
    assert counted[0].split()[2:] == ["129.2", "6.41", "61.23", "84", "320x180"]


def test_rows_of_one_title_are_told_apart_by_their_weights(make: Any) -> None:
    rows = [make.row(weights="random"), make.row(problem="cannot"), make.row(problem="must not")]
    found = notes(make.report(*rows))
    assert "lkdn-s x4 ort-cpu fp32 (bundled): cannot" in found
    assert "lkdn-s x4 ort-cpu fp32 (bundled) #2: must not" in found


NOTES: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "Interrupted": ({"interrupted": True}, {}, {}),
    "Not told apart": ({}, {}, {"ratio": Ratio(1.01, 0.99, 1.03)}),
    "No ratio": ({}, {}, {"ratio": None}),
    "Warm-up did not settle": ({}, {}, {"warm_up": WarmUp(40, 20.0, stable=False)}),
    "Random weights": ({}, {"weights": "random"}, {}),
    "are part of the time": ({}, {}, {"copies": Copies.TIMED}),
    "are left out of the time": ({}, {}, {"copies": Copies.LEFT_OUT}),
    "Faster than the roofline": ({}, {"bounds": Bounds("CPU", 150.0, 120.0, 90.0)}, {}),
    "no kernel": ({}, {"problem": "no kernel"}, {}),
    "Left out": ({"left_out": (LeftOut("TensorRT", "no GPU"),)}, {}, {}),
}
"""Words of each note, with the fields of the report, of a row and of its latency that call for it."""


@pytest.mark.parametrize("given", [None, *NOTES])
@pytest.mark.parametrize("form", [text, markdown])
def test_a_note_is_there_when_and_only_when_it_applies(
    make: Any, given: str | None, form: Callable[[Report], str]
) -> None:
    of_report, of_row, of_latency = NOTES[given] if given else ({}, {}, {})
    times = {"ratio": Ratio(0.5, 0.4, 0.6)} | of_latency
    row = make.row("other", **({"latency": make.latency(100.0, **times)} | of_row))
    found = " ".join(form(make.report(make.row(), row, **of_report)).split())
    assert [words for words in NOTES if words in found] == ([given] if given else [])
    assert ("~" in found) == (given == "Not told apart")


def test_notes_name_the_rows(make: Any) -> None:
    cold = WarmUp(40, 20.0, stable=False)
    rows = [make.row("a"), make.row("b", latency=make.latency(ratio=Ratio(2.0, 1.9, 2.1), warm_up=cold))]
    (note,) = notes(make.report(*rows))
    assert note.endswith("drifting: b x4 ort-cpu fp32.")


def test_copies_are_told_of_every_row_once_one_has_any(make: Any) -> None:
    ratio = Ratio(0.5, 0.4, 0.6)
    given = [
        make.row("a"),
        make.row("b", latency=make.latency(copies=Copies.TIMED, ratio=ratio)),
        make.row("c", latency=make.latency(copies=Copies.LEFT_OUT, ratio=ratio)),
        make.row("d", typical=None),
    ]
    found = notes(make.report(*given))
    assert len(found) == 3
    assert [name for note in found for name in "abcd" if f" {name} x4" in note] == ["b", "c", "a"]


def test_without_a_latency_of_the_first_row_the_note_says_so(make: Any) -> None:
    (note,) = notes(make.report(make.row(typical=None), make.row("b")))
    assert note == "No ratio of b x4 ort-cpu fp32: lkdn-s x4 ort-cpu fp32 has no latency."


def cells(line: str) -> list[str]:
    """The cells of a row of GitHub Markdown."""
    return re.split(r"(?<!\\)\|", line)[1:-1]


def test_markdown_has_as_many_cells_in_every_row(full: Report) -> None:
    lines = [line for line in markdown(full).splitlines() if line.startswith("|")]
    assert {len(cells(line)) for line in lines} == {10, 6}
    assert " 0.64 " in cells(lines[3])


@pytest.mark.parametrize("word", ["a|b", "a\\|b", "<script>alert(1)</script>", "[a](javascript:b)", "`a`", "a\n\n# b"])
def test_markdown_takes_words_for_words(make: Any, word: str) -> None:
    lines = markdown(make.hostile(word)).splitlines()
    latencies = [line for line in lines if line.startswith("| ") and " x4 |" in line]
    assert {len(cells(line)) for line in latencies} == {8, 6}
    markup = re.compile(r"(?<!\\)(?:\\\\)*[<\[`]")
    assert not any(markup.search(line) for line in lines)
    assert not any(line.startswith("#") for line in lines)


def test_a_terminal_is_given_no_control_character(make: Any) -> None:
    found = text(make.hostile("a\x1b]0;title\x07b\rc\u202ed"))
    assert found.replace("\n", "").isprintable()

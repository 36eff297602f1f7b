"""Two reports held against each other: changes that were planted, and changes that are none."""

import tracemalloc
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lkdn_deploy.bench.compare import DRIFT, Basis, Change, Verdict, compare, text
from lkdn_deploy.bench.measure.statistics import LEAST_ROUNDS
from lkdn_deploy.bench.results import (
    Copies,
    Cost,
    Latency,
    Memory,
    Protocol,
    Report,
    Row,
    SetQuality,
    Settings,
    read_report,
    write_report,
)
from lkdn_deploy.core.errors import ExitCode, InputError, UsageError

NOISE = 0.02
"""Relative noise of a row in each round; the rounds themselves have five times as much, which all rows share."""
ROUNDS = 30


def latency(samples: Sequence[float], **given: Any) -> Latency:
    p5, median, p95 = np.quantile(samples, [0.05, 0.5, 0.95])
    mean = float(np.mean(samples))
    return Latency(tuple(samples), median, p5, p95, mean, Copies.NONE, first=1.0, opening=1.0, **given)


def measured(
    seed: int, *factors: float, machine: float = 1.0, rounds: int = ROUNDS, names: str = "abcdef", **given: Any
) -> Report:
    """A row each, of 100, 200, ... ms times its factor, on a machine that takes so much longer."""
    rng = np.random.default_rng(seed)
    shared = machine * rng.normal(1, 5 * NOISE, rounds)
    rows = [
        Row(name, 4, "ort-cpu", "fp32", "bundled", latency=latency(100 * place * factor * shared * noise))
        for place, (name, factor) in enumerate(zip(names, factors, strict=False), 1)
        for noise in [rng.normal(1, NOISE, rounds)]
    ]
    values: dict[str, Any] = {
        "settings": Settings(Protocol.STEADY, (180, 320), 2, rounds, 0),
        "machine": {"cpu": "P", "load before": [float(seed)], "versions": {"torch": "2.13"}},
        "made": "2026-01-02T03:04:05Z",
    }
    return Report(rows=tuple(rows), **(values | given))


def with_row(report: Report, place: int = 1, **given: Any) -> Report:
    """The report with one row's fields replaced."""
    rows = list(report.rows)
    rows[place] = replace(rows[place], **given)
    return replace(report, rows=tuple(rows))


def images(seed: int, factor: float, count: int = 20) -> Report:
    """Under the challenge's protocol: images of very different sizes, the same ones for every seed."""
    sizes = np.geomspace(10, 1000, count)
    samples = factor * sizes * np.random.default_rng(seed).normal(1, NOISE, count)
    row = Row("a", 4, "ort-cpu", "fp32", "bundled", latency=latency(samples))
    return Report(Settings(Protocol.NTIRE_2023, None, 2, 1, 0), (row,), {}, "2026-01-02T03:04:05Z")


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("factor", "verdict"), [(1.1, Verdict.SLOWER), (1 / 1.1, Verdict.FASTER)])
def test_a_planted_change_is_found_and_of_the_right_size(seed: int, factor: float, verdict: Verdict) -> None:
    compared = compare(measured(seed, 1, 1, 1), measured(seed + 100, 1, factor, 1))
    assert [row.verdict for row in compared.rows] == [Verdict.REFERENCE, verdict, Verdict.SAME]
    assert [row.basis for row in compared.rows] == [Basis.NOTHING, Basis.RATIO, Basis.RATIO]
    change = compared.rows[1].ratio
    assert change.low < factor < change.high
    assert change.value == pytest.approx(factor, rel=0.03)


@pytest.mark.parametrize("alone", [True, pytest.param(False, marks=pytest.mark.long)])
def test_no_change_is_hardly_ever_taken_for_one(alone: bool) -> None:
    """One false alarm in 200 at most, even with a shift from run to run of up to two thirds of ``DRIFT``.

    Without that floor there would be 16 of the ratios.
    """
    rng = np.random.default_rng(1)
    alarms = []
    for seed in range(200):
        shift = 1 + 2 / 3 * DRIFT * rng.uniform(-1, 1)
        factors, changed = ((1.0,), (shift,)) if alone else ((1.0, 1.0), (1.0, shift))
        row = compare(measured(seed, *factors), measured(seed + 1000, *changed)).rows[-1]
        assert row.basis is (Basis.LATENCY if alone else Basis.RATIO)
        if row.verdict is not Verdict.SAME:
            alarms.append(seed)
    assert len(alarms) <= 1


@pytest.mark.parametrize("machine", [1.3, 0.7])
def test_a_machine_that_is_slower_as_a_whole_is_no_verdict_against_a_row(machine: float) -> None:
    compared = compare(measured(0, 1, 1, 1), measured(1, 1, 1, 1, machine=machine))
    assert [row.verdict for row in compared.rows] == [Verdict.REFERENCE, Verdict.SAME, Verdict.SAME]
    assert [row.latency.value for row in compared.rows] == pytest.approx([machine] * 3, rel=0.1)
    found = " ".join(text(compared).split())
    assert "a x4 ort-cpu fp32 itself changed by" in found
    assert "itself changed by" not in text(compare(measured(0, 1, 1), measured(1, 1, 1)))


def test_without_a_shared_first_row_the_latency_itself_decides() -> None:
    compared = compare(measured(0, 1, 1, names="ab"), measured(1, 1, 1, names="bx", machine=1.5))
    (row,) = compared.rows
    assert (row.title, row.verdict, row.basis, row.ratio) == ("b x4 ort-cpu fp32", Verdict.FASTER, Basis.LATENCY, None)
    assert (compared.only_before, compared.only_after) == (("a x4 ort-cpu fp32",), ("x x4 ort-cpu fp32",))
    found = " ".join(text(compared).split())
    assert "faster, by its latency" in found
    assert "Only before: a x4 ort-cpu fp32 - Only after: x x4 ort-cpu fp32" in found
    # A row alone has a verdict though it is the first.
    (row,) = compare(measured(0, 1), measured(1, 1.3)).rows
    assert (row.verdict, row.basis) == (Verdict.SLOWER, Basis.LATENCY)


def test_too_little_is_no_verdict() -> None:
    few = LEAST_ROUNDS - 1
    for row in compare(measured(0, 1, 1), measured(1, 1, 2, rounds=few)).rows:
        assert (row.verdict, row.basis, row.latency) == (Verdict.UNKNOWN, Basis.NOTHING, None)
    untimed = with_row(measured(1, 1, 1), latency=None, problem="no kernel")
    compared = compare(measured(0, 1, 1), untimed)
    assert compared.rows[1].verdict is Verdict.UNKNOWN
    assert compared.rows[1].others == ("after: no kernel",)
    assert "too little was measured" in text(compared)


def test_rounds_that_only_one_row_has_do_not_count() -> None:
    before, after = measured(0, 1, 1), measured(1, 1, 1.1)
    whole = after.rows[1].latency
    longer = with_row(after, latency=replace(whole, samples=(*whole.samples, 1e6, 1e6)))
    assert compare(before, longer).rows[1].ratio == compare(before, after).rows[1].ratio


def test_images_of_different_sizes_are_no_noise() -> None:
    assert compare(images(0, 1), images(1, 1.1)).rows[0].verdict is Verdict.SLOWER
    assert compare(images(0, 1), images(1, 1)).rows[0].verdict is Verdict.SAME
    assert compare(images(0, 1, 20), images(1, 1.1, 19)).rows[0].verdict is Verdict.SAME  # other images


def test_protocols_are_never_mixed() -> None:
    with pytest.raises(UsageError, match="never mixed") as refused:
        compare(measured(0, 1), images(0, 1))
    assert refused.value.exit_code == ExitCode.USAGE
    assert refused.value.hint == "measure again with --protocol steady"


@pytest.mark.parametrize(
    ("low", "high", "verdict"),
    [
        (1 + 1.01 * DRIFT, 2, Verdict.SLOWER),
        (1 + 0.99 * DRIFT, 2, Verdict.SAME),
        (0.5, 1 / (1 + 1.01 * DRIFT), Verdict.FASTER),
        (0.5, 1 / (1 + 0.99 * DRIFT), Verdict.SAME),
    ],
)
def test_the_drift_is_the_border(low: float, high: float, verdict: Verdict) -> None:
    assert Change(1.0, low, high).verdict is verdict


COST = Cost(1000, 5_000_000, 70_000, 12, (180, 320))
MEMORY = Memory(100.0, "host")


def rated(psnr: float, name: str = "Set5") -> tuple[SetQuality]:
    return (SetQuality(name, 5, psnr, 0.9),)


@pytest.mark.parametrize(
    ("field", "before", "after", "said"),
    [
        ("weights", "bundled", "random", ["weights bundled before, random after"]),
        ("quality", rated(32.0), rated(32.004), []),
        ("quality", rated(32.0), rated(31.99), ["PSNR -0.010 dB, 32.000 before, 31.990 after"]),
        ("quality", rated(32.0), rated(30.0, "Set14"), ["PSNR not compared: the test sets or images differ"]),
        ("quality", rated(32.0), (), []),
        ("memory", MEMORY, Memory(104.9, "host"), []),
        ("memory", MEMORY, Memory(106.0, "host"), ["peak memory +6.0 %, 100 MiB before, 106 after"]),
        ("memory", MEMORY, Memory(900.0, "GPU"), ["peak memory not compared: on host before, on GPU after"]),
        ("cost", COST, COST, []),
        ("cost", COST, None, []),
        (
            "cost",
            COST,
            replace(COST, parameters=1001, operations=6_000_000),
            ["parameters 1,000 before, 1,001 after", "Multi-Adds 5,000,000 before, 6,000,000 after"],
        ),
        (
            "cost",
            COST,
            Cost(1000, 20_000_000, 280_000, 12, (360, 640)),
            ["counted at 320x180 before, at 640x360 after: operations are not compared"],
        ),
    ],
)
def test_what_else_changed_is_said_and_nothing_more(field: str, before: Any, after: Any, said: list[str]) -> None:
    compared = compare(with_row(measured(0, 1, 1), **{field: before}), with_row(measured(1, 1, 1), **{field: after}))
    assert [row.others for row in compared.rows] == [(), tuple(said)]
    found = " ".join(text(compared).split())
    assert all(f"b x4 ort-cpu fp32: {each}" in found for each in said)


def test_times_with_copies_and_without_are_other_things() -> None:
    after = measured(1, 1, 1)
    timed = with_row(after, latency=replace(after.rows[1].latency, copies=Copies.TIMED))
    (said,) = compare(measured(0, 1, 1), timed).rows[1].others
    assert said == f"host copies {Copies.NONE} before, {Copies.TIMED} after: latencies of different work"


def test_circumstances_that_differ_are_named_but_not_those_of_the_moment() -> None:
    before = measured(0, 1)
    assert compare(before, measured(1, 1)).differing == ()  # though another load
    machine = {"cpu": "Q", "load before": [0.0], "versions": {"torch": "2.14", "numpy": "2.4"}}
    after = measured(1, 1, machine=1, settings=Settings(Protocol.STEADY, (360, 640), 4, ROUNDS, 0))
    compared = compare(before, replace(after, machine=machine))
    assert compared.differing == (
        "cpu: P before, Q after",
        "versions torch: 2.13 before, 2.14 after",
        "input size: 320x180 before, 640x360 after",
        "threads: 2 before, 4 after",
        "versions numpy: - before, 2.4 after",
    )
    assert "threads: 2 before, 4 after" in " ".join(text(compared).split())


def test_the_text_is_no_wider_than_a_terminal_and_says_what_counts_as_none() -> None:
    before, after = measured(0, 1, 1), measured(1, 1, 40)
    wide = [with_row(report, model="n" * 90, problem="why " * 40) for report in (before, after)]
    lines = text(compare(*wide)).splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.endswith("slower, by its ratio") for line in lines)
    assert f"whole interval lies beyond {100 * DRIFT:g} %" in " ".join(lines)


def test_reports_without_a_common_row_are_compared_to_no_effect_and_others_alike_each_time() -> None:
    reports = measured(0, 1, 1), measured(1, 1, 1.05)
    assert compare(*reports) == compare(*reports)
    compared = compare(measured(0, 1, names="a"), measured(0, 1, names="b"))
    assert compared.rows == ()
    assert "The reports have no row in common." in text(compared)


def test_memory_does_not_grow_with_the_rounds() -> None:
    report = measured(0, 1, 1, rounds=3000)
    tracemalloc.start()
    compare(report, report)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 100 << 20


@pytest.mark.parametrize(
    ("report", "said"),
    [
        (lambda: measured(0, 1, rounds=300_000), "1 rows and 300,000 samples, 300,000 in a row"),
        (lambda: measured(0, *[1] * 50, rounds=5000, names="x" * 50), "50 rows and 250,000 samples"),
        (lambda: replace(measured(0, 1), rows=measured(0, 1).rows * 1001), "1,001 rows"),
    ],
)
def test_a_report_with_too_much_is_refused_with_the_limits(
    tmp_path: Path, report: Callable[[], Report], said: str
) -> None:
    write_report(tmp_path / "bench.json", report())
    with pytest.raises(InputError, match=said) as refused:
        read_report(tmp_path / "bench.json")
    assert "bench.json" in refused.value.message
    assert refused.value.hint == "a report may have at most 1,000 rows, 200,000 samples, and 20,000 in a row"


@pytest.mark.parametrize("content", [b"", b"[" * 100_000, b"\xff", b'{"rows": 1e999}', b'{"a": ' * 9999, b"null"])
def test_a_file_that_is_no_report_is_named(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "bench.json").write_bytes(content)
    with pytest.raises(InputError, match=r"bench\.json is not a report of lkdn-bench: "):
        read_report(tmp_path / "bench.json")


@pytest.mark.parametrize("number", ["1" + "0" * 400, "1e300", "NaN", "1e-320"])
def test_a_number_beyond_all_measure_is_refused(tmp_path: Path, number: str) -> None:
    write_report(tmp_path / "bench.json", with_row(measured(0, 1), 0, cost=Cost(12345, 1, 1, 1, (1, 1))))
    for replaced in ("12345", '"first": 1.0'):
        text = (tmp_path / "bench.json").read_text()
        assert replaced in text
        (tmp_path / "other.json").write_text(
            text.replace(replaced, replaced.replace("12345", number).replace("1.0", number))
        )
        if replaced == "12345" or number != "1e-320":
            with pytest.raises(InputError, match=r"other\.json is not a report"):
                read_report(tmp_path / "other.json")

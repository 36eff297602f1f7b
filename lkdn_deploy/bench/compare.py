"""Comparison of two reports of the same rows, before and after a change: real differences told from noise."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.bench.machine import NONE, facts
from lkdn_deploy.bench.measure.statistics import CONFIDENCE, LEAST_ROUNDS, draws
from lkdn_deploy.bench.report.plain import with_plain_texts
from lkdn_deploy.bench.report.table_layout import Column, Table, aligned, wrapped
from lkdn_deploy.bench.report.tables import INTERVAL, size
from lkdn_deploy.bench.results import Protocol, Report, Row
from lkdn_deploy.core.errors import UsageError

DRIFT = 0.03
"""Fraction up to which a change of latency counts as noise.

From run to run a latency shifts by more than its rounds show: memory lies elsewhere, the machine is in another state.
An interval covers the rounds of one run only, so all of it must lie beyond this fraction to count as a change.
"""
PSNR_STEP = 0.005
"""Difference in dB below which two PSNR count as equal: half of the last digit in papers."""
MEMORY_SHARE = 0.05
"""Relative difference below which two peak memories count as equal."""
MOMENTARY = ("load", "free", "clock MHz", "now", "temperature")
"""Parts of the names of machine facts that vary from minute to minute."""
SEED = 0
"""Seed of the bootstrap."""


class Verdict(StrEnum):
    """The verdict on a row's latency."""

    FASTER = "faster"
    SLOWER = "slower"
    SAME = "no difference beyond noise"
    REFERENCE = "the others' reference"
    """The first row of both reports: its changes cannot be told from changes of the machine."""
    UNKNOWN = "too little was measured"


class Basis(StrEnum):
    """The basis of a verdict."""

    RATIO = "ratio"
    """The ratio to the first row, which a slower machine does not change."""
    LATENCY = "latency"
    """The latency itself: a slower machine looks like a slower row."""
    NOTHING = "nothing"


@dataclass(frozen=True, slots=True)
class Change:
    """The ratio of after to before, with its bootstrap interval."""

    value: float
    low: float
    high: float

    @property
    def verdict(self) -> Verdict:
        """Slower or faster if the whole interval lies beyond ``DRIFT``."""
        if self.low > 1 + DRIFT:
            return Verdict.SLOWER
        return Verdict.FASTER if self.high < 1 / (1 + DRIFT) else Verdict.SAME


@dataclass(frozen=True, slots=True)
class RowChange:
    """The comparison of a row that both reports have."""

    title: str
    verdict: Verdict
    basis: Basis
    latency: Change | None
    """``None``: a report has too few samples."""
    ratio: Change | None
    """Change of the ratio to the first row; ``None`` also if the reports begin with different rows."""
    others: tuple[str, ...]
    """Other changes, one sentence each."""


@dataclass(frozen=True, slots=True)
class ReportComparison:
    """The comparison of two reports."""

    protocol: Protocol
    reference: str | None
    """Title of the row that both reports begin with, if both have its latency."""
    rows: tuple[RowChange, ...]
    only_before: tuple[str, ...]
    only_after: tuple[str, ...]
    differing: tuple[str, ...]
    """Differing circumstances, one line each, which may cause differences."""


def compare(before: Report, after: Report) -> ReportComparison:
    """Compare the rows of two reports that have the same titles.

    Raises:
        UsageError: if the protocols differ.
    """
    protocol = before.settings.protocol
    if after.settings.protocol is not protocol:
        msg = f"protocols are never mixed, but the reports have {protocol} and {after.settings.protocol}"
        raise UsageError(msg, f"measure again with --protocol {protocol}")
    before, after = with_plain_texts(before), with_plain_texts(after)
    old, new = before.by_name(), after.by_name()
    timed = {
        name
        for name in old.keys() & new.keys()
        if min(len(_samples(old[name])), len(_samples(new[name]))) >= LEAST_ROUNDS
    }
    first = next(iter(old), None)
    reference = first if first in timed and first == next(iter(new)) else None

    def row_change(name: str) -> RowChange:
        def change(*names: str) -> Change | None:
            one, other = ([_samples(rows[each]) for each in names] for rows in (old, new))
            return _change(one, other, protocol)

        latency = change(name)
        ratio = change(name, reference) if reference not in (name, None) else None
        verdict, basis = Verdict.UNKNOWN, Basis.NOTHING
        if ratio:
            verdict, basis = ratio.verdict, Basis.RATIO
        elif name == reference and timed - {name}:
            verdict = Verdict.REFERENCE
        elif latency:
            verdict, basis = latency.verdict, Basis.LATENCY
        return RowChange(name, verdict, basis, latency, ratio, tuple(_others(old[name], new[name], protocol)))

    return ReportComparison(
        protocol,
        reference,
        tuple(row_change(name) for name in old if name in new),
        tuple(name for name in old if name not in new),
        tuple(name for name in new if name not in old),
        tuple(_differing(before, after)),
    )


def text(comparison: ReportComparison) -> str:
    """Write a comparison in lines of at most 80 columns, each with its line end."""
    what = f"change of the {comparison.protocol.statistic} latency"
    lines = wrapped(f"protocol {comparison.protocol}: {what}, with {INTERVAL} bootstrap intervals")
    if comparison.rows:
        lines += ["", *aligned(_table(comparison.rows))]
    notes = [f"{row.title}: {each}" for row in comparison.rows for each in row.others] + _notes(comparison)
    return "\n".join([*lines, "", *(line for note in notes for line in wrapped(note, "- ", "  "))]) + "\n"


def _samples(row: Row) -> tuple[float, ...]:
    return row.latency.samples if row.latency else ()


def _change(before: Sequence[Sequence[float]], after: Sequence[Sequence[float]], protocol: Protocol) -> Change | None:
    """Compute the change of a row's latency, or of its ratio to a second row, with a percentile bootstrap interval.

    Rounds are resampled in each report, with the samples of both rows, since what slows a round slows both. Under the
    challenges' protocols the same images are drawn in both reports, since their different sizes are not noise. Fewer
    than ``LEAST_ROUNDS`` rounds give ``None``.
    """
    old, new = (np.array([each[: min(map(len, rows))] for each in rows]) for rows in (before, after))
    rounds = old.shape[1], new.shape[1]
    if min(rounds) < LEAST_ROUNDS:
        return None
    random = np.random.default_rng(SEED)
    was = [_level(old[:, drawn], protocol) for drawn in draws(rounds[0], random)]
    if protocol.is_challenge and rounds[0] == rounds[1]:
        random = np.random.default_rng(SEED)
    now = [_level(new[:, drawn], protocol) for drawn in draws(rounds[1], random)]
    changes = np.concatenate(now) / np.concatenate(was)
    low, high = np.quantile(changes, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Change(float(_level(new, protocol) / _level(old, protocol)), float(low), float(high))


def _level(rows: NDArray[np.float64], protocol: Protocol) -> NDArray[np.float64]:
    """Reduce the last axis as ``statistics.bootstrap_ratio`` does, after dividing by the second row if present."""
    if protocol.is_challenge:
        return np.asarray(np.divide.reduce(rows.mean(axis=-1)))
    return np.asarray(np.median(np.divide.reduce(rows), axis=-1))


def _others(old: Row, new: Row, protocol: Protocol) -> Iterator[str]:
    """Yield differences of a row besides its latency, and reasons why its latencies are not comparable."""
    if old.weights != new.weights:
        yield f"weights {old.weights} before, {new.weights} after"
    if old.latency and new.latency and old.latency.copies is not new.latency.copies:
        yield f"host copies {old.latency.copies} before, {new.latency.copies} after: latencies of different work"
    yield from (f"{when}: {row.problem}" for when, row in (("before", old), ("after", new)) if row.problem)
    if old.psnr is not None and new.psnr is not None:
        if {(each.name, each.images) for each in old.quality} != {(each.name, each.images) for each in new.quality}:
            yield "PSNR not compared: the test sets or images differ"
        elif abs(new.psnr - old.psnr) >= PSNR_STEP:
            yield f"PSNR {new.psnr - old.psnr:+.3f} dB, {old.psnr:.3f} before, {new.psnr:.3f} after"
    if old.memory and new.memory and old.memory.peak_mib > 0:
        one, other = old.memory.peak_mib, new.memory.peak_mib
        if old.memory.device != new.memory.device:
            yield f"peak memory not compared: on {old.memory.device} before, on {new.memory.device} after"
        elif abs(other / one - 1) > MEMORY_SHARE:
            yield f"peak memory {_percent(other / one)} %, {one:,.0f} MiB before, {other:,.0f} after"
    if old.cost and new.cost:
        figures = {"parameters": "parameters", "convolutions": "convolutions"}
        if old.cost.input_size == new.cost.input_size:
            figures |= {protocol.operations: "operations", "activations": "activations"}
        else:
            sizes = f"counted at {size(old.cost.input_size)} before, at {size(new.cost.input_size)} after"
            yield f"{sizes}: operations are not compared"
        for name, field in figures.items():
            count, now = getattr(old.cost, field), getattr(new.cost, field)
            if count != now:
                yield f"{name} {count:,} before, {now:,} after"


def _differing(before: Report, after: Report) -> Iterator[str]:
    """Yield settings and machine facts that differ."""
    old, new = _circumstances(before), _circumstances(after)
    for name in dict.fromkeys([*old, *new]):
        one, other = old.get(name, NONE), new.get(name, NONE)
        if one != other:
            yield f"{name}: {one} before, {other} after"


def _circumstances(report: Report) -> dict[str, str]:
    settings = report.settings
    found = {
        name: words for name, words in facts(report.machine).items() if not any(each in name for each in MOMENTARY)
    }
    found["input size"] = size(settings.input_size) if settings.input_size else "the images' own"
    return found | {"threads": str(settings.threads)}


def _table(rows: Sequence[RowChange]) -> Table:
    interval = Column(f"[{INTERVAL}]", close=True)
    names = Column("row", name=True), Column("verdict", name=True)
    reasons = ["" if row.basis is Basis.NOTHING else f", by its {row.basis}" for row in rows]
    cells = tuple(
        (row.title, row.verdict + reason, *_figures(row.latency), *_figures(row.ratio))
        for row, reason in zip(rows, reasons, strict=True)
    )
    return Table("", (*names, Column("latency %"), interval, Column("ratio %"), interval), cells)


def _figures(change: Change | None) -> tuple[str, str]:
    if change is None:
        return NONE, NONE
    return _percent(change.value), f"[{_percent(change.low)}, {_percent(change.high)}]"


def _percent(quotient: float) -> str:
    return f"{100 * (quotient - 1):+.1f}"


def _notes(comparison: ReportComparison) -> list[str]:
    """Return notes on how to read the verdicts, and on their limits."""
    found = [
        f"A change counts if its whole interval lies beyond {100 * DRIFT:g} %: between runs, latencies shift by "
        "more than the rounds of one run show."
    ]
    if any(row.basis is Basis.RATIO for row in comparison.rows):
        found.append(f"ratio: the latency over that of {comparison.reference}, which a slower machine does not change.")
    for row in comparison.rows:
        if row.verdict is Verdict.REFERENCE and row.latency and row.latency.verdict is not Verdict.SAME:
            change = f"{row.title} itself changed by {_percent(row.latency.value)} %"
            found.append(f"{change}: either it or the machine changed, which cannot be told apart here.")
    found += [f"Differs, and may change latencies: {each}" for each in comparison.differing]
    if not comparison.rows:
        found.append("The reports have no row in common.")
    for when, names in (("before", comparison.only_before), ("after", comparison.only_after)):
        found += [f"Only {when}: {', '.join(names)}"] if names else []
    return found

"""Comparison of two reports of the same rows, before and after a change: real differences told from noise."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.bench.measure.statistics import CONFIDENCE, LEAST_ROUNDS, draws
from lkdn_deploy.bench.report.figures import INTERVAL, by_name, operations, size, statistic
from lkdn_deploy.bench.report.machine_text import NONE, facts
from lkdn_deploy.bench.report.plain import with_plain_texts
from lkdn_deploy.bench.report.table_layout import Column, Table, aligned, wrapped
from lkdn_deploy.bench.results import Cost, Memory, Protocol, Report, Row
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

_Samples = Sequence[Sequence[float]]
"""Samples of one row, or of it and of another row in the same rounds."""


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

    @property
    def slower(self) -> tuple[str, ...]:
        """Titles of the rows that became slower."""
        return tuple(row.title for row in self.rows if row.verdict is Verdict.SLOWER)


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
    old, new = by_name(before.rows), by_name(after.rows)
    reference = _reference(old, new)
    shared = [name for name in old if name in new]
    return ReportComparison(
        protocol,
        reference,
        tuple(_row_change(name, old, new, reference, protocol) for name in shared),
        tuple(name for name in old if name not in new),
        tuple(name for name in new if name not in old),
        tuple(_differing(before, after)),
    )


def text(comparison: ReportComparison) -> str:
    """Write a comparison in lines of at most 80 columns, each with its line end."""
    what = f"change of the {statistic(comparison.protocol)} latency"
    lines = wrapped(f"protocol {comparison.protocol}: {what}, with {INTERVAL} bootstrap intervals")
    if comparison.rows:
        lines += ["", *aligned(_table(comparison.rows))]
    notes = [f"{row.title}: {each}" for row in comparison.rows for each in row.others] + _notes(comparison)
    return "\n".join([*lines, "", *(line for note in notes for line in wrapped(note, "- ", "  "))]) + "\n"


def _reference(old: Mapping[str, Row], new: Mapping[str, Row]) -> str | None:
    first, other = next(iter(old), None), next(iter(new), None)
    known = first is not None and first == other and all(_enough(rows[first]) for rows in (old, new))
    return first if known else None


def _row_change(
    name: str, old: Mapping[str, Row], new: Mapping[str, Row], reference: str | None, protocol: Protocol
) -> RowChange:
    latency = _change([_samples(old[name])], [_samples(new[name])], protocol)
    ratio = None
    if reference is not None and name != reference:
        before, after = ([_samples(rows[name]), _samples(rows[reference])] for rows in (old, new))
        ratio = _change(before, after, protocol)
    others = old.keys() & new.keys() - {name}
    verdict, basis = Verdict.UNKNOWN, Basis.NOTHING
    if ratio:
        verdict, basis = ratio.verdict, Basis.RATIO
    elif name == reference and any(_enough(old[each]) and _enough(new[each]) for each in others):
        verdict = Verdict.REFERENCE
    elif latency:
        verdict, basis = latency.verdict, Basis.LATENCY
    return RowChange(name, verdict, basis, latency, ratio, tuple(_others(old[name], new[name], protocol)))


def _samples(row: Row) -> tuple[float, ...]:
    return row.latency.samples if row.latency else ()


def _enough(row: Row) -> bool:
    return len(_samples(row)) >= LEAST_ROUNDS


def _change(before: _Samples, after: _Samples, protocol: Protocol) -> Change | None:
    """Compute the change of a row's latency, or of its ratio to a second row, with a percentile bootstrap interval.

    Rounds are resampled in each report, with the samples of both rows, since what slows a round slows both. Under
    ``ntire2023`` the same images are drawn in both reports, since their different sizes are not noise.

    Returns:
        ``None`` for fewer than ``LEAST_ROUNDS`` rounds.
    """
    old, new = (np.array([each[: min(map(len, rows))] for each in rows]) for rows in (before, after))
    rounds, images = (old.shape[1], new.shape[1]), protocol is Protocol.NTIRE_2023
    if min(rounds) < LEAST_ROUNDS:
        return None
    random = np.random.default_rng(SEED)
    was = [_level(old[:, drawn], protocol) for drawn in draws(rounds[0], random)]
    if images and rounds[0] == rounds[1]:
        random = np.random.default_rng(SEED)
    now = [_level(new[:, drawn], protocol) for drawn in draws(rounds[1], random)]
    changes = np.concatenate(now) / np.concatenate(was)
    low, high = np.quantile(changes, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Change(float(_level(new, protocol) / _level(old, protocol)), float(low), float(high))


def _level(rows: NDArray[np.float64], protocol: Protocol) -> NDArray[np.float64]:
    """Reduce the last axis as ``statistics.bootstrap_ratio`` does, after dividing by the second row if present."""
    if protocol is Protocol.NTIRE_2023:
        return np.asarray(np.divide.reduce(rows.mean(axis=-1)))
    return np.asarray(np.median(np.divide.reduce(rows), axis=-1))


def _others(old: Row, new: Row, protocol: Protocol) -> Iterator[str]:
    """Yield differences of a row besides its latency, and reasons why its latencies are not comparable."""
    if old.weights != new.weights:
        yield f"weights {old.weights} before, {new.weights} after"
    if old.latency and new.latency and old.latency.copies is not new.latency.copies:
        yield f"host copies {old.latency.copies} before, {new.latency.copies} after: latencies of different work"
    yield from (f"{when}: {row.problem}" for when, row in (("before", old), ("after", new)) if row.problem)
    yield from _quality(old, new)
    yield from _memory(old.memory, new.memory)
    if old.cost and new.cost:
        yield from _cost(old.cost, new.cost, protocol)


def _quality(old: Row, new: Row) -> Iterator[str]:
    if old.psnr is None or new.psnr is None:
        return
    sets = [{(each.name, each.images) for each in row.quality} for row in (old, new)]
    if sets[0] != sets[1]:
        yield "PSNR not compared: the test sets or images differ"
    elif abs(new.psnr - old.psnr) >= PSNR_STEP:
        yield f"PSNR {new.psnr - old.psnr:+.3f} dB, {old.psnr:.3f} before, {new.psnr:.3f} after"


def _memory(old: Memory | None, new: Memory | None) -> Iterator[str]:
    if old is None or new is None or old.peak_mib <= 0:
        return
    if old.device != new.device:
        yield f"peak memory not compared: on {old.device} before, on {new.device} after"
    elif abs(new.peak_mib / old.peak_mib - 1) > MEMORY_SHARE:
        share = _percent(new.peak_mib / old.peak_mib)
        yield f"peak memory {share} %, {old.peak_mib:,.0f} MiB before, {new.peak_mib:,.0f} after"


def _cost(old: Cost, new: Cost, protocol: Protocol) -> Iterator[str]:
    figures = {"parameters": (old.parameters, new.parameters), "convolutions": (old.convolutions, new.convolutions)}
    if old.input_size == new.input_size:
        figures[operations(protocol)] = (old.operations, new.operations)
        figures["activations"] = (old.activations, new.activations)
    else:
        yield f"counted at {size(old.input_size)} before, at {size(new.input_size)} after: operations are not compared"
    yield from (f"{name} {one:,} before, {other:,} after" for name, (one, other) in figures.items() if one != other)


def _differing(before: Report, after: Report) -> Iterator[str]:
    """Yield settings and machine facts that differ."""
    old, new = _circumstances(before), _circumstances(after)
    for name in dict.fromkeys([*old, *new]):
        one, other = old.get(name, NONE), new.get(name, NONE)
        if one != other:
            yield f"{name}: {one} before, {other} after"


def _circumstances(report: Report) -> dict[str, str]:
    settings = report.settings
    asked = {
        "input size": size(settings.input_size) if settings.input_size else "the images' own",
        "threads": str(settings.threads),
    }
    lasting = {
        name: words for name, words in facts(report.machine).items() if not any(each in name for each in MOMENTARY)
    }
    return lasting | asked


def _table(rows: Sequence[RowChange]) -> Table:
    columns = (
        Column("row", name=True),
        Column("verdict", name=True),
        Column("latency %"),
        Column(f"[{INTERVAL}]", close=True),
        Column("ratio %"),
        Column(f"[{INTERVAL}]", close=True),
    )
    cells = tuple(
        (row.title, _words(row.verdict, row.basis), *_figures(row.latency), *_figures(row.ratio)) for row in rows
    )
    return Table("", columns, cells)


def _words(verdict: Verdict, basis: Basis) -> str:
    return verdict if basis is Basis.NOTHING else f"{verdict}, by its {basis}"


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

"""Notes that a reader of a report needs beside its figures."""

from collections.abc import Mapping

from lkdn_deploy.bench.complexity.devices import PAPER_LATENCY
from lkdn_deploy.bench.measure.statistics import LEAST_ROUNDS
from lkdn_deploy.bench.report.figures import by_name, model, roofline_share
from lkdn_deploy.bench.results import Copies, Latency, Report


def notes(report: Report) -> list[str]:
    """Return the notes that apply, as sentences."""
    rows = by_name(report.rows)
    timed = {name: row.latency for name, row in rows.items() if row.latency}
    found = []
    if report.interrupted:
        found.append("Interrupted: the run was stopped before everything was measured.")
    first = next(iter(rows), "")
    if same := ", ".join(name for name, each in timed.items() if each.ratio and not each.ratio.told_apart):
        found.append(f"~ Not told apart from {first}: {same}. The machine is too noisy for so small a difference.")
    if alone := ", ".join(name for name, each in timed.items() if name != first and each.ratio is None):
        why = f"that takes {LEAST_ROUNDS} rounds or images" if first in timed else f"{first} has no latency"
        found.append(f"No ratio of {alone}: {why}.")
    if unsettled := ", ".join(name for name, each in timed.items() if each.warm_up and not each.warm_up.stable):
        found.append(f"Warm-up did not settle within its limits, so times may still have been drifting: {unsettled}.")
    if random := ", ".join(dict.fromkeys(model(row) for row in report.rows if row.weights == "random")):
        found.append(f"Random weights: {random}. They change the pictures, not the times.")
    over = ", ".join(name for name, row in rows.items() if (roofline_share(row, report.settings.protocol) or 0) > 1)
    if over:
        found.append(
            f"Faster than the roofline, which is no bound there: {over}. Caches spare traffic that it counts, or an "
            "algorithm saves operations, or the peak rate was measured too low, on a busy machine."
        )
    found += _copies(timed)
    found += _paper_latencies(report)
    found += [f"{name}: {row.problem}" for name, row in rows.items() if row.problem]
    found += [f"Left out: {each.what}: {each.why}" for each in report.left_out]
    found += [f"Failed: {each.what}: {each.why}. The figures are from the other images." for each in report.failed]
    return found


def _paper_latencies(report: Report) -> list[str]:
    """Quote the LKDN paper's latencies if one of its networks runs on a GPU."""
    if all(row.backend.endswith("cpu") for row in report.rows):
        return []
    named = {row.model for row in report.rows} & PAPER_LATENCY.keys()
    if not named:
        return []
    figures = ", ".join(f"{name} {PAPER_LATENCY[name]:.2f} ms" for name in sorted(named))
    return [
        f"The LKDN paper reports on an RTX 3080: {figures}. They are assigned to networks by the order of its tables, "
        "and the paper states neither input size nor precision."
    ]


def _copies(timed: Mapping[str, Latency]) -> list[str]:
    """Say which times include host copies, if a row runs on a device with memory of its own."""
    texts = {
        Copies.TIMED: "Copies between host and device are part of the time of",
        Copies.LEFT_OUT: "Copies between host and device are left out of the time of",
        Copies.NONE: "There are no copies, since the engine works in the host's memory:",
    }
    named = {kind: ", ".join(name for name, each in timed.items() if each.copies is kind) for kind in texts}
    if not named[Copies.TIMED] and not named[Copies.LEFT_OUT]:
        return []
    return [f"{text} {named[kind]}." for kind, text in texts.items() if named[kind]]

"""Notes that a reader of a report needs beside its figures."""

from collections.abc import Iterator

from lkdn_deploy.bench.complexity.devices import PAPER_LATENCY
from lkdn_deploy.bench.measure.statistics import LEAST_ROUNDS
from lkdn_deploy.bench.results import Copies, Report

_COPIES = {
    Copies.TIMED: "Copies between host and device are part of the time of",
    Copies.LEFT_OUT: "Copies between host and device are left out of the time of",
    Copies.NONE: "There are no copies, since the engine works in the host's memory:",
}

_TF32 = {
    "off": ("torch-cuda", "torch-cuda-channels-last", "torch-cuda-compile", "trt-no-tf32", "trt-rtx-no-tf32"),
    "on": ("torch-cuda-tf32",),
    "allowed, as is the engine's default": ("ort-cuda", "trt", "trt-rtx", "trt-aux0", "trt-rtx-aux0"),
}
"""Backends on a GPU by what they do with FP32."""


def notes(report: Report) -> list[str]:
    """Return the notes that apply, as sentences."""
    return list(_notes(report))


def _notes(report: Report) -> Iterator[str]:
    rows = report.by_name()
    timed = {name: row.latency for name, row in rows.items() if row.latency}
    first = next(iter(rows), "")
    if report.interrupted:
        yield "Interrupted: the run was stopped before everything was measured."
    if same := ", ".join(name for name, each in timed.items() if each.ratio and not each.ratio.told_apart):
        yield f"~ Not told apart from {first}: {same}. The machine is too noisy for so small a difference."
    if alone := ", ".join(name for name, each in timed.items() if name != first and each.ratio is None):
        why = f"that takes {LEAST_ROUNDS} rounds or images" if first in timed else f"{first} has no latency"
        yield f"No ratio of {alone}: {why}."
    if unsettled := ", ".join(name for name, each in timed.items() if each.warm_up and not each.warm_up.stable):
        yield f"Warm-up did not settle within its limits, so times may still have been drifting: {unsettled}."
    if random := ", ".join(dict.fromkeys(row.network for row in report.rows if row.weights == "random")):
        yield f"Random weights: {random}. They change the pictures, not the times."
    protocol = report.settings.protocol
    if over := ", ".join(name for name, row in rows.items() if (row.roofline_share(protocol) or 0) > 1):
        yield (
            f"Faster than the roofline, which is no bound there: {over}. Caches spare traffic that it counts, or an "
            "algorithm saves operations, or the peak rate was measured too low, on a busy machine."
        )
    if {each.copies for each in timed.values()} - {Copies.NONE}:
        for copies, text in _COPIES.items():
            if names := ", ".join(name for name, each in timed.items() if each.copies is copies):
                yield f"{text} {names}."
    for state, of in _TF32.items():
        if names := ", ".join(name for name, row in rows.items() if row.precision == "fp32" and row.backend in of):
            yield f"TF32, FP32 products of factors with 11 bits, is {state}: {names}."
    papers = sorted({row.model for row in report.rows} & PAPER_LATENCY.keys())
    if papers and not all(row.backend.endswith("cpu") for row in report.rows):
        figures = ", ".join(f"{name} {PAPER_LATENCY[name]:.2f} ms" for name in papers)
        yield (
            f"The LKDN paper reports on an RTX 3080: {figures}. They are assigned to networks by the order of its "
            "tables, and the paper states neither input size nor precision."
        )
    yield from (f"{name}: {row.problem}" for name, row in rows.items() if row.problem)
    yield from (f"Left out: {each.what}: {each.why}" for each in report.left_out)
    for each in report.failed:
        yield f"Failed: {each.what}: {each.why}. The figures are from the other images."

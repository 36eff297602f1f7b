"""Latencies of a benchmark's rows: the first run of each, then rounds that time all of them in turn."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from lkdn_deploy.bench.measure.harness import Prepare, Progress, Run, WarmUpLimits, measure_rounds, timed
from lkdn_deploy.bench.measure.statistics import bootstrap_mean_ratio, bootstrap_ratio
from lkdn_deploy.bench.measure.timed_runs import Batch, timed_runs
from lkdn_deploy.bench.results import Latency, Protocol, Settings
from lkdn_deploy.bench.rows import OpenRow


def first_run(row: OpenRow, batches: Sequence[Batch], protocol: Protocol) -> Prepare:
    """Run a row's network for the first time, alone, and return what prepares its timed runs.

    Under ``steady`` this times the run, and later rounds time the first batch, each in a new session. Under
    ``ntire2023`` nothing runs, and each round is one batch.
    """
    runs, row.copies = timed_runs(row.session, batches)
    if protocol is Protocol.NTIRE_2023:
        return runs.__getitem__
    row.first = timed(runs[0])[0]

    def prepare(index: int) -> Run:
        if index:  # round 0 uses the session that is open
            row.session = row.reopen()
        (run,), _ = timed_runs(row.session, batches[:1])
        return run

    return prepare


def time_rows(
    rows: Sequence[OpenRow],
    candidates: Sequence[Prepare],
    settings: Settings,
    images: int,
    *,
    with_ratios: bool,
    progress: Progress | None,
) -> bool:
    """Time rows in rounds and store their latencies in them.

    Args:
        rows: the rows.
        candidates: what ``first_run`` returned for each.
        settings: the benchmark's settings.
        images: number of rounds under ``ntire2023``.
        with_ratios: whether to compare the other rows with the first.
        progress: called after every timed run.

    Returns:
        Whether Ctrl-C ended the rounds early.
    """
    steady = settings.protocol is Protocol.STEADY
    timings = measure_rounds(
        candidates,
        settings.rounds if steady else images,
        warm_up=WarmUpLimits() if steady else None,
        seed=settings.seed,
        progress=progress,
    )
    # The challenge reads a GPU's own events.
    measured = [each.samples if steady else each.device_samples or each.samples for each in timings.each]
    compare = bootstrap_ratio if steady else bootstrap_mean_ratio
    for index, (row, timing, samples) in enumerate(zip(rows, timings.each, measured, strict=True)):
        if not samples:
            continue
        p5, median, p95 = (float(value) for value in np.percentile(samples, [5, 50, 95]))
        seconds = row.session.build_seconds
        latency = Latency(
            samples=tuple(samples),
            median=median,
            p5=p5,
            p95=p95,
            mean=float(np.mean(samples)),
            copies=row.copies,
            first=row.first if steady else samples[0],
            opening=row.opening,
            warm_up=timing.warm_up,
            ratio=compare(samples, measured[0]) if with_ratios and index else None,
            device_samples=tuple(timing.device_samples),
            building=None if seconds is None else seconds * 1e3,
        )
        row.row = replace(row.row, latency=latency)
    return timings.interrupted

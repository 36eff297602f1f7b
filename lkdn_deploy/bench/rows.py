"""Rows of a report while they are measured: opened on an engine, run for the first time, and timed in turn."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.bench.measure.harness import (
    Prepare,
    Progress,
    Run,
    Timing,
    WarmUpLimits,
    measure_rounds,
    timed,
    timed_run,
)
from lkdn_deploy.bench.measure.statistics import bootstrap_mean_ratio, bootstrap_ratio
from lkdn_deploy.bench.measure.whole_run import whole_run
from lkdn_deploy.bench.models import Model
from lkdn_deploy.bench.opening import COMPILED, ModelChoice, open_engine, open_form, torch_way, trt_way
from lkdn_deploy.bench.results import Copies, Latency, Protocol, Row, Settings
from lkdn_deploy.core.errors import LkdnError
from lkdn_deploy.core.files import printable
from lkdn_deploy.core.protocols import Session
from lkdn_deploy.hub.artifacts import find_artifact
from lkdn_deploy.runtime.optimised import optimised_for

Batch = NDArray[np.float32]
"""(N, 3, H, W) RGB in 0..1."""


@dataclass(slots=True, eq=False)
class OpenRow:
    """A row with its open session."""

    model: Model
    choice: ModelChoice
    engine: str
    reopen: Callable[[], Session]
    session: Session
    artifact: Artifact | None
    """The artefact that the session runs; ``None``: it runs the checkpoint."""
    opening: float
    """Milliseconds that opening took."""
    row: Row
    building: float | None = None
    """Milliseconds of building the engine; ``None``: nothing is built."""
    first: float = 0.0
    """Milliseconds of the first run."""
    prepare: Prepare | None = None
    """Prepares its timed runs; ``None`` until the first run."""


def open_row(model: Model, engine: str, precision: str, threads: int) -> OpenRow:
    """Open a model on an engine.

    Args:
        model: the model.
        engine: a name of ``opening.ENGINES``.
        precision: one of ``opening.PRECISIONS``.
        threads: CPU threads.

    Raises:
        LkdnError: as ``open_engine`` does.
    """
    choice, artifact = model.choice(), None
    reopen: Callable[[], Session] = partial(open_engine, choice, engine, precision, threads)
    if torch_way(engine) is None:
        # Converting a checkpoint, optimising and building an engine happen once and are not part of opening.
        found = find_artifact(choice.model, choice.scale, choice.weights, precision=precision)
        artifact = optimised_for(found, engine)
        reopen = partial(open_form, artifact, engine, precision, threads)
        if trt_way(engine):
            reopen()
    start = time.perf_counter()
    session = reopen()
    opening = (time.perf_counter() - start) * 1e3
    if engine == COMPILED:  # a new session would be compiled anew in every round
        reopen = partial(_kept, session)
    row = Row(model.name, model.scale, session.backend, precision, model.origin)
    return OpenRow(model, choice, engine, reopen, session, artifact, opening, row)


def _kept(session: Session) -> Session:
    return session


def first_run(row: OpenRow, batches: Sequence[Batch], protocol: Protocol) -> None:
    """Run a row's network for the first time, alone, and store in the row what prepares its timed runs.

    Under ``steady`` this times the run, and later rounds time the first batch, each in a new session. Under
    challenges' protocols nothing runs, and each round is one batch; ``time_alone`` needs no preparation.

    Args:
        row: the row.
        batches: the inputs.
        protocol: the benchmark's protocol.
    """
    if protocol.is_challenge:
        runs = [timed_run(row.session, batch) for batch in batches]
        row.prepare = lambda index: runs[index % len(runs)]
        return
    row.first = timed(timed_run(row.session, batches[0]))[0]

    def prepare(index: int) -> Run:
        if index:  # round 0 uses the session that is open
            row.session = row.reopen()
        return timed_run(row.session, batches[0])

    row.prepare = prepare


def time_rows(
    rows: Sequence[OpenRow],
    settings: Settings,
    images: int,
    *,
    with_ratios: bool,
    progress: Progress | None,
) -> bool:
    """Time rows in rounds, store their latencies in them, and return whether Ctrl-C ended the rounds early.

    Args:
        rows: the rows after their first runs.
        settings: the benchmark's settings.
        images: number of rounds under the challenges' protocols.
        with_ratios: whether to compare the other rows with the first.
        progress: called after every timed run.
    """
    steady = settings.protocol is Protocol.STEADY
    limits = WarmUpLimits() if steady else None
    rounds = settings.rounds if steady else images
    candidates = [row.prepare for row in rows if row.prepare]
    timings = measure_rounds(candidates, rounds, warm_up=limits, seed=settings.seed, progress=progress)
    for row in rows:
        seconds = row.session.build_seconds
        row.building = None if seconds is None else seconds * 1e3
    _store(rows, timings.each, steady=steady, with_ratios=with_ratios)
    return timings.interrupted


def time_alone(
    rows: Sequence[OpenRow],
    settings: Settings,
    batches: Sequence[Batch],
    *,
    with_ratios: bool,
    progress: Progress | None,
) -> bool:
    """Time each row in a process of its own, store latency and memory, and return whether Ctrl-C ended it early.

    A row that fails gets the reason, and does not affect the others.

    Args:
        rows: the rows.
        settings: the benchmark's settings.
        batches: the images.
        with_ratios: whether to compare the other rows with the first.
        progress: called after every row.
    """
    done: list[OpenRow] = []
    timings: list[Timing] = []
    interrupted = False
    with TemporaryDirectory() as folder:
        try:
            for index, batch in enumerate(batches):
                np.save(Path(folder, f"{index:09}.npy"), batch)
            for row in rows:
                try:
                    found = whole_run(row.choice, row.engine, row.row.precision, settings.threads, Path(folder))
                except LkdnError as error:
                    row.row = replace(row.row, problem=printable(f"timing: {error}"))
                    continue
                row.row, row.opening = replace(row.row, memory=found.memory), found.opening
                row.building = found.building
                done.append(row)
                timings.append(Timing(list(found.samples), list(found.device_samples)))
                if progress:
                    progress(len(done), len(rows))
        except KeyboardInterrupt:
            interrupted = True
    _store(done, timings, steady=False, with_ratios=with_ratios and done[:1] == [rows[0]])
    return interrupted


def _store(rows: Sequence[OpenRow], timings: Sequence[Timing], *, steady: bool, with_ratios: bool) -> None:
    """Store the latencies of rows in them.

    Args:
        rows: the rows.
        timings: a timing for each of them.
        steady: whether the protocol is ``steady``.
        with_ratios: whether to compare the other rows with the first.
    """
    events = [len(each.device_samples) == len(each.samples) for each in timings]
    # The challenges read a GPU's own events. Rows are compared by these only if all have them.
    by_events = all(events) if steady else any(events)
    measured = [
        each.device_samples if by_events and has_events else each.samples
        for each, has_events in zip(timings, events, strict=True)
    ]
    compare = bootstrap_ratio if steady else bootstrap_mean_ratio
    for index, (row, timing, samples) in enumerate(zip(rows, timings, measured, strict=True)):
        if not samples:
            continue
        p5, median, p95 = (float(value) for value in np.percentile(samples, [5, 50, 95]))
        copies = Copies.NONE
        if not row.session.on_cpu:
            left_out = samples is timing.device_samples
            copies = Copies.LEFT_OUT if left_out else Copies.TIMED
        latency = Latency(
            samples=tuple(samples),
            median=median,
            p5=p5,
            p95=p95,
            mean=float(np.mean(samples)),
            copies=copies,
            first=row.first if steady else samples[0],
            opening=row.opening,
            warm_up=timing.warm_up,
            ratio=compare(samples, measured[0]) if with_ratios and index else None,
            device_samples=tuple(timing.device_samples),
            building=row.building,
        )
        row.row = replace(row.row, latency=latency)

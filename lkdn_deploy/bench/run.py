"""One run of ``lkdn-bench``: models are opened on engines, counted, timed and rated, which gives a ``Report``."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from lkdn_deploy.bench.complexity.cost import Costs
from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.bench.measure.harness import Prepare, Progress
from lkdn_deploy.bench.measure.latency import first_run, time_rows
from lkdn_deploy.bench.measure.peak_memory import peak_memory
from lkdn_deploy.bench.measure.profile import profile
from lkdn_deploy.bench.measure.timed_runs import Batch
from lkdn_deploy.bench.models import Model
from lkdn_deploy.bench.quality.evaluation import Borders, average, evaluate, of_session
from lkdn_deploy.bench.results import LeftOut, Protocol, Report, SetQuality, Settings
from lkdn_deploy.bench.rows import OpenRow, open_row
from lkdn_deploy.core.errors import InputError, LkdnError, MissingError, UsageError
from lkdn_deploy.core.files import printable
from lkdn_deploy.imaging.pixels import to_batch
from lkdn_deploy.imaging.testsets import TestSet, read_pair

Stage = Callable[[str], AbstractContextManager[Progress | None]]
"""Opens a stage of the run, given its name, and yields what to call with its progress."""


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """The models, engines, precisions and settings to measure.

    Raises:
        UsageError: if the models differ in scale or do not take the size, or the protocol needs test sets.
        MissingError: if quality is asked of a model without trained weights.
    """

    models: Sequence[Model]
    engines: Sequence[str]
    """Names of ``opening.ENGINES``."""
    precisions: Sequence[str]
    settings: Settings
    sets: Sequence[TestSet] = ()
    """Test sets to rate the models on; the protocol ``ntire2023`` also times their images."""
    required: bool = False
    """Whether an engine that does not work here is an error, as for engines asked for by name."""

    def __post_init__(self) -> None:
        scales = {model.scale for model in self.models}
        if len(scales) > 1:
            msg = f"expected models of one scale, got {', '.join(f'x{scale}' for scale in sorted(scales))}"
            raise UsageError(msg, "latencies at different scales cannot be compared: measure each scale separately")
        if self.settings.input_size:
            for model in self.models:
                model.check_size(*self.settings.input_size)
        ntire = self.settings.protocol is Protocol.NTIRE_2023
        if ntire and not self.sets:
            msg = "the protocol ntire2023 times the images of a test set at their own sizes, and none was given"
            hint = "give the set of the challenge, DIV2K's validation images, or another one: --data DIR"
            raise UsageError(msg, hint)
        if self.sets and not ntire:
            for model in self.models:
                if not model.has_quality:
                    msg = f"quality was asked for, but there are no weights of {model.name} x{model.scale}"
                    hint = f"lkdn-zoo get {model.name} --scale {model.scale}, give a checkpoint, or leave out --data"
                    raise MissingError(msg, hint)

    @property
    def scale(self) -> int:
        """The scale of all models."""
        return self.models[0].scale


@dataclass(slots=True)
class _State:
    rows: list[OpenRow] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Images that failed, with the reasons."""
    batches: list[Batch] = field(default_factory=list)
    interrupted: bool = False

    @property
    def sound(self) -> list[OpenRow]:
        """Rows that have not failed."""
        return [row for row in self.rows if not row.row.problem]


def bench(request: BenchRequest, stage: Stage) -> Report:
    """Measure. Ctrl-C ends the run early with the results so far; a row that fails does not affect the others.

    Args:
        request: what to measure.
        stage: opens each stage: ``opening``, ``timing``, and so on.

    Raises:
        LkdnError: if nothing can be measured: no engine works, a required one does not, or no image can be timed.
    """
    state = _State()
    facts = machine_facts(request.settings.threads)
    try:
        _read_batches(request, state)
        _open_all(request, state, stage)
        _count_all(request, state, stage)
        _time_all(request, state, stage)
        if not state.interrupted:
            _rate_all(request, state, stage)
            _measure_memory(request, state, stage)
            _profile_all(request, state, stage)
    except KeyboardInterrupt:
        state.interrupted = True
    return Report(
        settings=request.settings,
        rows=tuple(row.row for row in state.rows),
        machine=facts,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        left_out=tuple(state.left_out),
        failed=tuple(LeftOut(what, why) for what, why in state.failed.items()),
        interrupted=state.interrupted,
    )


def _read_batches(request: BenchRequest, state: _State) -> None:
    """Make the inputs to time: one batch of noise, or every image that can be read."""
    size = request.settings.input_size
    if size:
        state.batches = [np.random.default_rng(request.settings.seed).random((1, 3, *size), np.float32)]
        return
    for each in request.sets:
        for picture in each.pictures:
            try:
                low, _ = read_pair(picture, request.scale)
                state.batches.append(to_batch(low))
            except LkdnError as error:
                state.failed[f"{each.name}/{picture.name}"] = printable(error.message)
    if not state.batches:
        msg = f"none of the images can be read: {'; '.join(state.failed.values())}"
        raise InputError(msg, "give another folder with --data")


def _open_all(request: BenchRequest, state: _State, stage: Stage) -> None:
    wanted = [
        (model, engine, precision)
        for model in request.models
        for engine in request.engines
        for precision in request.precisions
    ]
    missing: dict[str, MissingError] = {}
    refused: list[LkdnError] = []
    with stage("opening") as progress:
        for index, (model, engine, precision) in enumerate(wanted):
            if engine not in missing:
                try:
                    state.rows.append(open_row(model, engine, precision, request.settings.threads))
                except MissingError as error:
                    if request.required:
                        raise
                    missing[engine] = error
                except LkdnError as error:
                    refused.append(error)
                    state.left_out.append(LeftOut(f"{model.name} on {engine} at {precision}", error.message))
            if progress:
                progress(index + 1, len(wanted))
    state.left_out += [LeftOut(engine, error.message) for engine, error in missing.items()]
    if state.rows:
        return
    if not missing and len(refused) == 1:
        raise refused[0]
    reasons = "; ".join(f"{item.what}: {item.why}" for item in state.left_out)
    msg = f"nothing that was asked for works here: {reasons}"
    if missing:
        raise MissingError(msg, "\n".join(dict.fromkeys(error.hint for error in missing.values() if error.hint)))
    raise type(refused[0])(msg, refused[0].hint)


def _for_each(rows: Sequence[OpenRow], name: str, stage: Stage, work: Callable[[OpenRow], None]) -> None:
    """Run a stage on one row after the other; a failure is recorded in its row."""
    with stage(name) as progress:
        for index, row in enumerate(rows):
            try:
                work(row)
            except LkdnError as error:
                row.row = replace(row.row, problem=printable(f"{name}: {error}"))
            if progress:
                progress(index + 1, len(rows))


def _count_all(request: BenchRequest, state: _State, stage: Stage) -> None:
    costs = Costs(request.settings, cpu=any(row.session.on_cpu for row in state.rows))

    def work(row: OpenRow) -> None:
        bounds = costs.bounds(row.model, row.row.precision, on_cpu=row.session.on_cpu)
        row.row = replace(row.row, cost=costs.cost(row.model), bounds=bounds)

    _for_each(state.rows, "counting", stage, work)


def _time_all(request: BenchRequest, state: _State, stage: Stage) -> None:
    candidates: dict[int, Prepare] = {}

    def first(row: OpenRow) -> None:
        candidates[id(row)] = first_run(row, state.batches, request.settings.protocol)

    _for_each(state.rows, "first run", stage, first)
    rows = state.sound
    if not rows:
        return
    with stage("timing") as progress:
        state.interrupted = time_rows(
            rows,
            [candidates[id(row)] for row in rows],
            request.settings,
            len(state.batches),
            with_ratios=rows[0] is state.rows[0],  # ratios are to the first row of the report
            progress=progress,
        )


def _rate_all(request: BenchRequest, state: _State, stage: Stage) -> None:
    """Measure PSNR and SSIM by the convention of the protocol."""
    ntire = request.settings.protocol is Protocol.NTIRE_2023
    borders = Borders.of(request.scale)
    rated = [row for row in state.sound if row.model.has_quality and request.sets]
    total, done = len(rated) * sum(len(each.pictures) for each in request.sets), 0
    if not rated:
        return
    with stage("rating") as progress:
        for row in rated:
            subject = of_session(row.model.name, row.session)
            for each in request.sets:
                records = []
                for record in evaluate(subject, each, borders):
                    records.append(record)
                    done += 1
                    if progress:
                        progress(done, total)
                    if record.error:
                        state.failed[f"{each.name}/{record.image}"] = record.error
                mean = average(each.name, records)
                if mean.scores:
                    scores = mean.scores
                    psnr, ssim = (scores.psnr_rgb, scores.ssim_rgb) if ntire else (scores.psnr_y, scores.ssim_y)
                    found = SetQuality(each.name, mean.images, psnr if math.isfinite(psnr) else None, ssim)
                    row.row = replace(row.row, quality=(*row.row.quality, found))


def _measure_memory(request: BenchRequest, state: _State, stage: Stage) -> None:
    size = max(((batch.shape[2], batch.shape[3]) for batch in state.batches), key=math.prod)

    def work(row: OpenRow) -> None:
        memory = peak_memory(row.choice, row.engine, row.row.precision, request.settings.threads, size)
        row.row = replace(row.row, memory=memory)

    _for_each(state.sound, "memory", stage, work)


def _profile_all(request: BenchRequest, state: _State, stage: Stage) -> None:
    if request.settings.protocol is not Protocol.STEADY:
        return

    def work(row: OpenRow) -> None:
        kinds = profile(row.session, row.artifact, state.batches[0], request.settings.threads)
        row.row = replace(row.row, kinds=kinds)

    _for_each(state.sound, "profiling", stage, work)

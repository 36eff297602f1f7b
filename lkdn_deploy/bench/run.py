"""One run of ``lkdn-bench``: models are opened on engines, counted, timed and rated, which gives a ``Report``."""

import math
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from functools import partial
from itertools import product
from typing import Any

from lkdn_deploy.bench.complexity.cost import Costs
from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.bench.measure.harness import Progress
from lkdn_deploy.bench.measure.peak_memory import peak_memory
from lkdn_deploy.bench.measure.profile import profile
from lkdn_deploy.bench.models import Model
from lkdn_deploy.bench.opening import COMPILED
from lkdn_deploy.bench.quality.evaluation import Borders, average, evaluate, of_session
from lkdn_deploy.bench.results import LeftOut, Protocol, Report, SetQuality, Settings
from lkdn_deploy.bench.rows import Batch, OpenRow, first_run, open_row, time_alone, time_rows
from lkdn_deploy.core.errors import InputError, LkdnError, MissingError, UsageError
from lkdn_deploy.core.files import printable
from lkdn_deploy.imaging.pixels import to_batch
from lkdn_deploy.imaging.testsets import TestSet, read_pair
from lkdn_deploy.samples import repeated_sample

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
    """Test sets to rate the models on; the challenges' protocols also time their images."""
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
        if self.settings.protocol.is_challenge:
            if not self.sets:
                name = self.settings.protocol
                msg = f"the protocol {name} times the images of a test set at their own sizes, and none was given"
                hint = "give the set of the challenge, DIV2K's validation images, or another one: --data DIR"
                raise UsageError(msg, hint)
            return
        for model in self.models if self.sets else ():
            if not model.has_quality:
                msg = f"quality was asked for, but there are no weights of {model.name} x{model.scale}"
                hint = f"lkdn-zoo get {model.name} --scale {model.scale}, give a checkpoint, or leave out --data"
                raise MissingError(msg, hint)


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
    state, settings, threads = _State(), request.settings, request.settings.threads
    facts = machine_facts(threads)

    def each(name: str, rows: Sequence[OpenRow], work: Callable[[OpenRow], dict[str, Any] | None]) -> None:
        """Run a stage on one row after the other, and store the fields that it returns; or, if it fails, why."""
        with stage(name) as progress:
            for index, row in enumerate(rows):
                try:
                    found = work(row) or {}
                except LkdnError as error:
                    found = {"problem": printable(f"{name}: {error}")}
                row.row = replace(row.row, **found)
                if progress:
                    progress(index + 1, len(rows))

    def count(row: OpenRow) -> dict[str, Any]:
        bounds = costs.bounds(row.model, row.row.precision, on_cpu=row.session.on_cpu)
        return {"cost": costs.cost(row.model), "bounds": bounds}

    def measure_memory(row: OpenRow) -> dict[str, Any] | None:
        if row.engine == COMPILED:  # the compiler takes more than the run
            return None
        size = max((batch.shape[2:] for batch in state.batches), key=math.prod)
        return {"memory": peak_memory(row.choice, row.engine, row.row.precision, threads, size)}

    try:
        _read_batches(request, state)
        _open_all(request, state, stage)
        costs = Costs(settings, cpu=any(row.session.on_cpu for row in state.rows))
        each("counting", state.rows, count)
        alone = settings.protocol is Protocol.NTIRE_2023
        if not alone:
            each("first run", state.rows, partial(first_run, batches=state.batches, protocol=settings.protocol))
        if rows := state.sound:
            first = rows[0] is state.rows[0]  # ratios are to the first row of the report
            with stage("timing") as progress:
                if alone:
                    batches = state.batches
                    state.interrupted = time_alone(rows, settings, batches, with_ratios=first, progress=progress)
                else:
                    images = len(state.batches) * settings.protocol.runs
                    state.interrupted = time_rows(rows, settings, images, with_ratios=first, progress=progress)
        if not state.interrupted:
            _rate_all(request, state, stage)
        if not state.interrupted and not alone:
            each("memory", state.sound, measure_memory)
        if not state.interrupted and settings.protocol is Protocol.STEADY:
            batch = state.batches[0]
            plain = [row for row in state.sound if row.engine != COMPILED]  # compiled layers have no kinds
            each("profiling", plain, lambda row: {"kinds": profile(row.session, row.artifact, batch, threads)})
    except KeyboardInterrupt:
        state.interrupted = True
    return Report(
        settings=settings,
        rows=tuple(row.row for row in state.rows),
        machine=facts,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        left_out=tuple(state.left_out),
        failed=tuple(LeftOut(what, why) for what, why in state.failed.items()),
        interrupted=state.interrupted,
    )


def _read_batches(request: BenchRequest, state: _State) -> None:
    """Make the inputs to time: the photograph that ships, repeated, or every image that can be read.

    Times depend on it for fixed point alone, which computes pictures of random pixels again in float32.
    """
    size = request.settings.input_size
    if size:
        state.batches = [to_batch(repeated_sample(*size))]
        return
    for each in request.sets:
        for picture in each.pictures:
            try:
                low, _ = read_pair(picture, request.models[0].scale)
                state.batches.append(to_batch(low))
            except LkdnError as error:
                state.failed[f"{each.name}/{picture.name}"] = printable(error.message)
    if not state.batches:
        msg = f"none of the images can be read: {'; '.join(state.failed.values())}"
        raise InputError(msg, "give another folder with --data")


def _open_all(request: BenchRequest, state: _State, stage: Stage) -> None:
    wanted = list(product(request.models, request.engines, request.precisions))
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
    msg = "nothing that was asked for works here: " + "; ".join(f"{each.what}: {each.why}" for each in state.left_out)
    if missing:
        raise MissingError(msg, "\n".join(dict.fromkeys(error.hint for error in missing.values() if error.hint)))
    raise type(refused[0])(msg, refused[0].hint)


def _rate_all(request: BenchRequest, state: _State, stage: Stage) -> None:
    """Measure PSNR and SSIM by the convention of the protocol."""
    kind = "rgb" if request.settings.protocol.is_challenge else "y"
    rated = [row for row in state.sound if row.model.has_quality and request.sets]
    if not rated:
        return
    borders = Borders.of(request.models[0].scale)
    total, done = len(rated) * sum(len(each.pictures) for each in request.sets), 0
    with stage("rating") as progress:
        for row, each in product(rated, request.sets):
            records = []
            for record in evaluate(of_session(row.model.name, row.session), each, borders):
                records.append(record)
                done += 1
                if progress:
                    progress(done, total)
                if record.error:
                    state.failed[f"{each.name}/{record.image}"] = record.error
            mean = average(each.name, records)
            if mean.scores:
                psnr, ssim = (getattr(mean.scores, f"{name}_{kind}") for name in ("psnr", "ssim"))
                finite = (value if math.isfinite(value) else None for value in (psnr, mean.scores.psnr_rgb))
                psnr, psnr_rgb = finite
                found = SetQuality(each.name, mean.images, psnr, ssim, psnr_rgb)
                row.row = replace(row.row, quality=(*row.row.quality, found))

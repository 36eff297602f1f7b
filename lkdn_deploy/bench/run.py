"""One run of ``lkdn-bench``: models on engines at precisions, opened, counted, timed and rated, as a ``Report``."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

import numpy as np

from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.backends.ort import CPU, CUDA
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.backends.trt.session import TrtSession
from lkdn_deploy.bench.complexity.count import count
from lkdn_deploy.bench.complexity.devices import DevicePeaks, measure_cpu, recognise
from lkdn_deploy.bench.complexity.operations import Operation, trace
from lkdn_deploy.bench.complexity.roofline import bounds
from lkdn_deploy.bench.engines import open_engine
from lkdn_deploy.bench.machine import gpus, machine_facts
from lkdn_deploy.bench.measure import profile
from lkdn_deploy.bench.measure.harness import Prepare, Progress, Run, WarmUpLimits, measure_rounds, timed
from lkdn_deploy.bench.measure.peak_memory import Task, peak_memory
from lkdn_deploy.bench.measure.statistics import bootstrap_mean_ratio, bootstrap_ratio
from lkdn_deploy.bench.measure.timed_runs import Batch, runs_of
from lkdn_deploy.bench.measure.torch_session import TorchSession
from lkdn_deploy.bench.models import Model
from lkdn_deploy.bench.quality.evaluation import Borders, average, evaluate, of_session
from lkdn_deploy.bench.results import (
    Copies,
    Cost,
    Latency,
    LeftOut,
    Protocol,
    Report,
    Row,
    SetQuality,
    Settings,
)
from lkdn_deploy.core.counting import Rule
from lkdn_deploy.core.errors import InputError, LkdnError, MissingError, UsageError
from lkdn_deploy.core.files import printable
from lkdn_deploy.core.protocols import Session
from lkdn_deploy.hub.artifacts import find_artifact
from lkdn_deploy.imaging.pixels import to_batch
from lkdn_deploy.imaging.testsets import TestSet, read_pair
from lkdn_deploy.runtime.optimised import optimised_for

NTIRE_SIZE = (256, 256)
TRT = "trt"

Stage = Callable[[str], AbstractContextManager[Progress | None]]
"""Opens a stage of the run by its name; what is given is told how far it is."""


@dataclass(frozen=True, slots=True)
class BenchRequest:
    """What to measure.

    Raises:
        UsageError: if the models differ in scale or do not take the size, or the protocol lacks what it needs.
        MissingError: if quality is asked of a model that has random weights.
    """

    models: Sequence[Model]
    engines: Sequence[str]
    """Names of ``open_engine``'s."""
    precisions: Sequence[str]
    settings: Settings
    sets: Sequence[TestSet] = ()
    """To rate on; the protocol ``ntire2023`` also times on their images."""
    required: bool = False
    """Whether an engine that does not work here is an error, since it was asked for by name."""

    def __post_init__(self) -> None:
        scales = {model.scale for model in self.models}
        if len(scales) > 1:
            msg = f"one scale a run, got {', '.join(f'x{scale}' for scale in sorted(scales))}"
            raise UsageError(msg, "latencies at different scales are of different work: measure each by itself")
        if self.settings.input_size:
            for model in self.models:
                model.check_size(*self.settings.input_size)
        ntire = self.settings.protocol is Protocol.NTIRE_2023
        if ntire and not self.sets:
            msg = "the protocol ntire2023 times the images of a test set at their own sizes, and none was given"
            hint = "give the set that the challenge uses, DIV2K's validation images, or another: --data DIR"
            raise UsageError(msg, hint)
        if self.sets and not ntire:
            for model in self.models:
                if not model.has_quality:
                    msg = f"quality was asked for, but there are no weights of {model.name} x{model.scale}"
                    hint = f"lkdn-zoo get {model.name} --scale {model.scale}, give a checkpoint, or leave out --data"
                    raise MissingError(msg, hint)

    @property
    def scale(self) -> int:
        """Of all models."""
        return self.models[0].scale


@dataclass(slots=True)
class _Subject:
    """A row in the making."""

    model: Model
    engine: str
    precision: str
    open: Callable[[], Session]
    """Once more."""
    session: Session
    artefact: Artifact | None
    """``None``: it runs the checkpoint."""
    opening: float
    """Milliseconds."""
    row: Row
    first: float = 0.0
    """Milliseconds."""
    copies: Copies = Copies.NONE


@dataclass(slots=True)
class _State:
    subjects: list[_Subject] = field(default_factory=list)
    left_out: list[LeftOut] = field(default_factory=list)
    failed: dict[str, str] = field(default_factory=dict)
    """Images, and why."""
    batches: list[Batch] = field(default_factory=list)
    interrupted: bool = False

    @property
    def sound(self) -> list[_Subject]:
        """Those that have not failed yet."""
        return [subject for subject in self.subjects if not subject.row.problem]


def bench(request: BenchRequest, stage: Stage) -> Report:
    """Measure. Ctrl-C ends it early with what there is by then; a row that fails does not spoil the others.

    Args:
        request: what.
        stage: is told of each stage: ``opening``, ``timing``, and so on.

    Raises:
        LkdnError: if nothing can be measured: no engine works, or one that was asked for by name does not, or there is
            no image to time.
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
            _weigh_all(request, state, stage)
            _profile_all(request, state, stage)
    except KeyboardInterrupt:
        state.interrupted = True
    return Report(
        settings=request.settings,
        rows=tuple(subject.row for subject in state.subjects),
        machine=facts,
        made=datetime.now(UTC).isoformat(timespec="seconds"),
        left_out=tuple(state.left_out),
        failed=tuple(LeftOut(what, why) for what, why in state.failed.items()),
        interrupted=state.interrupted,
    )


def _read_batches(request: BenchRequest, state: _State) -> None:
    """The inputs to time: one of noise, or every image that can be read."""
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
                    state.subjects.append(_open(model, engine, precision, request.settings.threads))
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
    if state.subjects:
        return
    if not missing and len(refused) == 1:
        raise refused[0]
    reasons = "; ".join(f"{item.what}: {item.why}" for item in state.left_out)
    msg = f"nothing of what was asked for works here: {reasons}"
    if missing:
        raise MissingError(msg, "install an engine: pip install 'lkdn-deploy[cpu]'")
    raise type(refused[0])(msg, refused[0].hint)


def _open(model: Model, engine: str, precision: str, threads: int) -> _Subject:
    weights = model.checkpoint()
    name, scale = None if weights else model.named, None if model.artefact else model.scale
    artefact = None
    if engine == "torch":

        def opened() -> Session:
            return open_engine(name, scale, weights, engine, precision, threads)
    else:
        # A checkpoint is converted once and kept, and so are forms and engines: that is no part of opening.
        artefact = found = optimised_for(find_artifact(name, scale, weights, precision=precision), engine)
        if engine == TRT:
            open_session(found, engine, threads=threads)

        def opened() -> Session:
            return open_session(found, engine, threads=threads)

    start = time.perf_counter()
    session = opened()
    opening = (time.perf_counter() - start) * 1e3
    row = Row(model.name, model.scale, session.backend, precision, model.origin)
    return _Subject(model, engine, precision, opened, session, artefact, opening, row)


def _for_each(subjects: Sequence[_Subject], name: str, stage: Stage, work: Callable[[_Subject], None]) -> None:
    """A stage that takes one row after the other; one that fails says so in its row."""
    with stage(name) as progress:
        for index, subject in enumerate(subjects):
            try:
                work(subject)
            except LkdnError as error:
                subject.row = replace(subject.row, problem=printable(f"{name}: {error}"))
            if progress:
                progress(index + 1, len(subjects))


def _count_all(request: BenchRequest, state: _State, stage: Stage) -> None:
    settings = request.settings
    costs: dict[Model, Cost] = {}
    traces: dict[Model, tuple[Operation, ...]] = {}
    on_cpu = any(subject.session.backend.endswith("cpu") for subject in state.subjects)
    cpu = measure_cpu(settings.threads) if on_cpu and settings.input_size else None
    gpu = _gpu_device() if settings.input_size else None

    def work(subject: _Subject) -> None:
        model = subject.model
        if model not in costs:
            costs[model] = cost(model, settings.protocol)
        device = cpu if subject.session.backend.endswith("cpu") else gpu
        least = None
        if device and settings.input_size:
            if model not in traces:
                traces[model] = trace(model.build(), (1, 3, *settings.input_size))
            with suppress(UsageError):  # the device has no peak for this precision
                least = bounds(traces[model], device, subject.precision)
        subject.row = replace(subject.row, cost=costs[model], bounds=least)

    _for_each(state.subjects, "counting", stage, work)


def cost(model: Model, protocol: Protocol) -> Cost:
    """What is counted of a model under a protocol."""
    network, channels = model.build_core()
    if protocol is Protocol.NTIRE_2023:
        counted = count(network, (1, channels, *model.core_size(*NTIRE_SIZE)))
        return Cost(
            counted.parameters, counted.ntire_flops, counted.activations, counted.convolutions, input_size=NTIRE_SIZE
        )
    counted = count(network, (1, channels, *model.paper_size))
    return Cost(
        counted.parameters,
        counted.multi_adds(Rule.C),
        counted.activations,
        counted.convolutions,
        input_size=model.paper_size,
    )


def _gpu_device() -> DevicePeaks | None:
    """The first GPU of this machine, if the table has it."""
    found = gpus()
    return recognise(found[0]["name"]) if found else None


def _time_all(request: BenchRequest, state: _State, stage: Stage) -> None:
    settings = request.settings
    steady = settings.protocol is Protocol.STEADY
    candidates: dict[int, Prepare] = {}

    def first(subject: _Subject) -> None:
        """By itself, as a user meets it."""
        runs, subject.copies = runs_of(subject.session, state.batches)
        if steady:
            subject.first = timed(runs[0])[0]
        candidates[id(subject)] = _opened_anew(subject, state.batches[0]) if steady else runs.__getitem__

    _for_each(state.subjects, "first run", stage, first)
    subjects = state.sound
    if not subjects:
        return
    with stage("timing") as progress:
        timings = measure_rounds(
            [candidates[id(subject)] for subject in subjects],
            settings.rounds if steady else len(state.batches),
            warm_up=WarmUpLimits() if steady else None,
            seed=settings.seed,
            progress=progress,
        )
    state.interrupted = timings.interrupted
    measured = [
        # The challenge reads a GPU's own events.
        timing.samples if steady else timing.device_samples or timing.samples
        for timing in timings.each
    ]
    compare = bootstrap_ratio if steady else bootstrap_mean_ratio
    for subject, timing, samples in zip(subjects, timings.each, measured, strict=True):
        if not samples:
            continue
        p5, median, p95 = (float(value) for value in np.percentile(samples, [5, 50, 95]))
        latency = Latency(
            samples=tuple(samples),
            median=median,
            p5=p5,
            p95=p95,
            mean=float(np.mean(samples)),
            copies=subject.copies,
            first=subject.first if steady else samples[0],
            opening=subject.opening,
            warm_up=timing.warm_up,
            # Over the first row of the report, if that could be timed.
            ratio=compare(samples, measured[0])
            if subjects[0] is state.subjects[0] and samples is not measured[0]
            else None,
            device_samples=tuple(timing.device_samples),
            building=_building(subject.session),
        )
        subject.row = replace(subject.row, latency=latency)


def _opened_anew(subject: _Subject, batch: Batch) -> Prepare:
    """A session of its own for each round; the first round takes the one that was open."""

    def prepare(index: int) -> Run:
        if index:
            subject.session = subject.open()
        (run,), _ = runs_of(subject.session, [batch])
        return run

    return prepare


def _building(session: Session) -> float | None:
    """Milliseconds."""
    return session.sidecar.build_seconds * 1e3 if isinstance(session, TrtSession) else None


def _rate_all(request: BenchRequest, state: _State, stage: Stage) -> None:
    """By the convention of the protocol."""
    ntire = request.settings.protocol is Protocol.NTIRE_2023
    borders = Borders.of(request.scale)
    rated = [subject for subject in state.sound if subject.model.has_quality and request.sets]
    total, done = len(rated) * sum(len(each.pictures) for each in request.sets), 0
    if not rated:
        return
    with stage("rating") as progress:
        for subject in rated:
            named = of_session(subject.model.name, subject.session)
            for each in request.sets:
                records = []
                for record in evaluate(named, each, borders):
                    records.append(record)
                    done += 1
                    if progress:
                        progress(done, total)
                    if record.error:
                        state.failed[f"{each.name}/{record.image}"] = record.error
                mean = average(each.name, records)
                if mean.quality:
                    figures = mean.quality
                    psnr, ssim = (figures.psnr_rgb, figures.ssim_rgb) if ntire else (figures.psnr_y, figures.ssim_y)
                    found = SetQuality(each.name, mean.images, psnr if math.isfinite(psnr) else None, ssim)
                    subject.row = replace(subject.row, quality=(*subject.row.quality, found))


def _weigh_all(request: BenchRequest, state: _State, stage: Stage) -> None:
    height, width = max((batch.shape[2:] for batch in state.batches), key=math.prod)

    def work(subject: _Subject) -> None:
        model = subject.model
        weights = model.checkpoint()
        task = Task(
            model=None if weights else model.named,
            scale=None if model.artefact else model.scale,
            weights=str(weights) if weights else None,
            engine=subject.engine,
            precision=subject.precision,
            threads=request.settings.threads,
            size=(height, width),
        )
        subject.row = replace(subject.row, memory=peak_memory(task))

    _for_each(state.sound, "memory", stage, work)


def _profile_all(request: BenchRequest, state: _State, stage: Stage) -> None:
    if request.settings.protocol is not Protocol.STEADY:
        return

    def work(subject: _Subject) -> None:
        try:
            found = _profile(subject, state.batches[0], request.settings.threads)
        except RuntimeError as error:  # an engine's own, of its profiler
            msg = f"no profile: {str(error).splitlines()[0]}"
            raise LkdnError(msg) from error
        subject.row = replace(subject.row, kinds=found)

    _for_each(state.sound, "profiling", stage, work)


def _profile(subject: _Subject, batch: Batch, threads: int) -> profile.Times:
    """Nothing, of engines that tell nothing."""
    session = subject.session
    if isinstance(session, TorchSession):
        return profile.of_torch(session, batch)
    if subject.artefact is None:
        return {}
    if session.backend == "openvino-cpu":
        return profile.of_openvino(subject.artefact.path, batch, threads)
    provider = {"ort-cpu": CPU, "ort-cuda": CUDA}.get(session.backend)
    return profile.of_ort(subject.artefact.path, batch, threads, provider, session.metadata.io) if provider else {}

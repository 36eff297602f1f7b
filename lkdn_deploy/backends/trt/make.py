"""Makes engines: an ``.onnx`` file is rewritten, built, audited and kept in the cache; a folder may get a copy."""

import hashlib
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.backends.trt.build import BuiltEngine, NoHalfKernelError, OnComplaint, Progress, build
from lkdn_deploy.backends.trt.engine_cache import TIMINGS, StoredEngine, keep, log_path, sidecar_path, timing_name
from lkdn_deploy.backends.trt.engine_spec import DEFAULT_PROFILE, EngineSpec
from lkdn_deploy.backends.trt.form import form_of
from lkdn_deploy.backends.trt.record import EngineRecord
from lkdn_deploy.backends.trt.resolve import resolve_for
from lkdn_deploy.backends.trt.runtimes import RUNTIMES
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import publish

log = logging.getLogger(__name__)


def make_engine(
    artifact: Artifact,
    spec: EngineSpec,
    output: Path | None = None,
    *,
    on_build: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    on_complaint: OnComplaint | None = None,
) -> StoredEngine:
    """Return an artefact's engine from the cache, or build it from the graph of ``form_of``.

    Args:
        artifact: what to build from.
        spec: what to build for, from ``resolve``.
        output: folder for a copy of the engine, its side-car and the builder's log.
        on_build: called before a build with the reason for it.
        progress: as for ``build``.
        on_complaint: as for ``build``.

    Returns:
        The engine; its path is in ``output`` if that is given.

    Raises:
        InputError: if a file cannot be written, or the builder rejects the graph or returns no engine.
        UsageError, MissingError: as ``resolve_for`` and ``build``.
        VerificationError: if an FP16 engine does not compute in FP16; it is not kept.
    """
    spec = resolve_for(spec, artifact)

    def make(reason: str) -> tuple[bytes, EngineRecord, str]:
        if on_build is not None:
            on_build(reason)
        form = form_of(artifact, spec.rewrites, RUNTIMES[spec.runtime].extra)
        built, fallbacks = _build(form.data, spec, progress, on_complaint)
        record = EngineRecord(
            spec=spec,
            metadata=artifact.metadata,
            input=built.input,
            output=built.output,
            engine_sha256=hashlib.sha256(built.engine).hexdigest(),
            audit=built.audits[-1] if spec.half else None,
            rewrites=form.rewrites,
            fallbacks=fallbacks,
            build_seconds=round(built.seconds, 3),
            made=datetime.now(UTC).isoformat(timespec="seconds"),
        )
        return built.engine, record, built.log

    stored = keep(spec, make)
    return stored if output is None else _copy(stored, output, engine_name(artifact.path, spec))


def engine_name(artefact: Path, spec: EngineSpec) -> str:
    """Return ``lkdn-s_x4_fp16_tensorrt-rtx_sm86-sm89.engine``, with what is not the default."""
    name = "_".join((artefact.stem, spec.runtime, "-".join(spec.targets)))
    if (spec.sizes.optimum, spec.sizes.maximum) != (DEFAULT_PROFILE.optimum, DEFAULT_PROFILE.maximum):
        sizes = spec.sizes.text("-")
        name += "" if artefact.stem.endswith(f"_{sizes}") else f"_{sizes}"
    name += "" if spec.batch == 1 else f"_batch{spec.batch}"
    name += "" if spec.aux_streams is None else f"_aux{spec.aux_streams}"
    return name + ("" if spec.tf32 else "_no-tf32") + ".engine"


def _copy(stored: StoredEngine, folder: Path, name: str) -> StoredEngine:
    path = folder / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{folder} cannot be created: {error.strerror}"
        raise InputError(msg) from error
    for beside in (lambda engine: engine, log_path, sidecar_path):
        with publish(beside(path)) as part:
            shutil.copyfile(beside(stored.path), part)
    return replace(stored, path=path)


def _build(
    graph: bytes, spec: EngineSpec, progress: Progress | None, on_complaint: OnComplaint | None
) -> tuple[BuiltEngine, tuple[str, ...]]:
    """Build; where convolutions have no FP16 kernel, again with these in FP32, then with all grouped ones.

    Returns:
        The engine, and the names of the convolutions in FP32.
    """
    timing = timing_name(spec)
    fallbacks: tuple[str, ...] = ()
    while True:
        try:
            built = build(
                graph,
                spec,
                excused=len(fallbacks),
                progress=progress,
                on_complaint=on_complaint,
                timings=TIMINGS.read(timing) or b"",
            )
        except NoHalfKernelError as error:
            graph, changed = _in_fp32(graph, () if fallbacks else error.layers)
            if not changed:
                raise
            fallbacks += changed
            log.warning("%s; building again with %s in FP32", error.message, ", ".join(changed))
            continue
        if built.timings:
            TIMINGS.keep(timing, built.timings)
        return built, fallbacks


def _in_fp32(artefact: bytes, names: tuple[str, ...]) -> tuple[bytes, tuple[str, ...]]:
    """Return the graph with the named convolutions in FP32, or if it has none of them, with all grouped ones."""
    import onnx

    from lkdn_deploy.graph.fp16.restore_fp32 import restore_fp32

    model = onnx.load_model_from_string(artefact)
    result, changed = restore_fp32(model, names)
    if not changed:
        result, changed = restore_fp32(model)
    return result.SerializeToString(), changed

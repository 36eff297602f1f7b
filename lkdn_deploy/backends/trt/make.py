"""ONNX -> TensorRT engine -> audit -> cache, and a copy where it is wanted."""

import hashlib
import logging
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.backends.trt.build import BuildSettings, Built, NoHalfKernelError, Progress, Say, build
from lkdn_deploy.backends.trt.engine_cache import Key, Made, keep, log_path, sidecar_path, timing_path, write_engine
from lkdn_deploy.backends.trt.record import SideCar
from lkdn_deploy.backends.trt.resolve import DEFAULT_PROFILE, Described, Request, wanted_here
from lkdn_deploy.backends.trt.runtimes import RUNTIMES
from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.files import publish

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class EngineReport:
    """What came of it."""

    path: Path
    """Of the engine: in the folder that was asked for, else in the cache."""
    sidecar_path: Path
    log_path: Path
    sidecar: SideCar
    reason: str
    """Why it was built; empty if the cache had it."""
    size: int
    """Bytes of the engine."""


def engine_name(artefact: Path, settings: BuildSettings) -> str:
    """``lkdn-s_x4_fp16_tensorrt-rtx_sm86-sm89.engine``, with sizes and batch if they are not the usual."""
    name = "_".join((artefact.stem, settings.kind, "-".join(settings.targets)))
    profile = settings.profile
    if (profile.optimum, profile.maximum) != (DEFAULT_PROFILE.optimum, DEFAULT_PROFILE.maximum):
        sizes = (profile.optimum,) if profile.fixed_size else (profile.minimum, profile.optimum, profile.maximum)
        size = "-".join(f"{width}x{height}" for height, width in sizes)
        name += "" if artefact.stem.endswith(f"_{size}") else f"_{size}"
    return name + ("" if profile.batch == 1 else f"_batch{profile.batch}") + ".engine"


def export_engine(
    artefact: Path,
    request: Request,
    output: Path | None = None,
    *,
    building: Callable[[str], None] | None = None,
    progress: Progress | None = None,
    say: Say | None = None,
) -> EngineReport:
    """Find or build the engine of an ``.onnx`` file. It is kept in the cache.

    Args:
        artefact: made by lkdn-export.
        request: for what to build.
        output: a folder for a copy of the engine, its side-car and the builder's log.
        building: is told why the engine is built, before that.
        progress: as of ``build``.
        say: is told what the builder complains of.

    Raises:
        InputError: if a file cannot be read or written, or the builder does not take the graph or gives no engine.
        UsageError, MissingError: as ``resolve`` and ``build``.
        VerificationError: if an FP16 engine is not in FP16; no engine is left.
    """
    data = read_artifact(artefact).data  # whose parser would read weights from files that it names
    try:
        described, settings, key = wanted_here(data, request)
    except LkdnError as error:
        if isinstance(error, InputError):
            msg = f"{artefact}: {error.message}"
            raise InputError(msg, error.hint) from error
        raise

    def make(reason: str) -> Made:
        if building is not None:
            building(reason)
        return _make(data, described, settings, key, progress, say)

    kept = keep(key, make)
    path, found = kept.found.path, kept.found
    if output is not None:
        try:
            output.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"{output} cannot be made: {error.strerror}"
            raise InputError(msg) from error
        text = ""
        with suppress(OSError):  # in the cache anyone may have removed it
            text = log_path(path).read_text(errors="replace")
        path = write_engine(output / engine_name(artefact, settings), Made(found.engine, found.sidecar, text))
    return EngineReport(path, sidecar_path(path), log_path(path), found.sidecar, kept.reason, len(found.engine))


def _make(
    artefact: bytes,
    described: Described,
    settings: BuildSettings,
    key: Key,
    progress: Progress | None,
    say: Say | None,
) -> Made:
    built, fallbacks = _build(artefact, described, settings, key, progress, say)
    sidecar = SideCar(
        metadata=described.metadata,
        input=built.input,
        output=built.output,
        profile=settings.profile,
        runtime=settings.kind,
        runtime_version=key.runtime_version,
        targets=settings.targets,
        gpu=key.gpu,
        driver=key.driver,
        system=key.system,
        artefact_sha256=described.sha256,
        engine_sha256=hashlib.sha256(built.engine).hexdigest(),
        key=key.digest,
        audit=built.audits[-1] if _half(described) else None,
        options=settings.options,
        fallbacks=fallbacks,
        build_seconds=round(built.seconds, 3),
        made=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    return Made(built.engine, sidecar, built.log)


def _build(
    artefact: bytes,
    described: Described,
    settings: BuildSettings,
    key: Key,
    progress: Progress | None,
    say: Say | None,
) -> tuple[Built, tuple[str, ...]]:
    """Build; where convolutions have no FP16 kernel, again with these in FP32, then with all grouped ones.

    Returns:
        What was built, and the names of the convolutions that were put back.
    """
    half, graph = _half(described), artefact
    fallbacks: tuple[str, ...] = ()
    timing = timing_path(key)
    while True:
        before = _bytes_of(timing) if RUNTIMES[settings.kind].timing_cache else b""
        try:
            built = build(graph, settings, half=half, excused=len(fallbacks), progress=progress, say=say, timing=before)
        except NoHalfKernelError as error:
            graph, changed = _in_fp32(graph, () if fallbacks else error.layers)
            if not changed:
                raise
            fallbacks += changed
            log.warning("%s; building again with %s in FP32", error.message, ", ".join(changed))
            continue
        if built.timing:
            with suppress(InputError), publish(timing) as part:
                part.write_bytes(built.timing)
        return built, fallbacks


def _in_fp32(artefact: bytes, names: tuple[str, ...]) -> tuple[bytes, tuple[str, ...]]:
    """The graph with these convolutions in FP32, or with all grouped ones if it has none of these."""
    import onnx

    from lkdn_deploy.graph.fp16.restore_fp32 import restore_fp32

    model = onnx.load_model_from_string(artefact)
    result, changed = restore_fp32(model, names)
    if not changed:
        result, changed = restore_fp32(model)
    return result.SerializeToString(), changed


def _half(described: Described) -> bool:
    return described.metadata.precision == "fp16"


def _bytes_of(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""

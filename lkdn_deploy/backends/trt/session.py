"""Runs TensorRT engines on a GPU, with two windows under way at once: one is copied while the other is computed."""

import dataclasses
import hashlib
import logging
import weakref
from collections import deque
from collections.abc import Generator, Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.backends.trt.device import Device, open_device
from lkdn_deploy.backends.trt.engine import Engine, UnusableEngineError
from lkdn_deploy.backends.trt.engine_cache import StoredEngine, entries, find_engine, sidecar_path
from lkdn_deploy.backends.trt.engine_spec import EngineSpec
from lkdn_deploy.backends.trt.gpu import gpu_here
from lkdn_deploy.backends.trt.record import EngineRecord
from lkdn_deploy.backends.trt.runtimes import RUNTIMES, installed, open_runtime
from lkdn_deploy.backends.trt.stream import Batch, Stream
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import LkdnError, UsageError
from lkdn_deploy.core.protocols import CLOSED

log = logging.getLogger(__name__)

STREAMS = 2

LEAST = 64
"""Upper limit of ``ArtifactMetadata.smallest``."""


class TrtSession:
    """An engine on the first GPU, which runs float32 batches whatever the engine's types are.

    Device memory for the last shapes stays allocated until ``close``, or until the session is collected. A failure
    releases it, and another run starts afresh. A session is for one thread at a time, the one that opened the device.

    Args:
        engine: the serialised engine.
        record: facts about it.
        module: ``tensorrt`` or ``tensorrt_rtx``.
        device: an open GPU.

    Raises:
        UnusableEngineError: if the runtime refuses the engine, with the runtime's reason, or it does not match the
            record.
        DeviceError: if the device fails.
    """

    on_cpu = False
    window_step = 1
    window_halo = 0

    def __init__(self, engine: bytes, record: EngineRecord, module: Any, device: Device) -> None:
        self.backend = _called(record.spec)
        self.record = record
        self.build_seconds: float | None = record.build_seconds
        self.metadata = _with_smallest(record)
        self.fixed_size = record.spec.sizes.fixed_size
        self.largest: tuple[int, int] | None = record.spec.sizes.maximum
        self.device = device
        self._engine = Engine(engine, record, module)
        self._streams: list[Stream] = []
        self._busy = False
        self._release = ExitStack()
        self._release.callback(self._engine.close)
        self._release.callback(_close_streams, self._streams)
        self._finalizer = weakref.finalize(self, _close_logged, self._release, "closing a TensorRT session")

    def run(self, batch: Batch) -> Batch:
        """Upscale (N, 3, H, W) RGB in 0..1 to (N, 3, scale * H, scale * W), not clipped.

        Raises:
            UsageError: if the engine does not accept this shape or type, before anything reaches the device; or if the
                session is closed, or in the middle of ``run_many``.
            InputError: if the engine does not upscale as its record says.
            DeviceError: if the device fails; ``OutOfDeviceMemory`` if a smaller window may succeed.
        """
        (result,) = self.run_many([batch])
        return result

    def run_many(self, batches: Iterable[Batch]) -> Generator[Batch, None, None]:
        """Run each batch, in order. The next one is on its way to the device before a result is waited for.

        The generator must be exhausted or closed before the session does anything else.

        Raises:
            LkdnError: as ``run`` does, when a result is asked for.
        """
        self._check_open()
        return self._flow(batches)

    def inference_seconds(self, batch: Batch) -> float:
        """Run a batch and return the seconds of the inference alone, without copies, by events on the device.

        Raises:
            LkdnError: as ``run`` does.
        """
        self._check_open()
        self._check_idle()
        self._check(batch)
        try:
            stream = self._stream(0)
            stream.start(batch, timed=True)
            stream.finish()
            return stream.seconds()
        except BaseException:
            self._abandon()
            raise

    def device_memory(self, batch: Batch) -> tuple[int, str]:
        """Run a batch and return the peak of device memory allocated by the session, in bytes, and the GPU's name.

        Raises:
            LkdnError: as ``run`` does.
        """
        self.device.reset_peak()
        self.run(batch)
        return self.device_peak()

    def device_peak(self) -> tuple[int, str]:
        """Return the peak of device memory allocated by sessions, in bytes, and the GPU's name."""
        return self.device.peak, self.device.gpu.name

    def range_use(self) -> None:
        """Return ``None``: values have no ranges."""

    def bytes_per_pixel(self) -> int:
        """Return the device memory for two windows under way, in bytes per low-resolution pixel."""
        spec, scale = self.record.spec, self.metadata.scale
        pixels = spec.sizes.maximum[0] * spec.sizes.maximum[1] * spec.batch
        input_, output = (np.dtype(tensor.dtype).itemsize for tensor in (self.record.input, self.record.output))
        return STREAMS * (-(-self._engine.workspace // pixels) + 3 * (input_ + scale**2 * output))

    def window_bytes(self, height: int, width: int) -> int:
        """Return the device memory for two windows of this size under way, in bytes."""
        return height * width * self.bytes_per_pixel()

    def close(self) -> None:
        """Release everything on the device, as ``Session.close`` does.

        Raises:
            DeviceError: if the device failed; nothing is left nevertheless.
        """
        if self._finalizer.detach():
            self._release.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None:
            self.close()
        elif self._finalizer.detach():
            _close_logged(self._release, "closing a TensorRT session")  # the first error matters

    def _flow(self, batches: Iterable[Batch]) -> Generator[Batch, None, None]:
        self._check_idle()
        self._busy = True
        started: deque[Stream] = deque()
        try:
            for index, batch in enumerate(batches):
                self._check(batch)
                if len(started) == STREAMS:
                    yield started.popleft().finish()
                stream = self._stream(index % STREAMS)
                stream.start(batch)
                started.append(stream)
            while started:
                yield started.popleft().finish()
        except BaseException:  # even if the caller takes no more results: nobody waits for those under way
            self._abandon()
            raise
        finally:
            self._busy = False

    def _stream(self, index: int) -> Stream:
        """Return a stream, created when it is first needed: a single window needs only one."""
        self._check_open()
        if index == len(self._streams):
            self._streams.append(Stream(self._engine, self.record, self.device))
        return self._streams[index]

    def _abandon(self) -> None:
        """Release the streams after a failure, which matters more than one of these."""
        release = ExitStack()
        release.callback(_close_streams, self._streams)
        _close_logged(release, "after a failure")

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise UsageError(*CLOSED)

    def _check_idle(self) -> None:
        if self._busy:
            msg = "the session is in the middle of another run"
            raise UsageError(msg, "take all results of run_many first, or open another session")

    def _check(self, batch: NDArray[Any]) -> None:
        """Refuse what the engine does not accept."""
        if batch.dtype != np.float32 or batch.ndim != 4 or batch.shape[1] != 3:
            msg = f"a batch must be float32 (N, 3, H, W), got {batch.dtype} {batch.shape}"
            raise UsageError(msg)
        count, _, *size = batch.shape
        low, high, most = self.record.spec.sizes.minimum, self.record.spec.sizes.maximum, self.record.spec.batch
        inside = all(least <= side <= limit for least, side, limit in zip(low, size, high, strict=True))
        if not 1 <= count <= most or not inside:
            accepted = "{1}x{0}".format(*low) if low == high else "{1}x{0} to {3}x{2}".format(*low, *high)
            msg = f"this engine accepts {accepted} pixels, batch 1 to {most}, got {size[1]}x{size[0]}, batch {count}"
            raise UsageError(msg, "build one for this size: lkdn-export --trt --dynamic MIN:OPT:MAX")


def open_trt(
    artifact: Artifact, *, threads: int | None = None, aux_streams: int | None = None, tf32: bool = True
) -> TrtSession:
    """Open an artefact's engine on the first GPU: from the cache, or built now with the installed runtime.

    Args:
        artifact: what to run.
        threads: ignored; the GPU needs none.
        aux_streams: most streams beside the main one; by default the builder's choice.
        tf32: whether factors of products in FP32 may be rounded to TF32.

    Raises:
        MissingError: if the driver, a GPU, the package for it or a runtime is missing; within a second.
        InputError: if no engine can be built from it.
        DeviceError: if the device fails.
    """
    device = open_device()
    from lkdn_deploy.backends.trt.make import make_engine
    from lkdn_deploy.backends.trt.resolve import resolve, resolve_for

    def on_build(reason: str) -> None:
        log.warning(
            "building a TensorRT engine of %s once, which takes seconds to minutes: %s", artifact.path.name, reason
        )

    spec = resolve_for(resolve(aux_streams=aux_streams, tf32=tf32), artifact)
    if found := find_engine(spec):
        try:
            return _start(found, device)
        except UnusableEngineError as error:
            log.warning("the engine in the cache is not used: %s", error.message)
            sidecar_path(found.path).unlink(missing_ok=True)  # or it would be found again
    return _start(make_engine(artifact, spec, on_build=on_build), device)


def open_cached(artifact: Artifact) -> TrtSession | None:
    """Open an artefact's engine on the first GPU if the cache has the one that ``open_trt`` would take.

    Returns:
        The session; ``None`` if there is no GPU, or no such engine for it. Nothing is built.

    Raises:
        MissingError: if there is an engine, but the package for the GPU is missing.
        UnusableEngineError: if the runtime refuses the engine.
        DeviceError: if the device fails.
    """
    digest = hashlib.sha256(artifact.data).hexdigest()
    specs = [entry.record.spec for entry in entries() if entry.record]
    specs = [spec for spec in specs if spec.artefact_sha256 == digest and spec.runtime in installed()]
    gpu = gpu_here() if specs else None  # the driver takes a moment to start
    if gpu is None:
        return None
    from lkdn_deploy.backends.trt.resolve import resolve, resolve_for

    for runtime in dict.fromkeys(spec.runtime for spec in specs if gpu.capability in spec.targets):
        if found := find_engine(resolve_for(resolve(runtime), artifact)):
            return _start(found, open_device())
    return None


def _called(spec: EngineSpec) -> str:
    """Return the name of an engine's backend, with what is not the default."""
    streams = "" if spec.aux_streams is None else f"-aux{spec.aux_streams}"
    return RUNTIMES[spec.runtime].backend + streams + ("" if spec.tf32 else "-no-tf32")


def _start(stored: StoredEngine, device: Device) -> TrtSession:
    return TrtSession(stored.data, stored.record, open_runtime(stored.record.spec.runtime), device)


def _with_smallest(record: EngineRecord) -> ArtifactMetadata:
    """Return the metadata, with ``smallest`` raised to what the engine accepts."""
    smallest = max(record.metadata.smallest, *record.spec.sizes.minimum)
    # An engine of one size accepts only that; and repeating more of an edge than ``LEAST`` would not be upscaling.
    if record.spec.sizes.fixed_size is not None or smallest > LEAST:
        return record.metadata
    return dataclasses.replace(record.metadata, smallest=smallest)


def _close_streams(streams: list[Stream]) -> None:
    """Close all streams, the last one first, even if one fails."""
    with ExitStack() as release:
        for stream in streams:
            release.callback(stream.close)
        streams.clear()


def _close_logged(release: ExitStack, when: str) -> None:
    """Close, and log a failure where it cannot be raised."""
    try:
        release.close()
    except LkdnError as error:
        log.warning("%s: %s", when, error)

"""TensorRT engines on a GPU, with two windows on their way at once: one is copied while another is computed."""

import dataclasses
import logging
import weakref
from collections import deque
from collections.abc import Generator, Iterable, Mapping
from contextlib import ExitStack
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.backends.trt.device import Device, open_device
from lkdn_deploy.backends.trt.engine import Engine, RunSettings, UnusableEngineError
from lkdn_deploy.backends.trt.record import Kind, SideCar
from lkdn_deploy.backends.trt.runtimes import RUNTIMES, open_runtime
from lkdn_deploy.backends.trt.stream import CLOSED, Batch, Stream
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, LkdnError, UsageError

log = logging.getLogger(__name__)

STREAMS = 2
BUSY = "the session is in the middle of another run"
BACKENDS: Mapping[Kind, str] = {"tensorrt": "trt", "tensorrt-rtx": "trt-rtx"}
"""What sessions call themselves, by runtime."""

LEAST = 64
"""Up to here ``ArtifactMetadata.smallest`` may be raised: what it may be."""

KERNELS = ".kernels"
"""Suffix, beside an engine, of what TensorRT for RTX has compiled of it for the GPU at hand."""

_DEFAULTS = RunSettings()


class TrtSession:
    """An engine on the first GPU; ``run`` takes and gives float32 whatever the engine does.

    Device memory is that of the last shapes and stays until ``close``, or until the session is collected. After a
    failure nothing of the shape is kept, and another run begins anew. One thread at a time, which is the one that
    opened the device.

    Args:
        engine: serialised.
        sidecar: what is known of it.
        module: ``tensorrt`` or ``tensorrt_rtx``.
        device: an open GPU.
        settings: see ``RunSettings``.

    Raises:
        UnusableEngineError: if the runtime refuses the engine, with its words, or if it is not what the side-car says.
        DeviceError: if the device fails.
    """

    def __init__(
        self, engine: bytes, sidecar: SideCar, module: Any, device: Device, settings: RunSettings = _DEFAULTS
    ) -> None:
        self.backend = BACKENDS[sidecar.runtime]
        self.sidecar = sidecar
        self.metadata = _with_least(sidecar)
        self.fixed_size = sidecar.profile.fixed_size
        self.largest: tuple[int, int] | None = sidecar.profile.maximum
        self.device = device
        self.on_cpu = False
        self.build_seconds: float | None = sidecar.build_seconds
        self._engine = Engine(engine, sidecar, module, settings)
        self._streams: list[Stream] = []
        self._busy = False
        release = ExitStack()
        release.callback(self._engine.close)
        release.callback(_close_streams, self._streams)
        self._release = release
        self._finalizer = weakref.finalize(self, _quietly, release)

    def run(self, batch: Batch) -> Batch:
        """(N, 3, H, W) RGB in 0..1 -> (N, 3, scale * H, scale * W), not clipped.

        Raises:
            UsageError: if the engine does not take this shape or type, before anything reaches the device; or if the
                session is closed, or in the middle of ``run_many``.
            InputError: if the engine does not upscale as its side-car says.
            DeviceError: if the device fails; ``OutOfDeviceMemory`` if a smaller window may succeed.
        """
        (result,) = self.run_many([batch])
        return result

    def run_many(self, batches: Iterable[Batch]) -> Generator[Batch, None, None]:
        """``run`` of each, in order. The next batch is on its way to the device before a result is waited for.

        To be taken to the end, or closed: until then the session does nothing else.

        Raises:
            LkdnError: as ``run`` does, when a result is asked for.
        """
        self._check_open()
        return self._flow(batches)

    def inference_seconds(self, batch: Batch) -> float:
        """``run``, of which this is the time of the inference on the device by its own events, without copies.

        Raises:
            LkdnError: as ``run`` does.
        """
        self._check_open()
        if self._busy:
            raise UsageError(BUSY, "take all results of run_many first, or open another session")
        self._check(batch)
        try:
            stream = self._stream(0)
            stream.start(batch, timed=True)
            stream.finish()
            return stream.seconds()
        except BaseException:
            try:
                _close_streams(self._streams)
            except LkdnError as second:
                log.warning("after a failure: %s", second)
            raise

    def device_memory(self, batch: Batch) -> tuple[int, str]:
        """Run a batch and return the peak of device memory allocated by the session, in bytes, and the GPU's name.

        Raises:
            LkdnError: as ``run`` does.
        """
        self.device.reset_peak()
        self.run(batch)
        return self.device.peak, self.device.gpu.name

    def bytes_per_pixel(self) -> int:
        """Device memory that a run takes, in bytes a LR pixel."""
        profile, scale = self.sidecar.profile, self.metadata.scale
        pixels = profile.batch * profile.maximum[0] * profile.maximum[1]
        input_, output = (np.dtype(tensor.dtype).itemsize for tensor in (self.sidecar.input, self.sidecar.output))
        return STREAMS * (-(-self._engine.workspace // pixels) + 3 * (input_ + scale**2 * output))

    def close(self) -> None:
        """Wait for the device and release all, in reverse order; once is enough.

        Raises:
            DeviceError: the last failure, when the rest is released.
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
            _quietly(self._release)  # what went wrong first matters

    def _flow(self, batches: Iterable[Batch]) -> Generator[Batch, None, None]:
        if self._busy:
            raise UsageError(BUSY, "take all results of run_many first, or open another session")
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
        except BaseException:  # also where the caller takes no more results: nobody waits for what is on its way
            try:
                _close_streams(self._streams)
            except LkdnError as second:
                log.warning("after a failure: %s", second)
            raise
        finally:
            self._busy = False

    def _stream(self, index: int) -> Stream:
        """Made when it is needed: a single window needs one."""
        self._check_open()
        if index == len(self._streams):
            self._streams.append(Stream(self._engine, self.sidecar, self.device))
        return self._streams[index]

    def _check_open(self) -> None:
        if not self._finalizer.alive:
            raise UsageError(CLOSED, "open another")

    def _check(self, batch: NDArray[Any]) -> None:
        """Refuse what the engine does not take."""
        profile = self.sidecar.profile
        if batch.dtype != np.float32 or batch.ndim != 4 or batch.shape[1] != 3:
            msg = f"a batch is float32 (N, 3, H, W), got {batch.dtype} {batch.shape}"
            raise UsageError(msg)
        count, _, *size = batch.shape
        low, high = profile.minimum, profile.maximum
        inside = all(least <= side <= most for least, side, most in zip(low, size, high, strict=True))
        if not 1 <= count <= profile.batch or not inside:
            takes = "{1}x{0}".format(*low) if low == high else "{1}x{0} to {3}x{2}".format(*low, *high)
            msg = "this engine takes {0} pixels, batch 1 to {1}, got {3}x{2}, batch {4}".format(
                takes, profile.batch, *size, count
            )
            raise UsageError(msg, "build one for this size: lkdn-export --trt --dynamic MIN:OPT:MAX")


def open_trt(artifact: Artifact, *, threads: int | None = None) -> TrtSession:
    """The engine of an artefact for the first GPU: from the cache, or built now, with the runtime that is installed.

    Raises:
        MissingError: if the driver, a GPU, the package for it or a runtime is missing; within a second.
        InputError: if the file is no artefact, or no engine can be built of it.
        DeviceError: if the device fails.
    """
    device = open_device()
    # Only where there is a GPU: these load onnx, and the runtime's libraries.
    from lkdn_deploy.backends.trt import make
    from lkdn_deploy.backends.trt.engine_cache import Found, find_engine, read_engine, sidecar_path
    from lkdn_deploy.backends.trt.resolve import Request, wanted_here

    def run(found: Found) -> TrtSession:
        kind = RUNTIMES[found.sidecar.runtime]
        settings = RunSettings(jit=kind.runtime_cache, jit_cache=found.path.with_suffix(KERNELS))
        return TrtSession(found.engine, found.sidecar, open_runtime(kind.name), device, settings)

    def tell(reason: str) -> None:
        log.warning("building a TensorRT engine of %s, seconds to minutes, once: %s", artifact.path.name, reason)

    _, _, key = wanted_here(artifact.data, Request())
    if found := find_engine(key):
        try:
            return run(found)
        except UnusableEngineError as error:
            log.warning("the engine in the cache is not used: %s", error.message)
            sidecar_path(found.path).unlink(missing_ok=True)  # or it would be found again
    report = make.export_engine(artifact.path, Request(), building=tell)
    built = read_engine(report.path)
    if isinstance(built, str):
        msg = f"the engine that was built cannot be used: {built}"
        raise InputError(msg)
    return run(built)


def _with_least(sidecar: SideCar) -> ArtifactMetadata:
    """The metadata, with the least size that the engine takes where that is more than the network's."""
    metadata, profile = sidecar.metadata, sidecar.profile
    smallest = max(metadata.smallest, *profile.minimum)
    # An engine of one size takes that only; and to repeat more of an edge than artefacts may ask for is no upscaling.
    if profile.fixed_size is not None or smallest > LEAST:
        return metadata
    return dataclasses.replace(metadata, smallest=smallest)


def _close_streams(streams: list[Stream]) -> None:
    """All of them, the last one first, also if one fails."""
    with ExitStack() as release:
        for stream in streams:
            release.callback(stream.close)
        streams.clear()


def _quietly(release: ExitStack) -> None:
    """For where nobody can be told."""
    try:
        release.close()
    except LkdnError as error:
        log.warning("closing a TensorRT session: %s", error)

"""A stream with an execution context, and with buffers that are reused while the input shape stays the same."""

import logging
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.io import check_result, from_output, to_input
from lkdn_deploy.backends.trt.device import Device
from lkdn_deploy.backends.trt.engine import Engine
from lkdn_deploy.backends.trt.record import EngineRecord, Tensor
from lkdn_deploy.core.artifact import Io
from lkdn_deploy.core.errors import DeviceError, UsageError
from lkdn_deploy.core.protocols import CLOSED

log = logging.getLogger(__name__)

Batch = NDArray[np.float32]

_IOS: dict[str, Io] = {"float32": "fp32", "float16": "fp16", "uint8": "uint8"}


@dataclass(frozen=True, slots=True)
class _TensorBuffer:
    """Memory of a tensor on the device and on the host."""

    address: int
    pinned: NDArray[np.uint8]
    values: NDArray[Any]
    """The pinned memory in the tensor's type and shape."""
    io: Io


class Stream:
    """Starts the inference of a batch, and returns its result later.

    Raises:
        DeviceError: from every method, if the device fails; nothing is leaked if the stream is then closed.
    """

    def __init__(self, engine: Engine, record: EngineRecord, device: Device) -> None:
        self._engine, self._record, self._device = engine, record, device
        self._release, self._buffers = ExitStack(), ExitStack()
        self._shape: tuple[int, ...] = ()
        self._graph: int | None = None
        self._events: tuple[int, int] | None = None
        self._ran = self._may_capture = False
        self._stream = device.create_stream()
        self._release.callback(device.destroy_stream, self._stream)
        try:
            self._context = engine.create_context()
        except BaseException:
            self._release.close()
            raise
        self._release.callback(setattr, self, "_context", None)
        self._release.callback(self._clear)
        self._release.callback(device.synchronise, self._stream)

    def start(self, batch: Batch, *, timed: bool = False) -> None:
        """Put upload, inference and download on the stream, whose last result must have been taken.

        Args:
            batch: (N, 3, H, W).
            timed: whether ``seconds`` shall measure the inference.

        Raises:
            UsageError: if the engine does not accept this shape.
            InputError: if it does not upscale as its record says.
            OutOfDeviceMemory: if there is no memory for it.
        """
        if self._context is None:
            raise UsageError(*CLOSED)
        if batch.shape != self._shape:
            self._prepare(batch)
        self._input.values[...] = to_input(batch, self._input.io)
        self._device.upload(self._input.address, self._input.pinned, self._stream)
        if self._graph is None and self._ran and self._may_capture:
            self._capture()
        events = self._two_events() if timed else None
        if events:
            self._device.record(events[0], self._stream)
        if self._graph is None:
            self._execute()
        else:
            self._device.launch(self._graph, self._stream)
        if events:
            self._device.record(events[1], self._stream)
        self._device.download(self._output.pinned, self._output.address, self._stream)
        self._ran = True

    def finish(self) -> Batch:
        """Wait for the result of ``start``: (N, 3, scale * H, scale * W) float32, not clipped."""
        if self._context is None:
            raise UsageError(*CLOSED)
        self._device.synchronise(self._stream)
        return from_output(self._output.values.copy(), self._output.io)

    def seconds(self) -> float:
        """Return the time of the last timed and finished inference on the device, without copies."""
        if self._events is None:
            raise UsageError(*CLOSED)
        return self._device.elapsed(*self._events)

    def close(self) -> None:
        """Wait for the stream, then release everything, even after a failure.

        Raises:
            DeviceError: the last failure, once the rest is released.
        """
        self._release.close()

    def _prepare(self, batch: Batch) -> None:
        """Replace the buffers with ones for this shape."""
        self._clear()
        context, tensors = self._context, (self._record.input, self._record.output)
        if not context.set_input_shape(tensors[0].name, batch.shape):
            msg = "the engine accepts no window of {1}x{0} pixels, batch {2}".format(*batch.shape[2:], len(batch))
            raise UsageError(msg, "build it with a larger profile")
        workspace = int(context.update_device_memory_size_for_shapes())
        if workspace == 0:
            msg = "TensorRT cannot tell the memory of a window of {1}x{0} pixels".format(*batch.shape[2:])
            raise self._engine.failure(msg)
        context.set_device_memory(self._allocate(workspace), workspace)
        self._input, self._output = (
            self._bind(tensor, tuple(context.get_tensor_shape(tensor.name))) for tensor in tensors
        )
        check_result(self._record.metadata.scale, batch.shape, self._output.values.shape)
        self._ran, self._may_capture = False, self._device.captures
        self._shape = batch.shape

    def _bind(self, tensor: Tensor, shape: tuple[int, ...]) -> _TensorBuffer:
        dtype = np.dtype(tensor.dtype)
        size = int(np.prod(shape)) * dtype.itemsize
        address = self._allocate(size)
        pinned = self._device.pin(size)
        self._buffers.callback(self._device.unpin, pinned)
        if not self._context.set_tensor_address(tensor.name, address):
            msg = f"TensorRT refuses the buffer of {tensor.name}"
            raise self._engine.failure(msg)
        return _TensorBuffer(address, pinned, pinned.view(dtype).reshape(shape), _IOS[tensor.dtype])

    def _two_events(self) -> tuple[int, int]:
        """Return the events before and after the inference, created when they are first needed."""
        if self._events is None:
            created = []
            for _ in range(2):
                created.append(self._device.create_event())
                self._buffers.callback(self._device.destroy_event, created[-1])
            self._events = created[0], created[1]
        return self._events

    def _allocate(self, size: int) -> int:
        address = self._device.allocate(size)
        self._buffers.callback(self._device.free, address)
        return address

    def _execute(self) -> None:
        if not self._context.execute_async_v3(self._stream):
            msg = "TensorRT did not run a window of {1}x{0} pixels".format(*self._shape[2:])
            raise self._engine.failure(msg)

    def _capture(self) -> None:
        """Capture the inference, which has run once on this shape, into a graph; go on without one if that fails."""
        if not self._engine.capturable(self._context, self._stream):
            return  # kernels may still be compiled in the background: a later run asks again
        self._may_capture = False  # it is tried once
        try:
            self._device.begin_capture(self._stream)
            try:
                self._execute()
            except BaseException:
                self._abandon_capture()
                raise
            self._graph = self._device.end_capture(self._stream)
        except DeviceError as error:
            log.info("windows run without a CUDA graph: %s", error.message)
        else:
            self._buffers.callback(self._device.destroy_graph, self._graph)

    def _abandon_capture(self) -> None:
        try:
            self._device.destroy_graph(self._device.end_capture(self._stream))
        except DeviceError as error:  # to be expected, since the captured work is incomplete
            log.debug("the capture ended with: %s", error.message)

    def _clear(self) -> None:
        """Release the buffers, which the stream no longer uses."""
        self._shape, self._graph, self._events = (), None, None
        self._buffers.close()

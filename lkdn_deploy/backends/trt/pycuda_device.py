"""A GPU through pycuda, which has no graphs, and whose context belongs to the thread that opened the device.

Names: https://documen.tician.de/pycuda/driver.html
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.trt.device import FAULT, SMALLER, MemoryMeter
from lkdn_deploy.backends.trt.gpu import Gpu
from lkdn_deploy.core.errors import DeviceError, OutOfDeviceMemory

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, for which pycuda has no name


class PycudaDevice(MemoryMeter):
    """A ``Device``, whose protocol documents the methods."""

    captures = False

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self._cuda: Any = import_module("pycuda.driver")
        with self._translated("opening the GPU"):
            self._cuda.init()
            # The primary context, which TensorRT and other libraries of the CUDA runtime use.
            context = self._cuda.Device(0).retain_primary_context()
            context.push()
            # A context that is current refuses to be destroyed. The finalizer is the class's, so that it runs when the
            # program ends; atexit might run before the sessions release what they have in the context.
            weakref.finalize(PycudaDevice, context.pop)
        self.gpu = gpu
        # pycuda's objects release what they stand for when they are collected, so they are kept until it is time.
        self._memory: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}
        self._events: dict[int, Any] = {}

    def allocate(self, size: int) -> int:
        with self._translated("allocating device memory"):
            memory = self._cuda.mem_alloc(size)
        address = int(memory)
        self._memory[address] = memory
        self._count(address, size)
        return address

    def free(self, address: int) -> None:
        self._sizes.pop(address, None)
        with self._translated("freeing device memory"):
            self._memory.pop(address).free()

    def pin(self, size: int) -> NDArray[np.uint8]:
        with self._translated("allocating pinned memory"):
            return self._cuda.pagelocked_empty(size, np.uint8)  # type: ignore[no-any-return]

    def unpin(self, memory: NDArray[np.uint8]) -> None:
        allocation: Any = memory.base
        with self._translated("freeing pinned memory"):
            allocation.free()

    def create_stream(self) -> int:
        with self._translated("creating a stream"):
            stream = self._cuda.Stream(_NON_BLOCKING)
        self._streams[stream.handle] = stream
        return int(stream.handle)

    def destroy_stream(self, stream: int) -> None:
        del self._streams[stream]

    def synchronise(self, stream: int) -> None:
        with self._translated("waiting for the GPU"):
            self._streams[stream].synchronize()

    def upload(self, address: int, memory: NDArray[np.uint8], stream: int) -> None:
        with self._translated("copying to the GPU"):
            self._cuda.memcpy_htod_async(address, memory, self._streams[stream])

    def download(self, memory: NDArray[np.uint8], address: int, stream: int) -> None:
        with self._translated("copying from the GPU"):
            self._cuda.memcpy_dtoh_async(memory, address, self._streams[stream])

    def create_event(self) -> int:
        with self._translated("creating an event"):
            event = self._cuda.Event()
        self._events[id(event)] = event  # pycuda does not expose the handle
        return id(event)

    def destroy_event(self, event: int) -> None:
        del self._events[event]

    def record(self, event: int, stream: int) -> None:
        with self._translated("recording an event"):
            self._events[event].record(self._streams[stream])

    def elapsed(self, start: int, end: int) -> float:
        with self._translated("reading the time"):
            return float(self._events[end].time_since(self._events[start])) / 1e3

    def begin_capture(self, stream: int) -> NoReturn:
        msg = "pycuda has no graphs"
        raise DeviceError(msg)

    end_capture = destroy_graph = begin_capture

    def launch(self, graph: int, stream: int) -> NoReturn:
        self.begin_capture(stream)

    @contextmanager
    def _translated(self, doing: str) -> Iterator[None]:
        """Raise pycuda's exceptions as ours."""
        try:
            yield
        except self._cuda.MemoryError as error:
            msg = f"the GPU is out of memory ({error})"
            raise OutOfDeviceMemory(msg, SMALLER) from error
        except self._cuda.Error as error:
            msg = f"{doing} failed: {error}"
            raise DeviceError(msg, FAULT) from error

"""A GPU through pycuda. It has no graphs, and keeps its context in the thread that opened the device.

Names: https://documen.tician.de/pycuda/driver.html
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.trt.device import FAULT, SMALLER, Meter
from lkdn_deploy.backends.trt.gpu import Gpu
from lkdn_deploy.core.errors import DeviceError, OutOfDeviceMemory

_NON_BLOCKING = 1  # CU_STREAM_NON_BLOCKING, for which pycuda has no name
_NO_GRAPHS = "pycuda has no graphs"


class PycudaDevice:
    """See ``Device``."""

    captures = False

    def __init__(self, gpu: Gpu) -> None:
        self._cuda: Any = import_module("pycuda.driver")
        with self._told("opening the GPU"):
            self._cuda.init()
            # The primary one is what TensorRT and other libraries of CUDA's runtime use.
            context = self._cuda.Device(0).retain_primary_context()
            context.push()
            # It refuses to be destroyed while it is current. Of the class, so that it stays until the program ends, and
            # not by atexit, which might come before the sessions release what they have in it.
            weakref.finalize(PycudaDevice, context.pop)
        self.gpu = gpu
        self._meter = Meter()
        # Its objects release what they stand for when they are collected, so they are kept, and released in time.
        self._memory: dict[int, Any] = {}
        self._streams: dict[int, Any] = {}
        self._events: dict[int, Any] = {}

    @property
    def peak(self) -> int:
        """See ``Device``; what TensorRT takes for itself is not counted."""
        return self._meter.peak

    def reset_peak(self) -> None:
        """See ``Device``."""
        self._meter.reset()

    def free_memory(self) -> int:
        """See ``Device``."""
        with self._told("asking for the free memory"):
            return int(self._cuda.mem_get_info()[0])

    def allocate(self, size: int) -> int:
        """See ``Device``."""
        with self._told("allocating device memory"):
            memory = self._cuda.mem_alloc(size)
        address = int(memory)
        self._memory[address] = memory
        self._meter.add(address, size)
        return address

    def free(self, address: int) -> None:
        """See ``Device``."""
        self._meter.remove(address)
        with self._told("freeing device memory"):
            self._memory.pop(address).free()

    def pin(self, size: int) -> NDArray[np.uint8]:
        """See ``Device``."""
        with self._told("allocating pinned memory"):
            return self._cuda.pagelocked_empty(size, np.uint8)  # type: ignore[no-any-return]

    def unpin(self, memory: NDArray[np.uint8]) -> None:
        """See ``Device``."""
        allocation: Any = memory.base
        with self._told("freeing pinned memory"):
            allocation.free()

    def create_stream(self) -> int:
        """See ``Device``."""
        with self._told("making a stream"):
            stream = self._cuda.Stream(_NON_BLOCKING)
        self._streams[stream.handle] = stream
        return int(stream.handle)

    def destroy_stream(self, stream: int) -> None:
        """See ``Device``."""
        del self._streams[stream]

    def synchronise(self, stream: int) -> None:
        """See ``Device``."""
        with self._told("waiting for the GPU"):
            self._streams[stream].synchronize()

    def upload(self, address: int, memory: NDArray[np.uint8], stream: int) -> None:
        """See ``Device``."""
        with self._told("copying to the GPU"):
            self._cuda.memcpy_htod_async(address, memory, self._streams[stream])

    def download(self, memory: NDArray[np.uint8], address: int, stream: int) -> None:
        """See ``Device``."""
        with self._told("copying from the GPU"):
            self._cuda.memcpy_dtoh_async(memory, address, self._streams[stream])

    def create_event(self) -> int:
        """See ``Device``."""
        with self._told("making an event"):
            event = self._cuda.Event()
        self._events[id(event)] = event  # it does not tell its handle
        return id(event)

    def destroy_event(self, event: int) -> None:
        """See ``Device``."""
        del self._events[event]

    def record(self, event: int, stream: int) -> None:
        """See ``Device``."""
        with self._told("recording an event"):
            self._events[event].record(self._streams[stream])

    def wait(self, event: int) -> None:
        """See ``Device``."""
        with self._told("waiting for the GPU"):
            self._events[event].synchronize()

    def elapsed(self, start: int, end: int) -> float:
        """See ``Device``."""
        with self._told("asking for the time"):
            return float(self._events[end].time_since(self._events[start])) / 1e3

    def begin_capture(self, stream: int) -> None:
        """Not to be called: ``captures``."""
        raise DeviceError(_NO_GRAPHS)

    def end_capture(self, stream: int) -> int:
        """Not to be called: ``captures``."""
        raise DeviceError(_NO_GRAPHS)

    def launch(self, graph: int, stream: int) -> None:
        """Not to be called: ``captures``."""
        raise DeviceError(_NO_GRAPHS)

    def destroy_graph(self, graph: int) -> None:
        """Not to be called: ``captures``."""
        raise DeviceError(_NO_GRAPHS)

    @contextmanager
    def _told(self, doing: str) -> Iterator[None]:
        """Its exceptions as ours."""
        try:
            yield
        except self._cuda.MemoryError as error:
            msg = f"the GPU is out of memory ({error})"
            raise OutOfDeviceMemory(msg, SMALLER) from error
        except self._cuda.Error as error:
            msg = f"{doing} failed: {error}"
            raise DeviceError(msg, FAULT) from error

"""A GPU through ``cuda.bindings.runtime`` of cuda-python: NVIDIA's own bindings, which come ready built.

Its functions return a tuple: the error code, then the results. Names and signatures:
https://nvidia.github.io/cuda-python/cuda-bindings/latest/module/runtime.html
"""

import ctypes
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.trt.device import FAULT, SMALLER, Meter
from lkdn_deploy.backends.trt.gpu import Gpu
from lkdn_deploy.core.errors import DeviceError, OutOfDeviceMemory

_HOST_DEFAULT = 0  # cudaHostAllocDefault


class CudaPythonDevice:
    """See ``Device``."""

    captures = True

    def __init__(self, gpu: Gpu) -> None:
        self._cuda: Any = import_module("cuda.bindings.runtime")
        self._call("cudaSetDevice", 0)
        self.gpu = gpu
        self._meter = Meter()

    @property
    def peak(self) -> int:
        """See ``Device``; what TensorRT takes for itself is not counted."""
        return self._meter.peak

    def reset_peak(self) -> None:
        """See ``Device``."""
        self._meter.reset()

    def free_memory(self) -> int:
        """See ``Device``."""
        return int(self._call("cudaMemGetInfo")[0])

    def allocate(self, size: int) -> int:
        """See ``Device``."""
        address = int(self._call("cudaMalloc", size)[0])
        self._meter.add(address, size)
        return address

    def free(self, address: int) -> None:
        """See ``Device``."""
        self._meter.remove(address)
        self._call("cudaFree", address)

    def pin(self, size: int) -> NDArray[np.uint8]:
        """See ``Device``."""
        address = int(self._call("cudaHostAlloc", size, _HOST_DEFAULT)[0])
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def unpin(self, memory: NDArray[np.uint8]) -> None:
        """See ``Device``."""
        self._call("cudaFreeHost", memory.ctypes.data)

    def create_stream(self) -> int:
        """See ``Device``."""
        return int(self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking)[0])

    def destroy_stream(self, stream: int) -> None:
        """See ``Device``."""
        self._call("cudaStreamDestroy", stream)

    def synchronise(self, stream: int) -> None:
        """See ``Device``."""
        self._call("cudaStreamSynchronize", stream)

    def upload(self, address: int, memory: NDArray[np.uint8], stream: int) -> None:
        """See ``Device``."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, memory.ctypes.data, memory.nbytes, kind, stream)

    def download(self, memory: NDArray[np.uint8], address: int, stream: int) -> None:
        """See ``Device``."""
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", memory.ctypes.data, address, memory.nbytes, kind, stream)

    def create_event(self) -> int:
        """See ``Device``."""
        return int(self._call("cudaEventCreate")[0])

    def destroy_event(self, event: int) -> None:
        """See ``Device``."""
        self._call("cudaEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        """See ``Device``."""
        self._call("cudaEventRecord", event, stream)

    def wait(self, event: int) -> None:
        """See ``Device``."""
        self._call("cudaEventSynchronize", event)

    def elapsed(self, start: int, end: int) -> float:
        """See ``Device``."""
        return float(self._call("cudaEventElapsedTime", start, end)[0]) / 1e3

    def begin_capture(self, stream: int) -> None:
        """See ``Device``."""
        # Of this thread only: what other threads of the program do meanwhile is theirs.
        self._call("cudaStreamBeginCapture", stream, self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)

    def end_capture(self, stream: int) -> int:
        """See ``Device``."""
        (graph,) = self._call("cudaStreamEndCapture", stream)
        try:
            return int(self._call("cudaGraphInstantiate", graph, 0)[0])
        finally:  # what was instantiated is a copy
            self._call("cudaGraphDestroy", graph)

    def launch(self, graph: int, stream: int) -> None:
        """See ``Device``."""
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        """See ``Device``."""
        self._call("cudaGraphExecDestroy", graph)

    def _call(self, name: str, *args: Any) -> tuple[Any, ...]:
        """The results of a function.

        Raises:
            DeviceError: if its code says that it failed.
        """
        code, *results = getattr(self._cuda, name)(*args)
        if code == self._cuda.cudaError_t.cudaSuccess:
            return tuple(results)
        said = self._cuda.cudaGetErrorString(code)[1].decode(errors="replace")
        if code == self._cuda.cudaError_t.cudaErrorMemoryAllocation:
            msg = f"the GPU is out of memory ({name})"
            raise OutOfDeviceMemory(msg, SMALLER)
        msg = f"{name} failed: {said} (CUDA error {int(code)})"
        raise DeviceError(msg, FAULT)

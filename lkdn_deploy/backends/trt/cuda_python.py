"""A GPU through ``cuda.bindings.runtime`` of cuda-python, NVIDIA's own bindings, which are installed ready built.

Its functions return a tuple: the error code, then the results. Names and signatures:
https://nvidia.github.io/cuda-python/cuda-bindings/latest/module/runtime.html
"""

import ctypes
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.trt.device import FAULT, SMALLER, MemoryMeter
from lkdn_deploy.backends.trt.gpu import Gpu
from lkdn_deploy.core.errors import DeviceError, OutOfDeviceMemory

_HOST_DEFAULT = 0  # cudaHostAllocDefault
_OLD_DRIVER = "update the NVIDIA driver to R580 or later, or install the packages for CUDA 12: 'cuda-python<13'"


class CudaPythonDevice(MemoryMeter):
    """A ``Device``, whose protocol documents the methods."""

    captures = True

    def __init__(self, gpu: Gpu) -> None:
        super().__init__()
        self._cuda: Any = import_module("cuda.bindings.runtime")
        self._call("cudaSetDevice", 0)
        self.gpu = gpu

    def allocate(self, size: int) -> int:
        address = int(self._call("cudaMalloc", size)[0])
        self._count(address, size)
        return address

    def free(self, address: int) -> None:
        self._sizes.pop(address, None)
        self._call("cudaFree", address)

    def pin(self, size: int) -> NDArray[np.uint8]:
        address = int(self._call("cudaHostAlloc", size, _HOST_DEFAULT)[0])
        return np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(address))

    def unpin(self, memory: NDArray[np.uint8]) -> None:
        self._call("cudaFreeHost", memory.ctypes.data)

    def create_stream(self) -> int:
        return int(self._call("cudaStreamCreateWithFlags", self._cuda.cudaStreamNonBlocking)[0])

    def destroy_stream(self, stream: int) -> None:
        self._call("cudaStreamDestroy", stream)

    def synchronise(self, stream: int) -> None:
        self._call("cudaStreamSynchronize", stream)

    def upload(self, address: int, memory: NDArray[np.uint8], stream: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._call("cudaMemcpyAsync", address, memory.ctypes.data, memory.nbytes, kind, stream)

    def download(self, memory: NDArray[np.uint8], address: int, stream: int) -> None:
        kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._call("cudaMemcpyAsync", memory.ctypes.data, address, memory.nbytes, kind, stream)

    def create_event(self) -> int:
        return int(self._call("cudaEventCreate")[0])

    def destroy_event(self, event: int) -> None:
        self._call("cudaEventDestroy", event)

    def record(self, event: int, stream: int) -> None:
        self._call("cudaEventRecord", event, stream)

    def elapsed(self, start: int, end: int) -> float:
        return float(self._call("cudaEventElapsedTime", start, end)[0]) / 1e3

    def begin_capture(self, stream: int) -> None:
        # Thread-local, so that other threads of the program may use the GPU meanwhile.
        self._call("cudaStreamBeginCapture", stream, self._cuda.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal)

    def end_capture(self, stream: int) -> int:
        try:
            (graph,) = self._call("cudaStreamEndCapture", stream)
        except DeviceError:
            # A failed capture stays behind as the last error, which the next call that looks for one would report.
            self._cuda.cudaGetLastError()
            raise
        try:
            (executable,) = self._call("cudaGraphInstantiate", graph, 0)
        except DeviceError:
            self._cuda.cudaGraphDestroy(graph)  # after a fault this fails as well, and tells nothing new
            raise
        self._call("cudaGraphDestroy", graph)  # the instantiated graph is a copy
        return int(executable)

    def launch(self, graph: int, stream: int) -> None:
        self._call("cudaGraphLaunch", graph, stream)

    def destroy_graph(self, graph: int) -> None:
        self._call("cudaGraphExecDestroy", graph)

    def _call(self, name: str, *args: Any) -> tuple[Any, ...]:
        """Call a function and return its results.

        Raises:
            DeviceError: if it returns an error code.
        """
        code, *results = getattr(self._cuda, name)(*args)
        if code == self._cuda.cudaError_t.cudaSuccess:
            return tuple(results)
        if code == self._cuda.cudaError_t.cudaErrorMemoryAllocation:
            msg = f"the GPU is out of memory ({name})"
            raise OutOfDeviceMemory(msg, SMALLER)
        hint = _OLD_DRIVER if code == self._cuda.cudaError_t.cudaErrorInsufficientDriver else FAULT
        reason = self._cuda.cudaGetErrorString(code)[1].decode(errors="replace")
        msg = f"{name} failed: {reason} (CUDA error {int(code)})"
        raise DeviceError(msg, hint)

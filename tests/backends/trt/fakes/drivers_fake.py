"""Modules shaped like ``cuda.bindings.runtime`` and ``pycuda.driver``, with the rules of CUDA."""

import threading
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

# Of cuda.bindings 13.5, which a test holds it to where it is installed: what each takes, and how many results it gives.
SIGNATURES = {
    "cudaSetDevice": (("device",), 0),
    "cudaMalloc": (("size",), 1),
    "cudaFree": (("devPtr",), 0),
    "cudaHostAlloc": (("size", "flags"), 1),
    "cudaFreeHost": (("ptr",), 0),
    "cudaStreamCreateWithFlags": (("flags",), 1),
    "cudaStreamDestroy": (("stream",), 0),
    "cudaStreamSynchronize": (("stream",), 0),
    "cudaMemcpyAsync": (("dst", "src", "count", "kind", "stream"), 0),
    "cudaEventCreate": ((), 1),
    "cudaEventDestroy": (("event",), 0),
    "cudaEventRecord": (("event", "stream"), 0),
    "cudaEventElapsedTime": (("start", "end"), 1),
    "cudaStreamBeginCapture": (("stream", "mode"), 0),
    "cudaStreamEndCapture": (("stream",), 1),
    "cudaGraphInstantiate": (("graph", "flags"), 1),
    "cudaGraphDestroy": (("graph",), 0),
    "cudaGraphLaunch": (("graphExec", "stream"), 0),
    "cudaGraphExecDestroy": (("graphExec",), 0),
}
OLD_DRIVER = 35
SUCCESS, NO_MEMORY, LAUNCH_FAILED, CAPTURE_INVALIDATED = 0, 2, 719, 901


class Runtime(ModuleType):
    """Shaped like ``cuda.bindings.runtime``; copies are done at once, and a fault of a kernel stays, as in CUDA."""

    cudaStreamNonBlocking = 1  # noqa: N815
    cudaError_t = SimpleNamespace(  # noqa: N815
        cudaSuccess=SUCCESS, cudaErrorMemoryAllocation=NO_MEMORY, cudaErrorInsufficientDriver=OLD_DRIVER
    )
    cudaMemcpyKind = SimpleNamespace(cudaMemcpyHostToDevice=1, cudaMemcpyDeviceToHost=2)  # noqa: N815
    cudaStreamCaptureMode = SimpleNamespace(  # noqa: N815
        cudaStreamCaptureModeGlobal=0, cudaStreamCaptureModeThreadLocal=1, cudaStreamCaptureModeRelaxed=2
    )

    def __init__(self) -> None:
        super().__init__("cuda.bindings.runtime")
        self.calls: list[tuple[Any, ...]] = []
        self.fails: dict[str, int] = {}
        self.last_error = SUCCESS
        self.memory: dict[int, np.ndarray] = {}
        self.on_host: dict[int, bool] = {}
        """Addresses of memory, and whether it is pinned memory of the host."""

    def __getattr__(self, name: str) -> Any:
        if name not in SIGNATURES:
            raise AttributeError(name)
        takes, gives = SIGNATURES[name]

        def call(*args: Any) -> tuple[Any, ...]:
            assert len(args) == len(takes), name
            self.calls.append((name, *args))
            if code := self.fails.get(name, LAUNCH_FAILED if self.last_error == LAUNCH_FAILED else 0):
                self.last_error = code
                return (code, *[None] * gives)
            if name in ("cudaMalloc", "cudaHostAlloc"):
                memory = np.zeros(args[0], np.uint8)
                self.memory[memory.ctypes.data] = memory
                self.on_host[memory.ctypes.data] = name == "cudaHostAlloc"
                return SUCCESS, memory.ctypes.data
            if name == "cudaMemcpyAsync":
                target, source, count, kind, _ = args
                assert (self.on_host[source], self.on_host[target]) == (kind == 1, kind == 2)
                self.memory[target][:count] = self.memory[source][:count]
            if name in ("cudaFree", "cudaFreeHost"):
                assert self.on_host[args[0]] == (name == "cudaFreeHost")
            assert args == {"cudaStreamCreateWithFlags": (1,), "cudaStreamBeginCapture": (1500, 1)}.get(name, args)
            return (SUCCESS, *[1500] * gives)

        return call

    def cudaGetLastError(self) -> tuple[int]:  # noqa: N802
        code = self.last_error
        if code != LAUNCH_FAILED:
            self.last_error = SUCCESS
        return (code,)

    def cudaGetErrorString(self, code: int) -> tuple[int, bytes]:  # noqa: N802
        return SUCCESS, f"what {code} means".encode()


class Driver(ModuleType):
    """Shaped like ``pycuda.driver``."""

    Error = type("Error", (Exception,), {})
    MemoryError = type("MemoryError", (Error,), {})

    def __init__(self) -> None:
        super().__init__("pycuda.driver")
        self.calls: list[str] = []
        self.fails: dict[str, str] = {}
        self.device: dict[int, np.ndarray] = {}
        self.contexts: list[str] = []
        """The stack of contexts of the thread that is current when one is pushed."""
        self.thread = 0

    def note(self, name: str) -> None:
        self.calls.append(name)
        current = self.contexts and self.thread == threading.get_ident()
        if name not in ("init", "push", "pop") and not current:
            msg = f"{name} failed: invalid device context"
            raise self.Error(msg)
        if name in self.fails:
            kind = self.MemoryError if "memory" in self.fails[name] else self.Error
            msg = f"{name} failed: {self.fails[name]}"
            raise kind(msg)

    def init(self) -> None:
        self.note("init")

    def Device(self, number: int) -> Any:  # noqa: N802
        def push() -> None:
            self.note("push")
            self.contexts.append("primary")
            self.thread = threading.get_ident()

        def pop() -> None:
            self.note("pop")
            self.contexts.pop()

        context = SimpleNamespace(push=push, pop=pop)
        return SimpleNamespace(retain_primary_context=lambda: context)

    def mem_alloc(self, size: int) -> Any:
        self.note("mem_alloc")
        driver, memory = self, np.zeros(size, np.uint8)

        class DeviceAllocation:
            def __int__(self) -> int:
                return memory.ctypes.data

            def free(self) -> None:
                driver.note("free")

        allocation = DeviceAllocation()
        self.device[int(allocation)] = memory
        return allocation

    def pagelocked_empty(self, shape: int, dtype: Any) -> np.ndarray:
        self.note("pagelocked_empty")
        driver = self

        class PagelockedHostAllocation:
            def __init__(self) -> None:
                self.memory = np.zeros(shape, dtype)
                self.__array_interface__ = self.memory.__array_interface__

            def free(self) -> None:
                driver.note("free pinned")

        return np.asarray(PagelockedHostAllocation())

    def Stream(self, flags: int) -> Any:  # noqa: N802
        self.note("Stream")
        assert flags == 1
        return SimpleNamespace(handle=4711, synchronize=lambda: self.note("synchronize"))

    def Event(self) -> Any:  # noqa: N802
        self.note("Event")
        return SimpleNamespace(
            record=lambda stream: self.note("record"),
            time_since=lambda other: 1500.0,
        )

    def memcpy_htod_async(self, target: int, source: np.ndarray, stream: Any) -> None:
        self.note("memcpy_htod_async")
        assert stream.handle == 4711
        self.device[target][: len(source)] = source

    def memcpy_dtoh_async(self, target: np.ndarray, source: int, stream: Any) -> None:
        self.note("memcpy_dtoh_async")
        target[:] = self.device[source][: len(target)]

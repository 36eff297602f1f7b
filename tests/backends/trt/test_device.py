"""GPUs through pycuda and cuda-python: stand-ins for both, and the real cuda-python where it is installed."""

import inspect
import re
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lkdn_deploy.backends.trt import device as devices
from lkdn_deploy.backends.trt.cuda_python import CudaPythonDevice
from lkdn_deploy.backends.trt.device import Device, MemoryMeter, open_device
from lkdn_deploy.backends.trt.gpu import Gpu
from lkdn_deploy.backends.trt.pycuda_device import PycudaDevice
from lkdn_deploy.core.errors import DeviceError, MissingError, OutOfDeviceMemory

GPU = Gpu("NVIDIA GeForce RTX 3080", "sm86", "580.65.06")
H100 = Gpu("NVIDIA H100 80GB HBM3", "sm90", "580.65.06")

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


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    module = Runtime()
    for name in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", module)
    return module


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


@pytest.fixture
def driver(monkeypatch: pytest.MonkeyPatch) -> Driver:
    module = Driver()
    monkeypatch.setitem(sys.modules, "pycuda", ModuleType("pycuda"))
    monkeypatch.setitem(sys.modules, "pycuda.driver", module)
    return module


def use(device: Device) -> None:
    """All that a session does with one, and events."""
    address, other = device.allocate(1000), device.allocate(24)
    memory, back, stream = device.pin(1000), device.pin(1000), device.create_stream()
    memory[:] = np.arange(1000) % 251
    events = [device.create_event(), device.create_event()]
    device.record(events[0], stream)
    device.upload(address, memory, stream)
    device.download(back, address, stream)
    device.record(events[1], stream)
    device.synchronise(stream)
    assert np.array_equal(back, memory)
    assert device.elapsed(*events) == 1.5
    assert device.peak == 1024
    device.free(other)
    device.reset_peak()
    assert device.peak == 1000
    if device.captures:
        device.begin_capture(stream)
        graph = device.end_capture(stream)
        device.launch(graph, stream)
        device.destroy_graph(graph)
    for event in events:
        device.destroy_event(event)
    device.unpin(back)
    device.unpin(memory)
    device.free(address)
    device.destroy_stream(stream)


def test_cuda_python_does_all_and_gives_everything_back(runtime: Runtime) -> None:
    device = CudaPythonDevice(GPU)
    use(device)
    assert device.gpu == GPU
    names = [call[0] for call in runtime.calls]
    assert set(names) == set(SIGNATURES)
    for made, released in (
        ("cudaMalloc", "cudaFree"),
        ("cudaHostAlloc", "cudaFreeHost"),
        ("cudaStreamCreateWithFlags", "cudaStreamDestroy"),
        ("cudaEventCreate", "cudaEventDestroy"),
        ("cudaGraphInstantiate", "cudaGraphExecDestroy"),
        ("cudaStreamEndCapture", "cudaGraphDestroy"),
    ):
        assert names.count(made) == names.count(released) > 0
    freed = {call[1] for call in runtime.calls if call[0] in ("cudaFree", "cudaFreeHost")}
    assert freed == set(runtime.memory)


@pytest.mark.parametrize("name", SIGNATURES)
def test_every_return_code_of_cuda_python_is_checked(runtime: Runtime, name: str) -> None:
    runtime.fails = {name: LAUNCH_FAILED}
    with pytest.raises(DeviceError, match=rf"{name} failed: what 719 means \(CUDA error 719\)") as error:
        use(CudaPythonDevice(GPU))
    assert "start it again" in str(error.value.hint)


@pytest.mark.parametrize("name", ["cudaMalloc", "cudaHostAlloc", "cudaGraphInstantiate"])
def test_cuda_python_reports_that_memory_ran_out(runtime: Runtime, name: str) -> None:
    runtime.fails = {name: NO_MEMORY}
    with pytest.raises(OutOfDeviceMemory, match=name):
        use(CudaPythonDevice(GPU))


def test_a_driver_that_is_too_old_is_said_with_the_cure(runtime: Runtime) -> None:
    runtime.fails = {"cudaSetDevice": OLD_DRIVER}
    with pytest.raises(DeviceError, match="CUDA error 35") as error:
        CudaPythonDevice(GPU)
    assert "update the NVIDIA driver to R580" in str(error.value.hint)
    assert "cuda-python<13" in str(error.value.hint)


def test_a_failed_capture_leaves_no_error_behind(runtime: Runtime) -> None:
    device = CudaPythonDevice(GPU)
    device.begin_capture(1500)
    runtime.fails = {"cudaStreamEndCapture": CAPTURE_INVALIDATED}
    with pytest.raises(DeviceError, match="cudaStreamEndCapture failed"):
        device.end_capture(1500)
    assert runtime.last_error == SUCCESS


def test_a_fault_of_a_kernel_is_told_by_every_later_call_of_cuda_python(runtime: Runtime) -> None:
    device = CudaPythonDevice(GPU)
    address, memory = device.allocate(16), device.pin(16)
    runtime.fails = {"cudaStreamSynchronize": LAUNCH_FAILED}
    with pytest.raises(DeviceError):
        device.synchronise(1500)
    runtime.fails = {}
    for call in (lambda: device.free(address), lambda: device.unpin(memory), device.create_stream, device.create_event):
        with pytest.raises(DeviceError, match="what 719 means"):
            call()


def test_the_real_cuda_python_has_these_functions() -> None:
    real = pytest.importorskip("cuda.bindings.runtime")
    for name, (takes, _) in SIGNATURES.items():
        assert tuple(inspect.signature(getattr(real, name)).parameters) == takes, name
    for group in ("cudaError_t", "cudaMemcpyKind", "cudaStreamCaptureMode"):
        assert set(vars(getattr(Runtime, group))) <= set(dir(getattr(real, group)))
    assert int(real.cudaStreamNonBlocking) == Runtime.cudaStreamNonBlocking
    assert int(real.cudaError_t.cudaErrorMemoryAllocation) == NO_MEMORY
    assert int(real.cudaError_t.cudaErrorInsufficientDriver) == OLD_DRIVER
    assert callable(real.cudaGetLastError)
    assert real.cudaGetErrorString(real.cudaError_t.cudaErrorLaunchFailure)[1]


def test_the_real_cuda_python_without_a_driver_is_a_device_error() -> None:
    """And takes what it is given: it refuses other types before it asks the driver."""
    pytest.importorskip("cuda.bindings.runtime")
    if devices.gpu_here() is not None:
        pytest.skip("there is a GPU here")
    with pytest.raises(DeviceError, match=r"cudaSetDevice failed: CUDA driver version is insufficient"):
        CudaPythonDevice(GPU)
    device = CudaPythonDevice.__new__(CudaPythonDevice)
    MemoryMeter.__init__(device)
    device._cuda = sys.modules["cuda.bindings.runtime"]
    memory = np.zeros(16, np.uint8)
    calls: dict[str, tuple[Any, ...]] = {
        "allocate": (16,), "free": (4096,), "pin": (16,), "unpin": (memory,), "create_stream": (), "create_event": (),
        "destroy_stream": (4096,), "synchronise": (4096,), "upload": (4096, memory, 4096), "begin_capture": (4096,),
        "download": (memory, 4096, 4096), "destroy_event": (4096,), "record": (4096, 4096), "elapsed": (4096, 4096),
        "end_capture": (4096,), "launch": (4096, 4096), "destroy_graph": (4096,),
    }  # fmt: skip
    for name, arguments in calls.items():
        with pytest.raises(DeviceError, match=r"\(CUDA error 35\)"):
            getattr(device, name)(*arguments)


def test_pycuda_does_all_but_graphs(driver: Driver) -> None:
    device = PycudaDevice(GPU)
    use(device)
    assert not device.captures
    assert (driver.calls.count("free"), driver.calls.count("free pinned")) == (2, 2)
    assert [device._streams, device._events, device._memory] == [{}, {}, {}]
    for call, arguments in (
        (device.begin_capture, [1]),
        (device.end_capture, [1]),
        (device.launch, [1, 2]),
        (device.destroy_graph, [1]),
    ):
        with pytest.raises(DeviceError, match="pycuda has no graphs"):
            call(*arguments)


@pytest.mark.parametrize(
    "name",
    [
        "init", "push", "mem_alloc", "free", "pagelocked_empty", "free pinned", "Stream", "synchronize", "Event",
        "record", "memcpy_htod_async", "memcpy_dtoh_async",
    ],
)  # fmt: skip
def test_what_pycuda_raises_is_told_as_ours(driver: Driver, name: str) -> None:
    driver.fails = {name: "an illegal address"}
    with pytest.raises(DeviceError, match=f"failed: {name} failed: an illegal address") as error:
        use(PycudaDevice(GPU))
    assert not isinstance(error.value, OutOfDeviceMemory)


def test_a_thread_that_did_not_open_the_gpu_has_no_context_of_pycuda(driver: Driver) -> None:
    device = PycudaDevice(GPU)
    assert driver.contexts == ["primary"]
    with ThreadPoolExecutor(1) as pool, pytest.raises(DeviceError, match="invalid device context"):
        pool.submit(device.allocate, 16).result()


def test_the_context_of_pycuda_is_left_once_when_the_program_ends() -> None:
    code = (
        "import atexit, sys; from types import ModuleType, SimpleNamespace as S\n"
        "calls = []; atexit.register(lambda: print(*calls))\n"
        "context = S(push=lambda: calls.append('push'), pop=lambda: calls.append('pop'))\n"
        "driver = ModuleType('pycuda.driver'); driver.init = lambda: None\n"
        "driver.Error = driver.MemoryError = OSError\n"
        "driver.Device = lambda number: S(retain_primary_context=lambda: context)\n"
        "sys.modules |= {'pycuda': ModuleType('pycuda'), 'pycuda.driver': driver}\n"
        "from lkdn_deploy.backends.trt.pycuda_device import PycudaDevice\n"
        "PycudaDevice(None)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["push", "pop"]


@pytest.mark.parametrize("name", ["mem_alloc", "pagelocked_empty"])
def test_pycuda_tells_that_memory_ran_out(driver: Driver, name: str) -> None:
    driver.fails = {name: "out of memory"}
    with pytest.raises(OutOfDeviceMemory, match="out of memory"):
        use(PycudaDevice(GPU))


# which of them is opened


def arrange(monkeypatch: pytest.MonkeyPatch, *, gpu: Gpu | None, library: bool, packages: set[str]) -> None:
    reason = "the NVIDIA driver finds no GPU" if library else "there is no NVIDIA driver (it cannot be opened)"
    monkeypatch.setattr(devices, "gpu_here", lambda: gpu)
    monkeypatch.setattr(devices, "missing_gpu", lambda: reason)
    monkeypatch.setattr(devices, "_installed", lambda name: name in packages)


DRIVER = "install the driver of an NVIDIA GPU (https://www.nvidia.com/drivers)"
PACKAGE = "in a checkout of this project: pip install '.[trt-rtx]'\n"


@pytest.mark.parametrize(
    ("gpu", "library", "packages", "said", "cure"),
    [
        (None, False, set(), r"no NVIDIA driver \(.*\); neither cuda-python nor pycuda", f"{DRIVER}\n{PACKAGE}"),
        (None, True, {"pycuda"}, "the NVIDIA driver finds no GPU$", DRIVER),
        (None, False, {"cuda.bindings"}, "no NVIDIA driver", DRIVER),
        (GPU, True, set(), "cannot run here: neither cuda-python nor pycuda is installed$", PACKAGE),
        (H100, True, set(), "neither cuda-python nor pycuda is installed$", PACKAGE.replace("trt-rtx", "trt")),
    ],
)
def test_what_is_missing_is_said_with_what_can_be_done(
    monkeypatch: pytest.MonkeyPatch, gpu: Gpu | None, library: bool, packages: set[str], said: str, cure: str
) -> None:
    arrange(monkeypatch, gpu=gpu, library=library, packages=packages)
    with pytest.raises(MissingError) as error:
        open_device()
    assert re.search(said, error.value.message)
    hint = str(error.value.hint)
    assert cure in hint
    assert "lkdn-bench --predict rtx3080" in hint
    assert "lkdn-export --trt --runtime tensorrt-rtx --sm 86" in hint
    assert max(map(len, f"hint: {hint}".splitlines())) <= 80  # no terminal breaks a command
    assert error.value.exit_code == 3


def test_cuda_python_is_taken_where_it_is_installed(
    monkeypatch: pytest.MonkeyPatch, driver: Driver, runtime: Runtime
) -> None:
    arrange(monkeypatch, gpu=GPU, library=True, packages={"pycuda", "cuda.bindings"})
    assert isinstance(open_device(), CudaPythonDevice)
    assert not driver.calls


def test_pycuda_is_taken_where_cuda_python_is_not_or_does_not_start(
    monkeypatch: pytest.MonkeyPatch, driver: Driver, caplog: pytest.LogCaptureFixture
) -> None:
    arrange(monkeypatch, gpu=GPU, library=True, packages={"pycuda"})
    assert isinstance(open_device(), PycudaDevice)
    assert not caplog.records
    arrange(monkeypatch, gpu=GPU, library=True, packages={"pycuda", "cuda.bindings"})
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", None)
    assert isinstance(open_device(), PycudaDevice)
    assert "cuda.bindings cannot be imported" in caplog.text
    arrange(monkeypatch, gpu=GPU, library=True, packages={"cuda.bindings"})
    with pytest.raises(MissingError, match=r"cuda\.bindings cannot be imported"):
        open_device()


def test_without_a_gpu_it_is_known_at_once() -> None:
    if devices.gpu_here() is not None:
        pytest.skip("there is a GPU here")
    start = time.perf_counter()
    with pytest.raises(MissingError, match="TensorRT cannot run here"):
        open_device()
    assert time.perf_counter() - start < 0.5


def test_importing_it_loads_neither_cuda_nor_numpy() -> None:
    code = "import sys, lkdn_deploy.backends.trt.device; print(*{name.partition('.')[0] for name in sys.modules})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not {"numpy", "cuda", "pycuda", "tensorrt", "tensorrt_rtx", "onnx"} & set(done.stdout.split())

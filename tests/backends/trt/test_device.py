"""GPUs through pycuda and cuda-python: stand-ins for both, and the real cuda-python where it is installed."""

import inspect
import re
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from types import ModuleType
from typing import Any

import numpy as np
import pytest
from drivers_fake import CAPTURE_INVALIDATED, LAUNCH_FAILED, NO_MEMORY, OLD_DRIVER, SIGNATURES, SUCCESS, Driver, Runtime

from lkdn_deploy.backends.trt import device as devices
from lkdn_deploy.backends.trt.cuda_python import CudaPythonDevice
from lkdn_deploy.backends.trt.device import Device, MemoryMeter, open_device
from lkdn_deploy.backends.trt.gpu import Gpu
from lkdn_deploy.backends.trt.pycuda_device import PycudaDevice
from lkdn_deploy.core.errors import DeviceError, MissingError, OutOfDeviceMemory

GPU = Gpu("NVIDIA GeForce RTX 3080", "sm86", "580.65.06")
H100 = Gpu("NVIDIA H100 80GB HBM3", "sm90", "580.65.06")


@pytest.fixture
def runtime(monkeypatch: pytest.MonkeyPatch) -> Runtime:
    module = Runtime()
    for name in ("cuda", "cuda.bindings"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.setitem(sys.modules, "cuda.bindings.runtime", module)
    return module


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

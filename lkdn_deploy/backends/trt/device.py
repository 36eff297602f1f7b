"""What a session asks of an NVIDIA GPU, and who answers: pycuda where it is installed, cuda-python otherwise."""

import ctypes
import importlib.util
import logging
import os
from typing import TYPE_CHECKING, Protocol

from lkdn_deploy.backends.trt.gpu import Gpu, gpu_here
from lkdn_deploy.core.errors import MissingError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

log = logging.getLogger(__name__)

_GET_PACKAGE = "pip install 'lkdn-deploy[trt-rtx]'"
_GET_DRIVER = "install the driver of an NVIDIA GPU (https://www.nvidia.com/drivers)"
# In lines, as terminals break long ones in the middle of a command.
_WAY_OUT = """without a GPU:
  lkdn-export --trt --runtime tensorrt-rtx --sm 86  builds engines ahead
  lkdn-bench --predict rtx3080                      shows what one could do
  lkdn-upscale --backend ort-cpu                    upscales"""
FAULT = "after a fault the process has lost the GPU: start it again; `nvidia-smi` and the system's log may say more"
SMALLER = "use smaller tiles (--tile), or end what else is on the GPU"


class Device(Protocol):
    """The first GPU. Memory of the device, streams, events and graphs are handles: integers.

    What is put on a stream happens in that order, some time before ``synchronise`` returns. Whoever makes something
    releases it, and not while a stream still uses it. All calls come from the thread that opened the device.

    Every method raises ``DeviceError`` if the driver refuses; what allocates, ``OutOfDeviceMemory`` where that is why.
    """

    @property
    def gpu(self) -> Gpu:
        """Its name, compute capability and driver."""
        ...

    @property
    def captures(self) -> bool:
        """Whether work can be captured into a graph: without, the calls for graphs are not to be made."""
        ...

    @property
    def peak(self) -> int:
        """The most bytes of device memory that were allocated here at once, since ``reset_peak``."""
        ...

    def reset_peak(self) -> None:
        """Count from what is allocated now."""
        ...

    def free_memory(self) -> int:
        """Bytes of device memory that nobody has."""
        ...

    def allocate(self, size: int) -> int:
        """``size`` bytes of device memory, aligned to 256: the address."""
        ...

    def free(self, address: int) -> None:
        """Give back what ``allocate`` gave."""
        ...

    def pin(self, size: int) -> "Bytes":
        """``size`` bytes of host memory that copies can read and write while the host goes on."""
        ...

    def unpin(self, memory: "Bytes") -> None:
        """Give back what ``pin`` gave: the same array, which nobody may touch any more."""
        ...

    def create_stream(self) -> int:
        """A stream that does not wait for the default one."""
        ...

    def destroy_stream(self, stream: int) -> None:
        """Release it."""
        ...

    def synchronise(self, stream: int) -> None:
        """Wait until all that was put on it is done."""
        ...

    def upload(self, address: int, memory: "Bytes", stream: int) -> None:
        """Put a copy of all of ``memory``, pinned, to the device on the stream."""
        ...

    def download(self, memory: "Bytes", address: int, stream: int) -> None:
        """Put a copy from the device that fills ``memory``, pinned, on the stream."""
        ...

    def create_event(self) -> int:
        """An event that knows the time."""
        ...

    def destroy_event(self, event: int) -> None:
        """Release it."""
        ...

    def record(self, event: int, stream: int) -> None:
        """Put it on the stream: it happens when all before it is done."""
        ...

    def wait(self, event: int) -> None:
        """Wait until it has happened."""
        ...

    def elapsed(self, start: int, end: int) -> float:
        """Seconds between two events that have happened."""
        ...

    def begin_capture(self, stream: int) -> None:
        """What is put on the stream from now on is written down, and not done."""
        ...

    def end_capture(self, stream: int) -> int:
        """The graph of what was put on the stream since; the capture is over also if this fails."""
        ...

    def launch(self, graph: int, stream: int) -> None:
        """Put all that a graph holds on the stream."""
        ...

    def destroy_graph(self, graph: int) -> None:
        """Release it."""
        ...


class Meter:
    """Counts device memory."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self.peak = 0

    def add(self, address: int, size: int) -> None:
        """It was allocated."""
        self._sizes[address] = size
        self.peak = max(self.peak, sum(self._sizes.values()))

    def remove(self, address: int) -> None:
        """It was freed."""
        self._sizes.pop(address, None)

    def reset(self) -> None:
        """Forget the peak, not what is allocated."""
        self.peak = sum(self._sizes.values())


def open_device() -> Device:
    """The first GPU.

    Raises:
        MissingError: saying whether the driver, a GPU, a package or several of them are missing.
        DeviceError: if the driver refuses to open it.
    """
    gpu = gpu_here()
    packages = [name for name in ("pycuda", "cuda.bindings") if _installed(name)]
    if gpu is None or not packages:
        missing = ([] if gpu else [_no_gpu()]) + ([] if packages else ["neither pycuda nor cuda-python is installed"])
        cures = ([] if gpu else [_GET_DRIVER]) + ([] if packages else [_GET_PACKAGE])
        msg = f"TensorRT cannot run here: {'; '.join(missing)}"
        raise MissingError(msg, "\n".join([*cures, _WAY_OUT]))
    for name in packages:
        try:
            return _open(name, gpu)
        except ImportError as error:  # pycuda is compiled on the machine, and a new CUDA leaves it behind
            log.warning("%s cannot be imported: %s", name, error)
            failure = error
    msg = f"TensorRT cannot run here: {name} cannot be imported: {failure}"
    raise MissingError(msg, "pip install --force-reinstall cuda-python")


def _open(package: str, gpu: Gpu) -> Device:
    if package == "pycuda":
        from lkdn_deploy.backends.trt.pycuda_device import PycudaDevice

        return PycudaDevice(gpu)
    from lkdn_deploy.backends.trt.cuda_python import CudaPythonDevice

    return CudaPythonDevice(gpu)


def _no_gpu() -> str:
    try:
        ctypes.CDLL("nvcuda.dll" if os.name == "nt" else "libcuda.so.1")
    except OSError as error:
        return f"there is no NVIDIA driver ({error})"
    return "the NVIDIA driver finds no GPU"


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):  # of the package that it is in; of a module put in place by hand
        return False

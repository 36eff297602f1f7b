"""The operations on an NVIDIA GPU that a session needs, provided by cuda-python where installed, else by pycuda."""

import importlib.util
import logging
from typing import TYPE_CHECKING, Protocol

from lkdn_deploy.backends.trt.gpu import Gpu, extra_for, gpu_here, missing_gpu
from lkdn_deploy.core.errors import MissingError
from lkdn_deploy.core.optional import install

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Bytes = NDArray[np.uint8]

log = logging.getLogger(__name__)

_GET_DRIVER = "install the driver of an NVIDIA GPU (https://www.nvidia.com/drivers)"
# Broken into lines, as a terminal would break a long one in the middle of a command.
_WITHOUT_GPU = """without a GPU, with the extra in brackets:
  lkdn-export --trt --runtime tensorrt-rtx --sm 86  builds engines ahead
  lkdn-bench --predict rtx3080                      predicts its speed (bench)
  lkdn-upscale --backend native                     upscales on the CPU (native)"""
FAULT = "after a fault the process has lost the GPU: start it again; `nvidia-smi` and the system's log may say more"
SMALLER = "use smaller tiles (--tile), or end other programs that use the GPU"


class Device(Protocol):
    """The first GPU. Device memory, streams, events and graphs are handles: integers.

    Work put on a stream is done in that order, some time before ``synchronise`` returns. Whoever creates something
    releases it, and not while a stream still uses it. All calls come from the thread that opened the device.

    Raises:
        DeviceError: from every method, if the driver refuses; ``OutOfDeviceMemory`` if an allocation fails for lack of
            memory.
    """

    @property
    def gpu(self) -> Gpu:
        """Name, compute capability and driver."""
        ...

    @property
    def captures(self) -> bool:
        """Whether work can be captured into graphs; if not, the methods for graphs must not be called."""
        ...

    @property
    def peak(self) -> int:
        """Largest number of bytes allocated here at once since ``reset_peak``, without what TensorRT itself takes."""
        ...

    def reset_peak(self) -> None:
        """Restart ``peak`` from what is allocated now."""
        ...

    def allocate(self, size: int) -> int:
        """Allocate ``size`` bytes of device memory, aligned to 256, and return the address."""
        ...

    def free(self, address: int) -> None:
        """Free memory from ``allocate``."""
        ...

    def pin(self, size: int) -> "Bytes":
        """Allocate ``size`` bytes of page-locked host memory, which asynchronous copies need."""
        ...

    def unpin(self, memory: "Bytes") -> None:
        """Free memory from ``pin``, given as the same array."""
        ...

    def create_stream(self) -> int:
        """Create a stream that does not wait for the default one."""
        ...

    def destroy_stream(self, stream: int) -> None:
        """Destroy a stream."""
        ...

    def synchronise(self, stream: int) -> None:
        """Wait until everything on the stream is done."""
        ...

    def upload(self, address: int, memory: "Bytes", stream: int) -> None:
        """Put a copy of all of ``memory``, pinned, to the device on the stream.

        Args:
            address: of the device's memory.
            memory: pinned host memory, all of which is copied.
            stream: on which the copy is made.
        """
        ...

    def download(self, memory: "Bytes", address: int, stream: int) -> None:
        """Put a copy from the device that fills ``memory``, pinned, on the stream.

        Args:
            memory: pinned host memory, which is filled.
            address: of the device's memory.
            stream: on which the copy is made.
        """
        ...

    def create_event(self) -> int:
        """Create an event that records the time."""
        ...

    def destroy_event(self, event: int) -> None:
        """Destroy an event."""
        ...

    def record(self, event: int, stream: int) -> None:
        """Put an event on the stream, which happens when everything before it is done."""
        ...

    def elapsed(self, start: int, end: int) -> float:
        """Return the seconds between two events that have happened."""
        ...

    def begin_capture(self, stream: int) -> None:
        """Start capturing work put on the stream instead of doing it."""
        ...

    def end_capture(self, stream: int) -> int:
        """Return the graph of the captured work; the capture ends even if this fails."""
        ...

    def launch(self, graph: int, stream: int) -> None:
        """Put the work of a graph on the stream."""
        ...

    def destroy_graph(self, graph: int) -> None:
        """Destroy a graph."""
        ...


class MemoryMeter:
    """The part of a ``Device`` that counts its memory; ``_sizes`` are the allocations by address."""

    def __init__(self) -> None:
        self._sizes: dict[int, int] = {}
        self.peak = 0

    def _count(self, address: int, size: int) -> None:
        self._sizes[address] = size
        self.peak = max(self.peak, sum(self._sizes.values()))

    def reset_peak(self) -> None:
        """Restart ``peak`` from what is allocated now."""
        self.peak = sum(self._sizes.values())


def open_device() -> Device:
    """Open the first GPU.

    Raises:
        MissingError: if the driver, a GPU or a package is missing; the message names each.
        DeviceError: if the driver refuses to open it.
    """
    gpu = gpu_here()
    packages = [name for name in ("cuda.bindings", "pycuda") if _installed(name)]
    if gpu is None or not packages:
        missing = ([] if gpu else [missing_gpu()]) + (
            [] if packages else ["neither cuda-python nor pycuda is installed"]
        )
        package = f"in a checkout of this project: {install(extra_for(gpu) if gpu else 'trt-rtx')}"
        cures = ([] if gpu else [_GET_DRIVER]) + ([] if packages else [package])
        msg = f"TensorRT cannot run here: {'; '.join(missing)}"
        raise MissingError(msg, "\n".join([*cures, _WITHOUT_GPU]))
    for name in packages:
        try:
            return _open(name, gpu)
        except ImportError as error:  # one without its libraries; pycuda, compiled here, may not fit a newer CUDA
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


def _installed(name: str) -> bool:
    try:
        return importlib.util.find_spec(name) is not None
    except (ModuleNotFoundError, ValueError):  # its parent package is missing; it was put into sys.modules by hand
        return False

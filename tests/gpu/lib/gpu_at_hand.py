"""A GPU with kernels of our own, compiled by CuPy, or for a rehearsal without one the stand-in of a GPU.

Addresses and streams are handles of a ``Device``: integers.
"""

from functools import cache
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
from device_fake import FakeDevice
from engine_fake import DataType, ExecutionContextAllocationStrategy, ILogger, TensorIOMode

from lkdn_deploy.backends.trt.cuda_python import CudaPythonDevice
from lkdn_deploy.backends.trt.gpu import gpu_here

if TYPE_CHECKING:
    from lkdn_deploy.backends.trt.device import Device

KERNELS = r"""
extern "C" __global__ void twice(const float* x, float* y, int planes, int height, int width) {
    int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= planes * height * width * 4) return;
    int column = i % (2 * width), row = i / (2 * width) % (2 * height), plane = i / (4 * width * height);
    y[i] = 0.5f * x[(plane * height + row / 2) * width + column / 2];
}
extern "C" __global__ void spin(long long cycles) {
    long long start = clock64();
    while (clock64() - start < cycles) {}
}
extern "C" __global__ void wild(int* address) { *address = 1; }
"""
SPIN = 40_000_000
"""Cycles: about 20 ms."""


class GpuAtHand:
    """A real GPU."""

    real = True

    def __init__(self) -> None:
        gpu = gpu_here()
        assert gpu is not None
        self.device: Device = CudaPythonDevice(gpu)

    def twice(self, source: int, target: int, shape: tuple[int, ...], stream: int) -> None:
        """Put the kernel on a stream that repeats each float32 pixel, halved."""
        count, channels, height, width = shape
        size = count * channels * height * width * 4
        arguments = (np.uintp(source), np.uintp(target), *map(np.int32, (count * channels, height, width)))
        self._launch("twice", (-(-size // 256),), (256,), arguments, stream)

    def spin(self, stream: int) -> None:
        """Keep a stream busy for about 20 ms."""
        self._launch("spin", (1,), (1,), (np.int64(SPIN),), stream)

    def wild(self, stream: int) -> None:
        """Put a kernel on a stream that writes where nothing is, after which the process has lost the GPU."""
        self._launch("wild", (1,), (1,), (np.uintp(16),), stream)

    @staticmethod
    @cache
    def _module() -> Any:
        import cupy  # type: ignore[import-not-found, unused-ignore]

        return cupy.RawModule(code=KERNELS)

    def _launch(self, name: str, grid: Any, block: Any, arguments: Any, stream: int) -> None:
        import cupy

        with cupy.cuda.ExternalStream(stream):
            self._module().get_function(name)(grid, block, arguments)

    def free_memory(self) -> int:
        """Return the bytes of device memory that nobody uses."""
        return int(self.device._call("cudaMemGetInfo")[0])  # type: ignore[attr-defined]


class Rehearsal:
    """The stand-in of a GPU."""

    real = False

    def __init__(self) -> None:
        self.device: Any = FakeDevice()

    def twice(self, source: int, target: int, shape: tuple[int, ...], stream: int) -> None:
        size = 4 * int(np.prod(shape))

        def do() -> None:
            values = self.device.at(source, size).view(np.float32).reshape(shape) * np.float32(0.5)
            self.device.at(target, 4 * size)[:] = values.repeat(2, 2).repeat(2, 3).reshape(-1).view(np.uint8)

        self.device.put("execute", stream, do, frozenset((source, target)))

    def spin(self, stream: int) -> None: ...

    def free_memory(self) -> int:
        return int(self.device.capacity - sum(map(len, self.device._device.values())))


def engine_module(gpu: Any) -> Any:
    """Return a module shaped like ``tensorrt`` whose engines are the kernel ``twice``, after one that takes 20 ms."""

    class Context:
        def __init__(self) -> None:
            self.shape: tuple[int, ...] = ()
            self.addresses: dict[str, int] = {}

        def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
            self.shape, self.addresses = tuple(shape), {}
            return name == "lr"

        def get_tensor_shape(self, name: str) -> tuple[int, ...]:
            count, channels, height, width = self.shape
            return self.shape if name == "lr" else (count, channels, 2 * height, 2 * width)

        def update_device_memory_size_for_shapes(self) -> int:
            return 256

        def set_device_memory(self, memory: int, size: int) -> None:
            assert memory % 256 == 0
            assert size >= 256

        def set_tensor_address(self, name: str, memory: int) -> bool:
            self.addresses[name] = memory
            return memory % 256 == 0

        def execute_async_v3(self, stream_handle: int) -> bool:
            gpu.spin(stream_handle)
            gpu.twice(self.addresses["lr"], self.addresses["sr"], self.shape, stream_handle)
            return True

    names = {"lr": TensorIOMode.INPUT, "sr": TensorIOMode.OUTPUT}
    engine = SimpleNamespace(
        num_io_tensors=2,
        device_memory_size_v2=256,
        get_tensor_name=lambda index: list(names)[index],
        get_tensor_mode=names.__getitem__,
        get_tensor_dtype=lambda name: DataType.FLOAT,
        create_execution_context=lambda how: Context(),
    )
    module = ModuleType("tensorrt")
    vars(module).update(
        __version__="11.0",
        DataType=DataType,
        TensorIOMode=TensorIOMode,
        ExecutionContextAllocationStrategy=ExecutionContextAllocationStrategy,
        ILogger=ILogger,
        Runtime=lambda logger: SimpleNamespace(deserialize_cuda_engine=lambda data: engine),
    )
    return module

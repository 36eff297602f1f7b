"""A checkpoint in eager PyTorch as a session beside those of the backends: the baseline of a deployment."""

import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.bench.opening import TORCH_WAYS
from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.core.optional import needs
from lkdn_deploy.core.protocols import SequentialSession
from lkdn_deploy.export.job import describe, fuse

with needs("bench"):
    import torch
    from torch import Tensor

    from lkdn_deploy.bench.complexity.eager_memory import peak_floats
    from lkdn_models.checkpoint import Checkpoint
    from lkdn_models.rgb import InRange, as_rgb

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16}
_SIZE = 180, 320
"""Height and width at which the memory of an eager run is counted."""


class TorchSession(SequentialSession):
    """A network in its deployed, fused form on the CPU or the first CUDA device.

    Args:
        checkpoint: network and weights.
        precision: precision of weights and activations; layer normalisation accumulates in float32 all the same.
        device: ``cpu`` or ``cuda``; default is CUDA where a device is available.
        threads: PyTorch's threads, which are one setting for the whole process.
        way: ``eager``; ``channels-last``, with channels in the innermost dimension; ``compile``, by ``torch.compile``;
            or ``tf32``, with FP32 products of factors that are rounded to TF32, on a GPU.

    Raises:
        UsageError: if the precision or the way is not known, or there is no TF32 on the device or at the precision.
        InputError: if ``torch.compile`` does not work here.
        MissingError: if there is no CUDA device.
    """

    fixed_size: tuple[int, int] | None = None

    def __init__(
        self,
        checkpoint: Checkpoint,
        *,
        precision: str = "fp32",
        device: str | None = None,
        threads: int | None = None,
        way: str = "eager",
    ) -> None:
        if precision not in PRECISIONS:
            msg = f"no such precision: {precision}"
            raise UsageError(msg, f"known precisions are {', '.join(PRECISIONS)}")
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if device == "cuda" and not torch.cuda.is_available():
            msg = "PyTorch finds no CUDA device"
            raise MissingError(msg, "check the GPU and its driver, and that this PyTorch is a CUDA build")
        if way not in TORCH_WAYS:
            msg = f"PyTorch has no way {way}"
            raise UsageError(msg, f"known are {', '.join(TORCH_WAYS)}")
        if way == "tf32" and (device == "cpu" or precision != "fp32"):
            msg = f"TF32 is a way to compute FP32 on a GPU, not {precision} on {device}"
            raise UsageError(msg, "leave out --torch-way tf32")
        if threads is not None:
            torch.set_num_threads(threads)
        fused = fuse(checkpoint)
        network = as_rgb(fused.network, checkpoint.input, checkpoint.scale).eval()
        live = -(-peak_floats(network, (1, 3, *_SIZE)) // math.prod(_SIZE))
        self.metadata = describe(checkpoint, network, whole=fused.whole, live_channels=live, precision=precision)
        self.backend = f"torch-{device}" + ("" if way == "eager" else f"-{way}")
        self.way = way
        self.on_cpu = device == "cpu"
        self.device = torch.device(device)
        self._type = PRECISIONS[precision]
        self._layout = torch.channels_last if way == "channels-last" else torch.contiguous_format
        self.network = network.to(self.device, self._type, memory_format=self._layout)  # type: ignore[call-overload]
        self._call = self._compiler() if way == "compile" else self.network

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Upscale (N, 3, H, W) RGB in 0..1 to (N, 3, scale * H, scale * W), not clipped.

        Raises:
            InputError: if PyTorch fails.
        """
        try:
            return self.forward(self.upload(batch)).float().cpu().numpy()
        except RuntimeError as error:
            msg = "{} failed on a window of {}x{} pixels".format(self.backend, *batch.shape[:1:-1])
            raise InputError(msg, f"if memory ran out, use smaller tiles; PyTorch says: {str(error)[:200]}") from error

    def upload(self, batch: NDArray[np.float32]) -> Tensor:
        """Return the batch on the device, in the network's precision."""
        self.check_open()
        return torch.tensor(batch, dtype=self._type, device=self.device).contiguous(memory_format=self._layout)

    def forward(self, x: Tensor, network: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Run the network, or a part of it, on the device; on CUDA it returns before the work is done."""
        if not self.on_cpu:  # one setting for the process; convolutions round float32 to the 10 bits of TF32 by default
            torch.backends.cudnn.allow_tf32 = self.way == "tf32"
        with torch.inference_mode():
            return (network or self._call)(x)

    def prepared(self, batch: NDArray[np.float32], *, converts: bool = True) -> Callable[[], float | None]:
        """Return a function that runs the network on a batch, and returns when the work is done.

        On CUDA it copies the batch in and the result out, as sessions of other engines do, and returns the
        milliseconds of the network alone by the device's events. A network to compile is compiled for the batch's size.

        Args:
            batch: (N, 3, H, W) RGB in 0..1.
            converts: whether the run converts the values from 0..1 and back for a network of another range. A compiled
                network always does.

        Raises:
            InputError: if it cannot be compiled.
        """
        forward = self.forward
        if not converts and self.way != "compile" and isinstance(self.network, InRange):
            forward, batch = partial(self.forward, network=self.network.network), batch * np.float32(self.network.peak)
        x = self.upload(batch)
        if self.way == "compile":
            self._compile(x)

        def run() -> float | None:
            if self.on_cpu:
                forward(x)
                return None
            given = self.upload(batch)
            start.record()
            result = forward(given)
            end.record()
            result.cpu()  # waits
            return float(start.elapsed_time(end))

        if not self.on_cpu:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        return run

    def _compiler(self) -> Callable[[Tensor], Tensor]:
        with _compiling():
            return torch.compile(self.network)

    def _compile(self, x: Tensor) -> None:
        start = time.perf_counter()
        with _compiling():
            self.forward(x)
        if self.build_seconds is None:
            self.build_seconds = time.perf_counter() - start

    def close(self) -> None:
        """Release the network's weights; see ``Session.close``."""
        if not self.closed:
            super().close()
            del self.network, self._call

    def device_memory(self, batch: NDArray[np.float32]) -> tuple[int, str] | None:
        """Run a batch and return the peak of CUDA's allocator in bytes, and the GPU's name; ``None`` on the CPU."""
        if self.on_cpu:
            return super().device_memory(batch)
        torch.cuda.reset_peak_memory_stats()
        self.run(batch)
        return self.device_peak()

    def device_peak(self) -> tuple[int, str] | None:
        """Return the peak of CUDA's allocator in bytes, and the GPU's name; ``None`` on the CPU."""
        return None if self.on_cpu else (torch.cuda.max_memory_allocated(), torch.cuda.get_device_name())

    def bytes_per_pixel(self) -> int:
        """Return the bytes that a run takes per LR pixel, without what PyTorch's kernels allocate for themselves."""
        return self._type.itemsize * self.metadata.live_channels


@contextmanager
def _compiling() -> Iterator[None]:
    """Turn whatever the compiler raises into an error: its exceptions are of many kinds.

    Raises:
        InputError: in place of any exception.
    """
    try:
        yield
    except Exception as error:
        msg = f"torch.compile fails: {(str(error).strip().splitlines() or [type(error).__name__])[0][:200]}"
        raise InputError(msg, "install a C++ compiler, or leave out --torch-way compile") from error

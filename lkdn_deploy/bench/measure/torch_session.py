"""A checkpoint in eager PyTorch as a session beside those of the backends: the baseline of a deployment."""

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.core.optional import needs
from lkdn_deploy.core.protocols import SequentialSession
from lkdn_deploy.export.job import describe, fuse

with needs("bench"):
    import torch
    from torch import Tensor

    from lkdn_deploy.bench.complexity.eager_memory import peak_floats
    from lkdn_models.checkpoint import Checkpoint
    from lkdn_models.rgb import as_rgb

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

    Raises:
        UsageError: if the precision is not known.
        MissingError: if there is no CUDA device.
    """

    fixed_size: tuple[int, int] | None = None

    def __init__(
        self, checkpoint: Checkpoint, *, precision: str = "fp32", device: str | None = None, threads: int | None = None
    ) -> None:
        if precision not in PRECISIONS:
            msg = f"no such precision: {precision}"
            raise UsageError(msg, f"known precisions are {', '.join(PRECISIONS)}")
        device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        if device == "cuda" and not torch.cuda.is_available():
            msg = "PyTorch finds no CUDA device"
            raise MissingError(msg, "check the GPU and its driver, and that this PyTorch is a CUDA build")
        if threads is not None:
            torch.set_num_threads(threads)
        fused = fuse(checkpoint)
        network = as_rgb(fused.network, checkpoint.input, checkpoint.scale).eval()
        live = -(-peak_floats(network, (1, 3, *_SIZE)) // math.prod(_SIZE))
        self.metadata = describe(checkpoint, network, whole=fused.whole, live_channels=live, precision=precision)
        if device == "cuda":
            # Otherwise convolutions would round float32 to the 10 bits of TF32.
            torch.backends.cudnn.allow_tf32 = False
        self.backend = f"torch-{device}"
        self.on_cpu = device == "cpu"
        self.device = torch.device(device)
        self._type = PRECISIONS[precision]
        self.network = network.to(self.device, self._type)

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
        return torch.tensor(batch, dtype=self._type, device=self.device)

    def forward(self, x: Tensor) -> Tensor:
        """Run the network on the device; on CUDA it returns before the work is done."""
        with torch.inference_mode():
            return self.network(x)  # type: ignore[no-any-return]

    def prepared(self, batch: NDArray[np.float32]) -> Callable[[], float | None]:
        """Return a function that runs the network on a batch, and returns when the work is done.

        On CUDA it copies the batch in and the result out, as sessions of other engines do, and returns the
        milliseconds of the network alone by the device's events.
        """
        x = self.upload(batch)

        def run() -> float | None:
            if self.on_cpu:
                self.forward(x)
                return None
            given = self.upload(batch)
            start.record()
            result = self.forward(given)
            end.record()
            result.cpu()  # waits
            return float(start.elapsed_time(end))

        if not self.on_cpu:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
        return run

    def close(self) -> None:
        """Release the network's weights; see ``Session.close``."""
        if not self.closed:
            super().close()
            del self.network

    def device_memory(self, batch: NDArray[np.float32]) -> tuple[int, str] | None:
        """Run a batch and return the peak of CUDA's allocator in bytes, and the GPU's name; ``None`` on the CPU."""
        if self.on_cpu:
            return super().device_memory(batch)
        torch.cuda.reset_peak_memory_stats()
        self.run(batch)
        return torch.cuda.max_memory_allocated(), torch.cuda.get_device_name()

    def bytes_per_pixel(self) -> int:
        """Return the bytes that a run takes per LR pixel, without what PyTorch's kernels allocate for themselves."""
        return self._type.itemsize * self.metadata.live_channels

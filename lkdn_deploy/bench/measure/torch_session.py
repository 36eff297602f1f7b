"""A checkpoint in PyTorch, eager, as a session beside those of the backends: what deployment is measured against."""

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.core.optional import needs
from lkdn_deploy.core.protocols import SequentialSession
from lkdn_deploy.export.job import describe, fuse

with needs("train"):
    import torch
    from torch import Tensor

    from lkdn_models.checkpoint import Checkpoint
    from lkdn_models.rgb import as_rgb

PRECISIONS = {"fp32": torch.float32, "fp16": torch.float16}


class TorchSession(SequentialSession):
    """A network as it is deployed, fused, on the CPU or the first CUDA device.

    Args:
        checkpoint: its weights.
        precision: of weights and activations; ``fp16`` halves them all, and layer normalisation still adds up in
            float32, as PyTorch does.
        device: ``cpu`` or ``cuda``; default: CUDA where there is one.
        threads: PyTorch's, which are one setting for the whole process.

    Raises:
        UsageError: if there is no such precision.
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
    ) -> None:
        if precision not in PRECISIONS:
            msg = f"no such precision: {precision}"
            raise UsageError(msg, f"known are {', '.join(PRECISIONS)}")
        if device is None:
            device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cuda" and not torch.cuda.is_available():
            msg = "PyTorch finds no CUDA device"
            raise MissingError(msg, "check the GPU and its driver, and that this PyTorch is a CUDA build")
        if threads is not None:
            torch.set_num_threads(threads)
        fused = fuse(checkpoint)
        network = as_rgb(fused.network, checkpoint.input, checkpoint.scale).eval()
        self.metadata = describe(checkpoint, network, whole=fused.whole, precision=precision)
        if device == "cuda":
            # Or convolutions would round float32 to the 10 bits of TF32.
            torch.backends.cudnn.allow_tf32 = False
        self.backend = f"torch-{device}"
        self.on_cpu = device == "cpu"
        self.device = torch.device(device)
        self._type = PRECISIONS[precision]
        self.network = network.to(self.device, self._type)

    def run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """(N, 3, H, W) RGB in 0..1 -> (N, 3, scale * H, scale * W), not clipped."""
        try:
            return self.forward(self.upload(batch)).float().cpu().numpy()
        except RuntimeError as error:
            msg = "{0} failed on a window of {2}x{1} pixels".format(self.backend, *batch.shape[2:])
            raise InputError(msg, f"if memory ran out, use smaller tiles; it said: {str(error)[:200]}") from error

    def upload(self, batch: NDArray[np.float32]) -> Tensor:
        """The batch on the device, in the network's precision."""
        return torch.tensor(batch, dtype=self._type, device=self.device)

    def forward(self, x: Tensor) -> Tensor:
        """Device to device; on CUDA it returns before the work is done."""
        with torch.inference_mode():
            return self.network(x)  # type: ignore[no-any-return]

    def bytes_per_pixel(self) -> int:
        """Memory that a run takes, in bytes a LR pixel; what PyTorch's kernels take for themselves not counted."""
        return self._type.itemsize * self.metadata.live_channels

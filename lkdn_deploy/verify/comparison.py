"""Compare two runs of a network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import VerificationError
from lkdn_deploy.imaging.metrics import psnr_y
from lkdn_deploy.imaging.pixels import from_batch

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(N, 3, H, W) -> (N, 3, scale * H, scale * W)."""


@dataclass(frozen=True, slots=True)
class Tolerance:
    """How far apart two results may be."""

    max_abs: float = float("inf")
    """Largest difference on 0..1."""
    psnr_y: float = 0.0
    """Least PSNR in dB of the luma of 8-bit images made of them."""


TOLERANCE = {"fp32": Tolerance(max_abs=5e-5), "fp16": Tolerance(psnr_y=60.0)}
"""By precision.

float32 rounding alone gives up to about 1e-5 on these networks; a level of an 8-bit image is 4e-3.

FP16 rounds each value to 11 bits, so that some pixels round to another level. Measured on ONNX Runtime's CPU provider
with the published x4 weights, in dB, on the photograph, with input and output in FP32 / FP16 / 8 bits: LKDN 66.9 / 65.0
/ 66.9, LKDN-S 69.3 / 65.7 / 69.3, BSRN 66.1 / 65.4 / 66.1, VAPSR 69.1 / 65.6 / 69.1, RFDN-AIM 72.4 / 66.0 / 72.4; the
least on clouds was 65.2. Their mean PSNR on Set5 moved by 0.0006 dB at most. 60 dB leaves errors 1.8 times as large:
a difference of one level at every eleventh pixel.
"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """How far apart two results for one input are."""

    name: str
    shape: tuple[int, ...]
    """Of the input."""
    max_abs: float
    """Infinite if the shapes differ or a value is not finite."""
    psnr: float
    """In dB, against a full scale of 1."""
    psnr_y: float
    """In dB, of the luma of the 8-bit images, as test sets are measured; the least of a batch."""
    tolerance: Tolerance

    def __bool__(self) -> bool:
        """Whether the difference is within the tolerance."""
        close = self.max_abs <= self.tolerance.max_abs and self.psnr_y >= self.tolerance.psnr_y
        return close and np.isfinite(self.max_abs).item()

    def __str__(self) -> str:
        """One line for a report."""
        size = "{1}x{0}".format(*self.shape[2:])
        if self.tolerance.psnr_y:
            return f"{self.name} {size}: PSNR {self.psnr_y:.1f} dB (at least {self.tolerance.psnr_y:.0f})"
        return f"{self.name} {size}: max difference {self.max_abs:.1e} (allowed {self.tolerance.max_abs:.0e})"


def compare(
    name: str, batch: NDArray[np.float32], candidate: Run, reference: Run, precision: str = "fp32"
) -> Comparison:
    """Run both on ``batch``."""
    got, want = candidate(batch), reference(batch)
    tolerance = TOLERANCE[precision]
    if got.shape != want.shape or not (np.isfinite(got).all() and np.isfinite(want).all()):
        return Comparison(name, batch.shape, float("inf"), float("-inf"), float("-inf"), tolerance)
    difference = got.astype(np.float64) - want
    error = float(np.mean(difference**2))
    psnr = float("inf") if error == 0 else -10 * float(np.log10(error))
    seen = min(psnr_y(_image(one), _image(other), border=0) for one, other in zip(got, want, strict=True))
    return Comparison(name, batch.shape, float(np.abs(difference).max()), psnr, seen, tolerance)


def verify(
    inputs: Mapping[str, NDArray[np.float32]], candidate: Run, reference: Run, precision: str = "fp32"
) -> list[Comparison]:
    """Compare on every input.

    Raises:
        VerificationError: if any result is too far from the reference, naming all that are.
    """
    results = [compare(name, batch, candidate, reference, precision) for name, batch in inputs.items()]
    if failed := [str(result) for result in results if not result]:
        msg = f"the artefact does not compute what the checkpoint does: {'; '.join(failed)}"
        raise VerificationError(msg, "nothing was written; please report it with the checkpoint and the command")
    return results


def check_finite(inputs: Mapping[str, NDArray[np.float32]], candidate: Run) -> None:
    """Run on every input.

    Raises:
        VerificationError: if any result has a value that is not finite, naming all that have.
    """
    if failed := [name for name, batch in inputs.items() if not np.isfinite(candidate(batch)).all()]:
        msg = f"values of the network leave the range of FP16, which ends at 65504, on: {', '.join(failed)}"
        raise VerificationError(msg, "nothing was written; leave out --fp16 for this network")


def _image(result: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(3, H, W) -> (H, W, 3)."""
    return from_batch(result[None], result.shape[0], np.dtype(np.uint8))

"""Compare two runs of a network, and judge the difference by one table of tolerances."""

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
    """The largest absolute difference of two results on 0..1, and the least PSNR of their luma in 8 bits, in dB."""

    max_abs: float = float("inf")
    psnr_y: float = 0.0


TOLERANCE = {"fp32": Tolerance(max_abs=5e-5), "fp16": Tolerance(psnr_y=60.0)}
"""Tolerances by precision.

float32 rounding alone gives up to about 1e-5 on these networks; a level of an 8-bit image is 4e-3.

FP16 rounds each value to 11 bits, so that some pixels round to another level. Measured on ONNX Runtime's CPU provider
with the published x4 weights, in dB, on the photograph, with input and output in FP32 / FP16 / 8 bits: LKDN 66.9 / 65.0
/ 66.9, LKDN-S 69.3 / 65.7 / 69.3, BSRN 66.1 / 65.4 / 66.1, VAPSR 69.1 / 65.6 / 69.1, RFDN-AIM 72.4 / 66.0 / 72.4; the
least on clouds was 65.2. Their mean PSNR on Set5 moved by 0.0006 dB at most. 60 dB leaves errors 1.8 times as large:
a difference of one level at every eleventh pixel.
"""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The difference of two results for the input ``name`` of ``shape``."""

    name: str
    shape: tuple[int, ...]
    max_abs: float
    """Largest absolute difference; infinite if the shapes differ or a value is not finite."""
    psnr_y: float
    """PSNR of the luma of the 8-bit images in dB, as test sets are measured; the least of a batch."""
    tolerance: Tolerance

    def __bool__(self) -> bool:
        """Return whether the difference is within the tolerance."""
        close = self.max_abs <= self.tolerance.max_abs and self.psnr_y >= self.tolerance.psnr_y
        return close and bool(np.isfinite(self.max_abs))

    def __str__(self) -> str:
        """Return one line for a report."""
        size = "{1}x{0}".format(*self.shape[2:])
        if self.tolerance.psnr_y:
            return f"{self.name} {size}: PSNR {self.psnr_y:.1f} dB (at least {self.tolerance.psnr_y:.0f})"
        return f"{self.name} {size}: max difference {self.max_abs:.1e} (allowed {self.tolerance.max_abs:.0e})"


def compare(
    name: str, batch: NDArray[np.float32], candidate: Run, reference: Run, precision: str = "fp32"
) -> Comparison:
    """Compare two runs on one input.

    Args:
        name: name of the input.
        batch: (N, 3, H, W) in 0..1.
        candidate: the run to judge.
        reference: the run that is right.
        precision: key of ``TOLERANCE``.
    """
    got, want = candidate(batch), reference(batch)
    tolerance = TOLERANCE[precision]
    if got.shape != want.shape or not (np.isfinite(got).all() and np.isfinite(want).all()):
        return Comparison(name, batch.shape, float("inf"), float("-inf"), tolerance)
    largest = float(np.abs(got.astype(np.float64) - want).max())
    luma = min(psnr_y(_to_image(one), _to_image(other), border=0) for one, other in zip(got, want, strict=True))
    return Comparison(name, batch.shape, largest, luma, tolerance)


def verify(
    inputs: Mapping[str, NDArray[np.float32]], candidate: Run, reference: Run, precision: str = "fp32"
) -> list[Comparison]:
    """Compare two runs on every input.

    Args:
        inputs: (N, 3, H, W) in 0..1, by name.
        candidate: the run to judge.
        reference: the run that is right.
        precision: key of ``TOLERANCE``.

    Raises:
        VerificationError: if any result differs too much from the reference; it names all of them.
    """
    results = [compare(name, batch, candidate, reference, precision) for name, batch in inputs.items()]
    if failed := [str(result) for result in results if not result]:
        msg = f"the artefact does not compute what the checkpoint does: {'; '.join(failed)}"
        raise VerificationError(msg, "nothing was written; please report it with the checkpoint and the command")
    return results


def check_finite(inputs: Mapping[str, NDArray[np.float32]], candidate: Run) -> None:
    """Run on every input and check that all results are finite.

    Raises:
        VerificationError: if any result has a value that is not finite; it names all of them.
    """
    if failed := [name for name, batch in inputs.items() if not np.isfinite(candidate(batch)).all()]:
        msg = f"values of the network leave the range of FP16, which ends at 65504, on: {', '.join(failed)}"
        raise VerificationError(msg, "nothing was written; leave out --fp16 for this network")


def _to_image(result: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Convert (3, H, W) in 0..1 to (H, W, 3) in 8 bits."""
    return from_batch(result[None], result.shape[0], np.dtype(np.uint8))

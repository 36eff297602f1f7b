"""Compare two runs of a network."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.errors import VerificationError

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(N, 3, H, W) -> (N, 3, scale * H, scale * W)."""

TOLERANCE = {"fp32": 5e-5}
"""Largest difference allowed on 0..1, by precision. float32 rounding alone gives up to about 1e-5 on these networks;
a level of an 8-bit image is 4e-3."""


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
    tolerance: float

    def __bool__(self) -> bool:
        """Whether the difference is within the tolerance."""
        return self.max_abs <= self.tolerance

    def __str__(self) -> str:
        """One line for a report."""
        size = "x".join(map(str, self.shape[2:]))
        return f"{self.name} {size}: max difference {self.max_abs:.1e} (allowed {self.tolerance:.0e})"


def compare(
    name: str, batch: NDArray[np.float32], candidate: Run, reference: Run, precision: str = "fp32"
) -> Comparison:
    """Run both on ``batch``."""
    got, want = candidate(batch), reference(batch)
    tolerance = TOLERANCE[precision]
    if got.shape != want.shape or not (np.isfinite(got).all() and np.isfinite(want).all()):
        return Comparison(name, batch.shape, float("inf"), float("-inf"), tolerance)
    difference = got.astype(np.float64) - want
    error = float(np.mean(difference**2))
    psnr = float("inf") if error == 0 else -10 * float(np.log10(error))
    return Comparison(name, batch.shape, float(np.abs(difference).max()), psnr, tolerance)


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

"""Fit the polynomial of the native engine's GELU: python tools/fit_gelu.py [--end 5.5] [--degree 14]

Prints the coefficients for lkdn_deploy/backends/native/gelu.py, and the largest error of the whole with them, in exact
numbers and as computed in float32.
"""

import argparse
import math

import numpy as np
from numpy.polynomial import chebyshev
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ROUNDS = 600


def main() -> None:
    """Fit, print, check."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--end", type=float, default=5.5)
    parser.add_argument("--degree", type=int, default=14)
    options = parser.parse_args()
    coefficients, error = fit(options.end, options.degree)
    print(", ".join(f"{np.float32(value):.9g}" for value in coefficients))
    x = np.linspace(-2 * options.end, 2 * options.end, 400_001)
    computed = gelu(x.astype(np.float32), coefficients.astype(np.float32), options.end)
    print(f"largest error {error:.1e}, in float32 {np.abs(computed - x * phi(x)).max():.1e}")


def phi(x: Floats) -> Floats:
    """The normal distribution."""
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x])


def fit(end: float, degree: int) -> tuple[Floats, float]:
    """Of (Phi(x) - 1/2) / x over w = 2 x^2 / end^2 - 1, so that the largest x^2 times the error is least.

    Least squares whose weights grow where the error is large, again and again (Lawson's algorithm).
    """
    w = np.cos(np.linspace(0, np.pi, 4001))
    x = end * np.sqrt((w + 1) / 2)
    wanted = np.full_like(x, 1 / math.sqrt(2 * math.pi))
    away = x > 1e-6
    wanted[away] = (phi(x[away]) - 0.5) / x[away]
    size = np.maximum(x**2, 0.02)  # near 0 something must hold it, too
    basis = chebyshev.chebvander(w, degree)
    weights = np.ones_like(w)
    for _ in range(ROUNDS):
        root = np.sqrt(weights) * size
        found = np.linalg.lstsq(basis * root[:, None], wanted * root, rcond=None)[0]
        error = np.abs(basis @ found - wanted) * size
        weights *= error / error.max() + 1e-3
        weights /= weights.max()
    return np.asarray(chebyshev.cheb2poly(found)), float(error.max())


def gelu(x: NDArray[np.float32], coefficients: NDArray[np.float32], end: float) -> NDArray[np.float32]:
    """As the kernels compute it, but for what fused multiplication and addition spares."""
    c = np.clip(x, np.float32(-end), np.float32(end))
    w = c * c * np.float32(2 / end**2) - np.float32(1)
    p = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        p = p * w + coefficient
    return x * (np.float32(0.5) + c * p)


if __name__ == "__main__":
    main()

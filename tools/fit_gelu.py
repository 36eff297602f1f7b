"""Fit the polynomial of the native engine's GELU: python tools/fit_gelu.py [--end 5.5] [--degree 8] [--squarings 3]

Prints the coefficients for lkdn_deploy/backends/native/codegen/activations.py, and the largest error of the result, in
exact arithmetic and as computed in float32.
"""

import argparse
import math

import numpy as np
from numpy.polynomial import Polynomial, chebyshev
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ROUNDS = 600
HOLD = 1e-3
"""Weight that keeps the polynomial close near 0, where its error would otherwise have no weight."""


def main() -> None:
    """Fit the polynomial, print it and its largest errors."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--end", type=float, default=5.5)
    parser.add_argument("--degree", type=int, default=8)
    parser.add_argument("--squarings", type=int, default=3)
    options = parser.parse_args()
    coefficients, error = fit(options.end, options.degree, options.squarings)
    print(", ".join(f"{np.float32(value):.9g}" for value in coefficients))
    x = np.linspace(-2 * options.end, 2 * options.end, 400_001).astype(np.float32)
    computed = gelu(x, coefficients.astype(np.float32), options.end, options.squarings)
    exact = x.astype(np.float64) * phi(x)
    print(f"largest error {error:.1e}, in float32 {np.abs(computed - exact).max():.1e}")


def phi(x: Floats | NDArray[np.float32]) -> Floats:
    """Return the cumulative normal distribution."""
    return np.array([0.5 * math.erfc(-value / math.sqrt(2)) for value in x.tolist()])


def fit(end: float, degree: int, squarings: int) -> tuple[Floats, float]:
    """Fit the root of Phi(-c) for c from 0 to ``end`` so that c times the error of its power is smallest.

    Least squares whose weights grow where the error is large, again and again (Lawson's algorithm).
    """
    power = 2**squarings
    w = np.cos(np.linspace(0, np.pi, 4001))
    c = end * (w + 1) / 2
    share = phi(-c)
    wanted = share ** (1 / power)
    size = power * c * share / wanted + HOLD  # weight of a small error of the root
    basis = chebyshev.chebvander(w, degree)
    weights = np.ones_like(w)
    for _ in range(ROUNDS):
        root = np.sqrt(weights) * size
        found = np.linalg.lstsq(basis * root[:, None], wanted * root, rcond=None)[0]
        values = basis @ found
        error = np.abs(c * (values**power - share))
        held = error + HOLD * np.abs(values - wanted)
        weights *= held / held.max() + 1e-3
        weights /= weights.max()
    polynomial = Polynomial(chebyshev.cheb2poly(found))(Polynomial([-1, 2 / end]))
    return np.asarray(polynomial.coef, np.float64), float(error.max())


def gelu(x: NDArray[np.float32], coefficients: NDArray[np.float32], end: float, squarings: int) -> NDArray[np.float32]:
    """Compute GELU as the kernels do, but without fused multiply-adds."""
    c = np.minimum(np.abs(x), np.float32(end))
    p = np.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        p = p * c + coefficient
    for _ in range(squarings):
        p *= p
    return np.maximum(x, np.float32(0)) - c * p


if __name__ == "__main__":
    main()

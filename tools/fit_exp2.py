"""Fit the short polynomial of 2^r in the native engine's logistic function: python tools/fit_exp2.py [--degree 5]

Prints the coefficients for lkdn_deploy/backends/native/codegen/activations.py, and the largest relative error for r
within -1/2 and 1/2, of these coefficients as float32. The constant one is 1, so that the result is exact for r = 0.
"""

import argparse

import numpy as np
from numpy.polynomial import polynomial
from numpy.typing import NDArray

Floats = NDArray[np.float64]
ROUNDS = 3000


def main() -> None:
    """Fit the polynomial, print it and its largest error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--degree", type=int, default=5)
    options = parser.parse_args()
    r = np.cos(np.linspace(0, np.pi, 8000)) / 2
    coefficients = fit(r, options.degree).astype(np.float32)
    print(", ".join(f"{value:.9g}" for value in coefficients))
    print(f"largest relative error {np.abs(relative_error(r, coefficients)).max():.1e}")


def fit(r: Floats, degree: int) -> Floats:
    """Fit the polynomial, in ascending powers, for the least largest relative error at points ``r`` other than 0.

    Least squares whose weights grow where the error is large, again and again (Lawson's algorithm).
    """
    basis = polynomial.polyvander(r, degree - 1)
    wanted, size = (2**r - 1) / r, np.abs(r) / 2**r
    weights, found = np.ones_like(r), np.ones(degree + 1)
    for _ in range(ROUNDS):
        root = np.sqrt(weights) * size
        found[1:] = np.linalg.lstsq(basis * root[:, None], wanted * root, rcond=None)[0]
        error = np.abs(relative_error(r, found))
        weights *= error / error.max() + 1e-4
        weights /= weights.max()
    return found


def relative_error(r: Floats, coefficients: NDArray[np.floating]) -> Floats:
    """Return the relative error of the polynomial as an approximation of 2^r."""
    return np.asarray(polynomial.polyval(r, coefficients.astype(np.float64)) / 2**r - 1)


if __name__ == "__main__":
    main()

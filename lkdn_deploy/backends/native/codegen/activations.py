"""Elementwise functions as sequences of vector instructions, without calls to a maths library."""

import math
from collections.abc import Callable
from typing import Any

from llvmlite import ir

from lkdn_deploy.jit.builder import Builder

GELU_END = 5.5
"""The magnitude to which the argument of the polynomial is clamped."""

GELU_SQUARINGS = 3

GELU_COEFFICIENTS = (
    0.917003989, -0.0914570615, -0.0319296382, -0.000668776105, 0.00150091283, 3.63997424e-05, -6.09776071e-05,
    7.60768171e-06, -3.05065242e-07,
)  # fmt: skip
"""The polynomial's coefficients, in ascending powers."""

SIGMOID_END = 87.0
"""Beyond this magnitude the logistic function is 0 or 1 in float32."""

TANH_END = 10.0
"""Beyond this magnitude the hyperbolic tangent is 1 or -1 in float32."""

EXP2_COEFFICIENTS = tuple(math.log(2) ** power / math.factorial(power) for power in range(8))
"""Coefficients of 2^r, in ascending powers of r: the Taylor series of exp in r ln(2), within 1e-8 for |r| <= 1/2."""

SHORT_EXP2_COEFFICIENTS = (1, 0.693147004, 0.240222424, 0.0555073358, 0.00967151299, 0.00132647273)
"""Fewer coefficients of 2^r, exact for r = 0 and elsewhere within 1.1e-7; ``tools/fit_exp2.py`` fits them."""

_LOG2_E = math.log2(math.e)

_GUESS = 0x7EF311C7
"""The bits of x and of 1 / x add up to about this."""

_GUESS_ERROR = 0.05051
"""Largest relative error of that."""

_ROUNDER = 1.5 * 2**23
"""A float32 of this size has no fractional bits, so adding it rounds a number to the nearest integer."""


def gelu(b: Builder, x: Any) -> Any:
    """Return the exact GELU of a vector, x Phi(x) = max(x, 0) - c Phi(-c) with c = min(abs(x), ``GELU_END``).

    Phi(-c) falls like exp(-c^2 / 2), which polynomials of low degree approximate badly; its 8th root they approximate
    well. So a polynomial is evaluated and squared ``GELU_SQUARINGS`` times. ``tools/fit_gelu.py`` fits it for the least
    largest error of the result: 6e-9 up to ``GELU_END``, 1e-7 beyond, and 2e-7 as computed in float32. NaN stays NaN.
    """
    zero, end = b.constant(0), b.constant(GELU_END)
    size = b.intrinsic("fabs", x)
    c = b.select(b.fcmp_ordered("<", size, end), size, end)
    p = b.polynomial(GELU_COEFFICIENTS, c)
    for _ in range(GELU_SQUARINGS):
        p = b.fmul(p, p)
    positive = b.select(b.fcmp_ordered("<", x, zero), zero, x)  # keeps NaN
    return b.fma(b.fneg(c), p, positive)


def sigmoid(b: Builder, x: Any) -> Any:
    """Return the logistic function of a vector, 1 / (1 + exp(-x)); NaN stays NaN."""
    c = _at_most(b, _at_least(b, x, -SIGMOID_END), SIGMOID_END)
    return b.select(b.fcmp_unordered("uno", x, x), x, _reciprocal(b, b.fadd(b.constant(1), _exp_of_negative(b, c))))


def silu(b: Builder, x: Any) -> Any:
    """Return a vector times its logistic function, as x / (1 + exp(-x)); NaN stays NaN."""
    numerator = _at_least(b, x, -SIGMOID_END)
    c = _at_most(b, numerator, SIGMOID_END)
    return b.fmul(numerator, _reciprocal(b, b.fadd(b.constant(1), _exp_of_negative(b, c))))


def tanh(b: Builder, x: Any) -> Any:
    """Return the hyperbolic tangent of a vector, -m / (m + 2) with m = exp(-2 x) - 1; NaN stays NaN.

    m is 2^n (2^r - 1) + (2^n - 1). For small x that is 2^r - 1, which is computed as a multiple of r, so that nothing
    cancels.
    """
    r, exponent = _split_exponent(b, _at_least(b, _at_most(b, x, TANH_END), -TANH_END), -2 * _LOG2_E)
    power = _scaled(b, b.constant(1), exponent)
    m = b.fma(power, b.fmul(r, b.polynomial(EXP2_COEFFICIENTS[1:], r)), b.fsub(power, b.constant(1)))
    return b.select(b.fcmp_unordered("uno", x, x), x, b.fneg(b.fdiv(m, b.fadd(m, b.constant(2)))))


def _reciprocal(b: Builder, x: Any) -> Any:
    """Return 1 / x of a vector of positive numbers within 2^-126 and 2^126, to two units in the last place.

    A division takes as long as a dozen other instructions. Subtracted from a constant, the bits of x are a first guess
    g = (1 + e) / x. Newton's method, g (2 - x g), makes (1 - e^2) / x of it; with half of the largest e^2 added to the
    2, errors of both signs are equally large. The next step leaves the third power of such an error: 2e-9.
    """
    guess = b.bitcast(b.sub(ir.Constant(b.shorts, [_GUESS] * b.lanes), b.bitcast(x, b.shorts)), b.vector)
    negative = b.fneg(x)
    found = b.fmul(guess, b.fma(negative, guess, b.constant(2 + _GUESS_ERROR**2 / 2)))
    error = b.fma(negative, found, b.constant(1))
    return b.fma(found, b.fma(error, error, error), found)


def _exp_of_negative(b: Builder, x: Any) -> Any:
    """Return exp(-x) as 2^n 2^r, of x within ``-SIGMOID_END`` and ``SIGMOID_END``."""
    r, exponent = _split_exponent(b, x, -_LOG2_E)
    return _scaled(b, b.polynomial(SHORT_EXP2_COEFFICIENTS, r), exponent)


def _at_least(b: Builder, x: Any, low: float) -> Any:
    """Return x, or ``low`` if that is greater; NaN stays NaN."""
    end = b.constant(low)
    return b.select(b.fcmp_unordered(">", x, end), x, end)


def _at_most(b: Builder, x: Any, high: float) -> Any:
    """Return x, or ``high`` if that is less; NaN stays NaN."""
    end = b.constant(high)
    return b.select(b.fcmp_unordered("<", x, end), x, end)


def _split_exponent(b: Builder, x: Any, factor: float) -> tuple[Any, Any]:
    """Return r, and n in the bits of an exponent, with n + r = ``factor`` * x and n the nearest integer."""
    # The low bits of the sum are n.
    shifted = b.fma(x, b.constant(factor), b.constant(_ROUNDER))
    n = b.fsub(shifted, b.constant(_ROUNDER))
    exponent = b.shl(b.bitcast(shifted, b.shorts), ir.Constant(b.shorts, [23] * b.lanes))
    return b.fma(x, b.constant(factor), b.fneg(n)), exponent


def _scaled(b: Builder, x: Any, exponent: Any) -> Any:
    """Return 2^n x of numbers near 1, with n in the bits of an exponent, within -126 and 126."""
    return b.bitcast(b.add(b.bitcast(x, b.shorts), exponent), b.vector)


def _relu(b: Builder, x: Any) -> Any:
    zero = b.constant(0)
    return b.select(b.fcmp_unordered("<", x, zero), zero, x)


def _prelu(b: Builder, x: Any, slope: Any) -> Any:
    return b.select(b.fcmp_ordered("<", x, b.constant(0)), b.fmul(x, slope), x)


UNARY: dict[str, Callable[[Builder, Any], Any]] = {
    "copy": lambda _, x: x,
    "gelu": gelu,
    "reciprocal": lambda b, x: b.fdiv(b.constant(1), x),
    "relu": _relu,
    "sigmoid": sigmoid,
    "silu": silu,
    "sqrt": lambda b, x: b.intrinsic("sqrt", x),
    "square": lambda b, x: b.fmul(x, x),
    "tanh": tanh,
}

BINARY: dict[str, Callable[[Builder, Any, Any], Any]] = {
    "add": lambda b, x, y: b.fadd(x, y),
    "max": lambda b, x, y: b.select(b.fcmp_ordered("<", x, y), y, x),
    "min": lambda b, x, y: b.select(b.fcmp_ordered(">", x, y), y, x),
    "mul": lambda b, x, y: b.fmul(x, y),
    "prelu": _prelu,
    "rsub": lambda b, x, y: b.fsub(y, x),
    "sub": lambda b, x, y: b.fsub(x, y),
}

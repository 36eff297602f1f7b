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

_LOG2_E = math.log2(math.e)

_GUESS = 0x7EF311C7
"""The bits of x and of 1 / x add up to about this."""

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
    one = b.constant(1)
    return b.select(b.fcmp_unordered("uno", x, x), x, b.fdiv(one, b.fadd(one, _exp_of_negative(b, x))))


def silu(b: Builder, x: Any) -> Any:
    """Return a vector times its logistic function, as x / (1 + exp(-x)); NaN stays NaN."""
    start = b.constant(-SIGMOID_END)
    numerator = b.select(b.fcmp_unordered(">", x, start), x, start)
    return b.fmul(numerator, _reciprocal(b, b.fadd(b.constant(1), _exp_of_negative(b, x))))


def tanh(b: Builder, x: Any) -> Any:
    """Return the hyperbolic tangent of a vector, -m / (m + 2) with m = exp(-2 x) - 1; NaN stays NaN.

    m is 2^n (2^r - 1) + (2^n - 1). For small x that is 2^r - 1, which is computed as a multiple of r, so that nothing
    cancels.
    """
    r, power = _split_exponent(b, _clamped(b, x, TANH_END), -2 * _LOG2_E)
    m = b.fma(power, b.fmul(r, b.polynomial(EXP2_COEFFICIENTS[1:], r)), b.fsub(power, b.constant(1)))
    return b.select(b.fcmp_unordered("uno", x, x), x, b.fneg(b.fdiv(m, b.fadd(m, b.constant(2)))))


def _reciprocal(b: Builder, x: Any) -> Any:
    """Return 1 / x of a vector of positive numbers within 2^-126 and 2^126, to two units in the last place.

    A division takes as long as a dozen other instructions. Subtracted from a constant, the bits of x are a first guess
    within an eighth, whose error Newton's method squares three times.
    """
    guess = b.sub(ir.Constant(b.shorts, [_GUESS] * b.lanes), b.bitcast(x, b.shorts))
    found = b.bitcast(guess, b.vector)
    for _ in range(3):
        found = b.fma(found, b.fma(b.fneg(x), found, b.constant(1)), found)
    return found


def _exp_of_negative(b: Builder, x: Any) -> Any:
    """Return exp(-x) as 2^n 2^r, of x clamped to ``SIGMOID_END``."""
    r, power = _split_exponent(b, _clamped(b, x, SIGMOID_END), -_LOG2_E)
    return b.fmul(power, b.polynomial(EXP2_COEFFICIENTS, r))


def _clamped(b: Builder, x: Any, end: float) -> Any:
    """Return x within ``-end`` and ``end``; NaN stays NaN."""
    high, low = b.constant(end), b.constant(-end)
    c = b.select(b.fcmp_unordered("<", x, high), x, high)
    return b.select(b.fcmp_unordered(">", c, low), c, low)


def _split_exponent(b: Builder, x: Any, factor: float) -> tuple[Any, Any]:
    """Return r and 2^n with n + r = ``factor`` * x and n the nearest integer, within -126 and 127."""
    # The low bits of the sum are n.
    shifted = b.fma(x, b.constant(factor), b.constant(_ROUNDER))
    n = b.fsub(shifted, b.constant(_ROUNDER))
    exponent = b.shl(b.bitcast(shifted, b.shorts), ir.Constant(b.shorts, [23] * b.lanes))
    power = b.bitcast(b.add(b.bitcast(b.constant(1), b.shorts), exponent), b.vector)
    return b.fma(x, b.constant(factor), b.fneg(n)), power


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

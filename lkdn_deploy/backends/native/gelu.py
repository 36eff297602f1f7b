"""GELU without erf: x Phi(x) = max(x, 0) - c Phi(-c), where c is the size of x, held within ``END``.

Phi(-c) falls like exp(-c^2 / 2), which polynomials of low degree follow badly; but well its 8th root. So it is a
polynomial that is squared ``SQUARINGS`` times, fitted by ``tools/fit_gelu.py`` so that the largest error of the whole
is least: 6e-9 up to ``END``, beyond which c Phi(-c) stays at 1e-7, and 2e-7 as computed in float32.
"""

from typing import Any

from lkdn_deploy.jit.builder import Builder

END = 5.5

SQUARINGS = 3

COEFFICIENTS = (
    0.917003989, -0.0914570615, -0.0319296382, -0.000668776105, 0.00150091283, 3.63997424e-05, -6.09776071e-05,
    7.60768171e-06, -3.05065242e-07,
)  # fmt: skip
"""Of c^0, c^1, …"""


def emit(b: Builder, x: Any) -> Any:
    """Of a vector; what is no number stays none."""
    zero, end = b.constant(0), b.constant(END)
    size = b.intrinsic("fabs", x)
    c = b.select(b.fcmp_ordered("<", size, end), size, end)
    p = b.polynomial(COEFFICIENTS, c)
    for _ in range(SQUARINGS):
        p = b.fmul(p, p)
    positive = b.select(b.fcmp_ordered("<", x, zero), zero, x)  # x where it is no number
    return b.fma(b.fneg(c), p, positive)

"""The logistic function without exp: exp(-x) = 2^n 2^r, n being the whole number next to t = -x log2(e).

2^r, for r within 1/2 of 0, is a polynomial: the first terms of exp's series in r ln(2), less than 1e-8 off. Beyond
+-``END`` the function is 0 and 1 as far as float32 tells.
"""

import math
from typing import Any

from llvmlite import ir

from lkdn_deploy.jit.builder import Builder

END = 87.0

PER_TWO = math.log2(math.e)

ROUNDER = 1.5 * 2**23
"""A float32 this large has no places behind the point: what is added to it is rounded to a whole number."""

COEFFICIENTS = tuple(math.log(2) ** power / math.factorial(power) for power in range(8))
"""Of r^0, r^1, …"""


def emit(b: Builder, x: Any) -> Any:
    """Of a vector; what is no number stays none."""
    end, start = b.constant(END), b.constant(-END)
    c = b.select(b.fcmp_unordered("<", x, end), x, end)
    c = b.select(b.fcmp_unordered(">", c, start), c, start)
    # The sum's last bits are n, which is added to the exponent of 2^r.
    shifted = b.fma(c, b.constant(-PER_TWO), b.constant(ROUNDER))
    n = b.fsub(shifted, b.constant(ROUNDER))
    r = b.fma(c, b.constant(-PER_TWO), b.fneg(n))
    exponent = b.shl(b.bitcast(shifted, b.shorts), ir.Constant(b.shorts, [23] * b.lanes))
    power = b.bitcast(b.add(b.bitcast(b.polynomial(COEFFICIENTS, r), b.shorts), exponent), b.vector)
    one = b.constant(1)
    return b.select(b.fcmp_unordered("uno", x, x), x, b.fdiv(one, b.fadd(one, power)))

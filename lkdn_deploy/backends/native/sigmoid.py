"""The logistic function without exp: exp(-x) = 2^n 2^r, n being the whole number next to t = -x log2(e).

2^r, for r within 1/2 of 0, is a polynomial: the first terms of exp's series in r ln(2), less than 1e-8 off. Beyond
+-``END`` the function is 0 and 1 as far as float32 tells.
"""

import math

END = 87.0

PER_TWO = math.log2(math.e)

ROUNDER = 1.5 * 2**23
"""A float32 this large has no places behind the point: what is added to it is rounded to a whole number."""

COEFFICIENTS = tuple(math.log(2) ** power / math.factorial(power) for power in range(8))
"""Of r^0, r^1, …"""

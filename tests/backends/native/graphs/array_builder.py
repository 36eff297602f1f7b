"""The elementwise functions of generated code, computed on NumPy arrays by the same definitions."""

from collections.abc import Callable
from typing import Any

import numpy as np
from llvmlite import ir
from numpy.typing import NDArray

from lkdn_deploy.backends.native.codegen.activations import BINARY, UNARY
from lkdn_deploy.backends.native.ir import Floats
from lkdn_deploy.jit.builder import SHORT, Builder

_COMPARE: dict[str, Callable[[Any, Any], Any]] = {
    "<": np.less,
    ">": np.greater,
    "uno": lambda x, y: np.isnan(x) | np.isnan(y),
}


class ArrayBuilder:
    """Operations of `Builder` that compute at once, in float32, on arrays in place of vectors.

    Args:
        fused: whether ``fma`` rounds once, as processors that have the instruction do.
    """

    shorts = ir.VectorType(SHORT, 1)
    vector = Floats
    lanes = 1
    polynomial: Any = Builder.polynomial

    def __init__(self, *, fused: bool) -> None:
        self._fused = fused

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        """Return x * y + z."""
        return fused_multiply_add(x, y, z) if self._fused else x * y + z

    def constant(self, value: float) -> Any:
        """Return a number."""
        return np.float32(value)

    def intrinsic(self, name: str, x: Any) -> Any:
        """Return the function of an LLVM intrinsic of one operand."""
        return {"fabs": np.abs, "sqrt": np.sqrt}[name](x)

    def select(self, condition: Any, x: Any, y: Any) -> Any:
        """Return x where the condition holds, else y."""
        return np.where(condition, x, y)

    def fcmp_ordered(self, relation: str, x: Any, y: Any) -> Any:
        """Return where a relation holds between numbers."""
        return _COMPARE[relation](x, y)

    def fcmp_unordered(self, relation: str, x: Any, y: Any) -> Any:
        """Return where a relation holds, or one operand is NaN."""
        return _COMPARE[relation](x, y) | np.isnan(x) | np.isnan(y)

    def fadd(self, x: Any, y: Any) -> Any:
        """Return x + y."""
        return x + y

    def fsub(self, x: Any, y: Any) -> Any:
        """Return x - y."""
        return x - y

    def fmul(self, x: Any, y: Any) -> Any:
        """Return x * y."""
        return x * y

    def fdiv(self, x: Any, y: Any) -> Any:
        """Return x / y."""
        return x / y

    def fneg(self, x: Any) -> Any:
        """Return -x."""
        return -x

    def bitcast(self, x: Any, kind: Any) -> Any:
        """Return the bits of a number as an integer, or of an integer as a number."""
        return np.asarray(x).view(np.int32 if kind is self.shorts else np.float32)

    def add(self, x: Any, y: Any) -> Any:
        """Return the sum of integers, modulo 2^32."""
        return _integers(x) + _integers(y)

    def sub(self, x: Any, y: Any) -> Any:
        """Return the difference of integers, modulo 2^32."""
        return _integers(x) - _integers(y)

    def shl(self, x: Any, y: Any) -> Any:
        """Return integers shifted left."""
        return _integers(x) << _integers(y)


def _integers(x: Any) -> NDArray[np.int32]:
    return np.int32([it.constant for it in x.constant]) if isinstance(x, ir.Constant) else x


def elementwise(
    builder: ArrayBuilder, kind: str, first: Floats, second: Floats | None = None, alpha: float = 0.0
) -> Floats:
    """Return an elementwise function of arrays.

    Args:
        builder: how ``fma`` rounds.
        kind: kind of an ``ir.Elementwise``.
        first: the first operand.
        second: the second operand of a kind in ``BINARY``.
        alpha: slope of leaky_relu for negative numbers.
    """
    b: Any = builder
    with np.errstate(all="ignore"):  # as generated code does
        if kind == "leaky_relu":
            found = BINARY["prelu"](b, first, np.float32(alpha))
        else:
            found = UNARY[kind](b, first) if second is None else BINARY[kind](b, first, second)
    return np.asarray(found, np.float32)


def fused_multiply_add(x: Any, y: Any, z: Any) -> Any:
    """Return x * y + z of float32 numbers, rounded once.

    The product is exact in float64. The sum is rounded to odd there, so that rounding it again is as good as once.
    """
    product, z = np.float64(x) * np.float64(y), np.float64(z)
    total = np.asarray(product + z)
    part = total - product
    error = (product - (total - part)) + (z - part)
    bits = total.view(np.int64)
    inexact = (error != 0) & (bits & 1 == 0) & np.isfinite(total)
    step = np.where((error > 0) == (total > 0), 1, -1)
    return np.where(inexact, bits + step, bits).view(np.float64).astype(np.float32)

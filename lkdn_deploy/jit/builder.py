"""LLVM's instructions as kernels use them: loops, and vectors of float32."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

INT, SHORT, BYTE = (ir.IntType(bits) for bits in (64, 32, 8))
FLOAT, POINTER = ir.FloatType(), ir.PointerType()


class Builder(ir.IRBuilder):  # type: ignore[misc]
    """Of a function whose vectors have so many lanes.

    Vectors are plain LLVM vectors, which any processor has, in instructions of its own.
    """

    def __init__(self, function: ir.Function, lanes: int) -> None:
        super().__init__(function.append_basic_block())
        self.lanes = lanes
        self.vector = ir.VectorType(FLOAT, lanes)
        self.shorts = ir.VectorType(SHORT, lanes)
        """As many integers."""

    def loop(
        self, count: Any, carried: Sequence[Any], body: Callable[[Any, Sequence[Any]], Sequence[Any]]
    ) -> Sequence[Any]:
        """``body`` for 0, 1, … below ``count``, which is at least 1 or checked first; what it returns is carried on."""
        before = self.block
        inside = self.append_basic_block("loop")
        after = self.append_basic_block("done")
        known = isinstance(count, ir.Constant)
        if known:
            self.branch(inside)
        else:
            self.cbranch(self.icmp_signed(">", count, INT(0)), inside, after)
        self.position_at_end(inside)
        index = self.phi(INT)
        index.add_incoming(INT(0), before)
        values = []
        for value in carried:
            phi = self.phi(value.type)
            phi.add_incoming(value, before)
            values.append(phi)
        results = body(index, values)
        following = self.add(index, INT(1))
        index.add_incoming(following, self.block)
        for phi, result in zip(values, results, strict=True):
            phi.add_incoming(result, self.block)
        end = self.block
        self.cbranch(self.icmp_signed("<", following, count), inside, after)
        self.position_at_end(after)
        if known:
            return results
        found = []
        for value, result in zip(carried, results, strict=True):
            phi = self.phi(value.type)
            phi.add_incoming(value, before)
            phi.add_incoming(result, end)
            found.append(phi)
        return found

    def at(self, pointer: Any, floats: Any) -> Any:
        """So many floats on."""
        return self.gep(pointer, [floats if isinstance(floats, ir.Value) else INT(floats)], source_etype=FLOAT)

    def at_byte(self, pointer: Any, count: Any) -> Any:
        """So many bytes on."""
        return self.gep(pointer, [count], source_etype=BYTE)

    def splat(self, value: Any, kind: ir.VectorType) -> Any:
        """One value in all lanes."""
        nothing = ir.Constant(kind, ir.Undefined)
        first = self.insert_element(nothing, value, SHORT(0))
        return self.shuffle_vector(first, nothing, ir.Constant(self.shorts, [0] * self.lanes))

    def splat_at(self, pointer: Any, place: Any) -> Any:
        """One number of an array in all lanes."""
        return self.splat(self.load(self.at(pointer, place), typ=FLOAT, align=4), self.vector)

    def constant(self, value: float) -> Any:
        """A number in all lanes."""
        number = ir.Constant(FLOAT, float(np.float32(value))).get_reference()
        splat = ir.FormattedConstant(FLOAT, f"splat (float {number})")  # lanes written out would be most of the text
        splat.type = self.vector
        return splat

    def load_vector(self, pointer: Any) -> Any:
        return self.load(pointer, typ=self.vector, align=4 * self.lanes)

    def store_vector(self, value: Any, pointer: Any) -> None:
        self.store(value, pointer, align=4 * self.lanes)

    def prefetch(self, pointer: Any) -> None:
        """Have the cache's line that this is in brought near, without waiting for it. It may be anywhere."""
        name, kinds = "llvm.prefetch.p0", [POINTER, SHORT, SHORT, SHORT]
        if name not in self.module.globals:
            ir.Function(self.module, ir.FunctionType(ir.VoidType(), kinds), name)
        self.call(self.module.globals[name], [pointer, SHORT(0), SHORT(3), SHORT(1)])  # to read, all levels, data

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        """x * y + z, rounded once where the processor can."""
        return self.intrinsic("fmuladd", x, y, z)

    def sum_of_lanes(self, vector: Any) -> Any:
        """One number: halves are added to halves."""
        half = self.lanes // 2
        while half:
            others = ir.Constant(self.shorts, [(lane + half) % self.lanes for lane in range(self.lanes)])
            vector = self.fadd(vector, self.shuffle_vector(vector, vector, others))
            half //= 2
        return self.extract_element(vector, SHORT(0))

    def polynomial(self, coefficients: Sequence[float], x: Any) -> Any:
        """Of x^0, x^1, …, by Horner's rule."""
        found = self.constant(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            found = self.fma(found, x, self.constant(coefficient))
        return found

    def intrinsic(self, name: str, *operands: Any) -> Any:
        """What LLVM calls so, of vectors."""
        full = f"llvm.{name}.v{self.lanes}f32"
        if full not in self.module.globals:
            ir.Function(self.module, ir.FunctionType(self.vector, [self.vector] * len(operands)), full)
        return self.call(self.module.globals[full], operands)

    def scratch(self, vectors: int) -> Any:
        """Memory for so many vectors, on the stack: once a call, wherever it is asked for."""
        with self.goto_entry_block():
            found = self.alloca(ir.ArrayType(FLOAT, vectors * self.lanes))
        found.align = 64
        found.type = POINTER  # else one to the array, which llvmlite does not take for one to vectors
        return found

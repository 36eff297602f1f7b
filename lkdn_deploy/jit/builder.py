"""An LLVM instruction builder with the loops and float32 vectors that kernels need."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from llvmlite import ir

INT, SHORT, BYTE = (ir.IntType(bits) for bits in (64, 32, 8))
FLOAT, POINTER = ir.FloatType(), ir.PointerType()


class Builder(ir.IRBuilder):  # type: ignore[misc]
    """A builder of a function's instructions, for vectors of ``lanes`` float32 values.

    They are generic LLVM vectors, which LLVM maps to instructions of any processor.

    Attributes:
        lanes: number of values.
        vector: type of a vector.
        shorts: type of a vector of as many integers of 32 bits.
        anchors: whether `anchored` has an effect.
    """

    def __init__(self, function: ir.Function, lanes: int, *, anchors: bool = False) -> None:
        super().__init__(function.append_basic_block())
        self.lanes, self.anchors = lanes, anchors
        self.vector = ir.VectorType(FLOAT, lanes)
        self.shorts = ir.VectorType(SHORT, lanes)

    def loop(
        self, count: Any, carried: Sequence[Any], body: Callable[[Any, Sequence[Any]], Sequence[Any]]
    ) -> Sequence[Any]:
        """Emit a loop.

        Args:
            count: number of iterations; a constant must be at least 1.
            carried: values before the first iteration.
            body: emits an iteration from its index and the carried values, and returns their new values.

        Returns:
            The carried values after the last iteration.
        """
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

    def repeat(self, count: Any, body: Callable[[Any], None]) -> None:
        """Emit a loop without carried values."""

        def iteration(index: Any, _: Sequence[Any]) -> Sequence[Any]:
            body(index)
            return []

        self.loop(count, [], iteration)

    def at(self, pointer: Any, floats: Any) -> Any:
        """Return a pointer advanced by a number of floats."""
        return self.gep(pointer, [floats if isinstance(floats, ir.Value) else INT(floats)], source_etype=FLOAT)

    def anchored(self, pointer: Any) -> Any:
        """Return an address to which loads and stores nearby shall add constants themselves.

        LLVM knows this address as a function of a loop's index. It would otherwise make others of it that need fewer
        registers, and additions before each load in WebAssembly, whose addresses have the form of a number plus a
        constant that is not negative.
        """
        if not self.anchors:
            return pointer
        found = ir.Instruction(self.block, POINTER, "freeze", [pointer])
        self._insert(found)
        return found

    def at_byte(self, pointer: Any, count: Any) -> Any:
        """Return a pointer advanced by a number of bytes."""
        return self.gep(pointer, [count], source_etype=BYTE)

    def load_integers(self, table: Any, count: int, start: int = 0) -> list[Any]:
        """Load ``count`` integers of 64 bits from a table, beginning with number ``start``."""
        return [self.load(self.gep(table, [INT(start + it)], source_etype=INT), typ=INT) for it in range(count)]

    def splat(self, value: Any, kind: ir.VectorType) -> Any:
        """Return a vector with ``value`` in all lanes."""
        undefined = ir.Constant(kind, ir.Undefined)
        first = self.insert_element(undefined, value, SHORT(0))
        return self.shuffle_vector(first, undefined, ir.Constant(self.shorts, [0] * self.lanes))

    def splat_at(self, pointer: Any, place: Any) -> Any:
        """Return a vector with one float of an array in all lanes."""
        return self.splat(self.load(self.at(pointer, place), typ=FLOAT, align=4), self.vector)

    def constant(self, value: float) -> Any:
        """Return a vector with a constant in all lanes."""
        number = ir.Constant(FLOAT, float(np.float32(value))).get_reference()
        splat = ir.FormattedConstant(FLOAT, f"splat (float {number})")  # lanes written out would be most of the text
        splat.type = self.vector
        return splat

    def load_vector(self, pointer: Any) -> Any:
        """Load a vector from an aligned address."""
        return self.load(pointer, typ=self.vector, align=4 * self.lanes)

    def store_vector(self, value: Any, pointer: Any) -> None:
        """Store a vector at an aligned address."""
        self.store(value, pointer, align=4 * self.lanes)

    def prefetch(self, pointer: Any) -> None:
        """Emit a prefetch of the cache line at an address, which need not be valid."""
        name, kinds = "llvm.prefetch.p0", [POINTER, SHORT, SHORT, SHORT]
        if name not in self.module.globals:
            ir.Function(self.module, ir.FunctionType(ir.VoidType(), kinds), name)
        self.call(self.module.globals[name], [pointer, SHORT(0), SHORT(3), SHORT(1)])  # to read, all levels, data

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        """Return x * y + z, rounded once where the processor can."""
        return self.intrinsic("fmuladd", x, y, z)

    def sum_of_lanes(self, vector: Any) -> Any:
        """Return the sum of a vector's lanes, halves added to halves."""
        half = self.lanes // 2
        while half:
            others = ir.Constant(self.shorts, [(lane + half) % self.lanes for lane in range(self.lanes)])
            vector = self.fadd(vector, self.shuffle_vector(vector, vector, others))
            half //= 2
        return self.extract_element(vector, SHORT(0))

    def polynomial(self, coefficients: Sequence[float], x: Any) -> Any:
        """Return a polynomial of a vector by Horner's rule; the coefficients are in ascending powers."""
        found = self.constant(coefficients[-1])
        for coefficient in coefficients[-2::-1]:
            found = self.fma(found, x, self.constant(coefficient))
        return found

    def intrinsic(self, name: str, *operands: Any) -> Any:
        """Call an LLVM intrinsic on vectors."""
        full = f"llvm.{name}.v{self.lanes}f32"
        if full not in self.module.globals:
            ir.Function(self.module, ir.FunctionType(self.vector, [self.vector] * len(operands)), full)
        return self.call(self.module.globals[full], operands)

    def scratch(self, vectors: int) -> Any:
        """Allocate memory for a number of vectors on the stack, once for each call of the function."""
        with self.goto_entry_block():
            found = self.alloca(ir.ArrayType(FLOAT, vectors * self.lanes))
        found.align = 64
        found.type = POINTER  # llvmlite would reject a pointer to an array where vectors are stored
        return found

"""Arithmetic on pairs of 16-bit integers, in the 32-bit lanes of a vector, for each set of instructions.

A pair's first number is in the low half of its lane. Processors multiply and add pairs at twice the rate of float32.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from llvmlite import ir

from lkdn_deploy.jit.builder import BYTE, INT, SHORT, Builder

HALF, BIT = ir.IntType(16), ir.IntType(1)

_ROUNDER = 1.5 * 2**23
"""A float32 of this size has no fractional bits: added to a number, it leaves that, rounded, in the low 16 bits."""

_AVX2_OUTPUTS = 6
"""An even number: twelve sums, two vectors of the input and a weight with its products leave none of 16 registers."""

ENTRIES = 16
"""Entries of a table that `Sixteen.look_up` reads."""


class PairUnit(Enum):
    """Instructions of a processor for pairs; each has the LLVM names of those that generic code would not become."""

    GENERIC = "generic"
    SSE = "sse"
    """SSSE3, vectors of 4 lanes."""
    AVX2 = "avx2"
    """AVX2, vectors of 8 lanes."""
    AVX2_VNNI = "avx2-vnni"
    """AVX-VNNI, or the same of AVX-512, vectors of 8 lanes."""
    AVX512 = "avx512"
    """AVX-512 BW, vectors of 16 lanes."""
    AVX512_VNNI = "avx512-vnni"
    """AVX-512 VNNI, vectors of 16 lanes."""
    WASM = "wasm"
    """SIMD of WebAssembly, vectors of 4 lanes."""


@dataclass(frozen=True, slots=True)
class _Names:
    """LLVM's intrinsic functions of a unit; empty where generic code serves."""

    dot: str = ""
    accumulates: bool = False
    """Whether ``dot`` takes a sum to which it adds."""
    pack: str = ""
    multiply_high: str = ""
    to_integers: str = ""
    """Rounds float32 numbers to the nearest integers, even ones of two; beyond 32 bits it gives the lowest."""


_WIDE = "x86.avx512.packssdw.512", "x86.avx512.pmul.hr.sw.512", "x86.avx512.mask.cvtps2dq.512"
_AVX2 = "x86.avx2.packssdw", "x86.avx2.pmul.hr.sw", "x86.avx.cvt.ps2dq.256"
_SSE = "x86.sse2.packssdw.128", "x86.ssse3.pmul.hr.sw.128", "x86.sse2.cvtps2dq"

_NAMES = {
    PairUnit.GENERIC: _Names(),
    PairUnit.SSE: _Names("x86.sse2.pmadd.wd", False, *_SSE),
    PairUnit.AVX2: _Names("x86.avx2.pmadd.wd", False, *_AVX2),
    PairUnit.AVX2_VNNI: _Names("x86.avx512.vpdpwssd.256", True, *_AVX2),
    PairUnit.AVX512: _Names("x86.avx512.pmaddw.d.512", False, *_WIDE),
    PairUnit.AVX512_VNNI: _Names("x86.avx512.vpdpwssd.512", True, *_WIDE),
    PairUnit.WASM: _Names("wasm.dot", False, "wasm.narrow.signed.v8i16.v4i32", "wasm.q15mulr.sat.signed"),
}  # fmt: skip


def pair_unit(features: str, lanes: int) -> PairUnit:
    """Return the instructions for pairs of a processor.

    Args:
        features: its instruction sets in LLVM's notation.
        lanes: number of 32-bit lanes of a vector.
    """
    there = {it[1:] for it in features.split(",") if it.startswith("+")}
    if lanes == 16 and "avx512bw" in there:
        return PairUnit.AVX512_VNNI if "avx512vnni" in there else PairUnit.AVX512
    if lanes == 8 and "avx2" in there:
        vnni = "avxvnni" in there or {"avx512vnni", "avx512vl"} <= there
        return PairUnit.AVX2_VNNI if vnni else PairUnit.AVX2
    if lanes == 4 and "ssse3" in there:
        return PairUnit.SSE
    return PairUnit.WASM if lanes == 4 and "simd128" in there else PairUnit.GENERIC


def most_outputs(unit: PairUnit, in_float32: int) -> int:
    """Return how many output channels a convolution in pairs can accumulate in registers, in two vectors each.

    Args:
        unit: the instructions.
        in_float32: the same for float32.
    """
    return max(in_float32, _AVX2_OUTPUTS) if unit in (PairUnit.AVX2, PairUnit.AVX2_VNNI) else in_float32


class Pairs:
    """Instructions on pairs for one processor, added to a builder.

    Vectors of pairs have the type of 32-bit integers; `halves` are the same as 16-bit ones.
    """

    def __init__(self, builder: Builder, unit: PairUnit) -> None:
        self._b, self._unit, self._names = builder, unit, _NAMES[unit]
        self.halves_type = ir.VectorType(HALF, 2 * builder.lanes)
        self._bytes_type = ir.VectorType(BYTE, 4 * builder.lanes)

    def integers(self, value: int) -> Any:
        """Return a vector with a 32-bit integer in all lanes."""
        return ir.Constant(self._b.shorts, [value] * self._b.lanes)

    def splat_at(self, pointer: Any, place: Any) -> Any:
        """Return a vector with one pair, or one 32-bit integer, of an array in all lanes."""
        return self._b.splat(self._b.load(self._b.at(pointer, place), typ=SHORT, align=4), self._b.shorts)

    def halves(self, pairs: Any) -> Any:
        """Return the numbers of pairs as a vector of 16-bit integers."""
        return self._b.bitcast(pairs, self.halves_type)

    def pairs(self, halves: Any) -> Any:
        """Return the inverse of `halves`."""
        return self._b.bitcast(halves, self._b.shorts)

    def low(self, pairs: Any) -> Any:
        """Return the first numbers of pairs as 32-bit integers."""
        sixteen = self.integers(16)
        return self._b.ashr(self._b.shl(pairs, sixteen), sixteen)

    def high(self, pairs: Any) -> Any:
        """Return the second numbers of pairs as 32-bit integers."""
        return self._b.ashr(pairs, self.integers(16))

    def joined(self, low: Any, high: Any) -> Any:
        """Return pairs of the low 16 bits of two vectors."""
        b = self._b
        return b.or_(b.and_(low, self.integers(0xFFFF)), b.shl(high, self.integers(16)))

    def dot(self, total: Any, pairs: Any, weights: Any) -> Any:
        """Return ``total`` plus the sum of the two products of each lane, in 32 bits."""
        b, name = self._b, self._names.dot
        if not name:
            first = b.mul(self.low(pairs), self.low(weights))
            return b.add(total, b.add(first, b.mul(self.high(pairs), self.high(weights))))
        factors = self.halves(pairs), self.halves(weights)
        if self._names.accumulates:
            return self._call(name, b.shorts, total, *factors)
        return b.add(total, self._call(name, b.shorts, *factors))

    def shift_right(self, integers: Any, amounts: Any) -> Any:
        """Return 32-bit integers shifted right, each by its own amount of 0 to 31, with the sign's bits before them."""
        b = self._b
        name = {4: "x86.avx2.psrav.d", 8: "x86.avx2.psrav.d.256", 16: "x86.avx512.psrav.d.512"}[b.lanes]
        if self._unit in (PairUnit.GENERIC, PairUnit.SSE, PairUnit.WASM):
            return b.ashr(integers, amounts)
        return self._call(name, b.shorts, integers, amounts)  # a shift of all by one amount takes longer

    def pack_all(self, vectors: Sequence[tuple[Any, Any]]) -> list[Any]:
        """Return, for each two vectors of 32-bit integers, pairs of their numbers, saturated to 16 bits."""
        if self._unit is not PairUnit.WASM:
            return [self.pack(low, high) for low, high in vectors]
        # Saturated first, two vectors of low numbers at once and two of high ones: hosts have single instructions for
        # the order that makes pairs of these, but not for that of `pack`.
        found: list[Any] = []
        for start in range(0, len(vectors), 2):
            few = vectors[start : start + 2]
            lows, highs = ([it[side] for it in few] for side in range(2))
            packed = [self._call(self._names.pack, self.halves_type, it[0], it[-1]) for it in (lows, highs)]
            found += map(self.pairs, self._interleaved(packed[0], packed[1], len(few)))
        return found

    def _interleaved(self, one: Any, other: Any, count: int) -> list[Any]:
        """Return the lanes of two vectors in turn, in two vectors, or in the first ``count`` of these."""
        lanes = one.type.count
        kind = ir.VectorType(SHORT, lanes)
        orders = [
            [it for lane in range(start, start + lanes // 2) for it in (lane, lanes + lane)]
            for start in (0, lanes // 2)
        ]
        return [self._b.shuffle_vector(one, other, ir.Constant(kind, it)) for it in orders[:count]]

    def pack(self, low: Any, high: Any) -> Any:
        """Return pairs of the numbers of two vectors of 32-bit integers, saturated to 16 bits."""
        b = self._b
        if not self._names.pack:
            return self.joined(*(self.minimum(self.maximum(it, -0x8000), 0x7FFF) for it in (low, high)))
        packed = self._call(self._names.pack, self.halves_type, low, high)
        # Four numbers of one are followed by four of the other.
        order = [8 * part + 4 * other + place for part in range(b.lanes // 4) for place in range(4) for other in (0, 1)]
        return self.pairs(self._reordered(packed, order))

    def maximum(self, values: Any, least: int) -> Any:
        """Return the larger of 32-bit integers and a constant."""
        return self._call(f"smax.v{self._b.lanes}i32", self._b.shorts, values, self.integers(least))

    def minimum(self, values: Any, most: int) -> Any:
        """Return the smaller of 32-bit integers and a constant."""
        return self._call(f"smin.v{self._b.lanes}i32", self._b.shorts, values, self.integers(most))

    def of_halves(self, name: str, *halves: Any) -> Any:
        """Call one of LLVM's own intrinsic functions on 16-bit integers, as ``smax`` or ``sadd.sat``."""
        return self._call(f"{name}.v{2 * self._b.lanes}i16", self.halves_type, *halves)

    def absolute(self, halves: Any) -> Any:
        """Return the absolute values of 16-bit integers; that of -32768 is 32768 without a sign."""
        return self._call(f"abs.v{2 * self._b.lanes}i16", self.halves_type, halves, BIT(0))

    def multiply_high(self, one: Any, other: Any) -> Any:
        """Return (a * b + 0x4000) >> 15 of 16-bit integers, which must not both be -32768."""
        b, name = self._b, self._names.multiply_high
        if name:
            return self._call(name, self.halves_type, one, other)
        wide = ir.VectorType(SHORT, 2 * b.lanes)
        product = b.mul(b.sext(one, wide), b.sext(other, wide))
        shifted = b.ashr(
            b.add(product, ir.Constant(wide, [0x4000] * 2 * b.lanes)), ir.Constant(wide, [15] * 2 * b.lanes)
        )
        return b.trunc(shifted, self.halves_type)

    def rounded(self, low: Any, high: Any) -> Any:
        """Return pairs of the numbers of two float32 vectors, rounded to nearest even, and saturated to 16 bits.

        NaN becomes the largest number.
        """
        b, name = self._b, self._names.to_integers
        most, least = b.constant(0x7FFF), b.constant(-0x8000)
        clamped = [b.select(b.fcmp_ordered("<", it, most), it, most) for it in (low, high)]
        if name:
            return self.pack(*(self._call(name, b.shorts, it, *self._unmasked()) for it in clamped))
        clamped = [b.select(b.fcmp_ordered(">", it, least), it, least) for it in clamped]
        return self.joined(*(b.bitcast(b.fadd(it, b.constant(_ROUNDER)), b.shorts) for it in clamped))

    def _unmasked(self) -> tuple[Any, ...]:
        """Return the operands, behind its first, that make a masked conversion one of all lanes."""
        masked = ".mask." in self._names.to_integers
        return (self.integers(0), HALF(0xFFFF), SHORT(4)) if masked else ()  # 4: rounding as it is set

    def load_table(self, pointer: Any) -> "LookupTable":
        """Load a table of ``ENTRIES`` 16-bit integers, in the form that `look_up` takes."""
        entries = self._b.load(pointer, typ=ir.VectorType(HALF, ENTRIES), align=4)
        if self._unit is PairUnit.GENERIC:
            return LookupTable([], pointer)
        if self._unit in (PairUnit.AVX512, PairUnit.AVX512_VNNI):
            return LookupTable([self._reordered(entries, [*range(ENTRIES)] * 2)])
        if self._unit is PairUnit.WASM:
            pieces = self._b.bitcast(entries, ir.VectorType(BYTE, 2 * ENTRIES))
            return LookupTable([self._reordered(pieces, range(start, 2 * ENTRIES, 2)) for start in range(2)])
        halves = [[*range(start, start + ENTRIES // 2)] * (self._b.lanes // 4) for start in (0, ENTRIES // 2)]
        return LookupTable([self._b.bitcast(self._reordered(entries, it), self._bytes_type) for it in halves])

    def look_up_all(self, tables: Sequence["LookupTable"], indices: Sequence[Any]) -> list[list[Any]]:
        """Return the entry of each table at the 16-bit indices, from 0 to 15, of each vector."""
        if self._unit is not PairUnit.WASM:
            return [self.look_up(tables, it) for it in indices]
        # The low bytes of the entries for two vectors at once, and the high bytes.
        found: list[list[Any]] = []
        for start in range(0, len(indices), 2):
            few = indices[start : start + 2]
            places = self._call("wasm.narrow.unsigned.v16i8.v8i16", self._bytes_type, few[0], few[-1])
            entries = []
            for table in tables:
                parts = [self._call("wasm.swizzle", self._bytes_type, it, places) for it in table.parts]
                entries.append(self._interleaved(parts[0], parts[1], len(few)))
            found += [[self._b.bitcast(it, self.halves_type) for it in each] for each in zip(*entries, strict=True)]
        return found

    def look_up(self, tables: Sequence["LookupTable"], index: Any) -> list[Any]:
        """Return the entry of each table at 16-bit indices of 0 to 15."""
        b = self._b
        if self._unit is PairUnit.GENERIC:
            return [self._gathered(it.pointer, index) for it in tables]
        if self._unit in (PairUnit.AVX512, PairUnit.AVX512_VNNI):
            name = "x86.avx512.permvar.hi.512"
            return [self._call(name, self.halves_type, it.parts[0], index) for it in tables]
        # A byte shuffle serves half a table: where the index is in the other half, its places are out of range, which
        # makes the result 0.
        doubled = b.bitcast(b.mul(index, ir.Constant(self.halves_type, [0x0202] * 2 * b.lanes)), self._bytes_type)
        first, second = (
            b.add(doubled, ir.Constant(self._bytes_type, [start, start + 1] * 2 * b.lanes)) for start in (0x70, 0xF0)
        )
        name = "x86.ssse3.pshuf.b.128" if self._unit is PairUnit.SSE else "x86.avx2.pshuf.b"
        found = []
        for it in tables:
            low, high = (
                self._call(name, self._bytes_type, part, place)
                for part, place in zip(it.parts, (first, second), strict=True)
            )
            found.append(b.bitcast(b.or_(low, high), self.halves_type))
        return found

    def lowest_and_highest(self, low: Any, high: Any) -> tuple[Any, Any]:
        """Return the lowest of a vector's 16-bit integers, and the highest of another's, as integers of 64 bits."""
        b, kind = self._b, f"v{2 * self._b.lanes}i16"
        found = (self._call(f"vector.reduce.{name}.{kind}", HALF, it) for name, it in (("smin", low), ("smax", high)))
        first, second = (b.sext(it, INT) for it in found)
        return first, second

    def _gathered(self, pointer: Any, index: Any) -> Any:
        b = self._b
        found = ir.Constant(self.halves_type, ir.Undefined)
        for lane in range(2 * b.lanes):
            place = b.zext(b.extract_element(index, SHORT(lane)), INT)
            value = b.load(b.gep(pointer, [place], source_etype=HALF), typ=HALF, align=2)
            found = b.insert_element(found, value, SHORT(lane))
        return found

    def _reordered(self, vector: Any, order: Sequence[int]) -> Any:
        return self._b.shuffle_vector(vector, vector, ir.Constant(ir.VectorType(SHORT, len(order)), list(order)))

    def _call(self, name: str, result: Any, *operands: Any) -> Any:
        """Call an LLVM intrinsic function."""
        b, full = self._b, f"llvm.{name}"
        if full not in b.module.globals:
            ir.Function(b.module, ir.FunctionType(result, [it.type for it in operands]), full)
        return b.call(b.module.globals[full], operands)


@dataclass(frozen=True, slots=True)
class LookupTable:
    """A table in registers, or at an address."""

    parts: list[Any]
    pointer: Any = None

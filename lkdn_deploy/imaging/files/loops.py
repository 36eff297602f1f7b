"""Loops over the bytes of a picture's file, in LLVM's intermediate representation.

    void count(source, groups, counts)

counts bytes, four of which are a group: ``counts`` are four tables of 256 integers of 32 bits, of which each byte of a
group has its own, so that equal ones do not wait for each other.

    void pack(source, groups, table, state)

writes the codes of such bytes one behind the other. ``table`` has for each byte 32 bits: its code, and from bit 16 on
how long it is, at most ``huffman.LONGEST``. ``state`` is three integers: where the next byte of what is packed goes,
the bits of it that are there, and how many, less than 8; they are as they should be for the next call when it is done.
Up to 8 bytes are written beyond. Integers are those of a little-endian machine.

    void filter(samples, width, rows, pixel, out)

puts rows through the filters of the PNG standard. ``samples`` are rows of ``width`` bytes after the row above the
first; ``pixel`` so many are a pixel's. Each row of ``out`` begins with the number of its filter: 0, 1, 2 or 4.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from llvmlite import ir

from lkdn_deploy.imaging.files.png_filters import ABOVE, BEFORE, NONE, PAETH
from lkdn_deploy.jit import builder
from lkdn_deploy.jit.builder import BYTE, INT, POINTER, SHORT, Builder
from lkdn_deploy.jit.compiler import Processor, library

_GROUP, _LENGTH_AT = 4, 16

_Expected = Callable[[Builder, Any, Any, Any], Any]
"""What a filter takes from bytes whose neighbours are those to the left, above, and above to the left."""


class Loops:
    """The functions, to be called with addresses and integers; other threads run meanwhile."""

    def __init__(self, target: Processor) -> None:
        emit = partial(_emit, target.lanes)
        self._library = library("files", emit, target, (__file__, builder.__file__), (NONE, BEFORE, ABOVE, PAETH))
        self.pack = self._library.function("pack", "pipp")
        self.count = self._library.function("count", "pip")
        self.filter = self._library.function("filter", "piiip")


def _emit(lanes: int, module: ir.Module) -> None:
    _emit_pack(module)
    _emit_count(module)
    _emit_filter(module, lanes)


def _emit_pack(module: ir.Module) -> None:
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, INT, POINTER, POINTER]), "pack")
    source, groups, table, state = function.args
    b = Builder(function, 1)
    places = [b.gep(state, [INT(index)], source_etype=INT) for index in range(3)]

    def code(byte: Any) -> tuple[Any, Any]:
        """And its length."""
        entry = b.zext(b.load(b.gep(table, [byte], source_etype=SHORT), typ=SHORT, align=4), INT)
        return b.and_(entry, INT((1 << _LENGTH_AT) - 1)), b.lshr(entry, INT(_LENGTH_AT))

    def joined(first: tuple[Any, Any], second: tuple[Any, Any]) -> tuple[Any, Any]:
        return b.or_(first[0], b.shl(second[0], first[1])), b.add(first[1], second[1])

    def group(index: Any, carried: Sequence[Any]) -> Sequence[Any]:
        target, bits, count = carried
        codes = [code(byte) for byte in _group(b, source, index)]
        bits, count = joined((bits, count), joined(joined(codes[0], codes[1]), joined(codes[2], codes[3])))
        b.store(bits, b.inttoptr(target, POINTER), align=1)
        target = b.add(target, b.lshr(count, INT(3)))
        return [target, b.lshr(bits, b.and_(count, INT(-8))), b.and_(count, INT(7))]

    before = [b.load(place, typ=INT, align=8) for place in places]
    for place, value in zip(places, b.loop(groups, before, group), strict=True):
        b.store(value, place, align=8)
    b.ret_void()


def _emit_count(module: ir.Module) -> None:
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, INT, POINTER]), "count")
    source, groups, counts = function.args
    b = Builder(function, 1)

    def group(index: Any, _: Sequence[Any]) -> Sequence[Any]:
        for table, byte in enumerate(_group(b, source, index)):
            place = b.gep(counts, [b.add(byte, INT(256 * table))], source_etype=SHORT)
            b.store(b.add(b.load(place, typ=SHORT, align=4), SHORT(1)), place, align=4)
        return []

    b.loop(groups, [], group)
    b.ret_void()


def _group(b: Builder, source: Any, index: Any) -> list[Any]:
    """Its bytes as integers."""
    four = b.load(b.gep(source, [index], source_etype=SHORT), typ=SHORT, align=1)
    return [b.zext(b.and_(b.lshr(four, SHORT(8 * place)), SHORT(255)), INT) for place in range(_GROUP)]


def _emit_filter(module: ir.Module, lanes: int) -> None:
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, INT, INT, INT, POINTER]), "filter")
    samples, width, rows, pixel, out = function.args
    b = Builder(function, lanes)
    vector = ir.VectorType(BYTE, 4 * lanes)
    inner = b.sub(width, pixel)
    vectors, rest = b.udiv(inner, INT(vector.count)), b.urem(inner, INT(vector.count))
    kinds: dict[int, _Expected] = {
        NONE: lambda b, left, *_: left.type(None),
        BEFORE: lambda b, left, *_: left,
        ABOVE: lambda b, left, above, _: above,
        PAETH: _paeth,
    }

    def row(index: Any, _: Sequence[Any]) -> Sequence[Any]:
        above = b.at_byte(samples, b.mul(index, width))
        here = b.at_byte(above, width)
        number = b.at_byte(out, b.mul(index, b.add(width, INT(1))))
        target = b.at_byte(number, INT(1))
        chosen = b.load(number, typ=BYTE, align=1)

        def rest_of(kind: Any, expected: _Expected, start: Any, step: Any, _: Sequence[Any]) -> Sequence[Any]:
            """Of some bytes, from the second pixel on."""
            left = b.add(start, b.mul(step, INT(kind.count if isinstance(kind, ir.VectorType) else 1)))
            place = b.add(left, pixel)
            near = [
                b.load(b.at_byte(line, at), typ=kind, align=1)
                for line, at in ((here, left), (above, place), (above, left))
            ]
            value = b.load(b.at_byte(here, place), typ=kind, align=1)
            b.store(b.sub(value, expected(b, *near)), b.at_byte(target, place), align=1)
            return []

        def first(expected: _Expected, place: Any, _: Sequence[Any]) -> Sequence[Any]:
            """Of a byte of the first pixel, to whose left are zeros."""
            value, up = (b.load(b.at_byte(line, place), typ=BYTE, align=1) for line in (here, above))
            b.store(b.sub(value, expected(b, BYTE(0), up, BYTE(0))), b.at_byte(target, place), align=1)
            return []

        for kind, expected in kinds.items():
            with b.if_then(b.icmp_unsigned("==", chosen, BYTE(kind))):
                b.loop(pixel, [], partial(first, expected))
                b.loop(vectors, [], partial(rest_of, vector, expected, INT(0)))
                b.loop(rest, [], partial(rest_of, BYTE, expected, b.mul(vectors, INT(vector.count))))
        return []

    b.loop(rows, [], row)
    b.ret_void()


def _paeth(b: Builder, left: Any, above: Any, corner: Any) -> Any:
    """As ``png_filters`` does it."""
    low, high = _of_both(b, "umin", left, above), _of_both(b, "umax", left, above)
    middle = _of_both(b, "umax", _of_both(b, "umin", corner, high), low)
    up, down = b.sub(high, middle), b.sub(middle, low)
    less, nothing = _of_both(b, "umin", up, down), left.type(None)
    to_low = b.icmp_unsigned("<=", up, b.sub(down, less))
    to_high = b.icmp_unsigned("<=", down, b.sub(up, less))
    return b.sub(b.add(middle, b.select(to_high, up, nothing)), b.select(to_low, down, nothing))


def _of_both(b: Builder, name: str, first: Any, second: Any) -> Any:
    kind = first.type
    full = f"llvm.{name}." + (f"v{kind.count}i8" if isinstance(kind, ir.VectorType) else "i8")
    if full not in b.module.globals:
        ir.Function(b.module, ir.FunctionType(kind, [kind, kind]), full)
    return b.call(b.module.globals[full], [first, second])

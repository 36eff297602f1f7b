"""Functions that write rows of the output image, as float32 or in 8 bits.

    void float_output(facts, damage, geometry, y)
    void uint8_output(facts, damage, geometry, y)

They are called as stages are, after the one that computes the image. What it makes of input row y lies in ``scale``
lines of each colour, and is overwritten by the next row. These functions copy the requested part while it is in the
cache; ``uint8_output`` clips and rounds as ``imaging.pixels.store_batch`` does. ``facts`` is a table of integers, and
``damage`` an integer that becomes 1 if ``uint8_output`` meets a value that is not finite.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
from llvmlite import ir

from lkdn_deploy.backends.native.codegen.stage import STAGE
from lkdn_deploy.backends.native.fixed.fixed_ir import RESULT_SCALE, RESULT_SHIFT
from lkdn_deploy.jit.builder import BYTE, FLOAT, INT, POINTER, SHORT, Builder
from lkdn_deploy.jit.sixteen import HALF

NAMES = ("float_output", "uint8_output")

_HALF_BYTES = 2

LINES, COLOUR, LINE, SCALE, TOP, BOTTOM, LEFT, COUNT, TARGET, ROW, PLANE = range(11)
"""Entries of the facts: address of the lines, floats between colours, floats between lines, lines of an input row; the
first and last (exclusive) row of the output image that are requested, the first column, the number of columns; address
of the target, bytes between its rows, bytes between its planes."""

FACTS = 11

_COLOURS = 3
_WHITE = 255

_EmitLine = Callable[..., None]
"""Takes the builder, facts, damage, the start of a line of each colour, and the address where it goes."""


def emit_output(module: ir.Module, lanes: int, *, fixed: bool = False) -> None:
    """Add both functions to a module.

    Args:
        module: the module to add them to.
        lanes: number of lanes of a vector.
        fixed: whether the lines are those of a fixed-point program, 16-bit integers as ``fixed_ir`` describes them.
    """
    for name, emit_line in zip(NAMES, (_float_line, _uint8_line), strict=True):
        _emit(module, name, lanes, partial(emit_line, fixed=fixed), fixed=fixed)


def _emit(module: ir.Module, name: str, lanes: int, emit_line: _EmitLine, *, fixed: bool) -> None:
    function = ir.Function(module, STAGE, name)
    table, damage, _, y = function.args
    b = Builder(function, lanes)
    facts = b.load_integers(table, FACTS)
    first = b.mul(y, facts[SCALE])

    def line(index: Any) -> None:
        row = b.add(first, index)
        requested = b.and_(b.icmp_signed(">=", row, facts[TOP]), b.icmp_signed("<", row, facts[BOTTOM]))
        with b.if_then(requested):
            start = b.add(b.mul(index, facts[LINE]), facts[LEFT])
            colours = [b.add(start, b.mul(facts[COLOUR], INT(it))) for it in range(_COLOURS)]
            sources = [_number_at(b, b.inttoptr(facts[LINES], POINTER), it, fixed=fixed) for it in colours]
            emit_line(b, facts, damage, sources, b.add(facts[TARGET], b.mul(b.sub(row, facts[TOP]), facts[ROW])))

    b.repeat(facts[SCALE], line)
    b.ret_void()


def _number_at(b: Builder, line: Any, place: Any, *, fixed: bool) -> Any:
    """Return the address of a number of a line."""
    return b.at_byte(line, b.mul(place, INT(_HALF_BYTES))) if fixed else b.at(line, place)


def _integers(b: Builder, pointer: Any) -> Any:
    """Load 16-bit integers for all lanes, as 32-bit ones."""
    return b.sext(b.load(pointer, typ=ir.VectorType(HALF, b.lanes), align=_HALF_BYTES), b.shorts)


def _float_line(b: Builder, facts: Sequence[Any], _: Any, sources: Sequence[Any], target: Any, *, fixed: bool) -> None:
    vectors, rest = b.udiv(facts[COUNT], INT(b.lanes)), b.urem(facts[COUNT], INT(b.lanes))
    behind = b.mul(vectors, INT(b.lanes))

    def copy(kind: Any, width: int, source: Any, plane: Any, index: Any) -> None:
        place = b.mul(index, INT(width))
        if fixed:
            number, share = _number_at(b, source, place, fixed=True), np.float32(1 / RESULT_SCALE)
            if width > 1:
                found = b.fmul(b.sitofp(_integers(b, number), b.vector), b.constant(float(share)))
            else:
                found = b.fmul(b.sitofp(b.load(number, typ=HALF, align=2), FLOAT), ir.Constant(FLOAT, float(share)))
            b.store(found, b.at(plane, place), align=4)
            return
        b.store(b.load(b.at(source, place), typ=kind, align=4), b.at(plane, place), align=4)

    for colour, source in enumerate(sources):
        plane = b.inttoptr(b.add(target, b.mul(facts[PLANE], INT(colour))), POINTER)
        b.repeat(vectors, partial(copy, b.vector, b.lanes, source, plane))
        last = _number_at(b, source, behind, fixed=fixed)
        b.repeat(rest, partial(copy, FLOAT, 1, last, b.at(plane, behind)))


def _uint8_line(
    b: Builder, facts: Sequence[Any], damage: Any, sources: Sequence[Any], target: Any, *, fixed: bool
) -> None:
    vectors, rest = b.udiv(facts[COUNT], INT(b.lanes)), b.urem(facts[COUNT], INT(b.lanes))
    pixels = b.inttoptr(target, POINTER)
    to_bytes = _integers_to_bytes if fixed else _to_bytes
    last_pixels = b.scratch(1)  # at least as many bytes as three vectors of them need, for any number of lanes

    def load(place: Any) -> list[Any]:
        if fixed:
            return [_integers(b, _number_at(b, it, place, fixed=True)) for it in sources]
        return [b.load(b.at(source, place), typ=b.vector, align=4) for source in sources]

    def vector(index: Any, carried: Sequence[Any]) -> Sequence[Any]:
        place = b.mul(index, INT(b.lanes))
        values = load(place)
        b.store(_interleaved(b, [to_bytes(b, it) for it in values]), _pixel(b, pixels, place), align=1)
        return [carried[0] if fixed else _add_damage(b, carried[0], values)]

    (found,) = b.loop(vectors, [b.constant(0)], vector)
    behind = b.mul(vectors, INT(b.lanes))
    with b.if_then(b.icmp_signed(">", rest, INT(0))):
        lanes = ir.Constant(b.shorts, list(range(b.lanes)))
        inside = b.icmp_signed("<", lanes, b.splat(b.trunc(rest, SHORT), b.shorts))
        zero = ir.Constant(b.shorts, [0] * b.lanes) if fixed else b.constant(0)
        values = [b.select(inside, it, zero) for it in load(behind)]
        b.store(_interleaved(b, [to_bytes(b, it) for it in values]), last_pixels, align=1)
        if not fixed:
            _report(b, _add_damage(b, b.constant(0), values), damage)

        def byte(index: Any) -> None:
            value = b.load(b.at_byte(last_pixels, index), typ=BYTE, align=1)
            b.store(value, b.at_byte(_pixel(b, pixels, behind), index), align=1)

        b.repeat(b.mul(rest, INT(_COLOURS)), byte)
    if not fixed:
        _report(b, found, damage)


def _pixel(b: Builder, pixels: Any, column: Any) -> Any:
    """Return the address of the pixel of a column."""
    return b.at_byte(pixels, b.mul(column, INT(_COLOURS)))


def _to_bytes(b: Builder, values: Any) -> Any:
    """Return a vector of 0..1 as bytes, clipped and rounded; NaN becomes 0."""
    scaled = b.fmul(values, b.constant(_WHITE))
    low, high = b.constant(0), b.constant(_WHITE)
    scaled = b.select(b.fcmp_ordered(">", scaled, low), scaled, low)
    scaled = b.select(b.fcmp_ordered("<", scaled, high), scaled, high)
    return b.trunc(b.fptoui(b.intrinsic("rint", scaled), b.shorts), ir.VectorType(BYTE, b.lanes))


def _integers_to_bytes(b: Builder, values: Any) -> Any:
    """Return integers of a fixed-point program's result as bytes, clipped and rounded."""

    def constant(value: int) -> Any:
        return ir.Constant(b.shorts, [value] * b.lanes)

    found = b.ashr(b.add(values, constant(1 << (RESULT_SHIFT - 1))), constant(RESULT_SHIFT))
    found = b.select(b.icmp_signed(">", found, constant(0)), found, constant(0))
    found = b.select(b.icmp_signed("<", found, constant(_WHITE)), found, constant(_WHITE))
    return b.trunc(found, ir.VectorType(BYTE, b.lanes))


def _interleaved(b: Builder, colours: Sequence[Any]) -> Any:
    """Return the bytes of three vectors in turn."""
    red, green, blue = colours
    lanes = b.lanes
    both = b.shuffle_vector(red, green, ir.Constant(ir.VectorType(SHORT, 2 * lanes), list(range(2 * lanes))))
    widened = [*range(lanes)] * 2  # the second half is not used
    third = b.shuffle_vector(blue, blue, ir.Constant(ir.VectorType(SHORT, 2 * lanes), widened))
    order = [colour * lanes + lane for lane in range(lanes) for colour in range(_COLOURS)]
    return b.shuffle_vector(both, third, ir.Constant(ir.VectorType(SHORT, _COLOURS * lanes), order))


def _add_damage(b: Builder, total: Any, values: Sequence[Any]) -> Any:
    """Add 0 times each value, which is 0 for finite values and NaN for all others."""
    for value in values:
        total = b.fma(value, b.constant(0), total)
    return total


def _report(b: Builder, total: Any, damage: Any) -> None:
    """Set ``damage`` if a lane is NaN."""
    found = b.sum_of_lanes(total)
    with b.if_then(b.fcmp_unordered("uno", found, found)):
        b.store(INT(1), damage, align=8)

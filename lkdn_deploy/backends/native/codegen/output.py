"""The enlarged picture, in LLVM's intermediate representation: from lines of one row of the network to where it goes.

    void planes(facts, damage, geometry, y)
    void pixels(facts, damage, geometry, y)

are called as stages are, after the one that enlarges. What it makes of row y lies in ``scale`` lines of each colour,
and is gone with the next row; these functions take from it what is wanted while it is in the cache: ``planes`` as it
is, ``pixels`` in 8 bits, rounded as ``imaging.pixels.store_batch`` does. ``facts`` are integers, as named below, and
``damage`` is one that becomes 1 if ``pixels`` meets a value that is no finite number.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from llvmlite import ir

from lkdn_deploy.backends.native.codegen.stage import STAGE
from lkdn_deploy.jit.builder import BYTE, FLOAT, INT, POINTER, SHORT, Builder

LINES, COLOUR, LINE, SCALE, TOP, BOTTOM, LEFT, COUNT, TARGET, ROW, PLANE = range(11)
"""Of the facts: where the lines are, floats from one colour's to the next's and from one line to the next, and how many
are of one row; the first and last (exclusive) row of the enlarged picture that are wanted, the first column, and how
many; where they go to, and bytes from there to the next row and to the next plane."""

FACTS = 11

_COLOURS = 3
_WHITE = 255

_Give = Callable[[Builder, Sequence[Any], Any, Sequence[Any], Any], None]
"""Facts, damage, where a line of each colour begins, and the address it goes to."""


def emit_results(module: ir.Module, lanes: int) -> None:
    """Add both functions."""
    _emit(module, "planes", lanes, _give_planes)
    _emit(module, "pixels", lanes, _give_pixels)


def _emit(module: ir.Module, name: str, lanes: int, give: _Give) -> None:
    function = ir.Function(module, STAGE, name)
    table, damage, _, y = function.args
    b = Builder(function, lanes)
    facts = [b.load(b.gep(table, [INT(place)], source_etype=INT), typ=INT) for place in range(FACTS)]
    first = b.mul(y, facts[SCALE])

    def line(index: Any, _: Sequence[Any]) -> Sequence[Any]:
        row = b.add(first, index)
        wanted = b.and_(b.icmp_signed(">=", row, facts[TOP]), b.icmp_signed("<", row, facts[BOTTOM]))
        with b.if_then(wanted):
            start = b.add(b.mul(index, facts[LINE]), facts[LEFT])
            colours = [b.add(start, b.mul(facts[COLOUR], INT(it))) for it in range(_COLOURS)]
            sources = [b.at(b.inttoptr(facts[LINES], POINTER), it) for it in colours]
            give(b, facts, damage, sources, b.add(facts[TARGET], b.mul(b.sub(row, facts[TOP]), facts[ROW])))
        return []

    b.loop(facts[SCALE], [], line)
    b.ret_void()


def _give_planes(b: Builder, facts: Sequence[Any], _: Any, sources: Sequence[Any], target: Any) -> None:
    vectors, rest = b.udiv(facts[COUNT], INT(b.lanes)), b.urem(facts[COUNT], INT(b.lanes))
    behind = b.mul(vectors, INT(b.lanes))

    def copy(kind: Any, width: int, source: Any, plane: Any, index: Any, _: Sequence[Any]) -> Sequence[Any]:
        place = b.mul(index, INT(width))
        b.store(b.load(b.at(source, place), typ=kind, align=4), b.at(plane, place), align=4)
        return []

    for colour, source in enumerate(sources):
        plane = b.inttoptr(b.add(target, b.mul(facts[PLANE], INT(colour))), POINTER)
        b.loop(vectors, [], partial(copy, b.vector, b.lanes, source, plane))
        b.loop(rest, [], partial(copy, FLOAT, 1, b.at(source, behind), b.at(plane, behind)))


def _give_pixels(b: Builder, facts: Sequence[Any], damage: Any, sources: Sequence[Any], target: Any) -> None:
    vectors, rest = b.udiv(facts[COUNT], INT(b.lanes)), b.urem(facts[COUNT], INT(b.lanes))
    pixels = b.inttoptr(target, POINTER)
    some = b.scratch(1)  # of as many bytes as three vectors of them need, for any number of lanes

    def loaded(place: Any) -> list[Any]:
        return [b.load(b.at(source, place), typ=b.vector, align=4) for source in sources]

    def vector(index: Any, carried: Sequence[Any]) -> Sequence[Any]:
        place = b.mul(index, INT(b.lanes))
        values = loaded(place)
        b.store(_interleaved(b, [_rounded(b, it) for it in values]), _pixel(b, pixels, place), align=1)
        return [_with_damage(b, carried[0], values)]

    (wrong,) = b.loop(vectors, [b.constant(0)], vector)
    behind = b.mul(vectors, INT(b.lanes))
    with b.if_then(b.icmp_signed(">", rest, INT(0))):
        lanes = ir.Constant(b.shorts, list(range(b.lanes)))
        inside = b.icmp_signed("<", lanes, b.splat(b.trunc(rest, SHORT), b.shorts))
        values = [b.select(inside, it, b.constant(0)) for it in loaded(behind)]
        b.store(_interleaved(b, [_rounded(b, it) for it in values]), some, align=1)
        _tell(b, _with_damage(b, b.constant(0), values), damage)

        def byte(index: Any, _: Sequence[Any]) -> Sequence[Any]:
            found = b.load(b.at_byte(some, index), typ=BYTE, align=1)
            b.store(found, b.at_byte(_pixel(b, pixels, behind), index), align=1)
            return []

        b.loop(b.mul(rest, INT(_COLOURS)), [], byte)
    _tell(b, wrong, damage)


def _pixel(b: Builder, pixels: Any, column: Any) -> Any:
    """Where a column's pixel begins."""
    return b.at_byte(pixels, b.mul(column, INT(_COLOURS)))


def _rounded(b: Builder, values: Any) -> Any:
    """0..1 to bytes, what is beyond clipped."""
    scaled = b.fmul(values, b.constant(_WHITE))
    low, high = b.constant(0), b.constant(_WHITE)
    scaled = b.select(b.fcmp_ordered(">", scaled, low), scaled, low)  # what is no number becomes 0 too
    scaled = b.select(b.fcmp_ordered("<", scaled, high), scaled, high)
    return b.trunc(b.fptoui(b.intrinsic("rint", scaled), b.shorts), ir.VectorType(BYTE, b.lanes))


def _interleaved(b: Builder, colours: Sequence[Any]) -> Any:
    """Bytes of three vectors in turn."""
    red, green, blue = colours
    lanes = b.lanes
    both = b.shuffle_vector(red, green, ir.Constant(ir.VectorType(SHORT, 2 * lanes), list(range(2 * lanes))))
    widened = [*range(lanes)] * 2  # what is in its second half is not used
    third = b.shuffle_vector(blue, blue, ir.Constant(ir.VectorType(SHORT, 2 * lanes), widened))
    order = [colour * lanes + lane for lane in range(lanes) for colour in range(_COLOURS)]
    return b.shuffle_vector(both, third, ir.Constant(ir.VectorType(SHORT, _COLOURS * lanes), order))


def _with_damage(b: Builder, wrong: Any, values: Sequence[Any]) -> Any:
    """Of 0 times a number, 0 comes, else no number: which stays in the sum."""
    for value in values:
        wrong = b.fma(value, b.constant(0), wrong)
    return wrong


def _tell(b: Builder, wrong: Any, damage: Any) -> None:
    total = b.sum_of_lanes(wrong)
    with b.if_then(b.fcmp_unordered("uno", total, total)):
        b.store(INT(1), damage, align=8)

"""Kernels in LLVM's intermediate representation: one function a stage, that computes one row.

    void stage(rows, weights, geometry, y)

``rows`` has for each value that is kept three integers: where its rows begin, how many are kept (row y is at y modulo
that), and bytes of a row; for the enlarged picture and for values of the outside, where they begin. Planes of the
outside, (C, H, W), may be read as far beyond their end as lanes of a row are outside the picture; sums are (H, C,
lanes). ``geometry`` has height, width, vectors and blocks of a row, and where a row of zeros is. Row y must be inside
the picture; rows above and below it are read as zeros. See ``layout`` for what a row is.

Vectors are plain LLVM vectors, which any processor has, in instructions of its own.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from itertools import groupby
from typing import Any

import numpy as np
from llvmlite import ir

from lkdn_deploy.backends.native import gelu, sigmoid
from lkdn_deploy.backends.native.layout import BLOCK, block_floats, margin_blocks
from lkdn_deploy.backends.native.lower import Code, Dense, Group, Link, Loop, Normed, Shape, Taken, Window
from lkdn_deploy.backends.native.program import Kind

INT, SHORT, FLOAT, POINTER = ir.IntType(64), ir.IntType(32), ir.FloatType(), ir.PointerType()
HEIGHT, WIDTH, STEPS, BLOCKS, ZEROS = range(5)
"""Of the geometry."""
STAGE = ir.FunctionType(ir.VoidType(), [POINTER, POINTER, POINTER, INT])

SUMS = 4
"""Of one vector of a norm that are under way at once."""

Vectors = list[Any]
"""One for each of a block's vectors."""


def emit_stage(module: ir.Module, name: str, shape: Shape, lanes: int) -> None:
    """Add the function of a stage."""
    _Stage(module, name, shape, lanes).emit()


def emit_band(module: ir.Module, name: str) -> None:
    """Add the function that runs stages over rows.

        void band(stages, count, geometry, first, last)

    ``stages`` has six integers for each: function, rows, weights, lag, and the first and last (exclusive) row it is to
    compute. Step t computes row t - lag of each.
    """
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, INT, POINTER, INT, INT]), name)
    table, count, geometry, first, last = function.args
    b = _Builder(function.append_basic_block())

    def step(t: Any, _: Sequence[Any]) -> Sequence[Any]:
        def stage(index: Any, _: Sequence[Any]) -> Sequence[Any]:
            entry = b.gep(table, [b.mul(index, INT(6))], source_etype=INT)
            code, rows, weights, lag, low, high = (
                b.load(b.gep(entry, [INT(place)], source_etype=INT), typ=INT) for place in range(6)
            )
            y = b.sub(b.add(t, first), lag)
            inside = b.and_(b.icmp_signed(">=", y, low), b.icmp_signed("<", y, high))
            with b.if_then(inside):
                b.call(
                    b.inttoptr(code, STAGE.as_pointer()),
                    [b.inttoptr(rows, POINTER), b.inttoptr(weights, POINTER), geometry, y],
                )
            return []

        b.loop(count, [], stage)
        return []

    b.loop(b.sub(last, first), [], step)
    b.ret_void()


class _Builder(ir.IRBuilder):  # type: ignore[misc]
    """With what kernels are made of."""

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


@dataclass(frozen=True, slots=True)
class _Kept:
    """Where the rows of a value are."""

    base: Any
    count: Any
    size: Any


class _Stage:
    def __init__(self, module: ir.Module, name: str, shape: Shape, lanes: int) -> None:
        self._shape, self._lanes = shape, lanes
        self._vector = ir.VectorType(FLOAT, lanes)
        function = ir.Function(module, STAGE, name)
        self._rows, self._weights, self._geometry, self._y = function.args
        self._b = _Builder(function.append_basic_block())
        self._module = module

    def emit(self) -> None:
        b = self._b
        self._steps, self._width = self._fact(STEPS), self._fact(WIDTH)
        self._zeros = b.inttoptr(self._fact(ZEROS), POINTER)
        self._nowhere = self._scratch(1)
        heads = [code.head for code in self._shape.codes if code.chain]
        self._unfinished = self._scratch(
            max((it.count for head in heads if isinstance(head, Dense) for it in head.groups), default=1)
        )
        self._totals = {
            number: self._scratch(place.channels)
            for number, place in enumerate(self._shape.places)
            if place.outside is Kind.SUMS
        }
        self._kept = {
            number: self._kept_rows(number)
            for number, place in enumerate(self._shape.places)
            if place.margin is not None or place.outside or number == self._shape.shuffled
        }
        self._inside = {
            number: self._scratch(place.channels)
            for number, place in enumerate(self._shape.places)
            if place.margin is None and not place.outside
        }
        self._steps_of = {number: self._channel_step(number) for number in range(len(self._shape.places))}
        shorts = ir.VectorType(SHORT, self._lanes)
        lanes = ir.Constant(shorts, list(range(self._lanes)))
        self._lane_columns = b.mul(lanes, self._splat_of(b.trunc(self._steps, SHORT), shorts))
        self._starts: dict[tuple[int, int], Any] = {}
        for source, row in self._read_rows():
            self._starts[source, row] = self._row(source, row)
        blocks = self._fact(BLOCKS)
        for number, totals in self._totals.items():
            self._clear(totals, self._shape.places[number].channels)
        for windows, codes in groupby(self._shape.codes, lambda code: isinstance(code.head, Window)):
            if windows:
                for code in codes:
                    self._window(code, blocks)
            else:
                b.loop(blocks, [], partial(self._block, tuple(codes)))
        for code in self._shape.codes:
            if self._shape.places[code.result].margin:
                self._fill_margins(code.result)
        for number, totals in self._totals.items():
            self._give_sums(number, totals)
        b.ret_void()

    def _fact(self, place: int) -> Any:
        return self._b.load(self._b.gep(self._geometry, [INT(place)], source_etype=INT), typ=INT)

    def _kept_rows(self, number: int) -> _Kept:
        b = self._b
        entry = b.gep(self._rows, [INT(3 * number)], source_etype=INT)
        base, count, size = (b.load(b.gep(entry, [INT(it)], source_etype=INT), typ=INT) for it in range(3))
        return _Kept(base, count, size)

    def _scratch(self, channels: int) -> Any:
        found = self._b.alloca(ir.ArrayType(FLOAT, channels * BLOCK * self._lanes))
        found.align = 64
        found.type = POINTER  # else one to the array, which llvmlite does not take for one to vectors
        return found

    def _read_rows(self) -> set[tuple[int, int]]:
        """Values that are kept, and which of their rows, relative to this one, are read or written."""
        found = {(code.result, 0) for code in self._shape.codes}
        for code in self._shape.codes:
            found |= {(link.source, 0) for link in code.chain if link.source is not None}
            if isinstance(code.head, Dense):
                found |= {(loop.source, loop.row) for group in code.head.groups for loop in group.loops}
            elif isinstance(code.head, Window):
                found |= {(code.head.source, row) for row in code.head.rows}
            else:
                found.add((code.head.source, 0))
        return {(number, row) for number, row in found if self._shape.places[number].margin is not None}

    def _row(self, number: int, row: int) -> Any:
        """Where the first block of a row is, behind its margin."""
        b, kept = self._b, self._kept[number]
        y = b.add(self._y, INT(row))
        address = b.add(kept.base, b.mul(b.srem(y, kept.count), kept.size))
        pointer = b.inttoptr(address, POINTER)
        if row:
            # An unsigned comparison finds those above the first too.
            pointer = b.select(b.icmp_unsigned("<", y, self._fact(HEIGHT)), pointer, self._zeros)
        return b.at(pointer, margin_blocks(self._shape.places[number].margin or 0) * self._block_step(number))

    # Where in a row what is: see layout.

    def _block_step(self, number: int) -> int:
        """Floats from one block to the next."""
        place = self._shape.places[number]
        return BLOCK * self._lanes if place.by_channel else block_floats(place.channels, self._lanes)

    def _channel_step(self, number: int) -> Any:
        """Floats from one channel to the next."""
        b, place = self._b, self._shape.places[number]
        if not place.by_channel:
            return INT(BLOCK * self._lanes)
        beyond = 2 * margin_blocks(place.margin or 0) * BLOCK
        return b.mul(b.or_(b.add(self._steps, INT(beyond)), INT(1)), INT(self._lanes))

    def _aside(self, number: int, column: int) -> int:
        """Floats from a block's first vector of a channel to the one so many further on."""
        blocks, part = divmod(column, BLOCK)
        return blocks * self._block_step(number) + part * self._lanes

    def _channel(self, number: int, row: int, channel: Any) -> Any:
        """Where the current block of a channel is."""
        b = self._b
        block = self._here[number, row] if (number, row) in self._here else self._inside[number]
        return b.at(block, b.mul(channel, self._steps_of[number]))

    # A block of the row.

    def _block(self, codes: Sequence[Code], index: Any, _: Sequence[Any]) -> Sequence[Any]:
        self._enter(index)
        for code in codes:
            self._code(code)
            if code.result == self._shape.shuffled:
                self._shuffle(code.result)
        return []

    def _enter(self, index: Any) -> None:
        """Where each value's block is, and which of its lanes are inside the picture."""
        b = self._b
        self._here = {
            (number, row): b.at(start, b.mul(index, INT(self._block_step(number))))
            for (number, row), start in self._starts.items()
        }
        self._column = b.mul(index, INT(BLOCK))
        self._masks = [self._mask(part) for part in range(BLOCK)]

    def _mask(self, part: int) -> Any:
        b = self._b
        column = b.trunc(b.add(self._column, INT(part)), SHORT)
        places = b.add(self._lane_columns, self._splat_of(column, self._lane_columns.type))
        return b.icmp_signed("<", places, self._splat_of(b.trunc(self._width, SHORT), self._lane_columns.type))

    def _splat_of(self, value: Any, kind: ir.VectorType) -> Any:
        b = self._b
        nothing = ir.Constant(kind, ir.Undefined)
        first = b.insert_element(nothing, value, SHORT(0))
        places = ir.Constant(ir.VectorType(SHORT, self._lanes), [0] * self._lanes)
        return b.shuffle_vector(first, nothing, places)

    def _load(self, pointer: Any) -> Any:
        return self._b.load(pointer, typ=self._vector, align=4 * self._lanes)

    def _weight(self, place: Any) -> Any:
        """One of the stage's in all lanes."""
        return self._splat_at(self._weights, place)

    def _splat_at(self, pointer: Any, place: Any) -> Any:
        """One number in all lanes."""
        b = self._b
        return self._splat_of(b.load(b.at(pointer, place), typ=FLOAT, align=4), self._vector)

    def _constant(self, value: float) -> Any:
        number = ir.Constant(FLOAT, float(np.float32(value))).get_reference()
        splat = ir.FormattedConstant(FLOAT, f"splat (float {number})")  # lanes written out would be most of the text
        splat.type = self._vector
        return splat

    def _fma(self, x: Any, y: Any, z: Any) -> Any:
        """x * y + z, rounded once where the processor can."""
        return self._b.call(self._intrinsic("fmuladd", 3), [x, y, z])

    def _intrinsic(self, name: str, operands: int) -> Any:
        full = f"llvm.{name}.v{self._lanes}f32"
        if full not in self._module.globals:
            kind = ir.FunctionType(self._vector, [self._vector] * operands)
            ir.Function(self._module, kind, full)
        return self._module.globals[full]

    def _code(self, code: Code) -> None:
        heads: dict[type, Callable[[Code, Any], None]] = {
            Dense: self._dense,
            Normed: self._normed,
            Taken: self._taken,
        }
        heads[type(code.head)](code, code.head)

    def _store(self, code: Code, channel: Any, values: Vectors) -> None:
        """What follows the kernel's head, and into the place of the result."""
        for link in code.chain:
            values = self._link(link, channel, values)
        self._put(code.result, channel, values)

    def _put(self, number: int, channel: Any, values: Vectors) -> None:
        """Into a value's block; outside the picture zeros, where windows may take them."""
        b, there = self._b, self._shape.places[number].outside
        if there is Kind.SUMS:
            self._add_up(number, channel, values)
            return
        if there is Kind.PLANES:
            for part, value in enumerate(values):
                self._scatter_inside(value, self._masks[part], self._plane(number, channel, part))
            return
        target = self._channel(number, 0, channel)
        for part, value in enumerate(values):
            kept = b.select(self._masks[part], value, self._constant(0)) if self._shape.places[number].margin else value
            b.store(kept, b.at(target, part * self._lanes), align=4 * self._lanes)

    def _get(self, number: int, channel: Any) -> Vectors:
        """Of a value's block in this row."""
        there = self._shape.places[number].outside
        if there is Kind.NUMBERS:
            return [self._splat_at(self._base(number), channel)] * BLOCK
        if there is Kind.PLANES:
            return [self._gather(self._plane(number, channel, part)) for part in range(BLOCK)]
        pointer = self._channel(number, 0, channel)
        return [self._load(self._b.at(pointer, part * self._lanes)) for part in range(BLOCK)]

    # What is computed.

    def _dense(self, code: Code, head: Dense) -> None:
        for group in head.groups:

            def compute(index: Any, _: Sequence[Any], group: Group = group) -> Sequence[Any]:
                b = self._b
                first = b.add(b.mul(index, INT(group.count)), INT(group.first))
                weights = b.at(self._weights, b.add(b.mul(index, INT(group.length)), INT(group.weights)))
                self._group(code, group, first, weights)
                return []

            self._b.loop(INT(group.repeats), [], compute)

    def _group(self, code: Code, group: Group, first: Any, weights: Any) -> None:
        b = self._b
        biases = [self._splat_at(weights, INT(place)) for place in range(group.count)]
        sums = [bias for bias in biases for _ in range(BLOCK)]
        for loop in group.loops:
            sums = self._sum_loop(group, loop, weights, sums)
        if not code.chain:
            for place in range(group.count):
                self._put(code.result, b.add(first, INT(place)), sums[place * BLOCK : (place + 1) * BLOCK])
            return
        # In a loop of its own: unrolled for all sums, the chain would be most of the code. Meanwhile the sums must not
        # be where the result goes: another thread may have it there already, and use it.
        for place, value in enumerate(sums):
            b.store(value, b.at(self._unfinished, place * self._lanes), align=4 * self._lanes)

        def finish(index: Any, _: Sequence[Any]) -> Sequence[Any]:
            start = b.at(self._unfinished, b.mul(index, INT(BLOCK * self._lanes)))
            values = [self._load(b.at(start, part * self._lanes)) for part in range(BLOCK)]
            self._store(code, b.add(index, first), values)
            return []

        b.loop(INT(group.count), [], finish)

    def _sum_loop(self, group: Group, loop: Loop, weights: Any, sums: Vectors) -> Vectors:
        b = self._b
        pointer = self._channel(loop.source, loop.row, INT(loop.start))
        step = self._steps_of[loop.source]

        def body(index: Any, carried: Sequence[Any]) -> Sequence[Any]:
            channel = b.at(pointer, b.mul(index, step))
            loaded = self._loaded(loop.source, channel, loop.columns)
            mine = b.at(weights, b.add(b.mul(index, INT(len(loop.columns) * group.count)), INT(loop.weights)))
            found = list(carried)
            for number, column in enumerate(loop.columns):
                for place in range(group.count):
                    weight = self._splat_at(mine, INT(number * group.count + place))
                    for part in range(BLOCK):
                        at = place * BLOCK + part
                        found[at] = self._fma(weight, loaded[part + column], found[at])
            return found

        return list(b.loop(INT(loop.count), sums, body))

    def _loaded(self, source: int, channel: Any, columns: Sequence[int]) -> dict[int, Any]:
        """The vectors of a channel that a window of these columns takes, by their distance from the block's first."""
        found = {}
        for column in sorted({part + column for part in range(BLOCK) for column in columns}):
            found[column] = self._load(self._b.at(channel, self._aside(source, column)))
        return found

    def _window(self, code: Code, blocks: Any) -> None:
        """Channel by channel of the whole row: what a block and its neighbours both need is then still in the cache."""
        b, head = self._b, code.head
        assert isinstance(head, Window)  # noqa: S101  (what it is called for)
        taps = len(head.rows) * len(head.columns)

        def channel_row(channel: Any, _: Sequence[Any]) -> Sequence[Any]:
            first = b.add(b.mul(channel, INT(taps + 1)), INT(head.weights))
            bias, *weights = [self._weight(b.add(first, INT(place))) for place in range(taps + 1)]
            b.loop(blocks, [], partial(self._window_block, code, head, channel, bias, weights))
            return []

        b.loop(INT(self._shape.places[head.source].channels), [], channel_row)

    def _window_block(
        self, code: Code, head: Window, channel: Any, bias: Any, weights: Vectors, index: Any, _: Sequence[Any]
    ) -> Sequence[Any]:
        b = self._b
        self._enter(index)
        # Two sums for each vector: a chain of all taps would wait for itself.
        sums = [[bias, self._constant(0)] for _ in range(BLOCK)]
        following = enumerate(weights)
        for row in head.rows:
            loaded = self._loaded(head.source, self._channel(head.source, row, channel), head.columns)
            for column in head.columns:
                tap, weight = next(following)
                for part in range(BLOCK):
                    sums[part][tap % 2] = self._fma(weight, loaded[part + column], sums[part][tap % 2])
        self._store(code, channel, [b.fadd(one, other) for one, other in sums])
        return []

    def _normed(self, code: Code, head: Normed) -> None:
        b = self._b
        channels = self._shape.places[head.source].channels

        def values(channel: Any) -> Vectors:
            return self._get(head.source, channel)

        def add(channel: Any, sums: Vectors) -> Vectors:
            return [b.fadd(total, value) for total, value in zip(sums, values(channel), strict=True)]

        share = self._constant(1 / channels)
        means = [b.fmul(total, share) for total in self._sums(channels, add)]

        def add_squares(channel: Any, sums: Vectors) -> Vectors:
            away = [b.fsub(value, mean) for value, mean in zip(values(channel), means, strict=True)]
            return [self._fma(it, it, total) for it, total in zip(away, sums, strict=True)]

        factors = []
        for total in self._sums(channels, add_squares):
            deviation = b.call(self._intrinsic("sqrt", 1), [self._fma(total, share, self._constant(head.epsilon))])
            factors.append(b.fdiv(self._constant(1), deviation))

        def scaled(channel: Any, _: Sequence[Any]) -> Sequence[Any]:
            weights = b.add(b.mul(channel, INT(2)), INT(head.weights))
            scale, shift = self._weight(weights), self._weight(b.add(weights, INT(1)))
            found = [
                self._fma(b.fmul(b.fsub(value, mean), factor), scale, shift)
                for value, mean, factor in zip(values(channel), means, factors, strict=True)
            ]
            self._store(code, channel, found)
            return []

        b.loop(INT(channels), [], scaled)

    def _sums(self, channels: int, add: Callable[[Any, Vectors], Vectors]) -> Vectors:
        """Over channels; ``add`` adds one to sums. Each vector has several in turn, since one would wait for itself."""
        b = self._b
        rounds, rest = divmod(channels, SUMS)
        sums = [self._constant(0)] * (SUMS * BLOCK)

        def some(count: int, index: Any, carried: Sequence[Any]) -> Vectors:
            found, first = list(carried), b.mul(index, INT(SUMS))
            for place in range(count):
                found[place::SUMS] = add(b.add(first, INT(place)), found[place::SUMS])
            return found

        if rounds:
            sums = list(b.loop(INT(rounds), sums, partial(some, SUMS)))
        sums = some(rest, INT(rounds), sums)
        return [reduce(b.fadd, sums[part * SUMS : (part + 1) * SUMS]) for part in range(BLOCK)]

    def _taken(self, code: Code, head: Taken) -> None:
        def body(channel: Any, _: Sequence[Any]) -> Sequence[Any]:
            self._store(code, channel, self._get(head.source, channel))
            return []

        self._b.loop(INT(self._shape.places[head.source].channels), [], body)

    # What is done to it.

    def _link(self, link: Link, channel: Any, values: Vectors) -> Vectors:
        b = self._b
        zero = self._constant(0)
        if link.kind == "copy":
            return values
        if link.kind == "square":
            return [b.fmul(value, value) for value in values]
        if link.kind == "sigmoid":
            return [self._sigmoid(value) for value in values]
        if link.kind == "gelu":
            return [self._gelu(value) for value in values]
        if link.kind == "relu":
            return [b.select(b.fcmp_unordered("<", value, zero), zero, value) for value in values]
        if link.kind == "leaky":
            slope = self._constant(link.alpha)
            return [b.select(b.fcmp_ordered("<", it, zero), b.fmul(it, slope), it) for it in values]
        if link.source is not None:
            others = self._get(link.source, channel)
        else:
            others = [self._weight(b.add(channel, INT(link.weights or 0)))] * BLOCK
        pairs = list(zip(values, others, strict=True))
        if link.kind == "prelu":
            return [b.select(b.fcmp_ordered("<", it, zero), b.fmul(it, slope), it) for it, slope in pairs]
        if link.kind == "from":
            return [b.fsub(other, value) for value, other in pairs]
        return [getattr(b, {"add": "fadd", "sub": "fsub", "mul": "fmul"}[link.kind])(*pair) for pair in pairs]

    def _gelu(self, x: Any) -> Any:
        """max(x, 0) - c Phi(-c), c being the size of x within ``gelu.END``; see ``gelu``."""
        b = self._b
        zero, end = self._constant(0), self._constant(gelu.END)
        size = b.call(self._intrinsic("fabs", 1), [x])
        c = b.select(b.fcmp_ordered("<", size, end), size, end)
        p = self._constant(gelu.COEFFICIENTS[-1])
        for coefficient in gelu.COEFFICIENTS[-2::-1]:
            p = self._fma(p, c, self._constant(coefficient))
        for _ in range(gelu.SQUARINGS):
            p = b.fmul(p, p)
        positive = b.select(b.fcmp_ordered("<", x, zero), zero, x)  # x where it is no number
        return self._fma(b.fneg(c), p, positive)

    def _sigmoid(self, x: Any) -> Any:
        """1 / (1 + exp(-x)), with 2^t as 2^n times a polynomial in the rest; see ``sigmoid``."""
        b = self._b
        end, start = self._constant(sigmoid.END), self._constant(-sigmoid.END)
        c = b.select(b.fcmp_unordered("<", x, end), x, end)
        c = b.select(b.fcmp_unordered(">", c, start), c, start)
        # The sum's last bits are n, which is added to the exponent of 2^rest.
        shifted = self._fma(c, self._constant(-sigmoid.PER_TWO), self._constant(sigmoid.ROUNDER))
        n = b.fsub(shifted, self._constant(sigmoid.ROUNDER))
        rest = self._fma(c, self._constant(-sigmoid.PER_TWO), b.fneg(n))
        p = self._constant(sigmoid.COEFFICIENTS[-1])
        for coefficient in sigmoid.COEFFICIENTS[-2::-1]:
            p = self._fma(p, rest, self._constant(coefficient))
        shorts = ir.VectorType(SHORT, self._lanes)
        exponent = b.shl(b.bitcast(shifted, shorts), ir.Constant(shorts, [23] * self._lanes))
        power = b.bitcast(b.add(b.bitcast(p, shorts), exponent), self._vector)
        one = self._constant(1)
        return b.select(b.fcmp_unordered("uno", x, x), x, b.fdiv(one, b.fadd(one, power)))

    # To and from the outside.

    def _base(self, number: int) -> Any:
        return self._b.inttoptr(self._kept[number].base, POINTER)

    def _plane(self, number: int, channel: Any, part: int) -> list[Any]:
        """Where the lanes of a block's vector are in a channel's plane, ``steps`` columns apart."""
        b = self._b
        row = b.add(b.mul(channel, self._fact(HEIGHT)), self._y)
        first = b.add(self._column, INT(part))
        start = b.at(self._base(number), b.add(b.mul(row, self._width), first))
        return [b.at(start, b.mul(self._steps, INT(lane))) for lane in range(self._lanes)]

    def _gather(self, pixels: Sequence[Any]) -> Any:
        """What lies beyond the picture is of the next row, or of what follows the last."""
        b = self._b
        vector = ir.Constant(self._vector, ir.Undefined)
        for lane, pixel in enumerate(pixels):
            vector = b.insert_element(vector, b.load(pixel, typ=FLOAT, align=4), SHORT(lane))
        return vector

    def _scatter_inside(self, vector: Any, mask: Any, pixels: Sequence[Any]) -> None:
        """Only what is inside the picture: the rest goes where nobody looks."""
        b = self._b
        for lane, pixel in enumerate(pixels):
            place = b.select(b.extract_element(mask, SHORT(lane)), pixel, self._nowhere)
            b.store(b.extract_element(vector, SHORT(lane)), place, align=4)

    def _clear(self, totals: Any, channels: int) -> None:
        b = self._b

        def clear(channel: Any, _: Sequence[Any]) -> Sequence[Any]:
            b.store(self._constant(0), b.at(totals, b.mul(channel, INT(self._lanes))), align=4 * self._lanes)
            return []

        b.loop(INT(channels), [], clear)

    def _add_up(self, number: int, channel: Any, values: Vectors) -> None:
        """Add what is inside the picture to the row's sums."""
        b = self._b
        place = b.at(self._totals[number], b.mul(channel, INT(self._lanes)))
        total = self._load(place)
        for part, value in enumerate(values):
            total = b.fadd(total, b.select(self._masks[part], value, self._constant(0)))
        b.store(total, place, align=4 * self._lanes)

    def _give_sums(self, number: int, totals: Any) -> None:
        """Once they are whole: the threads of two bands may both compute a row, and give the same."""
        b = self._b
        channels = INT(self._shape.places[number].channels)
        row = b.at(self._base(number), b.mul(b.mul(self._y, channels), INT(self._lanes)))

        def give(channel: Any, _: Sequence[Any]) -> Sequence[Any]:
            place = b.mul(channel, INT(self._lanes))
            b.store(self._load(b.at(totals, place)), b.at(row, place), align=4 * self._lanes)
            return []

        b.loop(channels, [], give)

    # At the end of a row, and of the network.

    def _fill_margins(self, number: int) -> None:
        """Columns beyond the ends of a stretch are the first and last of its neighbours."""
        b = self._b
        place = self._shape.places[number]
        start = self._starts[number, 0]
        zero = self._constant(0)
        indices = ir.VectorType(SHORT, self._lanes)
        up = ir.Constant(indices, [self._lanes, *range(self._lanes - 1)])
        down = ir.Constant(indices, [*range(1, self._lanes), self._lanes])
        end = b.mul(self._fact(BLOCKS), INT(self._block_step(number)))

        def address(column: int, behind: Any, channel: Any) -> Any:
            beginning = b.add(INT(self._aside(number, column)), behind)
            return b.at(start, b.add(beginning, b.mul(channel, self._steps_of[number])))

        def body(channel: Any, _: Sequence[Any]) -> Sequence[Any]:
            # From the inside out: where the row is shorter than the margin, what is copied was just made.
            for column in range(1, (place.margin or 0) + 1):
                last = self._load(address(-column, end, channel))
                b.store(b.shuffle_vector(last, zero, up), address(-column, INT(0), channel), align=4 * self._lanes)
                first = self._load(address(column - 1, INT(0), channel))
                b.store(b.shuffle_vector(first, zero, down), address(column - 1, end, channel), align=4 * self._lanes)
            return []

        b.loop(INT(place.channels), [], body)

    def _shuffle(self, number: int) -> None:
        """Into rows of the enlarged picture, all lanes of them: (3, r * H, r * steps * lanes)."""
        b = self._b
        times = len(self._shape.order[0])
        base = b.inttoptr(self._kept[number].base, POINTER)
        line = b.mul(b.mul(self._steps, INT(self._lanes)), INT(times))
        top = b.mul(self._y, INT(times))
        plane = b.mul(self._fact(HEIGHT), INT(times))
        for colour, rows in enumerate(self._shape.order):
            for row, channels in enumerate(rows):
                y = b.add(b.add(b.mul(plane, INT(colour)), top), INT(row))
                target = b.at(base, b.mul(y, line))
                for part in range(BLOCK):
                    vectors = [
                        self._load(b.at(self._channel(number, 0, INT(channel)), part * self._lanes))
                        for channel in channels
                    ]
                    self._scatter(vectors, b.at(target, b.mul(b.add(self._column, INT(part)), INT(times))))

    def _scatter(self, vectors: Vectors, target: Any) -> None:
        """Of each lane the pixels side by side, ``steps`` columns apart."""
        b = self._b
        times = len(vectors)
        distance = b.mul(self._steps, INT(times))
        for lane in range(self._lanes):
            pixel = b.at(target, b.mul(distance, INT(lane)))
            if times == 1:
                b.store(b.extract_element(vectors[0], SHORT(lane)), pixel, align=4)
                continue
            joined = vectors[0]
            found = ir.Constant(ir.VectorType(FLOAT, times), ir.Undefined)
            for place, joined in enumerate(vectors):
                value = b.extract_element(joined, SHORT(lane))
                found = b.insert_element(found, value, SHORT(place))
            b.store(found, pixel, align=4)

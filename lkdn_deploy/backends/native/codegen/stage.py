"""Kernels in LLVM's intermediate representation: one function a stage, that computes one row.

    void stage(rows, weights, geometry, y)

``rows`` has for each value that is kept three integers: where its rows begin, how many are kept (row y is at y modulo
that), and bytes of a row; for the enlarged picture, where lines of one row are, and floats from one colour's to the
next's and from line to line; for values of the outside, where they begin. Planes of the outside, (C, H, W), may be read
as far beyond their end as lanes of a row are outside the picture; lines are the first rows of such planes, and have the
address of a table, ``outside.between``, for bytes of a row; sums are (H, C).
``geometry`` has height, width, vectors and blocks of a row, and where a row of zeros is. Row y must be inside
the picture; rows above and below it are read as zeros.
"""

from collections.abc import Callable, Sequence
from functools import partial, reduce
from itertools import groupby
from typing import Any

from llvmlite import ir

from lkdn_deploy.backends.native.codegen import activations
from lkdn_deploy.backends.native.codegen.buffers import Rows, Vectors
from lkdn_deploy.backends.native.layout import BLOCK
from lkdn_deploy.backends.native.lower import Code, Dense, Group, Link, Loop, Normed, Shape, Taken, Window
from lkdn_deploy.jit.builder import INT, POINTER, Builder

STAGE = ir.FunctionType(ir.VoidType(), [POINTER, POINTER, POINTER, INT])

SUMS = 4
"""Of one vector of a norm that are under way at once."""


def emit_stage(module: ir.Module, name: str, shape: Shape, lanes: int) -> None:
    """Add the function of a stage."""
    function = ir.Function(module, STAGE, name)
    rows, weights, geometry, y = function.args
    b = Builder(function, lanes)
    _Stage(b, shape, Rows(b, shape, rows, geometry, y), weights).emit()
    b.ret_void()


class _Stage:
    def __init__(self, builder: Builder, shape: Shape, rows: Rows, weights: Any) -> None:
        self._b, self._shape, self._rows, self._weights = builder, shape, rows, weights
        chained = [code.head for code in shape.codes if code.chain and isinstance(code.head, Dense)]
        most = max((group.count for head in chained for group in head.groups), default=1)
        self._unfinished = builder.scratch(most * BLOCK)
        dense = [code.head for code in shape.codes if isinstance(code.head, Dense)]
        self._longest = max(dense, key=_turns, default=None)
        """While this is computed, the memory has time for what comes next."""

    def emit(self) -> None:
        self._rows.begin()
        for windows, codes in groupby(self._shape.codes, lambda code: isinstance(code.head, Window)):
            if windows:
                for code in codes:
                    self._window(code)
            else:
                self._b.loop(self._rows.blocks, [], partial(self._block, tuple(codes)))
        self._rows.end()

    def _block(self, codes: Sequence[Code], index: Any, _: Sequence[Any]) -> Sequence[Any]:
        self._rows.enter(index)
        heads: dict[type, Callable[[Code, Any], None]] = {
            Dense: self._dense,
            Normed: self._normed,
            Taken: self._taken,
        }
        for code in codes:
            heads[type(code.head)](code, code.head)
            if code.result == self._shape.shuffled:
                self._rows.enlarge(code.result)
        return []

    def _store(self, code: Code, channel: Any, values: Vectors) -> None:
        """What follows the kernel's head, and into the place of the result."""
        for link in code.chain:
            values = self._link(link, channel, values)
        self._rows.put(code.result, channel, values)

    def _weight(self, place: Any) -> Any:
        """One of the stage's in all lanes."""
        return self._b.splat_at(self._weights, place)

    # What is computed.

    def _dense(self, code: Code, head: Dense) -> None:
        turn = 0
        for group in head.groups:
            each = sum(loop.count for loop in group.loops)

            def compute(
                index: Any, _: Sequence[Any], group: Group = group, turn: int = turn, each: int = each
            ) -> Sequence[Any]:
                b = self._b
                first = b.add(b.mul(index, INT(group.count)), INT(group.first))
                weights = b.at(self._weights, b.add(b.mul(index, INT(group.length)), INT(group.weights)))
                self._group(code, group, first, weights, b.add(b.mul(index, INT(each)), INT(turn)))
                return []

            self._b.loop(INT(group.repeats), [], compute)
            turn += group.repeats * each

    def _group(self, code: Code, group: Group, first: Any, weights: Any, turn: Any) -> None:
        b = self._b
        biases = [b.splat_at(weights, INT(place)) for place in range(group.count)]
        sums = [bias for bias in biases for _ in range(BLOCK)]
        for loop in group.loops:
            sums = self._sum_loop(code, group, loop, weights, turn, sums)
            turn = b.add(turn, INT(loop.count))
        if not code.chain:
            for place in range(group.count):
                self._rows.put(code.result, b.add(first, INT(place)), sums[place * BLOCK : (place + 1) * BLOCK])
            return
        # In a loop of its own: unrolled for all sums, the chain would be most of the code. Meanwhile the sums must not
        # be where the result goes: another thread may have it there already, and use it.
        for place, value in enumerate(sums):
            b.store_vector(value, b.at(self._unfinished, place * b.lanes))

        def finish(index: Any, _: Sequence[Any]) -> Sequence[Any]:
            start = b.at(self._unfinished, b.mul(index, INT(BLOCK * b.lanes)))
            values = [b.load_vector(b.at(start, part * b.lanes)) for part in range(BLOCK)]
            self._store(code, b.add(index, first), values)
            return []

        b.loop(INT(group.count), [], finish)

    def _sum_loop(self, code: Code, group: Group, loop: Loop, weights: Any, turn: Any, sums: Vectors) -> Vectors:
        b = self._b
        pointer = self._rows.channel(loop.source, loop.row, INT(loop.start))
        step = self._rows.channel_step(loop.source)
        fetch = self._rows.fetching(turn, _turns(code.head)) if code.head is self._longest else None

        def body(index: Any, carried: Sequence[Any]) -> Sequence[Any]:
            if fetch:
                fetch(index)
            channel = b.at(pointer, b.mul(index, step))
            loaded = self._rows.around(loop.source, channel, loop.columns)
            mine = b.at(weights, b.add(b.mul(index, INT(len(loop.columns) * group.count)), INT(loop.weights)))
            found = list(carried)
            for number, column in enumerate(loop.columns):
                for place in range(group.count):
                    weight = b.splat_at(mine, INT(number * group.count + place))
                    for part in range(BLOCK):
                        at = place * BLOCK + part
                        found[at] = b.fma(weight, loaded[part + column], found[at])
            return found

        return list(b.loop(INT(loop.count), sums, body))

    def _window(self, code: Code) -> None:
        """Channel by channel of the whole row: what a block and its neighbours both need is then still in the cache."""
        b, head = self._b, code.head
        assert isinstance(head, Window)  # noqa: S101  (what it is called for)
        taps = len(head.rows) * len(head.columns)

        def channel_row(channel: Any, _: Sequence[Any]) -> Sequence[Any]:
            first = b.add(b.mul(channel, INT(taps + 1)), INT(head.weights))
            bias, *weights = [self._weight(b.add(first, INT(place))) for place in range(taps + 1)]
            b.loop(self._rows.blocks, [], partial(self._window_block, code, head, channel, bias, weights))
            return []

        b.loop(INT(self._shape.places[head.source].channels), [], channel_row)

    def _window_block(
        self, code: Code, head: Window, channel: Any, bias: Any, weights: Vectors, index: Any, _: Sequence[Any]
    ) -> Sequence[Any]:
        b = self._b
        self._rows.enter(index)
        # Two sums for each vector: a chain of all taps would wait for itself.
        sums = [[bias, b.constant(0)] for _ in range(BLOCK)]
        following = enumerate(weights)
        for row in head.rows:
            loaded = self._rows.around(head.source, self._rows.channel(head.source, row, channel), head.columns)
            for column in head.columns:
                tap, weight = next(following)
                for part in range(BLOCK):
                    sums[part][tap % 2] = b.fma(weight, loaded[part + column], sums[part][tap % 2])
        self._store(code, channel, [b.fadd(one, other) for one, other in sums])
        return []

    def _normed(self, code: Code, head: Normed) -> None:
        b = self._b
        channels = self._shape.places[head.source].channels

        def values(channel: Any) -> Vectors:
            return self._rows.get(head.source, channel)

        def add(channel: Any, sums: Vectors) -> Vectors:
            return [b.fadd(total, value) for total, value in zip(sums, values(channel), strict=True)]

        share = b.constant(1 / channels)
        means = [b.fmul(total, share) for total in self._sums(channels, add)]

        def add_squares(channel: Any, sums: Vectors) -> Vectors:
            away = [b.fsub(value, mean) for value, mean in zip(values(channel), means, strict=True)]
            return [b.fma(it, it, total) for it, total in zip(away, sums, strict=True)]

        factors = []
        for total in self._sums(channels, add_squares):
            deviation = b.intrinsic("sqrt", b.fma(total, share, b.constant(head.epsilon)))
            factors.append(b.fdiv(b.constant(1), deviation))

        def scaled(channel: Any, _: Sequence[Any]) -> Sequence[Any]:
            weights = b.add(b.mul(channel, INT(2)), INT(head.weights))
            scale, shift = self._weight(weights), self._weight(b.add(weights, INT(1)))
            found = [
                b.fma(b.fmul(b.fsub(value, mean), factor), scale, shift)
                for value, mean, factor in zip(values(channel), means, factors, strict=True)
            ]
            self._store(code, channel, found)
            return []

        b.loop(INT(channels), [], scaled)

    def _sums(self, channels: int, add: Callable[[Any, Vectors], Vectors]) -> Vectors:
        """Over channels; ``add`` adds one to sums. Each vector has several in turn, since one would wait for itself."""
        b = self._b
        rounds, rest = divmod(channels, SUMS)
        sums = [b.constant(0)] * (SUMS * BLOCK)

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
            self._store(code, channel, self._rows.get(head.source, channel))
            return []

        self._b.loop(INT(self._shape.places[head.source].channels), [], body)

    # What is done to it.

    def _link(self, link: Link, channel: Any, values: Vectors) -> Vectors:
        b = self._b
        zero = b.constant(0)
        if link.kind == "copy":
            return values
        if link.kind == "square":
            return [b.fmul(value, value) for value in values]
        if link.kind == "sigmoid":
            return [activations.sigmoid(b, value) for value in values]
        if link.kind == "gelu":
            return [activations.gelu(b, value) for value in values]
        if link.kind == "relu":
            return [b.select(b.fcmp_unordered("<", value, zero), zero, value) for value in values]
        if link.kind == "leaky":
            slope = b.constant(link.alpha)
            return [b.select(b.fcmp_ordered("<", it, zero), b.fmul(it, slope), it) for it in values]
        if link.source is not None:
            others = self._rows.get(link.source, channel)
        else:
            others = [self._weight(b.add(channel, INT(link.weights or 0)))] * BLOCK
        pairs = list(zip(values, others, strict=True))
        if link.kind == "prelu":
            return [b.select(b.fcmp_ordered("<", it, zero), b.fmul(it, slope), it) for it, slope in pairs]
        if link.kind == "from":
            return [b.fsub(other, value) for value, other in pairs]
        return [getattr(b, {"add": "fadd", "sub": "fsub", "mul": "fmul"}[link.kind])(*pair) for pair in pairs]


def _turns(head: Dense) -> int:
    """Of its loops, in all."""
    return sum(group.repeats * loop.count for group in head.groups for loop in group.loops)

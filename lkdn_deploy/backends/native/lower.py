"""A stage as its kernels' shapes and one array of weights: stages of the same shapes share their code."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from lkdn_deploy.backends.native.ir import (
    Convolution,
    Depthwise,
    Floats,
    Kind,
    Norm,
    Operation,
    Pointwise,
    Program,
)
from lkdn_deploy.backends.native.schedule import Kernel, Schedule, Stage


@dataclass(frozen=True, slots=True)
class Loop:
    """Over channels of one source, all columns of one row of a window."""

    source: int
    row: int
    """Relative to the result's."""
    start: int
    count: int
    columns: tuple[int, ...]
    weights: int
    """Where they begin, counted from the group's: (channels, columns, results of the group)."""


@dataclass(frozen=True, slots=True)
class Group:
    """Channels of a convolution's result that are computed at once, and more of the same kind that follow."""

    first: int
    count: int
    repeats: int
    """Of groups of ``count`` channels, this one included."""
    weights: int
    """Where they begin: first the bias."""
    length: int
    """Of the weights of one group."""
    loops: tuple[Loop, ...]


@dataclass(frozen=True, slots=True)
class Dense:
    """A convolution over channels."""

    groups: tuple[Group, ...]


@dataclass(frozen=True, slots=True)
class Window:
    """A depthwise convolution."""

    source: int
    rows: tuple[int, ...]
    columns: tuple[int, ...]
    weights: int
    """(channels, bias and then rows * columns)."""


@dataclass(frozen=True, slots=True)
class Normed:
    """A norm over channels."""

    source: int
    epsilon: float
    weights: int
    """(channels, scale and shift)."""


@dataclass(frozen=True, slots=True)
class Taken:
    """A value as it is, for what follows."""

    source: int


@dataclass(frozen=True, slots=True)
class Link:
    """A pointwise operation."""

    kind: str
    source: int | None = None
    weights: int | None = None
    """By channel, where there is no second source."""
    alpha: float = 0.0


@dataclass(frozen=True, slots=True)
class Code:
    """A kernel: what is computed, what is done to it, where it goes."""

    head: Dense | Window | Normed | Taken
    chain: tuple[Link, ...]
    result: int


@dataclass(frozen=True, slots=True)
class Place:
    """A value as a stage knows it."""

    channels: int
    margin: int | None
    """Columns kept beside each row; ``None``: it lives inside a block only."""
    by_channel: bool
    """Whether a row has one channel after the other, not one block after the other."""
    outside: Kind | None
    """How it goes to the outside or comes from there."""


@dataclass(frozen=True, slots=True)
class Shape:
    """All that the code of a stage hangs on; values are numbered as they come."""

    places: tuple[Place, ...]
    codes: tuple[Code, ...]
    shuffled: int | None
    """The value that is the enlarged picture, if this stage computes it."""
    order: tuple[tuple[tuple[int, ...], ...], ...]
    """Of the enlarged picture: which channel is which of its pixels."""


@dataclass(frozen=True, slots=True)
class Lowered:
    """A stage."""

    shape: Shape
    values: tuple[int, ...]
    """Of the program, by number in ``shape``."""
    weights: Floats


def lower(stage: Stage, program: Program, plan: Schedule, results: int) -> Lowered:
    """Into kernels that compute at most ``results`` channels at once."""
    return _Lowering(program, plan, results).stage(stage)


class _Lowering:
    def __init__(self, program: Program, plan: Schedule, results: int) -> None:
        self._program, self._plan, self._results = program, plan, results
        self._numbers: dict[int, int] = {}
        self._weights: list[Floats] = []
        self._length = 0

    def stage(self, stage: Stage) -> Lowered:
        codes = tuple(self._code(kernel) for kernel in stage.kernels)
        shuffled = self._numbers.get(self._program.result)
        values = tuple(self._numbers)
        plan, channels = self._plan, self._program.channels
        outside = {value: there.kind for value, there in self._program.outside.items()}
        places = tuple(
            Place(channels[it], plan.margins.get(it), it in plan.by_channel, outside.get(it)) for it in values
        )
        order = tuple(tuple(tuple(row) for row in plane) for plane in self._program.order.tolist())
        shape = Shape(places, codes, shuffled, order if shuffled is not None else ())
        weights = np.concatenate(self._weights) if self._weights else np.zeros(1, np.float32)
        return Lowered(shape, values, weights)

    def _number(self, value: int) -> int:
        return self._numbers.setdefault(value, len(self._numbers))

    def _put(self, weights: Floats) -> int:
        """Where they begin."""
        start = self._length
        self._weights.append(np.ascontiguousarray(weights, np.float32).reshape(-1))
        self._length += weights.size
        return start

    def _code(self, kernel: Kernel) -> Code:
        head, first = self._head(kernel.operation)
        chain, before = [*first], kernel.operation.output
        for link in kernel.chain:
            chain.append(self._link(link, before))
            before = link.output
        return Code(head, tuple(chain), self._number(kernel.output))

    def _head(self, operation: Operation) -> tuple[Dense | Window | Normed | Taken, tuple[Link, ...]]:
        if isinstance(operation, Convolution):
            return self._dense(operation), ()
        source = self._number(operation.inputs[0])
        if isinstance(operation, Depthwise):
            rows, columns = (
                tuple((place - size // 2) * step for place in range(size))
                for size, step in zip(operation.weight.shape[1:], operation.dilation, strict=True)
            )
            flat = operation.weight.reshape(len(operation.weight), -1)
            return Window(source, rows, columns, self._put(np.column_stack([operation.bias, flat]))), ()
        if isinstance(operation, Norm):
            both = np.column_stack([operation.scale, operation.shift])
            return Normed(source, operation.epsilon, self._put(both)), ()
        return Taken(source), (self._link(operation, operation.inputs[0]),)

    def _link(self, operation: Pointwise, before: int) -> Link:
        """``before`` is what the kernel has in hand."""
        if operation.constant is not None:
            return Link(operation.kind, None, self._put(operation.constant))
        others = [value for value in operation.inputs if value != before]
        if not others:
            twice = operation.inputs[0] if len(operation.inputs) > 1 else None
            return Link(operation.kind, None if twice is None else self._number(twice), None, operation.alpha)
        kind = "from" if operation.kind == "sub" and operation.inputs[0] != before else operation.kind
        return Link(kind, self._number(others[0]))

    def _dense(self, operation: Convolution) -> Dense:
        groups: list[Group] = []
        for first, count in self._parts(operation):
            start = self._put(operation.bias[first : first + count])
            loops = tuple(self._loops(operation, first, count, start))
            length = self._length - start
            before = groups[-1] if groups else None
            if before and (before.count, before.length, before.loops) == (count, length, loops):
                groups[-1] = replace(before, repeats=before.repeats + 1)
            else:
                groups.append(Group(first, count, 1, start, length, loops))
        return Dense(tuple(groups))

    def _parts(self, operation: Convolution) -> Iterator[tuple[int, int]]:
        """Equal ones if they need not be small, none of them of two pieces."""
        each = len(operation.weight) // operation.pieces[0]
        number = -(-each // self._results)
        equal = next(it for it in range(number, each + 1) if each % it == 0)
        number = equal if equal <= 2 * number else number
        bounds = [each * part // number for part in range(number + 1)]
        for piece in range(operation.pieces[0]):
            for low, high in pairwise(bounds):
                yield piece * each + low, high - low

    def _loops(self, operation: Convolution, first: int, count: int, origin: int) -> Iterator[Loop]:
        weight = operation.weight[first : first + count]
        rows, columns = weight.shape[2:]
        each = weight.shape[1] // operation.pieces[1]
        start = 0
        for value in operation.inputs:
            end = start + self._program.channels[value]
            edges = sorted({start, end, *(it for it in range(0, weight.shape[1], each) if start < it < end)})
            for low, high in pairwise(edges):
                for i in range(rows):
                    row = weight[:, low:high, i]
                    taken = [j for j in range(columns) if row[..., j].any()]
                    if taken:
                        yield Loop(
                            self._number(value),
                            (i - rows // 2) * operation.dilation[0],
                            low - start,
                            high - low,
                            tuple((j - columns // 2) * operation.dilation[1] for j in taken),
                            self._put(row[..., taken].transpose(1, 2, 0)) - origin,
                        )
            start = end

"""The choice between integers and float32 for each value of a program, and the scales of the integers.

Elementwise operations on integers need operands of one scale. So the channels that they connect form groups, each of
one scale, apart from factors of multiplications by constants. The measured ranges determine it, unless a group holds
the image at either end, whose scales are given. An operation that would join what cannot have one scale is computed in
float32.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.fixed.fixed_ir import (
    HIGHEST,
    INPUT_SCALE,
    RESULT_SCALE,
    Doubles,
    Storage,
    ValueFormat,
)
from lkdn_deploy.backends.native.fixed.residues import RESIDUES
from lkdn_deploy.backends.native.ir import ConvOp, DepthwiseOp, Elementwise, Floats, NormOp, Op, Program, SelectOp

_TIED = {"add", "copy", "leaky_relu", "max", "min", "prelu", "relu", "sub", *RESIDUES}
"""Kinds of elementwise operations that integers of one scale allow."""

_UPPER_ONLY = {"relu", *RESIDUES}
"""Activations that give 0, or almost, for all numbers below their range."""

_LEAST = 2.0**-10
"""Least range of a channel beside the largest of its value."""

_TINY = 1e-20

_MOST_LOST = 3.0
"""Most times that a group may reach as far as a channel in it, or as far as the channels of its value do on average:
otherwise that value would lose too many bits."""


@dataclass(frozen=True, slots=True)
class Ranges:
    """The lowest and the highest number of each channel of each value, (channels,) by value, as measured."""

    low: tuple[Floats, ...]
    high: tuple[Floats, ...]
    moments: Mapping[int, Doubles] = field(default_factory=dict)
    """Results of ``rounding.window_moments`` by output of convolutions, where they are known."""


def choose_formats(
    program: Program, ranges: Ranges, margin: float, in_float: Collection[int] = ()
) -> tuple[tuple[ValueFormat, ...], frozenset[int]]:
    """Choose the format of each value, and which elementwise operations are computed in float32.

    Args:
        program: a program without subgraphs.
        ranges: its measured ranges.
        margin: how far beyond the measured ranges integers reach.
        in_float: outputs of elementwise operations that must be computed in float32.

    Returns:
        The formats, and the outputs of the operations in float32.
    """
    forced = set(in_float)
    while True:
        computed, stored = _float_parts(program, forced)
        groups = _Groups(program, ranges, margin, computed, stored)
        joined = ((op.output, groups.join(op)) for op in program.ops if op.output not in computed)
        conflict = next((output for output, fits in joined if not fits), None)
        if conflict is None:
            return groups.formats(), computed
        forced.add(conflict)


def _is_integral(op: Op) -> bool:
    """Return whether an elementwise operation can be computed with integers."""
    if isinstance(op, SelectOp):
        return True
    if not isinstance(op, Elementwise):
        return False
    if op.kind == "mul":
        return op.constant is not None and bool((op.constant > _TINY).all() and (op.constant < 1 / _TINY).all())
    if op.kind == "leaky_relu":
        return abs(op.alpha) * (HIGHEST + 1) <= HIGHEST
    if op.kind == "prelu":
        return op.constant is not None and bool((np.abs(op.constant) * (HIGHEST + 1) <= HIGHEST).all())
    return op.kind in _TIED


def _is_product(op: Op) -> bool:
    """Return whether an operation multiplies two values, each of which can be large."""
    return isinstance(op, Elementwise) and op.kind in ("mul", "square") and op.constant is None


def _float_parts(program: Program, forced: Collection[int]) -> tuple[frozenset[int], frozenset[int]]:
    """Return the outputs of operations in float32, and the values that are stored so.

    A value is stored so if only operations in float32 read it. Those are the operations that integers do not allow, and
    the elementwise ones before them.
    """
    readers: dict[int, list[Op]] = {}
    for op in program.ops:
        for value in op.inputs:
            readers.setdefault(value, []).append(op)
    in_float: set[int] = set()
    stored: set[int] = set()
    for op in reversed(program.ops):
        read_by = readers.get(op.output, [])
        only_in_float = bool(read_by) and all(it.output in in_float for it in read_by)
        if only_in_float and op.output != program.result and not isinstance(op, SelectOp):
            stored.add(op.output)
        if isinstance(op, ConvOp | DepthwiseOp | SelectOp):
            continue
        if op.output in stored or op.output in forced or not _is_integral(op):
            in_float.add(op.output)
    return frozenset(in_float), frozenset(stored)


class _Groups:
    """Channels of values, and the groups that have one scale: a channel's is its group's, times a ratio."""

    def __init__(
        self,
        program: Program,
        ranges: Ranges,
        margin: float,
        in_float: Collection[int],
        float_values: Collection[int],
    ) -> None:
        self._program, self._margin = program, margin
        self._in_float, self._float_values = in_float, float_values
        channels = program.channels
        self._starts = np.concatenate([[0], np.cumsum(channels)])
        count = int(self._starts[-1])
        self._upper_only = _upper_only(program, in_float)
        products = {op.output for op in program.ops if _is_product(op)}
        self._group = np.arange(count)
        self._members = {node: [node] for node in range(count)}
        self._ratio = np.ones(count)
        self._reach = np.zeros(count)
        """Largest number of each group, for a channel of ratio 1."""
        self._needed = np.zeros(count)
        """Reach of each channel below which nothing is gained by a larger scale."""
        self._given = np.zeros(count)
        """Scale of each group where it is given, else 0."""
        self._residue: dict[int, tuple[str, float]] = {}
        """The activation of each group that has one, and the ratio of its channels."""
        for value in range(len(channels)):
            ends = [ranges.high[value]] if value in self._upper_only else [-ranges.low[value], ranges.high[value]]
            reach = np.max(ends, axis=0).astype(np.float64)
            if value in products:  # each factor may reach beyond its measured range by the margin
                reach *= margin
            self._reach[self._nodes(value)] = np.maximum(reach, max(reach.max() * _LEAST, _TINY))
            self._needed[self._nodes(value)] = np.maximum(reach, max(reach.mean(), _TINY))
        self._given[self._nodes(0)] = INPUT_SCALE
        self._given[self._nodes(program.result)] = RESULT_SCALE

    def _nodes(self, value: int) -> NDArray[np.intp]:
        return np.arange(self._starts[value], self._starts[value + 1])

    def join(self, op: Op) -> bool:
        """Join the channels that an operation on integers connects. Return whether they can have one scale."""
        if not isinstance(op, Elementwise | SelectOp):
            return True
        outputs = self._nodes(op.output)
        if isinstance(op, SelectOp):
            return self._join(outputs, self._nodes(op.inputs[0])[op.first : op.first + len(outputs)])
        if op.kind == "mul" and op.constant is not None:
            return self._join(outputs, self._nodes(op.inputs[0]), 1 / op.constant.astype(np.float64))
        if op.kind not in ("prelu",) and op.constant is not None:
            constant = np.abs(op.constant).astype(np.float64) * self._ratio[outputs]
            np.maximum.at(self._reach, self._group[outputs], constant)
        for value in op.inputs:
            if not self._join(outputs, np.broadcast_to(self._nodes(value), outputs.shape)):
                return False
        if len(op.inputs) > 1 and not self._given[self._group[outputs]].any() and not self._keeps_bits(outputs):
            return False
        if op.kind in RESIDUES:
            for node in outputs.tolist():
                group, found = int(self._group[node]), (op.kind, float(self._ratio[node]))
                if self._residue.setdefault(group, found) != found or self._given[group]:
                    return False
        return True

    def _join(self, nodes: NDArray[np.intp], others: NDArray[np.intp], ratios: Doubles | float = 1.0) -> bool:
        """Join channels one by one; the scale of ``nodes`` is that of ``others`` times ``ratios``."""
        steps = zip(nodes.tolist(), others.tolist(), np.broadcast_to(ratios, nodes.shape).tolist(), strict=True)
        return all(self._join_one(*it) for it in steps)

    def _join_one(self, node: int, other: int, ratio: float) -> bool:
        group, into = int(self._group[node]), int(self._group[other])
        times = float(ratio * self._ratio[other] / self._ratio[node])  # the scale of ``group`` over that of ``into``
        if group == into:
            return bool(np.isclose(times, 1, rtol=1e-6))
        members = self._members.pop(group)
        self._members[into] += members
        self._ratio[members] *= times
        self._group[members] = into
        self._reach[into] = max(self._reach[into], self._reach[group] * times)
        given = self._given[group] / times
        if given and self._given[into] and not np.isclose(given, self._given[into], rtol=1e-6):
            return False
        self._given[into] = given or self._given[into]
        if (found := self._residue.pop(group, None)) is not None:
            found = found[0], found[1] * times
            if self._residue.setdefault(into, found) != found:
                return False
        if self._given[into] and into in self._residue:
            return False
        return not self._given[into] or self._given[into] * self._reach[into] <= HIGHEST

    def _keeps_bits(self, nodes: NDArray[np.intp]) -> bool:
        """Return whether the groups of some channels reach not too far for any channel in them."""
        members = np.isin(self._group, self._group[nodes])
        reach = self._reach[self._group[members]]
        return bool((reach <= _MOST_LOST * self._ratio[members] * self._needed[members]).all())

    def _scale(self, group: int) -> float:
        if self._given[group]:
            return float(self._given[group])
        scale = HIGHEST / (self._margin * self._reach[group])
        if group in self._residue:
            kind, ratio = self._residue[group]
            residue = RESIDUES[kind]
            return residue.scale(residue.step(scale * ratio)) / ratio
        return float(scale)

    def formats(self) -> tuple[ValueFormat, ...]:
        """Return the format of each value."""
        scales = {int(group): self._scale(int(group)) for group in np.unique(self._group)}
        made = {op.output: op for op in self._program.ops}
        found: list[ValueFormat] = []
        for value, channels in enumerate(self._program.channels):
            if value in self._float_values:
                found.append(ValueFormat(Storage.FLOAT32, np.ones(channels)))
                continue
            scale = (
                np.array([scales[int(self._group[it])] for it in self._nodes(value)]) * self._ratio[self._nodes(value)]
            )
            watched = value in made and _can_saturate(made[value], value in self._in_float)
            low = watched and value not in self._upper_only
            found.append(ValueFormat(Storage.INT16, scale, low, watched))
        return tuple(found)


def _upper_only(program: Program, in_float: Collection[int]) -> frozenset[int]:
    """Return the values of which only the upper end of the range counts, since activations alone read them."""
    readers: dict[int, set[str]] = {}
    for op in program.ops:
        for value in op.inputs:
            kind = op.kind if isinstance(op, Elementwise) and op.output not in in_float else ""
            readers.setdefault(value, set()).add(kind)
    return frozenset(it for it, kinds in readers.items() if kinds <= _UPPER_ONLY and it != program.result)


def _can_saturate(op: Op, in_float: bool) -> bool:
    """Return whether the result of an operation, stored as an integer, can exceed the range of its operands."""
    if isinstance(op, ConvOp | DepthwiseOp | NormOp) or in_float:
        return True
    return isinstance(op, Elementwise) and op.kind in ("add", "sub")

"""Quantisation: from a program and the ranges of its values to the program in fixed point."""

import math
from collections.abc import Collection, Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.fixed.fixed_ir import (
    HIGHEST,
    LOWEST,
    Doubles,
    FixedActivation,
    FixedConv,
    FixedElementwise,
    FixedOp,
    FixedProgram,
    FixedSelect,
    FloatElementwise,
    FloatNorm,
    Ints,
    Shorts,
    Storage,
    ValueFormat,
)
from lkdn_deploy.backends.native.fixed.integers import (
    MAX_SHIFT,
    Reach,
    as_factors,
    scaled_integers,
    shifted_integers,
    sums_fit,
)
from lkdn_deploy.backends.native.fixed.residues import RESIDUES, activation_numbers, residue_table
from lkdn_deploy.backends.native.fixed.rewrites import can_split, centre_norms, split_sum
from lkdn_deploy.backends.native.fixed.rounding import DAMPING, Rounding, compensated, part_of_moments
from lkdn_deploy.backends.native.fixed.storage import Ranges, choose_formats
from lkdn_deploy.backends.native.ir import (
    ConvOp,
    DepthwiseOp,
    Elementwise,
    FactorsOp,
    Floats,
    NormOp,
    Op,
    Program,
    SelectOp,
    UnsupportedError,
    require,
)

MARGIN = 2.0
"""The factor by which integers reach beyond the measured ranges. The larger, the fewer pictures are computed again in
float32, and the coarser are integers: with 2.5, pixels of drawn pictures differ by up to 5 levels."""

LEAST_WEIGHT = 450
"""Least magnitude of each output's largest weight; where the sum does not allow as much, it is split. More bits gain
little where the errors of weights make up for each other, and cost time: LKDN-S, not split, takes 0.98 of the time."""

_MOST_PARTS = 4

_LARGEST_FLOAT = 1e15
"""Limit of the magnitude of values in float32, whose squares must be finite."""

_FLOAT_KINDS = {
    *("add", "copy", "gelu", "leaky_relu", "max", "min", "mul", "prelu", "relu", "sigmoid", "silu", "square", "sub"),
    "tanh",
}
"""Kinds of elementwise operations in float32 that make finite numbers of finite numbers."""


def check_quantisable(program: Program) -> None:
    """Check that a program's values depend on their neighbourhood only.

    Raises:
        UnsupportedError: if not.
    """
    alone = set(program.boundaries) == {0} and not program.subgraphs
    require(alone, "fixed point for a network of which ONNX Runtime executes a part")


def quantise(
    program: Program,
    ranges: Ranges,
    margin: float = MARGIN,
    damping: float = DAMPING,
    least: float = LEAST_WEIGHT,
    known: Mapping[int, FixedConv] | None = None,
) -> FixedProgram:
    """Return a program in fixed point.

    Args:
        program: a program.
        ranges: the ranges of its values. With moments, errors of weights make up for each other; without, each weight
            becomes the nearest integer.
        margin: the factor by which integers reach beyond them.
        damping: an argument of ``rounding.compensated``.
        least: in place of ``LEAST_WEIGHT``.
        known: convolutions that this function made of the same arguments, by output: then these are taken.

    Raises:
        UnsupportedError: if it has operations that fixed point does not have.
    """
    check_quantisable(program)
    finite = all(np.isfinite(it).all() for it in (*ranges.low, *ranges.high))
    require(finite, "fixed point for a network with values that are not finite")
    program, centred = centre_norms(program)
    split: set[int] = set()
    moments = dict(ranges.moments)
    while True:
        quantiser = _Quantiser(program, ranges, margin, centred, split, least)
        found = quantiser.program()
        if not quantiser.coarse:
            break
        for output, parts in quantiser.coarse.items():
            whole, before = next(op for op in program.ops if op.output == output), len(program.channels)
            program = split_sum(program, output, parts)
            added = range(before, len(program.channels))
            split |= {output, *added}
            low, high = (ends + tuple(ends[output] for _ in added) for ends in (ranges.low, ranges.high))
            ranges = Ranges(low, high)
            moments |= _moments_of_parts(program, whole, added, moments.pop(output, None))
    if not moments and known is None:
        return found
    return _Quantiser(program, ranges, margin, centred, split, least, (moments, damping), known).program()


def _moments_of_parts(program: Program, whole: Op, added: range, moments: Doubles | None) -> dict[int, Doubles]:
    """Return the moments of the convolutions that are parts of another: of all its inputs, or of adjacent ones."""
    parts = [op for op in program.ops if isinstance(op, ConvOp) and op.output in added]
    if moments is None or not isinstance(whole, ConvOp):
        return {}
    found, first, taps = {}, 0, int(np.prod(whole.weight.shape[2:]))
    for op in parts:
        if op.inputs == whole.inputs:
            found[op.output] = moments
            continue
        count = sum(program.channels[it] for it in op.inputs)
        found[op.output] = part_of_moments(moments, range(first, first + count), taps)
        first += count
    return found


class _Quantiser:
    def __init__(
        self,
        program: Program,
        ranges: Ranges,
        margin: float,
        centred: Collection[int],
        split: Collection[int],
        least: float,
        moments: tuple[Mapping[int, Doubles], float] = ({}, 0.0),
        known: Mapping[int, FixedConv] | None = None,
    ) -> None:
        self._program, self._centred, self._split = program, centred, split
        self._least, self._moments, self._known = least, moments, known
        formats, self._in_float = choose_formats(program, ranges, margin, split)
        self._formats, self._gates = _with_units(program, formats, self._in_float)
        self._reach: list[Reach] = [
            (np.full(count, LOWEST, np.int64), np.full(count, HIGHEST, np.int64)) for count in program.channels
        ]
        self._largest = np.zeros(len(program.channels))
        """Largest magnitude of each value in float32."""
        self.coarse: dict[int, int] = {}
        """Convolutions whose weights keep too few bits, and the number of parts that would keep enough."""

    def program(self) -> FixedProgram:
        ops: dict[int, FixedOp] = {}
        for op in self._program.ops:
            found = self._op(op)
            ops[op.output] = found
            if self._formats[op.output].storage is Storage.INT16:
                self._narrow(found)
            else:
                require(self._largest[op.output] < _LARGEST_FLOAT, "values too large for float32 in fixed point")
        tables = {it.table for it in ops.values() if isinstance(it, FixedActivation)}
        return FixedProgram(self._program, self._formats, ops, {kind: residue_table(kind) for kind in sorted(tables)})

    def _op(self, op: Op) -> FixedOp:
        match op:
            case ConvOp() | DepthwiseOp():
                return self._conv(op)
            case NormOp():
                return self._norm(op)
            case SelectOp():
                return FixedSelect(op.inputs, op.output, op.first)
            case Elementwise() if op.output in self._in_float:
                return self._in_float32(op)
            case Elementwise():
                return self._integral(op)
            case FactorsOp():
                msg = "minimal filtering in fixed point"
                raise UnsupportedError(msg)

    def _scale(self, value: int) -> Doubles:
        return self._formats[value].scale

    def _conv(self, op: ConvOp | DepthwiseOp) -> FixedConv:
        scale = self._scale(op.output)
        shape = op.weight.shape
        weight = op.weight.astype(np.float64).reshape(*(shape[:2] if isinstance(op, ConvOp) else (shape[0], 1)), -1)
        sources = np.concatenate([self._scale(it) for it in op.inputs])
        low, high = (np.concatenate([self._reach[it][end] for it in op.inputs]) for end in range(2))
        bias = op.bias.astype(np.float64)
        # Of a depthwise convolution, each output has an input of its own.
        by_output = isinstance(op, DepthwiseOp)
        reach = (low[:, None], high[:, None]) if by_output else (low, high)
        weight = weight / (sources[:, None, None] if by_output else sources[:, None])
        found = self._known_conv(op)
        if found is None:
            rounded = self._rounding(op.output, sources)
            if self._formats[op.output].storage is Storage.FLOAT32:
                whole, offset, unit = scaled_integers(weight, bias, reach, rounded)
                numbers: tuple[Shorts, Ints, Ints | None, Floats | None]
                numbers = whole, offset, None, (unit * scale).astype(np.float32)
            else:
                numbers = *shifted_integers(weight * scale[:, None, None], bias * scale, reach, rounded), None
            found = FixedConv(op.inputs, op.output, numbers[0].reshape(shape), *numbers[1:])
        if found.factor is not None:
            self._largest[op.output] = float(found.factor.max()) * 2.0**31
        whole, offset = found.weight.reshape(weight.shape), found.bias
        largest = np.abs(whole).max(axis=(1, 2))
        parts = math.ceil(self._least / max(int(largest.min()), 1))
        if parts > 1 and op.output not in self._split and can_split(op):
            self.coarse[op.output] = min(parts, _MOST_PARTS)
        require(sums_fit(whole, offset, reach), "a convolution whose sums exceed 32 bits")
        return found

    def _rounding(self, output: int, sources: Doubles) -> Rounding:
        """Return the rounding of a convolution's weights: to the nearest integers, where moments are not known."""
        moments, damping = self._moments
        known = moments.get(output)
        return np.rint if known is None or not np.isfinite(known).all() else compensated(known, sources, damping)

    def _known_conv(self, op: ConvOp | DepthwiseOp) -> FixedConv | None:
        """Return the integers of a convolution that are known already, if any are.

        Raises:
            UnsupportedError: if some are, but do not fit it.
        """
        if self._known is None:
            return None
        known, to_float = self._known.get(op.output), self._formats[op.output].storage is Storage.FLOAT32
        require(known is not None and _fits(known, op, to_float), "integers that are not those of a convolution")
        return known

    def _norm(self, op: NormOp) -> FloatNorm:
        (source,), scale = op.inputs, self._scale(op.output)
        require(op.epsilon > 0, "a normalisation without an epsilon in fixed point")
        factor = as_factors(1 / self._scale(source))
        numbers = (op.scale.astype(np.float64) * scale, op.shift.astype(np.float64) * scale)
        gain, shift = (it.astype(np.float32) for it in numbers)
        # A number is at most the root of the count beside the root of the mean square.
        bound = np.abs(numbers[0]) * len(scale) + np.abs(numbers[1])
        self._largest[op.output] = bound.max()
        return FloatNorm(op.inputs, op.output, factor, source in self._centred, op.epsilon, gain, shift)

    def _in_float32(self, op: Elementwise) -> FloatElementwise:
        require(op.kind in _FLOAT_KINDS, f"{op.kind} in fixed point")
        formats = [self._formats[it] for it in (*op.inputs, op.output)]
        *operands, scale = (it.scale for it in formats)
        stored = [self._largest[it] if self._formats[it].storage is Storage.FLOAT32 else 2.0**15 for it in op.inputs]
        if _is_sum(self._program, op):
            factors = [scale / it for it in operands]
            self._largest[op.output] = sum(bound * it.max() for bound, it in zip(stored, factors, strict=True))
            return FloatElementwise(op.inputs, op.output, op.kind, tuple(map(as_factors, factors)), None, 0.0, None)
        bounds = [(bound / it).max() for bound, it in zip(stored, operands, strict=True)]
        bounds += [np.abs(op.constant).max()] if op.constant is not None else []
        bound = np.prod(bounds) if op.kind == "mul" else bounds[0] ** 2 if op.kind == "square" else np.sum(bounds) + 1
        bound = np.maximum(bound, np.max(bounds) * max(1, abs(op.alpha), bounds[-1] if op.kind == "prelu" else 1))
        self._largest[op.output] = bound
        if op.output in self._gates:
            return FloatElementwise(op.inputs, op.output, op.kind, (None, None), None, op.alpha, None)
        numbers = tuple(as_factors(1 / it) for it in operands)
        return FloatElementwise(op.inputs, op.output, op.kind, numbers, op.constant, op.alpha, as_factors(scale))

    def _integral(self, op: Elementwise) -> FixedActivation | FixedElementwise:
        scale = self._scale(op.output)
        if op.kind in RESIDUES:
            return FixedActivation(op.inputs, op.output, op.kind, *activation_numbers(op.kind, scale))
        if op.kind == "mul":
            return FixedElementwise(op.inputs, op.output, "copy")
        if op.kind == "leaky_relu":
            return FixedElementwise(op.inputs, op.output, "leaky", _slopes(np.full(len(scale), op.alpha)))
        if op.constant is None:
            return FixedElementwise(op.inputs, op.output, op.kind)
        if op.kind == "prelu":
            return FixedElementwise(op.inputs, op.output, "leaky", _slopes(op.constant))
        whole = np.clip(np.rint(op.constant.astype(np.float64) * scale), LOWEST, HIGHEST).astype(np.int16)
        return FixedElementwise(op.inputs, op.output, op.kind, whole)

    def _narrow(self, op: FixedOp) -> None:
        """Note the range of stored numbers where an operation cannot give all."""
        match op:
            case FixedActivation():
                # The largest residue, and what rounding adds.
                below = residue_table(op.table).coefficients.astype(np.int64)
                largest = (np.abs(below).sum(axis=0).max() + 2) * op.factor.astype(np.int64) >> 15
                self._reach[op.output] = -largest - 1, np.full(len(largest), HIGHEST, np.int64)
            case FixedElementwise(kind="relu"):
                self._reach[op.output][0][:] = 0
            case FixedElementwise(kind="copy"):
                self._reach[op.output] = self._reach[op.inputs[0]]
            case FixedSelect():
                places = slice(op.first, op.first + self._program.channels[op.output])
                low, high = self._reach[op.inputs[0]]
                self._reach[op.output] = low[places], high[places]


def _fits(known: FixedConv, op: ConvOp | DepthwiseOp, to_float: bool) -> bool:
    """Return whether a convolution's integers have its shape, and a shift or a factor for each output."""
    last = known.factor if to_float else known.shift
    kinds = [(known.weight, np.int16), (known.bias, np.int32), (last, np.float32 if to_float else np.int32)]
    if not all(isinstance(it, np.ndarray) and it.dtype == kind for it, kind in kinds) or last is None:
        return False
    if known.weight.shape != op.weight.shape or not known.bias.shape == last.shape == op.bias.shape:
        return False
    if known.weight.min(initial=0) < -HIGHEST:
        return False
    return bool((np.isfinite(last) & (last > 0)).all() if to_float else ((last >= 0) & (last <= MAX_SHIFT)).all())


def _slopes(numbers: NDArray[np.floating]) -> Shorts:
    return np.clip(np.rint(numbers.astype(np.float64) * 2.0**15), -HIGHEST, HIGHEST).astype(np.int16)


def _with_units(
    program: Program, formats: tuple[ValueFormat, ...], in_float: Collection[int]
) -> tuple[tuple[ValueFormat, ...], frozenset[int]]:
    """Give values in float32 the scales with which what reads them needs few factors.

    A convolution that only a gate reads has the one with which the product needs none; what only a sum reads has the
    sum's.

    Returns:
        The formats, and the outputs of such gates: products of a convolution in float32 and of integers, to integers.
    """
    found, gates = list(formats), set[int]()
    uses = [value for op in program.ops for value in op.inputs]
    convs = {op.output for op in program.ops if isinstance(op, ConvOp | DepthwiseOp)}
    for op in program.ops:
        if op.output not in in_float or not isinstance(op, Elementwise) or op.kind != "mul" or len(op.inputs) != 2:
            continue
        gate, other = sorted(op.inputs, key=lambda it: formats[it].storage is not Storage.FLOAT32)
        storages = [formats[it].storage for it in (gate, other, op.output)]
        alike = program.channels[gate] == program.channels[op.output]
        if (
            storages == [Storage.FLOAT32, Storage.INT16, Storage.INT16]
            and alike
            and gate in convs
            and uses.count(gate) == 1
        ):
            found[gate] = replace(found[gate], scale=formats[op.output].scale / formats[other].scale)
            gates.add(op.output)
    made = {op.output: op for op in program.ops}
    for op in reversed(program.ops):
        for value in op.inputs if op.output in in_float and _is_sum(program, op) else ():
            alone = found[value].storage is Storage.FLOAT32 and uses.count(value) == 1
            if alone and (isinstance(made[value], ConvOp | DepthwiseOp | NormOp) or _is_sum(program, made[value])):
                found[value] = replace(found[value], scale=found[op.output].scale)
    return tuple(found), frozenset(gates)


def _is_sum(program: Program, op: Op) -> bool:
    """Return whether an operation is a sum or a difference of two values of as many channels."""
    if not isinstance(op, Elementwise) or op.kind not in ("add", "sub") or len(op.inputs) != 2:
        return False
    return len({program.channels[it] for it in (*op.inputs, op.output)}) == 1

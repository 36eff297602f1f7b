"""The execution of a program in fixed point with NumPy, bit for bit as ``fixed_ir`` defines it."""

from collections.abc import Iterator
from typing import Any

import numpy as np
from array_builder import ArrayBuilder, elementwise
from array_maps import Maps, dense_sums, depthwise_sums, normalise
from numpy.typing import NDArray

from lkdn_deploy.backends.native.fixed.fixed_ir import (
    HIGHEST,
    INPUT_SCALE,
    LOWEST,
    RESULT_SCALE,
    RESULT_SHIFT,
    FixedActivation,
    FixedConv,
    FixedElementwise,
    FixedOp,
    FixedProgram,
    FixedSelect,
    FloatElementwise,
    FloatNorm,
    Storage,
)
from lkdn_deploy.backends.native.ir import ConvOp, DepthwiseOp, Floats, Op


def execute(fixed: FixedProgram, image: Floats, *, fused: bool = True) -> Iterator[tuple[int, Maps]]:
    """Yield each value with its number, as int16 or float32, and forget it after its last use.

    Args:
        fixed: the program.
        image: (3, H, W), RGB in 0..1.
        fused: whether ``fma`` rounds once.
    """
    program = fixed.program
    last = {value: place for place, op in enumerate(program.ops) for value in op.inputs}
    values: dict[int, Maps] = {0: to_integers(image * np.float32(INPUT_SCALE))}
    yield 0, values[0]
    builder = ArrayBuilder(fused=fused)
    for place, op in enumerate(program.ops):
        inputs = [values[it] for it in op.inputs]
        found = _compute(op, fixed.ops[op.output], fixed, inputs, builder)
        if fixed.formats[op.output].storage is Storage.INT16 and found.dtype != np.int16:
            found = to_integers(found)
        yield op.output, found
        values[op.output] = found
        for value in {op.output, *op.inputs}:
            if last.get(value, -1) <= place:
                del values[value]


def run(fixed: FixedProgram, image: Floats, *, fused: bool = True) -> tuple[Maps, NDArray[np.int16]]:
    """Return the result, (channels, H, W), and the extremes of the watched values, (watched, 2).

    The extremes include 0, as those of compiled code do.

    Args:
        fixed: the program.
        image: (3, H, W), RGB in 0..1.
        fused: whether ``fma`` rounds once.
    """
    extremes = np.zeros((len(fixed.watched), 2), np.int16)
    places = {value: place for place, value in enumerate(fixed.watched)}
    for value, maps in execute(fixed, image, fused=fused):
        if value in places:
            watched = fixed.formats[value]
            lowest, highest = min(0, maps.min()), max(0, maps.max())
            extremes[places[value]] = watched.watch_low * lowest, watched.watch_high * highest
        if value == fixed.program.result:
            result = maps
    return result, extremes


def saturated(fixed: FixedProgram, extremes: NDArray[np.int16]) -> bool:
    """Return whether pixels of 8 bits may be wrong."""
    inside = [value != fixed.program.result for value in fixed.watched]
    return bool(((extremes[inside] == LOWEST) | (extremes[inside] == HIGHEST)).any())


def to_pixels(fixed: FixedProgram, result: Maps) -> NDArray[np.uint8]:
    """Return the picture, (scale * H, scale * W, 3), of a result."""
    levels = np.clip((result.astype(np.int32) + (1 << RESULT_SHIFT >> 1)) >> RESULT_SHIFT, 0, 255).astype(np.uint8)
    return np.ascontiguousarray(_in_order(fixed, levels).transpose(1, 2, 0))


def to_floats(fixed: FixedProgram, result: Maps) -> Floats:
    """Return the picture, (3, scale * H, scale * W), of a result."""
    return _in_order(fixed, result.astype(np.float32) * np.float32(1 / RESULT_SCALE))


def _in_order(fixed: FixedProgram, maps: NDArray[Any]) -> NDArray[Any]:
    order = fixed.program.pixel_order
    colours, scale = order.shape[:2]
    height, width = maps.shape[1:]
    return maps[order].transpose(0, 3, 1, 4, 2).reshape(colours, scale * height, scale * width)


def to_integers(numbers: NDArray[Any]) -> NDArray[np.int16]:
    """Return float32 numbers as integers, rounded to nearest even and saturated."""
    return np.clip(np.rint(numbers), LOWEST, HIGHEST).astype(np.int16)


def mulhrs(a: NDArray[Any], b: NDArray[Any]) -> NDArray[np.int64]:
    """Return (a * b + 0x4000) >> 15."""
    return (a.astype(np.int64) * b + 0x4000) >> 15


def activate(op: FixedActivation, fixed: FixedProgram, maps: Maps) -> NDArray[np.int16]:
    """Return the result of an activation, (channels, H, W)."""
    end, step, factor = (it.astype(np.int64)[:, None, None] for it in (op.end, op.step, op.factor))
    t0, t1, t2 = fixed.tables[op.table].coefficients.astype(np.int64)
    x = maps.astype(np.int64)
    c = np.minimum(np.abs(x), end)
    i = mulhrs(c, step)
    s = (c * (2 * step)).astype(np.int16)
    r = _in_16_bits(t0[i] + mulhrs(_in_16_bits(t1[i] + mulhrs(t2[i], s)), s))
    return _in_16_bits(np.maximum(x, 0) - mulhrs(r, factor)).astype(np.int16)


def _in_16_bits(numbers: NDArray[np.int64]) -> NDArray[np.int64]:
    assert numbers.min() >= LOWEST
    assert numbers.max() <= HIGHEST
    return numbers


def _compute(op: Op, fixed_op: FixedOp, fixed: FixedProgram, inputs: list[Maps], builder: ArrayBuilder) -> Maps:
    match fixed_op:
        case FixedConv():
            assert isinstance(op, ConvOp | DepthwiseOp)
            return _conv(op, fixed_op, inputs)
        case FixedActivation():
            return activate(fixed_op, fixed, inputs[0])
        case FixedElementwise():
            return _integral(fixed_op, inputs)
        case FixedSelect():
            return inputs[0][fixed_op.first : fixed_op.first + fixed.program.channels[op.output]]
        case FloatElementwise():
            operands = [_scaled(it, factor) for it, factor in zip(inputs, fixed_op.factors, strict=True)]
            if fixed_op.constant is not None:
                operands.append(fixed_op.constant[:, None, None])
            return _scaled(elementwise(builder, fixed_op.kind, *operands, alpha=fixed_op.alpha), fixed_op.result_factor)
        case FloatNorm():
            x = _scaled(inputs[0], fixed_op.factor)
            return normalise(x, fixed_op.epsilon, fixed_op.scale, fixed_op.shift, builder, centred=fixed_op.centred)


def _scaled(maps: Maps, factor: Floats | None) -> Floats:
    numbers = maps.astype(np.float32)
    return numbers if factor is None else numbers * factor[:, None, None]


def _conv(op: ConvOp | DepthwiseOp, fixed_op: FixedConv, inputs: list[Maps]) -> Maps:
    maps, weight = np.concatenate(inputs).astype(np.float64), fixed_op.weight.astype(np.float64)  # exact up to 2^53
    sums = (dense_sums if isinstance(op, ConvOp) else depthwise_sums)(maps, weight, op.dilation)
    sums += fixed_op.bias.astype(np.float64)[:, None, None]
    whole = sums.astype(np.int64)
    assert np.abs(whole).max() < 1 << 31
    if fixed_op.shift is None:
        assert fixed_op.factor is not None
        return whole.astype(np.int32).astype(np.float32) * fixed_op.factor[:, None, None]
    return np.clip(whole >> fixed_op.shift[:, None, None], LOWEST, HIGHEST).astype(np.int16)


def _integral(op: FixedElementwise, inputs: list[Maps]) -> NDArray[np.int16]:
    x, *others = (it.astype(np.int64) for it in inputs)
    y = others[0] if op.constant is None and others else None
    if op.constant is not None:
        y = op.constant.astype(np.int64)[:, None, None]
    match op.kind, y:
        case "copy", None:
            found = x
        case "relu", None:
            found = np.maximum(x, 0)
        case "leaky", np.ndarray():
            found = _in_16_bits(np.maximum(x, 0) + mulhrs(np.minimum(x, 0), y))
        case "add", np.ndarray():
            found = x + y
        case "sub", np.ndarray():
            found = x - y
        case "max", np.ndarray():
            found = np.maximum(x, y)
        case "min", np.ndarray():
            found = np.minimum(x, y)
        case _:
            raise AssertionError(op.kind)
    return np.clip(found, LOWEST, HIGHEST).astype(np.int16)

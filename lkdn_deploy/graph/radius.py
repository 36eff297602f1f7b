"""The receptive radius of a graph: the distance within which input pixels change an output pixel.

It is derived, not measured. Along one axis of the picture, index i of a tensor of ``scale`` times the input's size
depends on the input pixels

    floor((i - low) / scale) .. floor((i + high) / scale),

and each operator has a rule that gives the interval of its result. Strides and blocks make ``scale`` a fraction, which
is of use where all pictures and tiles begin and end at multiples of some number, so that indices remain whole. For the
output, ceil(low / scale) and ceil(high / scale) are then the exact distances, the largest over the positions within an
enlarged pixel. A result that depends on the whole picture, or on where the picture begins, has a reason instead of an
interval.

To support another operator, add it to ``_ELEMENTWISE``, or write its rule and add that to ``_RULES``.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import onnx
import onnx_ir as ir

from lkdn_deploy.graph.ir_utils import integer_input
from lkdn_deploy.graph.passes.clean_up import clean_up


@dataclass(frozen=True, slots=True)
class Radius:
    """The receptive radius of a graph."""

    pixels: int | None
    """``None`` if an output pixel may depend on the whole picture."""
    reason: str = ""
    """The first operator that makes it so, and why."""


@dataclass(frozen=True, slots=True)
class _Interval:
    """The dependence of a tensor on the input along one axis, see above."""

    low: Fraction = Fraction(0)
    high: Fraction = Fraction(0)
    scale: Fraction = Fraction(1)

    def enlarge(self, times: int, low: int = 0, high: int = 0) -> "_Interval":
        """Return the interval if index i takes indices floor((i - low) / times) .. floor((i + high) / times)."""
        return _Interval(self.low * times + low, self.high * times + high, self.scale * times)

    def reduce(self, stride: int, before: int, behind: int) -> "_Interval":
        """Return the interval if index i takes indices stride * i - before .. stride * i + behind."""
        low, high, scale = (self.low + before) / stride, (self.high + behind) / stride, self.scale / stride
        if scale.denominator > 1:
            return _Interval(low, high, scale)
        return _Interval(Fraction(math.ceil(low)), Fraction(math.floor(high)), scale)


@dataclass(frozen=True, slots=True)
class _Field:
    """The receptive field of a tensor."""

    rows: _Interval = _Interval()
    columns: _Interval = _Interval()
    channels_last: bool = False
    multiple: int = 1
    """Divisor of the sides and places of all pictures and tiles."""

    def map(self, change: Callable[[_Interval, int], _Interval]) -> "_Field":
        """Apply ``change`` to the interval of each axis, which is 0 for rows and 1 for columns."""
        return replace(self, rows=change(self.rows, 0), columns=change(self.columns, 1))


_Rule = Callable[[ir.Node, _Field], _Field | str]
"""From a node and the field of its input to that of its result, or to the reason why there is none."""


def receptive_radius(model: onnx.ModelProto, multiple: int = 1) -> Radius:
    """Return the receptive radius of a graph with one input (N, C, H, W) and one output, of weights of any type.

    The result of an operator without a rule counts as depending on the whole picture.

    Args:
        model: the graph.
        multiple: divisor of the sides of all pictures and of the places where tiles begin and end.
    """
    cleaned = ir.from_proto(model)
    clean_up(cleaned)
    graph = cleaned.graph
    fields: dict[ir.Value | None, _Field] = {graph.inputs[0]: _Field(multiple=multiple)}
    reasons: dict[ir.Value | None, tuple[int, str]] = {}  # with the node's position, so that the first can be given
    for position, node in enumerate(graph):
        if failed := [reasons[value] for value in node.inputs if value in reasons]:
            reasons.update(dict.fromkeys(node.outputs, min(failed)))
        elif inputs := [fields[value] for value in node.inputs if value in fields]:
            found = _apply(node, inputs)
            if isinstance(found, str):
                reasons.update(dict.fromkeys(node.outputs, (position, f"{node.op_type} {node.name}: {found}")))
            else:
                fields.update(dict.fromkeys(node.outputs, found))
    output = graph.outputs[0]
    if output in reasons:
        return Radius(None, reasons[output][1])
    field = fields.get(output, _Field())  # an output that is not among them is constant
    sides = [math.ceil(side / axis.scale) for axis in (field.rows, field.columns) for side in (axis.low, axis.high)]
    return Radius(max(0, *sides))


def _apply(node: ir.Node, inputs: Sequence[_Field]) -> _Field | str:
    """Return the field of a node's results from those of its inputs that are not constant."""
    first = inputs[0]
    if node.op_type in _ELEMENTWISE or node.op_type == "Concat":
        for other in inputs[1:]:
            scales = [(each.rows.scale, each.columns.scale, each.channels_last) for each in (first, other)]
            if scales[0] != scales[1]:
                return "it joins tensors of different sizes"
            rows, columns = _union(first.rows, other.rows), _union(first.columns, other.columns)
            first = replace(first, rows=rows, columns=columns)
        return _along_axis(node, first) if node.op_type == "Concat" else first
    if node.op_type == "Shape":
        return "its purpose depends on the picture's size"
    if node.op_type not in _RULES:
        return "it is not known to be local"
    if len(inputs) > 1:
        return "its parameters are computed from the picture"
    return _RULES[node.op_type](node, first)


def _union(one: _Interval, other: _Interval) -> _Interval:
    return _Interval(max(one.low, other.low), max(one.high, other.high), one.scale)


def _window(node: ir.Node, field: _Field) -> _Field | str:
    """Convolution and pooling: index i takes stride * i - before + t * dilation for 0 <= t < size."""
    numbers = _window_numbers(node)
    if numbers is None or field.channels_last:
        return "its kernel size or padding is not written out, or its channels come last"

    def slide(interval: _Interval, axis: int) -> _Interval:
        reach, stride, before = numbers[axis]
        return interval.reduce(stride, before, reach - before)

    return _if_whole(field.map(slide))


def _if_whole(field: _Field) -> _Field | str:
    """Return a field, if the tensor begins with a whole index wherever the picture begins."""
    whole = all((field.multiple * interval.scale).denominator == 1 for interval in (field.rows, field.columns))
    return field if whole else "its stride makes the result depend on where the picture begins"


def _transposed_window(node: ir.Node, field: _Field) -> _Field | str:
    """Transposed convolution: index i takes each j with i = stride * j - before + t * dilation for 0 <= t < size."""
    numbers = _window_numbers(node)
    if numbers is None or field.channels_last:
        return "its kernel size or padding is not written out, or its channels come last"

    def spread(interval: _Interval, axis: int) -> _Interval:
        # j from ceil((i + before - (size - 1) * dilation) / stride) to floor((i + before) / stride)
        reach, stride, before = numbers[axis]
        return interval.enlarge(stride, reach - before - (stride - 1), before)

    return field.map(spread)


def _window_numbers(node: ir.Node) -> list[tuple[int, int, int]] | None:
    """Return (size - 1) * dilation, the stride, and the padding before, for rows and for columns."""
    attributes = node.attributes
    size = attributes.get_ints("kernel_shape", ())
    weight = node.inputs[1] if len(node.inputs) > 1 else None
    if not size and weight is not None and weight.shape is not None:
        size = [length for length in list(weight.shape)[2:] if isinstance(length, int)]
    if len(size) != 2 or attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return None
    strides, dilations = (attributes.get_ints(name, (1, 1)) for name in ("strides", "dilations"))
    padding = attributes.get_ints("pads", (0, 0, 0, 0))
    return [((size[axis] - 1) * dilations[axis], strides[axis], padding[axis]) for axis in (0, 1)]


def _space_to_depth(node: ir.Node, field: _Field) -> _Field | str:
    """Index i takes the block of indices from times * i on."""
    times = node.attributes.get_int("blocksize", 1)
    return _if_whole(field.map(lambda interval, _: interval.reduce(times, 0, times - 1)))


def _depth_to_space(node: ir.Node, field: _Field) -> _Field:
    times = node.attributes.get_int("blocksize", 1)
    return field.map(lambda interval, _: interval.enlarge(times))


_TAPS = {"linear": (0, 1), "cubic": (1, 2)}
"""Number of indices that are taken before and behind the one below a position."""
_HALF_PIXEL = ("half_pixel", "pytorch_half_pixel")
_NEAREST = {
    ("asymmetric", "floor"),
    *((kind, f"round_prefer_{side}") for kind in _HALF_PIXEL for side in ("floor", "ceil")),
}
"""Ways of ``Resize`` to find the nearest pixel by which index i takes floor(i / times)."""


def _resize(node: ir.Node, field: _Field) -> _Field | str:
    """Enlarging by constant whole factors."""
    scales = node.inputs[2] if len(node.inputs) > 2 else None
    times = scales.const_value.numpy().tolist() if scales is not None and scales.const_value is not None else []
    if len(times) != 4 or times[:2] != [1, 1] or any(value != int(value) or value < 1 for value in times):
        return "it enlarges to a size, or by no whole number"
    mode = node.attributes.get_string("mode", "nearest")
    where = node.attributes.get_string("coordinate_transformation_mode", "half_pixel")
    rounding = node.attributes.get_string("nearest_mode", "round_prefer_floor")
    if mode not in _TAPS and (where, rounding) not in _NEAREST:
        return f"its positions are {where}, rounded by {rounding}"
    if mode in _TAPS and where not in _HALF_PIXEL:
        return f"its positions are {where}"

    def sample(interval: _Interval, axis: int) -> _Interval:
        factor = int(times[2 + axis])
        if factor == 1 or mode not in _TAPS:
            return interval.enlarge(factor)
        # Index i lies at (i + 1/2) / factor - 1/2, whose floor is floor((i - floor(factor / 2)) / factor).
        before, behind = _TAPS[mode]
        return interval.enlarge(factor, factor // 2 + factor * before, factor * behind - factor // 2)

    return field.map(sample)


def _transpose(node: ir.Node, field: _Field) -> _Field | str:
    if tuple(node.attributes.get_ints("perm", ())) != ((0, 3, 1, 2) if field.channels_last else (0, 2, 3, 1)):
        return "rows and columns change places"
    return replace(field, channels_last=not field.channels_last)


def _pad(node: ir.Node, field: _Field) -> _Field | str:
    """Index i takes i - before; near the border, another one that is as near to it."""
    amounts = integer_input(node, 1)
    if field.channels_last or len(amounts) != 8 or (len(node.inputs) > 3 and node.inputs[3] is not None):
        return "its padding is not written out, or its channels come last"
    return field.map(
        lambda interval, axis: replace(
            interval, low=interval.low + amounts[2 + axis], high=interval.high - amounts[2 + axis]
        )
    )


def _along_axis(node: ir.Node, field: _Field) -> _Field | str:
    return _if_channels({node.attributes.get_int("axis", 0 if node.op_type == "Split" else -1)}, field)


def _norm(node: ir.Node, field: _Field) -> _Field | str:
    """LayerNorm and RMSNorm work on all axes from theirs to the last."""
    return _along_axis(node, field) if field.channels_last else "it works on the whole picture"


def _reduce(node: ir.Node, field: _Field) -> _Field | str:
    axes = integer_input(node, 1) or node.attributes.get_ints("axes", ())
    if node.attributes.get_int("keepdims", 1) != 1 or not axes:
        return "it reduces all axes together, or drops one"
    return _if_channels(set(axes), field)


def _slice(node: ir.Node, field: _Field) -> _Field | str:
    return _if_channels(set(integer_input(node, 3)) or {0}, field)


def _if_channels(axes: set[int], field: _Field) -> _Field | str:
    return field if axes <= ({3, -1} if field.channels_last else {1, -3}) else "it works on the whole picture"


_ELEMENTWISE = {
    "Abs", "Add", "Cast", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Selu", "Sigmoid",
    "Softplus", "Sqrt", "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu",
}  # fmt: skip
_RULES: dict[str, _Rule] = {
    **dict.fromkeys(("AveragePool", "Conv", "MaxPool"), _window),
    **dict.fromkeys(("LogSoftmax", "Softmax", "Split"), _along_axis),
    **dict.fromkeys(("LayerNormalization", "RMSNormalization"), _norm),
    **dict.fromkeys(("ReduceL2", "ReduceMax", "ReduceMean", "ReduceSum"), _reduce),
    "ConvTranspose": _transposed_window,
    "DepthToSpace": _depth_to_space,
    "Pad": _pad,
    "Resize": _resize,
    "Slice": _slice,
    "SpaceToDepth": _space_to_depth,
    "Transpose": _transpose,
}

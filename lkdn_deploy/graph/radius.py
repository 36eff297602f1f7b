"""The receptive radius of a graph: how far from an output pixel an input pixel may lie and still change it.

Pixels are counted, not measured. A tensor of s times the input's size has, for its index i, an interval of input pixels

    floor((i - low) / s) .. floor((i + high) / s),

and each operation says how that of its result follows. Of the output, ceil(low / s) and ceil(high / s) are then the
exact distances, the greatest over the s positions of a pixel. Where a result hangs on the whole picture, or on where
the picture begins, there is no such interval.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from fractions import Fraction
from math import ceil, floor

import onnx
import onnx_ir as ir

from lkdn_deploy.graph.ir_utils import integer, integers
from lkdn_deploy.graph.passes.clean_up import clean


@dataclass(frozen=True, slots=True)
class Radius:
    """Of a whole graph."""

    pixels: int | None
    """``None``: every pixel may depend on the whole picture."""
    reason: str = ""
    """The first operation by which it does."""


@dataclass(frozen=True, slots=True)
class _Axis:
    """The interval of one tensor along one axis of the picture."""

    low: int = 0
    high: int = 0
    scale: int = 1

    def joined(self, other: "_Axis") -> "_Axis":
        return _Axis(max(self.low, other.low), max(self.high, other.high), self.scale)

    def window(self, size: int, dilation: int, before: int, stride: int) -> "_Axis":
        """Of index i: indices stride * i - before, and so on by ``dilation``, ``size`` of them."""
        low, high = self.low + before, self.high + (size - 1) * dilation - before
        if self.scale % stride:
            msg = "its stride makes the result hang on where the picture begins"
            raise _GlobalError(msg)
        return _Axis(ceil(Fraction(low, stride)), floor(Fraction(high, stride)), self.scale // stride)

    def enlarged(self, times: int, low: int = 0, high: int = 0) -> "_Axis":
        """Of index i: indices floor((i - low) / times) to floor((i + high) / times)."""
        return _Axis(self.low * times + low, self.high * times + high, self.scale * times)


@dataclass(frozen=True, slots=True)
class _Reach:
    """Of one tensor."""

    rows: _Axis = _Axis()
    columns: _Axis = _Axis()
    last: bool = False
    """Whether channels are its last axis."""

    def joined(self, other: "_Reach") -> "_Reach":
        if (self.rows.scale, self.columns.scale, self.last) != (other.rows.scale, other.columns.scale, other.last):
            msg = "it joins tensors of different sizes"
            raise _GlobalError(msg)
        return replace(self, rows=self.rows.joined(other.rows), columns=self.columns.joined(other.columns))

    @property
    def channel_axes(self) -> set[int]:
        return {3, -1} if self.last else {1, -3}


class _GlobalError(Exception):
    """There is no interval."""


def receptive_radius(model: onnx.ModelProto) -> Radius:
    """The radius of a graph with one input (N, C, H, W) and one output, of weights of any type.

    An operation that is not known counts as one by which everything depends on everything.
    """
    cleaned = ir.from_proto(model)
    clean(cleaned)
    graph = cleaned.graph
    reaches: dict[ir.Value, _Reach] = {graph.inputs[0]: _Reach()}
    for node in graph:
        inputs = [reaches[value] for value in node.inputs if value is not None and value in reaches]
        if not inputs:
            continue  # of constants
        try:
            found = _reach(node, inputs)
        except _GlobalError as error:
            if _matters(node, graph):
                return Radius(None, f"{node.op_type} {node.name}: {error}")
            continue
        reaches.update(dict.fromkeys(node.outputs, found))
    if graph.outputs[0] not in reaches:
        return Radius(0)
    found = reaches[graph.outputs[0]]
    pixels = [
        ceil(Fraction(size, axis.scale)) for axis in (found.rows, found.columns) for size in (axis.low, axis.high)
    ]
    return Radius(max(0, *pixels))


def _matters(node: ir.Node, graph: ir.Graph) -> bool:
    """Whether the output hangs on it."""
    seen, waiting = set(), [node]
    while waiting:
        current = waiting.pop()
        if current in seen:
            continue
        seen.add(current)
        if any(value in graph.outputs for value in current.outputs):
            return True
        waiting += [use.node for value in current.outputs for use in value.uses()]
    return False


def _reach(node: ir.Node, inputs: list[_Reach]) -> _Reach:
    if node.op_type == "Concat":
        _over_channels(node, inputs[0])
    if node.op_type in _POINTWISE or node.op_type == "Concat":
        found = inputs[0]
        for other in inputs[1:]:
            found = found.joined(other)
        return found
    if node.op_type == "Shape":
        msg = "what it is for hangs on the picture's size"
        raise _GlobalError(msg)
    if node.op_type not in _KNOWN:
        msg = "not known to be local"
        raise _GlobalError(msg)
    if len(inputs) > 1:
        msg = "what it works by is computed from the picture"
        raise _GlobalError(msg)
    return _KNOWN[node.op_type](node, inputs[0])


_POINTWISE = {
    "Abs", "Add", "Cast", "Clip", "Div", "Elu", "Erf", "Exp", "Gelu", "HardSigmoid", "HardSwish", "Identity",
    "LeakyRelu", "Log", "Max", "Min", "Mish", "Mul", "Neg", "PRelu", "Pow", "Reciprocal", "Relu", "Selu", "Sigmoid",
    "Softplus", "Sqrt", "Sub", "Sum", "Swish", "Tanh", "ThresholdedRelu",
}  # fmt: skip


def _window(node: ir.Node, reach: _Reach) -> _Reach:
    """A convolution or a pool."""
    if reach.last:
        msg = "its channels come last"
        raise _GlobalError(msg)
    size = integers(node, "kernel_shape", ())
    if not size and len(node.inputs) > 1 and node.inputs[1] is not None and node.inputs[1].shape is not None:
        size = tuple(int(length) for length in list(node.inputs[1].shape)[2:])  # type: ignore[arg-type]
    padding = node.attributes.get("auto_pad")
    if len(size) != 2 or (padding is not None and padding.as_string() != "NOTSET"):
        msg = "its size or padding is not written out"
        raise _GlobalError(msg)
    strides, dilations = integers(node, "strides", (1, 1)), integers(node, "dilations", (1, 1))
    before = integers(node, "pads", (0, 0, 0, 0))[:2]
    rows, columns = (
        axis.window(*numbers)
        for axis, numbers in zip(
            (reach.rows, reach.columns), zip(size, dilations, before, strides, strict=True), strict=True
        )
    )
    return replace(reach, rows=rows, columns=columns)


def _transposed_window(node: ir.Node, reach: _Reach) -> _Reach:
    """Index i takes j where i = stride * j - before + t * dilation, 0 <= t < size."""
    size = integers(node, "kernel_shape", ())
    if not size and node.inputs[1] is not None and node.inputs[1].shape is not None:
        size = tuple(int(length) for length in list(node.inputs[1].shape)[2:])  # type: ignore[arg-type]
    strides, dilations = integers(node, "strides", (1, 1)), integers(node, "dilations", (1, 1))
    before = integers(node, "pads", (0, 0, 0, 0))[:2]
    axes = []
    for axis, length, stride, dilation, start in zip(
        (reach.rows, reach.columns), size, strides, dilations, before, strict=True
    ):
        # j from ceil((i + start - (length - 1) dilation) / stride) to floor((i + start) / stride)
        axes.append(axis.enlarged(stride, (length - 1) * dilation - start - (stride - 1), start))
    return replace(reach, rows=axes[0], columns=axes[1])


def _depth_to_space(node: ir.Node, reach: _Reach) -> _Reach:
    times = integer(node, "blocksize", 1)
    return replace(reach, rows=reach.rows.enlarged(times), columns=reach.columns.enlarged(times))


_TAPS = {"nearest": (0, 0), "linear": (0, 1), "cubic": (1, 2)}
"""Indices before and behind the one that lies below a position."""


def _resize(node: ir.Node, reach: _Reach) -> _Reach:
    """By a whole factor that is written out."""
    scales = node.inputs[2] if len(node.inputs) > 2 else None
    values = scales.const_value.numpy().tolist() if scales is not None and scales.const_value is not None else []
    mode = node.attributes["mode"].as_string() if "mode" in node.attributes else "nearest"
    where = node.attributes.get("coordinate_transformation_mode")
    kind = where.as_string() if where is not None else "half_pixel"
    if len(values) != 4 or values[:2] != [1, 1] or any(value != int(value) or value < 1 for value in values[2:]):
        msg = "it enlarges to a size, or by no whole number"
        raise _GlobalError(msg)
    before, behind = _TAPS[mode]
    axes = []
    for axis, value in zip((reach.rows, reach.columns), values[2:], strict=True):
        times = int(value)
        if times == 1:
            axes.append(axis)
        elif mode == "nearest" and kind == "asymmetric":
            axes.append(axis.enlarged(times))
        elif kind in ("half_pixel", "pytorch_half_pixel"):
            # What is nearest to (i + 1/2) / times - 1/2 is floor(i / times).
            axes.append(axis.enlarged(times) if mode == "nearest" else _sampled(axis, times, before, behind))
        else:
            msg = f"its positions are {kind}"
            raise _GlobalError(msg)
    return replace(reach, rows=axes[0], columns=axes[1])


def _sampled(axis: _Axis, times: int, before: int, behind: int) -> _Axis:
    """Indices floor((i + 1/2) / times - 1/2) - before, to that + behind."""
    # floor((2 i + 1 - times) / (2 times)) = floor((i - floor(times / 2)) / times), for i is whole.
    return axis.enlarged(times, times // 2 + times * before, times * behind - times // 2)


def _transpose(node: ir.Node, reach: _Reach) -> _Reach:
    perm = integers(node, "perm", ())
    if perm == ((0, 3, 1, 2) if reach.last else (0, 2, 3, 1)):
        return replace(reach, last=not reach.last)
    msg = "rows and columns change places"
    raise _GlobalError(msg)


def _over_channels(node: ir.Node, reach: _Reach) -> _Reach:
    """What works on one axis."""
    return _if_channels({integer(node, "axis", 0 if node.op_type == "Split" else -1)}, reach)


def _reduce(node: ir.Node, reach: _Reach) -> _Reach:
    axes = set(_numbers(node, 1) or integers(node, "axes", ()))
    if integer(node, "keepdims", 1) != 1 or not axes:
        msg = "it takes all axes together, or drops one"
        raise _GlobalError(msg)
    return _if_channels(axes, reach)


def _slice(node: ir.Node, reach: _Reach) -> _Reach:
    return _if_channels(set(_numbers(node, 3)) or {0}, reach)


def _if_channels(axes: set[int], reach: _Reach) -> _Reach:
    if axes <= reach.channel_axes:
        return reach
    msg = "it works on the whole picture"
    raise _GlobalError(msg)


def _pad(node: ir.Node, reach: _Reach) -> _Reach:
    """Index i is i - before, or near the border another one as near to it."""
    amounts = _numbers(node, 1)
    if reach.last or len(amounts) != 8 or (len(node.inputs) > 3 and node.inputs[3] is not None):
        msg = "how much it pads is not written out"
        raise _GlobalError(msg)
    axes = [
        replace(axis, low=axis.low + before, high=axis.high - before)
        for axis, before in ((reach.rows, amounts[2]), (reach.columns, amounts[3]))
    ]
    return replace(reach, rows=axes[0], columns=axes[1])


def _numbers(node: ir.Node, place: int) -> list[int]:
    """The whole numbers of a constant input."""
    value = node.inputs[place] if len(node.inputs) > place else None
    if value is None or value.const_value is None:
        return []
    return [int(number) for number in value.const_value.numpy().reshape(-1)]


_KNOWN: dict[str, Callable[[ir.Node, _Reach], _Reach]] = {
    "AveragePool": _window,
    "Conv": _window,
    "ConvTranspose": _transposed_window,
    "DepthToSpace": _depth_to_space,
    "LayerNormalization": _over_channels,
    "LogSoftmax": _over_channels,
    "MaxPool": _window,
    "Pad": _pad,
    "RMSNormalization": _over_channels,
    "ReduceL2": _reduce,
    "ReduceMax": _reduce,
    "ReduceMean": _reduce,
    "ReduceSum": _reduce,
    "Resize": _resize,
    "Slice": _slice,
    "Softmax": _over_channels,
    "Split": _over_channels,
    "Transpose": _transpose,
}

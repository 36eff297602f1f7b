"""The input and output of a graph that another program made, and its form with an input and output like ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lkdn_deploy.core.errors import InputError

_TYPES = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}
_CONVERT = "convert it again with one input and one output of RGB, in float32 or float16"
_FIRST, _LAST = (0, 3, 1, 2), (0, 2, 3, 1)
"""Permutations that bring the channels to the front, and to the end."""

LARGEST_SMALLEST = 64
"""The largest of least sides that an artefact may have."""


@dataclass(frozen=True, slots=True)
class Interface:
    """The input and output of a graph that enlarges pictures of three channels."""

    input: str
    output: str
    channels_last: bool
    """Whether pictures are (N, H, W, 3) instead of (N, 3, H, W)."""
    half: bool
    """Whether its values are float16 instead of float32."""
    batch: int | None
    """Number of pictures that it takes at once, if only one number will do."""
    height: int | None
    """Height of its pictures, if only one will do."""
    width: int | None
    """Width of its pictures, if only one will do."""

    def __str__(self) -> str:
        sides = [("N", self.batch), ("H", self.height), ("W", self.width)]
        batch, height, width = (name if side is None else str(side) for name, side in sides)
        order = (batch, height, width, "3") if self.channels_last else (batch, "3", height, width)
        return f"({', '.join(order)}) of float{16 if self.half else 32}"


def read_interface(model: onnx.ModelProto) -> Interface:
    """Return the interface of a graph.

    Raises:
        InputError: if it is not one of a network that makes one picture of three channels out of another.
    """
    constants = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in constants]
    shapes = []
    for kind, values in (("input", inputs), ("output", model.graph.output)):
        if len(values) != 1:
            msg = f"the graph has {len(values)} {kind}s ({', '.join(value.name for value in values)[:80]}), not one"
            raise InputError(msg, _CONVERT)
        tensor = values[0].type.tensor_type
        shape = [side.dim_value if side.dim_value > 0 else None for side in tensor.shape.dim]
        if len(shape) != 4:
            msg = f"the {kind} {values[0].name} has {len(shape)} axes, not the 4 of pictures"
            raise InputError(msg, _CONVERT)
        if tensor.elem_type not in _TYPES:
            msg = f"the {kind} {values[0].name} is of {TensorProto.DataType.Name(tensor.elem_type).lower()}"
            raise InputError(msg, _CONVERT)
        shapes.append(shape)
    last = _channels_last(*shapes)
    batch, _, height, width = [shapes[0][axis] for axis in _FIRST] if last else shapes[0]
    half = inputs[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    return Interface(inputs[0].name, model.graph.output[0].name, last, half, batch, height, width)


def _channels_last(read: Sequence[int | None], made: Sequence[int | None]) -> bool:
    """Return whether the channels are the last axis, by the axis of which both shapes say 3."""
    # The output's number of channels is often left open. Its other sides are larger than 3 where they are known.
    places = [axis for axis in (1, 3) if read[axis] == 3 and made[axis] in (3, None)]
    if len(places) == 1:
        return places[0] == 3
    shape = ", ".join("?" if side is None else str(side) for side in read)
    if not places:
        msg = f"the input ({shape}) has no axis of 3 channels that the output has too"
        raise InputError(msg, "networks of other inputs than RGB cannot be used; " + _CONVERT)
    msg = f"the input ({shape}) has two axes of 3, one of which may be the channels"
    raise InputError(msg, _CONVERT)


def adapted(model: onnx.ModelProto, interface: Interface, *, peak: float = 1.0, bgr: bool = False) -> onnx.ModelProto:
    """Return the graph of RGB in 0..1 that a graph computes, from (N, 3, H, W) to (N, 3, H', W') of float32.

    It takes any number of pictures instead of a fixed one above 1, if its operations do.

    Args:
        model: a graph; it stays as it is.
        interface: its interface.
        peak: the upper end of its values.
        bgr: whether its channels are blue, green and red.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {value.name for value in (*graph.initializer, *graph.input, *graph.output)}
    steps: dict[bool, list[tuple[str, dict[str, Any], list[str]]]] = {True: [], False: []}
    for inward, factor in ((True, peak), (False, 1 / peak)):
        if peak != 1 or bgr:
            mix = np.eye(3)[::-1] if bgr else np.eye(3)
            name = _free("mix", taken)
            graph.initializer.append(numpy_helper.from_array((factor * mix)[:, :, None, None].astype(np.float32), name))
            steps[inward].append(("Conv", {}, [name]))
        if interface.half:
            steps[inward].append(("Cast", {"to": TensorProto.FLOAT16 if inward else TensorProto.FLOAT}, []))
        if interface.channels_last:
            steps[inward].append(("Transpose", {"perm": _LAST if inward else _FIRST}, []))
    source, result = _free("lr", taken), _free("sr", taken)
    before = _chained(source, steps[True], interface.input, taken)
    after = _chained(interface.output, steps[False][::-1], result, taken)
    nodes = [*before, *graph.node, *after]
    del graph.node[:], graph.value_info[:]
    graph.node.extend(nodes)
    constants = {tensor.name for tensor in graph.initializer}
    for values, name in ((graph.input, source), (graph.output, result)):
        (value,) = (value for value in values if value.name not in constants)
        sides = [side.dim_param or side.dim_value or None for side in value.type.tensor_type.shape.dim]
        if interface.channels_last:
            sides = [sides[axis] for axis in _FIRST]
        batch = sides[0] if interface.batch in (None, 1) else "batch"
        new = helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, 3, *sides[2:]])
        values.remove(value)
        values.insert(0, new)
    return made


def smallest_side(model: onnx.ModelProto) -> int:
    """Return the least height and width that a graph with one input (N, 3, H, W) takes, at most 64."""
    return next((side for side in range(1, LARGEST_SMALLEST) if takes(model, side, side)), LARGEST_SMALLEST)


def takes(model: onnx.ModelProto, height: int, width: int) -> bool:
    """Return whether no tensor is empty and no window larger than its input, by the shapes that can be inferred.

    Engines may crash on pictures that are too small, so that it cannot be tried.

    Args:
        model: a graph with one input (N, 3, H, W).
        height: height of a picture.
        width: width of a picture.
    """
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for axis, length in enumerate((1, 3, height, width)):
        sized.graph.input[0].type.tensor_type.shape.dim[axis].dim_value = length
    try:
        inferred = onnx.shape_inference.infer_shapes(sized, strict_mode=True, data_prop=True)
    except onnx.shape_inference.InferenceError:
        return False
    values = [*inferred.graph.value_info, *inferred.graph.input, *inferred.graph.output]
    shapes = {value.name: value.type.tensor_type.shape.dim for value in values}
    lengths = [length for shape in shapes.values() for length in shape if length.HasField("dim_value")]
    return all(length.dim_value > 0 for length in lengths) and all(_fits(node, shapes) for node in inferred.graph.node)


def _fits(node: onnx.NodeProto, shapes: Mapping[str, Sequence[Any]]) -> bool:
    """Return whether a node's window is no larger than its padded input, as far as that can be told."""
    ints = {attribute.name: list(attribute.ints) for attribute in node.attribute}
    kernel, shape = ints.get("kernel_shape"), shapes.get(node.input[0]) if node.input else None
    if node.op_type not in ("Conv", "MaxPool", "AveragePool") or not kernel or not shape:
        return True
    pads, dilations = ints.get("pads", [0] * 2 * len(kernel)), ints.get("dilations", [1] * len(kernel))
    return all(
        not length.HasField("dim_value") or length.dim_value + before + after > (taps - 1) * dilation
        for length, before, after, taps, dilation in zip(
            list(shape)[2:], pads[: len(kernel)], pads[len(kernel) :], kernel, dilations, strict=True
        )
    )


def _chained(
    first: str, steps: Sequence[tuple[str, dict[str, Any], list[str]]], last: str, taken: set[str]
) -> list[onnx.NodeProto]:
    """Return nodes from one value to another: operator, attributes and constants of each."""
    steps = steps or [("Identity", {}, [])]
    names = [first, *(_free("adapted", taken) for _ in steps[1:]), last]
    return [
        helper.make_node(operator, [names[at], *constants], [names[at + 1]], name=_free(operator, taken), **attributes)
        for at, (operator, attributes, constants) in enumerate(steps)
    ]


def _free(name: str, taken: set[str]) -> str:
    """Return a name that is not taken, and take it."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name

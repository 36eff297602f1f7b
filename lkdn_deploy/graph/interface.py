"""The input and output of a graph that another program made, and its form with an input and output like ours."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from lkdn_deploy.core.errors import InputError

_TYPES = {TensorProto.FLOAT: "float32", TensorProto.FLOAT16: "float16"}
_CONVERT = "convert it again with one input and one output of RGB or luma, in float32 or float16"
_TO_YCBCR = np.array([[65.481, 128.553, 24.966], [-37.797, -74.203, 112.0], [112.0, -93.786, -18.214]]) / 255
"""BT.601 in studio range over 255, as networks' papers and MATLAB have it: rows Y, Cb, Cr; columns R, G, B."""
_YCBCR_OFFSET = np.array([16.0, 128.0, 128.0]) / 255
_FIRST, _LAST = (0, 3, 1, 2), (0, 2, 3, 1)
"""Permutations that bring the channels to the front, and to the end."""

LARGEST_SMALLEST = 64
"""The largest of least sides that an artefact may have."""


@dataclass(frozen=True, slots=True)
class Interface:
    """The input and output of a graph that enlarges pictures of three channels, or of luma alone."""

    input: str
    output: str
    channels_last: bool
    """Whether pictures are (N, H, W, C) instead of (N, C, H, W)."""
    half: bool
    """Whether its values are float16 instead of float32."""
    batch: int | None
    """Number of pictures that it takes at once, if only one number will do."""
    height: int | None
    """Height of its pictures, if only one will do."""
    width: int | None
    """Width of its pictures, if only one will do."""
    channels: int = 3
    """3 for colours, 1 for luma."""

    def __str__(self) -> str:
        sides = [("N", self.batch), ("H", self.height), ("W", self.width)]
        batch, height, width = (name if side is None else str(side) for name, side in sides)
        count = str(self.channels)
        order = (batch, height, width, count) if self.channels_last else (batch, count, height, width)
        return f"({', '.join(order)}) of float{16 if self.half else 32}"


def read_interface(model: onnx.ModelProto) -> Interface:
    """Return the interface of a graph.

    Raises:
        InputError: if it is not one of a network that makes one picture of three channels, or of one, out of another.
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
    last, channels = _channels(*shapes)
    batch, _, height, width = [shapes[0][axis] for axis in _FIRST] if last else shapes[0]
    half = inputs[0].type.tensor_type.elem_type == TensorProto.FLOAT16
    return Interface(inputs[0].name, model.graph.output[0].name, last, half, batch, height, width, channels)


def _channels(read: Sequence[int | None], made: Sequence[int | None]) -> tuple[bool, int]:
    """Return whether the channels are the last axis, and their number, by the axis of which both shapes say 3, or 1."""
    # The output's number of channels is often left open. Its other sides are larger than 3 where they are known.
    shape = ", ".join("?" if side is None else str(side) for side in read)
    for count in (3, 1):
        places = [axis for axis in (1, 3) if read[axis] == count and made[axis] in (count, None)]
        if len(places) == 1:
            return places[0] == 3, count
        if places:
            msg = f"the input ({shape}) has two axes of {count}, one of which may be the channels"
            raise InputError(msg, _CONVERT)
    msg = f"the input ({shape}) has no axis of 3 channels, or of 1, that the output has too"
    raise InputError(msg, "networks of other inputs than RGB and luma cannot be used; " + _CONVERT)


def adapted(
    model: onnx.ModelProto, interface: Interface, *, peak: float = 1.0, bgr: bool = False, scale: int | None = None
) -> onnx.ModelProto:
    """Return the graph that a graph computes for values in 0..1, from (N, C, H, W) to (N, C, H', W') of float32.

    It takes any number of pictures instead of a fixed one above 1, if its operations do.

    Args:
        model: a graph; it stays as it is.
        interface: its interface.
        peak: the upper end of its values.
        bgr: whether its channels are blue, green and red.
        scale: enlargement factor of a network of luma, which becomes one of RGB: a bicubic filter enlarges the colours.
            Without it, C is the network's own number of channels.
    """
    made = onnx.ModelProto()
    made.CopyFrom(model)
    graph = made.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)}
    taken |= {value.name for value in (*graph.initializer, *graph.input, *graph.output)}
    steps: dict[bool, list[tuple[str, dict[str, Any], list[str]]]] = {True: [], False: []}
    for inward, factor in ((True, peak), (False, 1 / peak)):
        if peak != 1 or bgr:
            mix = np.eye(interface.channels)[:: -1 if bgr else 1]
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
        new = helper.make_tensor_value_info(name, TensorProto.FLOAT, [batch, interface.channels, *sides[2:]])
        values.remove(value)
        values.insert(0, new)
    if interface.channels == 1 and scale is not None:
        _put_colours_around(graph, scale, taken)
    return made


def _put_colours_around(graph: onnx.GraphProto, scale: int, taken: set[str]) -> None:
    """Make a graph of luma one of RGB: luma goes through it, a bicubic filter enlarges the colours beside it."""
    own = {name: _free(name, taken) for name in ("rgb", "colour_sr", "blue_red", "enlarged", "ycbcr", "factors")}
    luma, result = graph.input[0].name, graph.output[0].name
    back = np.linalg.inv(_TO_YCBCR)
    constants = {
        "to_luma": _TO_YCBCR[:1, :, None, None],
        "luma_shift": _YCBCR_OFFSET[:1],
        "to_colours": _TO_YCBCR[1:, :, None, None],
        "colour_shift": _YCBCR_OFFSET[1:],
        "to_rgb": back[:, :, None, None],
        "rgb_shift": -back @ _YCBCR_OFFSET,
    }
    named = {name: _free(name, taken) for name in constants}
    for name, values in constants.items():
        graph.initializer.append(numpy_helper.from_array(values.astype(np.float32), named[name]))
    factors = np.array([1, 1, scale, scale], np.float32)
    graph.initializer.append(numpy_helper.from_array(factors, own["factors"]))
    source, colours, enlarged, joined, end = (
        own[name] for name in ("rgb", "blue_red", "enlarged", "ycbcr", "colour_sr")
    )
    keys: dict[str, Any] = {"mode": "cubic", "cubic_coeff_a": -0.5, "coordinate_transformation_mode": "half_pixel"}
    steps: list[tuple[str, list[str], str, dict[str, Any]]] = [
        ("Conv", [source, named["to_luma"], named["luma_shift"]], luma, {}),
        ("Conv", [source, named["to_colours"], named["colour_shift"]], colours, {}),
        ("Resize", [colours, "", own["factors"]], enlarged, keys),
        ("Concat", [result, enlarged], joined, {"axis": 1}),
        ("Conv", [joined, named["to_rgb"], named["rgb_shift"]], end, {}),
    ]
    made = [
        helper.make_node(kind, inputs, [name], name=_free(kind, taken), **settings)
        for kind, inputs, name, settings in steps
    ]
    nodes = [*made[:3], *graph.node, *made[3:]]
    del graph.node[:]
    graph.node.extend(nodes)
    for value, name in ((graph.input[0], source), (graph.output[0], end)):
        value.name = name
        value.type.tensor_type.shape.dim[1].dim_value = 3


def smallest_side(model: onnx.ModelProto, multiple: int = 1) -> int:
    """Return the least height and width that a graph with one input (N, C, H, W) takes, at most 64.

    Args:
        model: the graph.
        multiple: divisor that they must have.
    """
    sides = range(multiple, LARGEST_SMALLEST, multiple)
    return next((side for side in sides if takes(model, side, side)), LARGEST_SMALLEST)


def takes(model: onnx.ModelProto, height: int, width: int) -> bool:
    """Return whether no tensor is empty and no window larger than its input, by the shapes that can be inferred.

    Engines may crash on pictures that are too small, so that it cannot be tried.

    Args:
        model: a graph with one input (N, C, H, W).
        height: height of a picture.
        width: width of a picture.
    """
    sized = onnx.ModelProto()
    sized.CopyFrom(model)
    for axis, length in ((0, 1), (2, height), (3, width)):
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

"""Damaged ONNX artefacts: small networks, of which attributes, shapes, weights, nodes or bytes are changed."""

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import onnx
from fuzzing import damaged
from native_graphs import Graph, attentive, everything
from onnx import ModelProto, NodeProto, helper, numpy_helper

from lkdn_deploy.core.artifact import ArtifactMetadata

METADATA = ArtifactMetadata(model="fuzzed", scale=2, receptive_radius=9, live_channels=40, fused=True)
NUMBERS = (0, -1, 1, 2, 3, 4, 5, 7, 8, 16, 64, 255, 4096, 65536, 2**31 - 1, -(2**31), 2**40, 2**63 - 1, -(2**63))
OPERATORS = (
    "Add", "Clip", "Concat", "Constant", "Conv", "ConvTranspose", "DepthToSpace", "Div", "Erf", "Expand", "Gather",
    "Gelu", "GlobalAveragePool", "Identity", "If", "LayerNormalization", "LeakyRelu", "Loop", "Mul", "PRelu", "Pad",
    "Pow", "Range", "ReduceMean", "Relu", "Reshape", "Resize", "Scan", "Sigmoid", "Slice", "Split", "Sub", "Tanh",
    "Tile", "Transpose",
)  # fmt: skip

Item = TypeVar("Item")


def _separable(graph: Graph) -> str:
    head = graph.convolution("lr", 5, (3, 3))
    body = graph.depthwise(graph.op("Gelu", graph.convolution(head, 5)), (3, 3), 2)
    return graph.larger(graph.convolution(graph.op("Mul", head, body), 12), 2)


def _normed(graph: Graph) -> str:
    copies = graph.op("Concat", *["lr"] * 4, channels=12, axis=1)
    head = graph.convolution(copies, 6)
    both = graph.op("Concat", head, graph.norm(graph.convolution(head, 6)), channels=12, axis=1)
    return graph.larger(graph.convolution(both, 12), 2, "DCR")


def _mixed(graph: Graph) -> str:
    head = graph.op("PRelu", graph.convolution("lr", 4, (3, 3), groups=1), graph.numbers(4, 1, 1))
    grouped = graph.op("LeakyRelu", graph.convolution(head, 4, (3, 1), groups=2), alpha=0.2)
    scaled = graph.op("Sub", graph.op("Mul", grouped, graph.numbers(1, 4, 1, 1)), graph.constant(np.float32([[[0.1]]])))
    large = graph.larger(graph.op("Div", graph.convolution(scaled, 12), graph.constant(np.float32([[[1.7]]]))), 2)
    return graph.op("Add", graph.convolution(large, 3, (3, 3)), graph.numbers(3, 1, 1))


def _pooled(graph: Graph) -> str:
    head = graph.op("Relu", graph.convolution("lr", 24, (3, 3)))
    wide = graph.convolution(head, 24, (3, 3))
    mean = graph.op("ReduceMean", wide, graph.constant(np.array([2, 3])))
    weight = graph.op("Unsqueeze", graph.numbers(24, 24), graph.constant(np.array([2, 3])), channels=24)
    weighed = graph.op("Mul", wide, graph.op("Sigmoid", graph.op("Conv", mean, weight)))
    return graph.larger(graph.convolution(weighed, 12), 2)


def _resized(graph: Graph) -> str:
    wide = graph.convolution(graph.convolution("lr", 24, (3, 3)), 24, (3, 3))
    small = graph.op("MaxPool", graph.convolution(wide, 24), kernel_shape=[3, 3], strides=[2, 2])
    ends = graph.op("Shape", small, end=2), graph.op("Shape", "lr", start=2)
    large = graph.op("Resize", small, "", "", graph.op("Concat", *ends, channels=0, axis=0), mode="linear")
    return graph.larger(graph.convolution(graph.op("Mul", wide, large), 12), 2)


def _artefact(build: Callable[[Graph], str], scale: int = 2) -> bytes:
    graph = Graph()
    model = onnx.load_model_from_string(graph.model(build(graph)))
    helper.set_model_props(model, replace(METADATA, scale=scale).to_props())
    return bytes(model.SerializeToString())


SMALL = [_artefact(build) for build in (_separable, _normed, _mixed, _pooled, _resized)]
ALL = [*SMALL * 4, _artefact(everything, 4), _artefact(attentive)]
_MODELS = [onnx.load_model_from_string(data) for data in ALL]


def make(source: random.Random) -> bytes:
    """Return a damaged artefact."""
    place = source.randrange(len(ALL))
    if source.random() < 0.2:
        return damaged(ALL[place], source)
    model = ModelProto()
    model.CopyFrom(_MODELS[place])
    for _ in range(source.choice([1, 1, 1, 2, 3, 6])):
        change = source.choice(_CHANGES)
        try:
            change(model, source)
        except (ValueError, TypeError, IndexError, AttributeError, OverflowError, StopIteration):
            continue  # a value that ONNX's own package does not take, or nothing to change
    return bytes(model.SerializeToString())


def _pick(source: random.Random, items: Sequence[Item]) -> Item:
    return items[source.randrange(len(items))]


def _metadata(model: ModelProto, source: random.Random) -> None:
    pair = _pick(source, model.metadata_props)
    values = [str(it) for it in NUMBERS] + ["NaN", "null", "[]", "{}", '"x"', "1e400", "[" * 5000, '"\\ud800"', "2.0"]
    pair.value = source.choice(values)


def _shape(model: ModelProto, source: random.Random) -> None:
    item = _pick(source, [*model.graph.input, *model.graph.output])
    sides = item.type.tensor_type.shape.dim
    match source.randrange(6):
        case 0:
            _pick(source, sides).dim_value = source.choice(NUMBERS)
        case 1:
            _pick(source, sides).dim_param = source.choice(["x", "", "h", "height*2"])
        case 2:
            sides.add().dim_value = source.choice(NUMBERS)
        case 3:
            del sides[source.randrange(len(sides))]
        case 4:
            item.type.tensor_type.elem_type = source.randrange(25)
        case _:
            item.name = source.choice(["", "x", _pick(source, model.graph.node).output[0]])


def _weights(model: ModelProto, source: random.Random) -> None:
    tensor = _pick(source, model.graph.initializer)
    values, name = numpy_helper.to_array(tensor), tensor.name
    axis = source.randrange(values.ndim) if values.ndim else 0
    match source.randrange(12):
        case 0:
            tensor.dims[axis] = source.choice(NUMBERS)
            return
        case 1:
            tensor.data_type = source.randrange(25)
            return
        case 2:
            tensor.raw_data = tensor.raw_data[: source.randrange(len(tensor.raw_data) + 1)]
            return
        case 3:
            tensor.dims.append(source.choice(NUMBERS))
            return
        case 4 if values.dtype == np.float32:
            values = np.full_like(values, source.choice([np.nan, np.inf, -np.inf, 1e38, 1e-42, 0, 1e-30]))
        case 5 if values.dtype == np.int64 and values.size:
            values = values.copy()
            values.reshape(-1)[source.randrange(values.size)] = source.choice(NUMBERS)
        case 6 | 7:
            values = np.take(values, range(source.randrange(values.shape[axis] + 1)), axis)
        case 8:
            values = np.concatenate([values] * source.choice([2, 3, 400]), axis)
        case 9:
            values = numpy_helper.to_array(_pick(source, model.graph.initializer))
        case 10 if values.ndim > 1:
            values = np.swapaxes(values, 0, 1)
        case _:
            values = values.reshape(source.choice([(-1,), (1, *values.shape), (*values.shape, 1)]))
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values), name))


def _attribute(model: ModelProto, source: random.Random) -> None:
    node = _pick(source, [it for it in model.graph.node if it.attribute])
    item = _pick(source, node.attribute)
    near = (*NUMBERS, 1, 1, 2, 2, 3, 3, 4)
    match source.randrange(4), item.type:
        case 0, _:
            node.attribute.remove(item)
        case _, onnx.AttributeProto.INT:
            item.i = source.choice(near)
        case 1, onnx.AttributeProto.INTS:
            item.ints[:] = [source.choice(near)] * len(item.ints)
        case 2, onnx.AttributeProto.INTS:
            item.ints.append(source.choice(near))
        case _, onnx.AttributeProto.INTS:
            item.ints[source.randrange(len(item.ints))] = source.choice(near)
        case _, onnx.AttributeProto.FLOAT:
            item.f = source.choice([float("nan"), float("inf"), -1.0, 0.0, 1e38])
        case _, onnx.AttributeProto.STRING:
            item.s = source.choice(
                [b"DCR", b"CRD", b"SAME_UPPER", b"tanh", b"none", b"\xff\xfe", b"", b"linear", b"cubic"]
            )


def _window(model: ModelProto, source: random.Random) -> None:
    """Another dilation or window, with the padding that keeps the size."""
    node = _pick(source, [it for it in model.graph.node if it.op_type == "Conv" and it.attribute])
    tensor = next(it for it in model.graph.initializer if it.name == node.input[1])
    values = numpy_helper.to_array(tensor)
    sides, dilation = values.shape[2:], source.choice([-1, 0, 1, 2, 3, 8, 70, 2**30])
    if source.random() < 0.5:
        sides = source.choice([1, 3, 5, 11, 31, 301]), source.choice([1, 3, 5, 11, 31, 301])
        if math.prod(values.shape[:2]) * math.prod(sides) > 1 << 18:
            return  # files stay below a megabyte
        values = np.resize(values, (*values.shape[:2], *sides))
        tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    for item in node.attribute:
        if item.name == "dilations":
            item.ints[:] = [dilation] * 2
        if item.name == "pads":
            item.ints[:] = [side // 2 * dilation for side in sides] * 2


def _node(model: ModelProto, source: random.Random) -> None:
    graph = model.graph
    node = _pick(source, graph.node)
    made = [name for it in graph.node for name in it.output]
    names = [*(it.name for it in graph.initializer), *made, "lr", "", "nowhere"]
    match source.randrange(9):
        case 0:
            graph.node.remove(node)
        case 1:
            node.op_type = source.choice(OPERATORS)
        case 2:
            node.domain = source.choice(["", "ai.onnx", "com.microsoft", "nowhere"])
        case 3 | 4:
            node.input[source.randrange(len(node.input))] = source.choice(names)
        case 5:
            node.input.append(source.choice(names))
        case 6:
            node.output[0] = source.choice([*made, "", "other"])
        case 7:
            nodes = list(graph.node)
            source.shuffle(nodes)
            del graph.node[:]
            graph.node.extend(nodes)
        case _:
            _insert(model, source, node)


def _insert(model: ModelProto, source: random.Random, node: NodeProto) -> None:
    """Put an operator, or many, behind a node or beside it."""
    graph = model.graph
    place = list(graph.node).index(node) + 1
    name, kind = node.output[0], source.choice(OPERATORS)
    big = source.choice([2, 3, 2**20, 2**31, 2**40])
    graph.initializer.append(numpy_helper.from_array(np.array([1, 1, 1, big]), "big"))
    graph.initializer.append(numpy_helper.from_array(np.ones((1, 1, 1, 1), np.float32), "one"))
    times = source.choice([1, 1, 1, 20, 3000])
    before, new = source.choice([name, "one"]), list[NodeProto]()
    for number in range(times):
        inputs = [before, source.choice(["big", "one", before])] if kind not in ("Relu", "Gelu") else [before]
        before = f"new{number}"
        new.append(helper.make_node(kind, inputs, [before]))
    for later in list(graph.node)[place:]:
        for index, it in enumerate(later.input):
            if it == name and source.random() < 0.7:
                later.input[index] = before
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes[:place], *new, *nodes[place:]])


def _model(model: ModelProto, source: random.Random) -> None:
    match source.randrange(5):
        case 0:
            model.opset_import[0].version = source.choice([0, 1, 9, 13, 17, 18, 21, 23, 100, -1])
        case 1:
            model.ir_version = source.choice([0, 1, 3, 7, 11, 99, -1])
        case 2:
            model.opset_import.add(
                domain=source.choice(["com.microsoft", "nowhere", ""]), version=source.choice(NUMBERS)
            )
        case 3:
            del model.graph.output[:]
        case _:
            model.graph.input.add().name = "second"


_CHANGES: list[Callable[[ModelProto, Any], None]] = [
    _metadata, _shape, _weights, _weights, _weights, _attribute, _attribute, _window, _node, _node, _node, _model,
]  # fmt: skip

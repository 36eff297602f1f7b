"""A ``Conv`` node as passes see it."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from lkdn_deploy.graph.ir_utils import Array, integer, integers, put, put_weights, weights


@dataclass(frozen=True, slots=True)
class Convolution:
    """Of two dimensions, with constant weights in float32."""

    node: ir.Node
    weight: Array
    """(out, in / groups, rows, columns)."""
    bias: Array | None
    groups: int
    padding: tuple[int, ...]
    """Top, left, bottom, right."""
    strides: tuple[int, ...]
    dilations: tuple[int, ...]

    @property
    def source(self) -> ir.Value:
        """What it takes."""
        value = self.node.inputs[0]
        assert value is not None  # noqa: S101  (an input of Conv that cannot be left out)
        return value

    @property
    def result(self) -> ir.Value:
        """What it gives."""
        return self.node.outputs[0]

    @property
    def pointwise(self) -> bool:
        """Whether it is a matrix over the channels of each pixel."""
        plain = self.groups == 1 and set(self.strides) == {1} and not any(self.padding)
        return plain and tuple(self.weight.shape[2:]) == (1, 1)

    @property
    def depthwise(self) -> bool:
        """Whether every channel is by itself."""
        return self.groups == len(self.weight) and len(self.weight[0]) == 1

    def matrix(self) -> Array:
        """(out, in) of a pointwise one."""
        return self.weight[:, :, 0, 0]


def convolution(node: ir.Node | None) -> Convolution | None:
    """A view of ``node``, if it is one that passes know."""
    if node is None or node.op_type != "Conv" or node.domain:
        return None
    weight = weights(node.inputs[1])
    has_bias = len(node.inputs) > 2 and node.inputs[2] is not None
    bias = weights(node.inputs[2]) if has_bias else None
    padding = node.attributes.get("auto_pad")
    if weight is None or weight.ndim != 4 or (has_bias and bias is None):
        return None
    if padding is not None and padding.as_string() != "NOTSET":
        return None
    return Convolution(
        node,
        weight,
        bias,
        integer(node, "group", 1),
        integers(node, "pads", (0, 0, 0, 0)),
        integers(node, "strides", (1, 1)),
        integers(node, "dilations", (1, 1)),
    )


def set_weights(found: Convolution, weight: Array, bias: Array | None) -> None:
    """Other weights for the same node; those of before may have other users and stay."""
    graph, node = found.node.graph, found.node
    assert isinstance(graph, ir.Graph)  # noqa: S101  (nodes of a model's graph)
    if weight is not found.weight:
        node.replace_input_with(1, put_weights(graph, _name(node, "weight"), weight))
        for name, value in (("kernel_shape", weight.shape[2:]), ("group", _groups(found, weight))):
            node.attributes[name] = ir.Attr(
                name, *((ir.AttributeType.INTS, value) if name == "kernel_shape" else (ir.AttributeType.INT, value))
            )
    if bias is not found.bias:
        if len(node.inputs) < 3:
            node.resize_inputs(3)
        node.replace_input_with(2, None if bias is None else put_weights(graph, _name(node, "bias"), bias))


def _groups(found: Convolution, weight: Array) -> int:
    return weight.shape[0] if found.depthwise else found.groups


def _name(node: ir.Node, part: str) -> str:
    return f"{node.outputs[0].name}.{part}"


def put_convolution(
    before: ir.Node,
    source: ir.Value,
    weight: Array,
    bias: Array | None,
    *,
    name: str,
    groups: int = 1,
    padding: Sequence[int] = (0, 0, 0, 0),
) -> ir.Value:
    """What a new convolution before another node gives."""
    graph = before.graph
    assert isinstance(graph, ir.Graph)  # noqa: S101  (nodes of a model's graph)
    inputs = [source, put_weights(graph, f"{name}.weight", weight)]
    if bias is not None:
        inputs.append(put_weights(graph, f"{name}.bias", bias))
    attributes: dict[str, int | Sequence[int]] = {
        "kernel_shape": list(weight.shape[2:]),
        "group": groups,
        "pads": list(padding),
    }
    return put(before, "Conv", inputs, attributes)

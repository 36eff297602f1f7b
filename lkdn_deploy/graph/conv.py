"""A view of ``Conv`` nodes with constant weights, for passes to match, change and insert."""

from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir

from lkdn_deploy.graph.ir_utils import Array, add_initializer, insert_before, weight_and_bias


@dataclass(frozen=True, slots=True)
class ConvNode:
    """A two-dimensional convolution with constant float32 weights.

    ``weight`` is (out, in / groups, rows, columns), ``bias`` (out,), ``padding`` top, left, bottom, right.
    """

    node: ir.Node
    weight: Array
    bias: Array | None
    groups: int
    padding: tuple[int, ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]

    @property
    def source(self) -> ir.Value:
        """The tensor that it convolves."""
        value = self.node.inputs[0]
        assert value is not None  # noqa: S101  (ONNX does not allow a Conv without its first input)
        return value

    @property
    def result(self) -> ir.Value:
        """The tensor that it computes."""
        return self.node.outputs[0]

    @property
    def pointwise(self) -> bool:
        """Whether it is an unpadded 1x1 convolution of stride 1 without groups: a matrix over each pixel's channels."""
        unit = self.groups == 1 and set(self.strides) == {1} and not any(self.padding)
        return unit and self.weight.shape[2:] == (1, 1)

    @property
    def depthwise(self) -> bool:
        """Whether it convolves every channel separately."""
        return self.groups == len(self.weight) and self.weight.shape[1] == 1

    @property
    def matrix(self) -> Array:
        """The (out, in) weights of a 1x1 convolution."""
        return self.weight[:, :, 0, 0]

    def set_weights(self, weight: Array, bias: Array | None) -> None:
        """Give the node other weights. The old ones stay in the graph, since other nodes may take them.

        A depthwise convolution stays depthwise.
        """
        node, name = self.node, str(self.result.name)
        if weight is not self.weight:
            node.replace_input_with(1, add_initializer(_graph_of(node), f"{name}.weight", weight))
            node.attributes.add(ir.AttrInt64s("kernel_shape", weight.shape[2:]))
            node.attributes.add(ir.AttrInt64("group", len(weight) if self.depthwise else self.groups))
        if bias is not self.bias:
            node.resize_inputs(3)
            node.replace_input_with(2, None if bias is None else add_initializer(_graph_of(node), f"{name}.bias", bias))


def match_conv(node: ir.Node | None) -> ConvNode | None:
    """Return a view of ``node`` if it is a 2-D ``Conv`` with constant float32 weights and explicit padding."""
    if node is None or node.op_type != "Conv" or node.domain:
        return None
    constants = weight_and_bias(node)
    if constants is None or constants[0].ndim != 4:
        return None
    attributes = node.attributes
    if attributes.get_string("auto_pad", "NOTSET") != "NOTSET":
        return None
    return ConvNode(
        node,
        *constants,
        attributes.get_int("group", 1),
        tuple(attributes.get_ints("pads", (0, 0, 0, 0))),
        tuple(attributes.get_ints("strides", (1, 1))),
        tuple(attributes.get_ints("dilations", (1, 1))),
    )


def insert_conv(
    before: ir.Node,
    source: ir.Value,
    weight: Array,
    bias: Array | None,
    *,
    name: str,
    padding: Sequence[int] = (0, 0, 0, 0),
) -> ir.Value:
    """Insert a convolution of stride 1 without groups and return its result.

    Args:
        before: the node in front of which it is inserted.
        source: (N, in, H, W), the tensor to convolve.
        weight: (out, in, rows, columns).
        bias: (out,), or ``None`` for none.
        name: the beginning of the names of its weights.
        padding: top, left, bottom, right.
    """
    graph = _graph_of(before)
    inputs = [source, add_initializer(graph, f"{name}.weight", weight)]
    if bias is not None:
        inputs.append(add_initializer(graph, f"{name}.bias", bias))
    kernel = list(weight.shape[2:])
    return insert_before(before, "Conv", inputs, {"kernel_shape": kernel, "group": 1, "pads": list(padding)})


def _graph_of(node: ir.Node) -> ir.Graph:
    graph = node.graph
    assert isinstance(graph, ir.Graph)  # noqa: S101  (passes see nodes of a model's main graph only)
    return graph

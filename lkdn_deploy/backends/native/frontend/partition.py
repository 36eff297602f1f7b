"""Partitioning: the parts of a graph that are left to ONNX Runtime because there are no kernels for them.

Attention over the whole image consists mostly of strided convolutions with large windows, on small maps or on one
number for each channel. That is little work, in operators of many kinds; the cost is in exchanging the values.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.ir import Subgraph, UnsupportedError
from lkdn_deploy.graph.folding import Folding, FoldingError

MAX_SHARE = 0.1
"""Share of a network's work beyond which the rest does not repay the exchange of values."""

_PROBE_SIZES = ((120, 104), (136, 152))
"""Two input sizes without a common side, which tell tensors of the input's size from others."""


def node_attributes(node: Any) -> dict[str, Any]:
    """Return the attributes of an ONNX node by name."""
    import onnx

    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


class Partition:
    """The nodes of a graph that are left to ONNX Runtime, and the tensors that are known there.

    Attributes:
        depths: depth of each of these tensors. Constants and the graph's input are known from the start.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._constants = {item.name: item for item in self._model.graph.initializer}
        self._input = self._model.graph.input[0].name
        self.depths = dict.fromkeys((*self._constants, self._input, ""), 0)
        self._nodes: dict[int, list[Any]] = {}
        self._requested: set[str] = set()
        self._rows: dict[str, str] = {}
        """Tensor of the rows between which a map is interpolated, by the map's name."""
        self._folding = Folding()

    @cached_property
    def _inferred(self) -> "_InferredShapes":
        """Shapes of all tensors, inferred on demand because that takes longer than the rest of the import."""
        return _infer_shapes(self._model)

    def map_channels(self, name: str) -> int | None:
        """Return the channels of a tensor that is known here and has the input's size; ``None`` for any other."""
        if name == self._input:
            return 3
        return self._channels(name, lambda size: size)

    def vector_channels(self, name: str) -> int | None:
        """Return the channels of a tensor (1, C, 1, 1) or (C, 1, 1) that is known here; ``None`` for any other."""
        return self._channels(name, lambda _: (1, 1))

    def request(self, name: str) -> None:
        """Make a tensor an output of its subgraph."""
        self._requested.add(name)

    def interpolation_rows(self, name: str) -> str | None:
        """Return the tensor of those rows from which a map is interpolated vertically; ``None`` if there is none."""
        return self._rows.get(name)

    def _channels(self, name: str, expected: Callable[[tuple[int, int]], tuple[int, int]]) -> int | None:
        """Return the channels of a tensor, if its size is as expected for each size of the input."""
        import onnx

        computed = name in self.depths and name not in self._constants
        if not computed or self._inferred.types.get(name) != onnx.TensorProto.FLOAT:
            return None
        found = [shapes.get(name, ()) for shapes in self._inferred.shapes]
        found = [(1, *shape) if len(shape) == 3 else shape for shape in found]
        if any(len(shape) != 4 or shape[0] != 1 for shape in found) or len({shape[1] for shape in found}) > 1:
            return None
        return found[0][1] if [shape[2:] for shape in found] == [expected(it) for it in self._inferred.sizes] else None

    def offload(self, node: Any) -> None:
        """Leave a node, all whose inputs are known here, to ONNX Runtime."""
        depth = max((self.depths[name] for name in node.input), default=0)
        self.depths.update(dict.fromkeys(node.output, depth))
        nodes = [node, *(self._resized_columns(node) if self._is_linear_resize(node) else ())]
        self._nodes.setdefault(depth, []).extend(nodes)
        self.depths.update((name, depth) for it in nodes for name in it.output)

    def _is_linear_resize(self, node: Any) -> bool:
        """Return whether a node stretches a small map to the input's size, with linear interpolation."""
        attributes = node_attributes(node)
        defaults = {
            "coordinate_transformation_mode": b"half_pixel",
            "keep_aspect_ratio_policy": b"stretch",
            "antialias": 0,
        }
        return (
            node.op_type == "Resize"
            and attributes.get("mode") == b"linear"
            and all(attributes.get(name, value) == value for name, value in defaults.items())
            and "axes" not in attributes
            and len(node.input) == 4
            and self.map_channels(node.output[0]) is not None
        )

    def _resized_columns(self, node: Any) -> list[Any]:
        """Return nodes that resize horizontally only: interpolating rows is faster in the stage that uses them."""
        import onnx

        source, sizes, name = node.input[0], node.input[3], node.output[0]
        new = [f"{name}/{it}" for it in ("small", "wide", "both", "last", "rows")]
        if any(it in shapes for it in new for shapes in (*self._inferred.shapes, self._constants)):
            return []  # the graph has a tensor of that name
        small, wide, both, last, rows = new
        self._rows[name] = rows
        self._constants[last] = onnx.numpy_helper.from_array(np.array([3]), last)
        self._inferred.types[rows] = onnx.TensorProto.FLOAT
        for shapes in self._inferred.shapes:
            shapes[rows] = (*shapes[source][:3], shapes[name][3])
        resized = onnx.NodeProto()
        resized.CopyFrom(node)
        resized.input[3], resized.output[0] = both, rows
        return [
            onnx.helper.make_node("Shape", [source], [small], end=3),
            onnx.helper.make_node("Gather", [sizes, last], [wide]),
            onnx.helper.make_node("Concat", [small, wide], [both], axis=0),
            resized,
        ]

    def fold(self, node: Any) -> dict[str, NDArray[Any]]:
        """Evaluate a node on constants, and return its outputs, which become constants too.

        Raises:
            UnsupportedError: if it is not one of a few operators, or its outputs would be too large.
        """
        import onnx

        arguments = {name: onnx.numpy_helper.to_array(self._constants[name]) for name in node.input}
        try:
            found = dict(zip(node.output, self._folding.evaluate(node, arguments), strict=True))
        except FoldingError as error:
            raise UnsupportedError(str(error)) from error
        for name, values in found.items():
            self._constants[name] = onnx.numpy_helper.from_array(values, name)
            self.depths[name] = 0
        return found

    def share(self) -> float:
        """Return the share of the network's work that is left to ONNX Runtime.

        Work is counted as multiplications of convolutions and matrix products, and as outputs of everything else.
        """
        whole = sum(map(self._work, needed_nodes(self._model.graph.node, {self._model.graph.output[0].name})))
        return sum(self._work(node) for nodes in self._nodes.values() for node in nodes) / max(whole, 1)

    def _work(self, node: Any) -> int:
        shapes = self._inferred.shapes[0]
        each = 1
        if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in self._constants:
            each = math.prod(self._constants[node.input[1]].dims[1:])
        elif node.op_type in ("Gemm", "MatMul"):
            each = shapes.get(node.input[0], (1,))[-1]
        return sum(math.prod(shapes.get(name, ())) for name in node.output) * each

    def subgraphs(self) -> tuple[Subgraph, ...]:
        """Return a model of the nodes of each depth, without those that nothing needs."""
        made_at = {name: depth for depth, nodes in self._nodes.items() for node in nodes for name in node.output}
        wanted = set(self._requested)
        for depth, nodes in self._nodes.items():
            wanted |= {name for node in nodes for name in node.input if made_at.get(name, depth) != depth}
        subgraphs = (self._subgraph(depth, nodes, wanted) for depth, nodes in sorted(self._nodes.items()))
        return tuple(it for it in subgraphs if it.outputs)

    def _subgraph(self, depth: int, nodes: list[Any], wanted: set[str]) -> Subgraph:
        import onnx

        nodes = needed_nodes(nodes, wanted)
        made = {name: None for node in nodes for name in node.output}
        used = {name: None for node in nodes for name in node.input if name and name not in made}
        inputs = [name for name in used if name not in self._constants]
        outputs = [name for name in made if name in wanted]
        graph = onnx.helper.make_graph(
            nodes,
            f"depth {depth}",
            [self._tensor(name) for name in inputs],
            [self._tensor(name) for name in outputs],
            [self._constants[name] for name in used if name in self._constants],
        )
        model = onnx.helper.make_model(graph, opset_imports=self._model.opset_import, ir_version=self._model.ir_version)
        return Subgraph(depth, tuple(inputs), tuple(outputs), model.SerializeToString())

    def _tensor(self, name: str) -> Any:
        import onnx

        sides = zip(*(shapes.get(name, ()) for shapes in self._inferred.shapes), strict=True)
        # A length that ONNX cannot infer counts as 0.
        shape = [side[0] if len(set(side)) == 1 and side[0] else None for side in sides]
        return onnx.helper.make_tensor_value_info(name, self._inferred.types.get(name, onnx.TensorProto.FLOAT), shape)


def needed_nodes(nodes: Sequence[Any], wanted: set[str]) -> list[Any]:
    """Return the nodes that the wanted tensors depend on."""
    wanted, found = set(wanted), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            found.append(node)
    return found[::-1]


@dataclass(frozen=True, slots=True)
class _InferredShapes:
    """Shapes and types of a graph's tensors, with inputs of some sizes."""

    sizes: list[tuple[int, int]]
    """(height, width) of the inputs."""
    shapes: list[dict[str, tuple[int, ...]]]
    """Shapes by tensor, for each of the sizes."""
    types: dict[str, int]
    """Element types by tensor, as ONNX numbers them."""


def _infer_shapes(model: Any) -> _InferredShapes:
    import onnx

    dims = model.graph.input[0].type.tensor_type.shape.dim
    fixed = tuple(int(dim.dim_value) for dim in dims[2:])
    sizes = [fixed] if len(fixed) == 2 and all(fixed) else list(_PROBE_SIZES)
    shapes, types = [], {}
    for size in sizes:
        sized = onnx.ModelProto()
        sized.CopyFrom(model)
        for dim, length in zip(sized.graph.input[0].type.tensor_type.shape.dim, (1, 3, *size), strict=False):
            dim.dim_value = length
        del sized.graph.value_info[:]  # declared for any size, they would conflict
        try:
            inferred = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
        except Exception as error:  # ONNX's exceptions have no common base
            msg = "tensors whose shapes ONNX cannot infer"
            raise UnsupportedError(msg) from error
        found = {}
        for item in (*inferred.input, *inferred.value_info, *inferred.output):
            tensor = item.type.tensor_type
            found[item.name] = tuple(int(dim.dim_value) for dim in tensor.shape.dim)
            types[item.name] = int(tensor.elem_type)
        shapes.append(found)
    return _InferredShapes([(int(height), int(width)) for height, width in sizes], shapes, types)

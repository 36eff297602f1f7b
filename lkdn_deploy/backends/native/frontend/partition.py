"""Partitioning: the parts of a graph that are left to ONNX Runtime because there are no kernels for them.

Attention over the whole image consists mostly of strided convolutions with large windows, on small maps or on one
number for each channel. That is little work, in operators of many kinds; the cost is in exchanging the values.
"""

import math
from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.frontend.inferred import InferredShapes, infer_shapes
from lkdn_deploy.backends.native.ir import Boundary, BoundaryKind, Subgraph, UnsupportedError
from lkdn_deploy.graph.folding import Folding, FoldingError

MAX_SHARE = 0.1
"""Share of a network's work beyond which the rest does not repay the exchange of values."""


def node_attributes(node: Any) -> dict[str, Any]:
    """Return the attributes of an ONNX node by name."""
    import onnx

    return {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}


def gathered_axis(node: Any) -> int | None:
    """Return the axis of an image, 2 or 3, along which a node gathers rows or columns by their numbers, or ``None``."""
    axis = node_attributes(node).get("axis", 0)
    known = node.op_type == "Gather" and node.domain in ("", "ai.onnx") and axis in (2, 3, -2, -1)
    return axis % 4 if known else None


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
        self._names = {*self.depths, *(name for node in model.graph.node for name in node.output)}
        self._nodes: dict[int, list[Any]] = {}
        self._requested: set[str] = set()
        self._made: dict[str, Any] = {}
        """Nodes that are left to ONNX Runtime, by the tensors that they compute."""
        self._stretched: dict[str, Boundary] = {}
        """Boundaries of maps that are stretched vertically in the stage that uses them, by the maps' names."""
        self._numbers: dict[str, str] = {}
        """Tensors of numbers that are known outside ONNX Runtime, by their names in it."""
        self._folding = Folding()

    @cached_property
    def _inferred(self) -> InferredShapes:
        """Shapes of all tensors, inferred on demand because that takes longer than the rest of the import."""
        return infer_shapes(self._model)

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

    def boundary(self, name: str) -> Boundary:
        """Return the boundary by which a map is imported."""
        return self._stretched.get(name) or Boundary(BoundaryKind.NCHW, name)

    def unused(self, name: str) -> str:
        """Return this name, or a longer one if there is a tensor of that name."""
        base, number = name, len(self._names)
        while name in self._names:
            name, number = f"{base}/{number}", number + 1
        self._names.add(name)
        return name

    def numbers(self, name: str) -> str | None:
        """Return a tensor of 64-bit integers with the numbers of a tensor of one dimension that is known here.

        Returns:
            Its name, which ``request`` takes; ``None`` if the tensor is no such one.
        """
        import onnx

        if name not in self._numbers:
            if name in self._constants:
                constant = self._constants[name]
                kind, is_list = constant.data_type, len(constant.dims) == 1 and constant.dims[0] > 0
            else:
                kind, is_list = self._inferred.types.get(name), self._inferred.is_list(name)
            if name not in self.depths or kind not in (onnx.TensorProto.INT32, onnx.TensorProto.INT64) or not is_list:
                return None
            cast = self.unused(f"{name}/numbers")
            length = list(self._constants[name].dims) if name in self._constants else None
            self._inferred.add(cast, onnx.TensorProto.INT64, lambda shapes: tuple(length or shapes[name]))
            self._add([onnx.helper.make_node("Cast", [name], [cast], to=onnx.TensorProto.INT64)], self.depths[name])
            self._numbers[name] = cast
        return self._numbers[name]

    def at_most_rows(self, name: str) -> bool:
        """Return whether a tensor of one dimension has at most as many numbers as the input has rows."""
        inferred = self._inferred
        return all(shape[0] <= size[0] for shape, size in zip(inferred.of(name), inferred.sizes, strict=True))

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
        self._add([node], depth)
        if self._is_linear_resize(node):
            self._add(self._resized_columns(node), depth)
        elif gathered_axis(node) is not None and self.map_channels(node.output[0]) is not None:
            self._add(self._gathered_columns(node), depth)

    def _add(self, nodes: Sequence[Any], depth: int) -> None:
        self._nodes.setdefault(depth, []).extend(nodes)
        for node in nodes:
            self.depths.update(dict.fromkeys(node.output, depth))
            self._made.update(dict.fromkeys(node.output, node))

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
        new = ("small", "wide", "both", "last", "rows")
        small, wide, both, last, rows = (self.unused(f"{name}/{it}") for it in new)
        self._stretched[name] = Boundary(BoundaryKind.INTERP_ROWS, rows)
        self._constants[last] = onnx.numpy_helper.from_array(np.array([3]), last)
        kind = onnx.TensorProto.FLOAT
        self._inferred.add(rows, kind, lambda shapes: (*shapes[source][:3], shapes[name][3]))
        resized = onnx.NodeProto()
        resized.CopyFrom(node)
        resized.input[3], resized.output[0] = both, rows
        return [
            onnx.helper.make_node("Shape", [source], [small], end=3),
            onnx.helper.make_node("Gather", [sizes, last], [wide]),
            onnx.helper.make_node("Concat", [small, wide], [both], axis=0),
            resized,
        ]

    def _gathered_columns(self, node: Any) -> list[Any]:
        """Return nodes that stretch a map horizontally only, where copies of its rows make the map that a node gathers.

        The copies need not be made: the stage that uses the map finds the row of which each is one.
        """
        import onnx

        source, numbers, name = node.input[0], node.input[1], node.output[0]
        before, nodes, rows = self._made.get(source), [], source
        if gathered_axis(node) == 3:
            if before is None or gathered_axis(before) != 2:
                return []
            rows = self.unused(f"{name}/rows")
            nodes = [onnx.helper.make_node("Gather", [before.input[0], numbers], [rows], axis=3)]
            source, numbers = before.input
        small, sizes = self._inferred.of(source), self._inferred.of(name)
        fits = all(len(it) == 4 and 0 < it[2] <= size[2] for it, size in zip(small, sizes, strict=True))
        copied = self.numbers(numbers)
        if not fits or copied is None:
            return []
        self._inferred.add(rows, onnx.TensorProto.FLOAT, lambda shapes: (*shapes[source][:3], shapes[name][3]))
        self._stretched[name] = Boundary(BoundaryKind.INTERP_ROWS, rows, numbers=copied)
        return nodes

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

"""Which parts of a graph the native engine leaves to ONNX Runtime, because it has no kernels for them.

Attention that looks at the whole picture is mostly of large windows with strides, on small maps or on one number for
each channel: little work, in operations of many kinds. What goes there and comes back is what costs.
"""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.ir import Detour

MOST_SHARE = 0.1
"""Of a network's work: with more of it elsewhere, the rest is not worth what goes to and fro."""

_SIZES = ((120, 104), (136, 152))
"""Two that have nothing in common, to tell what is of the input's size."""

_Shape = tuple[int, ...]


class Elsewhere:
    """The nodes of a graph that are done outside the engine, and the tensors that are known there.

    Attributes:
        depths: of these tensors, see ``Program``. Constants and the graph's input are known from the start.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._constants = {item.name: item for item in self._model.graph.initializer}
        self._input = self._model.graph.input[0].name
        self.depths = dict.fromkeys((*self._constants, self._input, ""), 0)
        self._nodes: dict[int, list[Any]] = {}
        self._taken_in: set[str] = set()

    @cached_property
    def _known(self) -> "_Known":
        """Needed only if something is done elsewhere; telling it takes longer than all else of a graph's reading."""
        return _inferred(self._model)

    def planes(self, name: str) -> int | None:
        """The channels of a tensor that is known outside and a map of the input's size; ``None``: it is none."""
        if name == self._input:
            return 3
        return None if self._unknown(name) else self._channels(name, self._known.sizes)

    def take_in(self, name: str) -> None:
        """It is needed in the engine."""
        self._taken_in.add(name)

    def numbers(self, name: str) -> int | None:
        """The channels of a tensor that is known outside and one number for each; ``None``: it is none.

        A first axis for pictures may be missing.
        """
        return None if self._unknown(name) else self._channels(name, [(1, 1)] * len(self._known.sizes))

    def _unknown(self, name: str) -> bool:
        return name not in self.depths or name in self._constants

    def lines(self, name: str) -> str | None:
        """The tensor whose rows are enough to tell such a map's; ``None``: there is none."""
        found = f"{name}/lines"
        return found if found in self.depths else None

    def _channels(self, name: str, sizes: list[tuple[int, int]]) -> int | None:
        import onnx

        if self._known.types.get(name) != onnx.TensorProto.FLOAT:
            return None
        found = [shapes.get(name, ()) for shapes in self._known.shapes]
        found = [(1, *shape) if len(shape) == 3 else shape for shape in found]
        if any(len(shape) != 4 or shape[0] != 1 for shape in found):
            return None
        if [shape[2:] for shape in found] != sizes or len({shape[1] for shape in found}) > 1:
            return None
        return found[0][1]

    def take(self, node: Any) -> None:
        """Do a node elsewhere, all whose inputs are known there."""
        depth = max((self.depths[name] for name in node.input), default=0)
        self.depths.update(dict.fromkeys(node.output, depth))
        nodes = [node, *(self._columns_stretched(node) if self._stretches(node) else ())]
        self._nodes.setdefault(depth, []).extend(nodes)
        self.depths.update((name, depth) for it in nodes for name in it.output)

    def _stretches(self, node: Any) -> bool:
        """Whether it makes a map of a smaller one by going straight from pixel to pixel."""
        import onnx

        attributes = {item.name: onnx.helper.get_attribute_value(item) for item in node.attribute}
        usual = {
            "coordinate_transformation_mode": b"half_pixel",
            "keep_aspect_ratio_policy": b"stretch",
            "antialias": 0,
        }
        return (
            node.op_type == "Resize"
            and attributes.get("mode") == b"linear"
            and all(attributes.get(name, value) == value for name, value in usual.items())
            and "axes" not in attributes
            and len(node.input) == 4
            and self.planes(node.output[0]) is not None
        )

    def _columns_stretched(self, node: Any) -> list[Any]:
        """The same along rows only: what lies between them is quicker made where it is used, and more of it."""
        import onnx

        source, sizes, name = node.input[0], node.input[3], node.output[0]
        small, wide, both, last, lines = (f"{name}/{it}" for it in ("small", "wide", "both", "last", "lines"))
        self._constants[last] = onnx.numpy_helper.from_array(np.array([3]), last)
        self._known.types[lines] = onnx.TensorProto.FLOAT
        for shapes in self._known.shapes:
            shapes[lines] = (*shapes[source][:3], shapes[name][3])
        stretched = onnx.NodeProto()
        stretched.CopyFrom(node)
        stretched.input[3], stretched.output[0] = both, lines
        return [
            onnx.helper.make_node("Shape", [source], [small], end=3),
            onnx.helper.make_node("Gather", [sizes, last], [wide]),
            onnx.helper.make_node("Concat", [small, wide], [both], axis=0),
            stretched,
        ]

    def fold(self, node: Any) -> dict[str, NDArray[Any]]:
        """What a node on constants only gives; from here on constants, too."""
        import onnx
        from onnx.reference import ReferenceEvaluator

        arguments = {name: onnx.numpy_helper.to_array(self._constants[name]) for name in node.input}
        found = dict(zip(node.output, ReferenceEvaluator(node).run(None, arguments), strict=True))
        for name, values in found.items():
            self._constants[name] = onnx.numpy_helper.from_array(values, name)
            self.depths[name] = 0
        return found

    def share(self) -> float:
        """Of the whole network's work: multiplications of windows and matrices, and values of all else."""
        whole = sum(self._work(node) for node in self._model.graph.node)
        return sum(self._work(node) for nodes in self._nodes.values() for node in nodes) / max(whole, 1)

    def _work(self, node: Any) -> int:
        shapes = self._known.shapes[0]
        each = 1
        if node.op_type in ("Conv", "ConvTranspose") and node.input[1] in self._constants:
            each = math.prod(self._constants[node.input[1]].dims[1:])
        elif node.op_type in ("Gemm", "MatMul"):
            each = shapes.get(node.input[0], (1,))[-1]
        return sum(math.prod(shapes.get(name, ())) for name in node.output) * each

    def detours(self) -> tuple[Detour, ...]:
        """A model for the nodes of each depth."""
        made_at = {name: depth for depth, nodes in self._nodes.items() for node in nodes for name in node.output}
        wanted = set(self._taken_in)
        for depth, nodes in self._nodes.items():
            wanted |= {name for node in nodes for name in node.input if made_at.get(name, depth) != depth}
        detours = (self._detour(depth, nodes, wanted) for depth, nodes in sorted(self._nodes.items()))
        return tuple(detour for detour in detours if detour.outputs)

    def _detour(self, depth: int, nodes: list[Any], wanted: set[str]) -> Detour:
        import onnx

        nodes = _needed(nodes, wanted)
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
        return Detour(depth, tuple(inputs), tuple(outputs), model.SerializeToString())

    def _tensor(self, name: str) -> Any:
        import onnx

        sides = zip(*(shapes.get(name, ()) for shapes in self._known.shapes), strict=True)
        shape = [side[0] if len(set(side)) == 1 else None for side in sides]
        return onnx.helper.make_tensor_value_info(name, self._known.types.get(name, onnx.TensorProto.FLOAT), shape)


def _needed(nodes: list[Any], wanted: set[str]) -> list[Any]:
    """Those of the nodes that these tensors hang on."""
    wanted, found = set(wanted), []
    for node in reversed(nodes):
        if wanted.intersection(node.output):
            wanted.update(node.input)
            found.append(node)
    return found[::-1]


@dataclass(frozen=True, slots=True)
class _Known:
    """Of a graph's tensors, with inputs of some sizes."""

    sizes: list[tuple[int, int]]
    shapes: list[dict[str, _Shape]]
    """With each of the sizes."""
    types: dict[str, int]


def _inferred(model: Any) -> _Known:
    import onnx

    dims = model.graph.input[0].type.tensor_type.shape.dim
    fixed = tuple(int(dim.dim_value) for dim in dims[2:])
    sizes = [fixed] if len(fixed) == 2 and all(fixed) else list(_SIZES)
    shapes, types = [], {}
    for size in sizes:
        sized = onnx.ModelProto()
        sized.CopyFrom(model)
        for dim, length in zip(sized.graph.input[0].type.tensor_type.shape.dim, (1, 3, *size), strict=False):
            dim.dim_value = length
        del sized.graph.value_info[:]  # written down for any size, and not to be contradicted
        known = onnx.shape_inference.infer_shapes(sized, data_prop=True).graph
        found = {}
        for item in (*known.input, *known.value_info, *known.output):
            tensor = item.type.tensor_type
            found[item.name] = tuple(int(dim.dim_value) for dim in tensor.shape.dim)
            types[item.name] = int(tensor.elem_type)
        shapes.append(found)
    return _Known([(int(height), int(width)) for height, width in sizes], shapes, types)

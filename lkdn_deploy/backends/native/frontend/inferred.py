"""Shapes of a graph's tensors, for two sizes of its input."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.native.ir import UnsupportedError
from lkdn_deploy.graph.folding import Folding, FoldingError

_PROBE_SIZES = ((120, 104), (136, 152))
"""Two input sizes without a common side, which tell tensors of the input's size from others."""


@dataclass(frozen=True, slots=True)
class InferredShapes:
    """Shapes and types of a graph's tensors, with inputs of some sizes."""

    sizes: list[tuple[int, int]]
    """(height, width) of the inputs."""
    shapes: list[dict[str, tuple[int, ...]]]
    """Shapes by tensor, for each of the sizes. A length that ONNX cannot infer is 0."""
    types: dict[str, int]
    """Element types by tensor, as ONNX numbers them."""

    def add(self, name: str, kind: int, shape: Callable[[Mapping[str, tuple[int, ...]]], tuple[int, ...]]) -> None:
        """Add a tensor.

        Args:
            name: its name.
            kind: its element type.
            shape: its shape as a function of those of the others.
        """
        self.types[name] = kind
        for shapes in self.shapes:
            shapes[name] = shape(shapes)

    def of(self, name: str) -> list[tuple[int, ...]]:
        """Return the shapes of a tensor for each of the sizes; without dimensions where they are not known."""
        return [shapes.get(name, ()) for shapes in self.shapes]

    def is_list(self, name: str) -> bool:
        """Return whether a tensor has one dimension, and numbers in it."""
        return all(len(shape) == 1 and shape[0] for shape in self.of(name))


def infer_shapes(model: Any) -> InferredShapes:
    """Infer the shapes of all tensors of an ONNX model.

    Raises:
        UnsupportedError: if ONNX cannot.
    """
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
        known = _compute_numbers(sized.graph, (1, 3, *size))
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
        for name, values in known.items():
            found[name] = values.shape
            types[name] = int(onnx.helper.np_dtype_to_tensor_dtype(values.dtype))
        shapes.append(found)
    return InferredShapes([(int(height), int(width)) for height, width in sizes], shapes, types)


def _compute_numbers(graph: Any, size: tuple[int, ...]) -> dict[str, NDArray[Any]]:
    """Replace nodes by the integers that they compute of the input's size alone; return all of these.

    ONNX's inference knows the values of few operators, and lengths depend on them.
    """
    import onnx

    types = (onnx.TensorProto.INT32, onnx.TensorProto.INT64)
    constants = {item.name: item for item in graph.initializer if item.data_type in types}
    folding, known, left = Folding(), dict[str, NDArray[Any]](), []

    def value(name: str) -> NDArray[Any]:
        if name not in known:
            known[name] = onnx.numpy_helper.to_array(constants[name])
        return known[name]

    for node in graph.node:
        found: list[NDArray[Any]] = []
        try:
            if node.op_type == "Shape" and not node.domain and list(node.input) == [graph.input[0].name]:
                ends = {item.name: int(item.i) for item in node.attribute}
                found = [np.array(size[ends.get("start", 0) : ends.get("end")], np.int64)]
            elif node.input and all(name in known or name in constants for name in node.input):
                found = folding.evaluate(node, {name: value(name) for name in node.input})
        except FoldingError:
            pass
        if found and len(found) == len(node.output) and all(it.dtype.kind in "ib" for it in found):
            known.update(zip(node.output, found, strict=True))
        else:
            left.append(node)
    computed = {name: values for name, values in known.items() if name and name not in constants}
    graph.initializer.extend(onnx.numpy_helper.from_array(values, name) for name, values in computed.items())
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in left]
    del graph.node[:]
    graph.node.extend(nodes)
    return computed

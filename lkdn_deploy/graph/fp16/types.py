"""The types of a graph's tensors."""

import onnx

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16

FP32_INPUTS = {"Resize": (1, 2)}
"""Positions of inputs that are float32 whatever the type of the data: the region and the scales of a ``Resize``."""


def float_names(model: onnx.ModelProto) -> frozenset[str]:
    """Return the names of all float32 tensors: inputs, outputs, initializers and intermediate results.

    Raises:
        onnx.shape_inference.InferenceError: if the types of the graph contradict each other.
    """
    graph = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    values = {
        value.name
        for value in (*graph.input, *graph.output, *graph.value_info)
        if value.type.tensor_type.elem_type == FLOAT
    }
    return frozenset(values | {tensor.name for tensor in graph.initializer if tensor.data_type == FLOAT})


def data_inputs(node: onnx.NodeProto) -> list[str]:
    """Return the inputs of a node that have the type of the data, without absent ones and ``FP32_INPUTS``."""
    fixed = FP32_INPUTS.get(node.op_type, ())
    return [name for position, name in enumerate(node.input) if name and position not in fixed]

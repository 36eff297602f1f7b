"""Which tensors of a graph hold float32."""

import onnx

FLOAT, HALF = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16

# Inputs that are float32 whatever the type of the data: regions and scales of a Resize.
STAYS = {"Resize": (1, 2)}


def float_names(model: onnx.ModelProto) -> frozenset[str]:
    """The names of all float32 tensors: inputs, outputs, initializers and what is between.

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
    """The inputs of a node, without those that are absent, or float32 whatever the data is."""
    stays = STAYS.get(node.op_type, ())
    return [name for position, name in enumerate(node.input) if name and position not in stays]

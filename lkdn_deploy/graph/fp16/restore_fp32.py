"""Restore convolutions of an FP16 graph to FP32, for builders that have no FP16 kernel for them."""

from collections.abc import Collection

import onnx
import onnx_ir as ir

from lkdn_deploy.graph.ir_utils import add_initializer, insert_before, replace_value


def restore_fp32(
    model: onnx.ModelProto, names: Collection[str] | None = None
) -> tuple[onnx.ModelProto, tuple[str, ...]]:
    """Return an FP16 graph with convolutions in FP32 between casts, and the names of these in the graph's order.

    Their weights are still rounded to FP16. ``names`` are the nodes to restore, ``None`` for all grouped convolutions;
    nodes that are no FP16 convolutions stay. The model is not changed.
    """
    result = ir.from_proto(model)
    graph = result.graph
    changed: list[str] = []
    restored: dict[ir.Value, ir.Value] = {}
    for node in list(graph):
        chosen = node.name in names if names is not None else node.attributes.get_int("group", 1) > 1
        if not chosen or node.op_type not in ("Conv", "ConvTranspose") or not _is_half(node.inputs[1]):
            continue
        for position, value in enumerate(node.inputs):
            if value is None:
                continue
            if value not in restored and value.const_value is not None:
                restored[value] = add_initializer(graph, f"{value.name}_fp32", value.const_value.numpy())
            elif value not in restored:
                restored[value] = insert_before(node, "Cast", [value], {"to": int(ir.DataType.FLOAT)})
            node.replace_input_with(position, restored[value])
            if value.is_initializer() and not value.uses():
                del graph.initializers[str(value.name)]
        output = node.outputs[0]
        name = output.name
        back = ir.node("Cast", [output], {"to": int(ir.DataType.FLOAT16)})
        node.append(back)
        replace_value(output, back.outputs[0])
        back.replace_input_with(0, output)
        output.name, output.type = f"{name}_fp32", ir.TensorType(ir.DataType.FLOAT)
        changed.append(str(node.name))
    return (ir.to_proto(result), tuple(changed)) if changed else (model, ())


def _is_half(weight: ir.Value | None) -> bool:
    constant = weight.const_value if weight is not None else None
    return constant is not None and constant.dtype == ir.DataType.FLOAT16

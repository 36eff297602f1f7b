"""Small artefacts: each pixel repeated, in every type that an engine may take."""

from pathlib import Path

import onnx
from onnx import TensorProto, helper

from lkdn_deploy.core.artifact import ArtifactMetadata

METADATA = ArtifactMetadata(model="twice", scale=2, receptive_radius=0, live_channels=12, fused=True)


def twice(path: Path, metadata: ArtifactMetadata = METADATA) -> Path:
    """Twice the size, with values halved so that it is seen that it ran."""
    kind = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}[metadata.io]
    nodes = [
        helper.make_node("Cast", ["lr"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["values", "half"], ["halved"]),
        helper.make_node("Concat", ["halved"] * 4, ["four"], axis=1),
        helper.make_node("DepthToSpace", ["four"], ["large"], blocksize=2, mode="DCR"),
        helper.make_node("Cast", ["large"], ["sr"], to=kind),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("lr", kind, ("n", 3, "h", "w"))],
        [helper.make_tensor_value_info("sr", kind, [None] * 4)],
        [helper.make_tensor("half", TensorProto.FLOAT, [], [0.5])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    helper.set_model_props(model, metadata.to_props())
    onnx.save(model, path)
    return path

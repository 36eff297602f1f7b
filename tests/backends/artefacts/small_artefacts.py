"""Small artefacts that several backends are given."""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper

from lkdn_deploy.core.artifact import ArtifactMetadata

METADATA = ArtifactMetadata(model="twice", scale=2, receptive_radius=0, live_channels=3, fused=True)

random = np.random.default_rng(0)


def graph(shape: tuple[Any, ...] = ("n", 3, "h", "w"), kind: int = TensorProto.FLOAT) -> ModelProto:
    """A network that repeats each pixel, with an operator that the native engine does not have."""
    nodes = [
        helper.make_node("Abs", ["lr"], ["positive"]),
        helper.make_node("Concat", ["positive"] * 4, ["four"], axis=1),
        helper.make_node("DepthToSpace", ["four"], ["sr"], blocksize=2, mode="DCR"),
    ]
    inputs = [helper.make_tensor_value_info("lr", kind, shape)]
    outputs = [helper.make_tensor_value_info("sr", kind, [None] * 4)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 20)], ir_version=9
    )
    helper.set_model_props(model, METADATA.to_props())
    return model


def saved(path: Path, model: ModelProto | None = None) -> Path:
    path.write_bytes((model or graph()).SerializeToString())
    return path


def noise(*shape: int) -> NDArray[np.float32]:
    return random.random(shape, np.float32)


def repeated(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    return batch.repeat(2, axis=2).repeat(2, axis=3)

"""A small artefact that repeats each pixel, in every type that an engine may take, and a specification."""

from pathlib import Path
from typing import Any

import onnx
from onnx import TensorProto, helper

from lkdn_deploy.backends.trt.engine_spec import EngineSpec, Profile
from lkdn_deploy.backends.trt.gpu import Gpu
from lkdn_deploy.core.artifact import ArtifactMetadata

METADATA = ArtifactMetadata(model="twice", scale=2, receptive_radius=0, live_channels=12, fused=True)
ADA = Gpu("NVIDIA GeForce RTX 4090", "sm89", "595.10")
SPEC = EngineSpec(
    runtime="tensorrt-rtx",
    runtime_version="1.7.1.116",
    targets=("sm86", "sm89"),
    system="Linux x86_64",
    profile=Profile((32, 32), (64, 64), (128, 128)),
    artefact_sha256="a" * 64,
)
OTHER: dict[str, Any] = {
    "runtime": "tensorrt",
    "runtime_version": "1.7.1.117",
    "targets": ("sm86",),
    "gpu": "NVIDIA GeForce RTX 4090",
    "driver": "595.10",
    "system": "Windows AMD64",
    "profile": Profile((32, 32), (64, 64), (128, 129)),
    "batch": 2,
    "workspace": 4097,
    "aux_streams": 0,
    "tf32": False,
    "precision": "fp16",
    "artefact_sha256": "b" * 64,
    "rewrites": ("pad-channels",),
    "builder": 1,
}
"""For each field of ``SPEC`` another value."""


def twice(path: Path, metadata: ArtifactMetadata = METADATA, gain: float = 0.5) -> Path:
    """Write an artefact that makes pictures twice as large, with values changed by a gain, which shows that it ran."""
    kind = {"fp32": TensorProto.FLOAT, "fp16": TensorProto.FLOAT16, "uint8": TensorProto.UINT8}[metadata.io]
    nodes = [
        helper.make_node("Cast", ["lr"], ["values"], to=TensorProto.FLOAT),
        helper.make_node("Mul", ["values", "gain"], ["changed"]),
        helper.make_node("Concat", ["changed"] * 4, ["four"], axis=1),
        helper.make_node("DepthToSpace", ["four"], ["large"], blocksize=2, mode="DCR"),
        helper.make_node("Cast", ["large"], ["sr"], to=kind),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("lr", kind, ("n", 3, "h", "w"))],
        [helper.make_tensor_value_info("sr", kind, [None] * 4)],
        [helper.make_tensor("gain", TensorProto.FLOAT, [], [gain])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    helper.set_model_props(model, metadata.to_props())
    onnx.save(model, path)
    return path

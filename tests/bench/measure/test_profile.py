"""The time in each kind of layer, by each engine's own profiler."""

import os
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from lkdn_deploy.backends.onnx_bytes import Artifact, read_artifact
from lkdn_deploy.bench.complexity.op_kinds import OpKind
from lkdn_deploy.bench.measure.profile import profile
from lkdn_deploy.bench.measure.torch_session import TorchSession
from lkdn_deploy.export.job import open_checkpoint
from lkdn_deploy.runtime.bundled import bundled

BATCH = np.random.default_rng(0).random((1, 3, 48, 64), np.float32)
ARTIFACT = read_artifact(bundled()["lkdn-s", 4])
SESSIONS = (
    SimpleNamespace(backend="ort-cpu"),
    SimpleNamespace(backend="openvino-cpu"),
    TorchSession(open_checkpoint(None), device="cpu"),
)


@pytest.mark.parametrize("session", SESSIONS)
def test_the_work_of_a_network_is_told_by_kind_and_nothing_is_printed(
    session: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    times = profile(session, ARTIFACT, BATCH, 1)
    assert set(times) <= set(OpKind)
    assert min(times.values()) >= 0
    # OpenVINO makes activations part of convolutions, and normalisation of many small nodes.
    expected = {OpKind.CONV_1X1, OpKind.DEPTHWISE} | (
        set() if session.backend == "openvino-cpu" else {OpKind.NORM, OpKind.ACTIVATION}
    )
    assert all(times[kind] > 0 for kind in expected)
    assert sum(times.values()) > 0
    assert OpKind.LINEAR not in times  # it has no matrix products
    assert capfd.readouterr() == ("", "")
    os.write(2, b"still here\n")  # PyTorch's profiler is kept from stderr, but only for a while
    assert capfd.readouterr().err == "still here\n"


def test_no_profile_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    assert profile(SESSIONS[0], ARTIFACT, BATCH, 1)
    assert list(tmp_path.iterdir()) == []


def test_convolutions_are_told_apart_by_their_weights() -> None:
    shapes = {"point": (8, 3, 1, 1), "depth": (8, 1, 3, 3), "whole": (4, 8, 3, 3)}
    nodes = [
        helper.make_node("Conv", ["lr", "point"], ["a"]),
        helper.make_node("Conv", ["a", "depth"], ["b"], group=8, pads=[1] * 4),
        helper.make_node("Conv", ["b", "whole"], ["sr"], pads=[1] * 4),
    ]
    weights = [
        helper.make_tensor(name, TensorProto.FLOAT, shape, np.ones(shape, np.float32).ravel())
        for name, shape in shapes.items()
    ]
    inputs = [helper.make_tensor_value_info("lr", TensorProto.FLOAT, ("n", 3, "h", "w"))]
    outputs = [helper.make_tensor_value_info("sr", TensorProto.FLOAT, [None] * 4)]
    graph = helper.make_graph(nodes, "g", inputs, outputs, weights)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    artifact = Artifact(Path("a.onnx"), model.SerializeToString(), ARTIFACT.metadata)
    for session in SESSIONS[:2]:
        times = profile(session, artifact, BATCH, 1)
        assert {OpKind.CONV_1X1, OpKind.DEPTHWISE, OpKind.OTHER_CONV} <= set(times)
        assert set(times) <= {OpKind.CONV_1X1, OpKind.DEPTHWISE, OpKind.OTHER_CONV, OpKind.REARRANGING, OpKind.OTHER}

"""The time in each kind of layer, by each engine's own profiler."""

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from onnx import TensorProto, helper

from lkdn_deploy.backends.onnx_bytes import Artifact, read_artifact
from lkdn_deploy.bench.complexity.op_kinds import OpKind
from lkdn_deploy.bench.measure.profile import Times, profile_openvino, profile_ort, profile_torch
from lkdn_deploy.bench.measure.torch_session import TorchSession
from lkdn_deploy.export.job import open_checkpoint
from lkdn_deploy.runtime.bundled import bundled

BATCH = np.random.default_rng(0).random((1, 3, 48, 64), np.float32)
ARTIFACT = read_artifact(bundled()["lkdn-s", 4])
PROFILERS: dict[str, Callable[[], Times]] = {
    "ort": lambda: profile_ort(ARTIFACT, BATCH, 1, "CPUExecutionProvider"),
    "openvino": lambda: profile_openvino(ARTIFACT, BATCH, 1),
    "torch": lambda: profile_torch(TorchSession(open_checkpoint(None), device="cpu"), BATCH),
}


@pytest.mark.parametrize("engine", PROFILERS)
def test_the_work_of_a_network_is_told_by_kind_and_nothing_is_printed(
    engine: str, capfd: pytest.CaptureFixture[str]
) -> None:
    times = PROFILERS[engine]()
    assert set(times) <= set(OpKind)
    assert min(times.values()) >= 0
    # OpenVINO makes activations part of convolutions, and normalisation of many small nodes.
    expected = {OpKind.CONV_1X1, OpKind.DEPTHWISE} | (
        set() if engine == "openvino" else {OpKind.NORM, OpKind.ACTIVATION}
    )
    assert all(times[kind] > 0 for kind in expected)
    assert sum(times.values()) > 0
    assert OpKind.LINEAR not in times  # it has no matrix products
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("engine", PROFILERS)
def test_what_is_written_afterwards_is_seen_again(engine: str, capfd: pytest.CaptureFixture[str]) -> None:
    """PyTorch's profiler is kept from stderr, but only for a while."""
    PROFILERS[engine]()
    os.write(2, b"still here\n")
    assert capfd.readouterr().err == "still here\n"


def test_no_profile_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    PROFILERS["ort"]()
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
    for times in (profile_ort(artifact, BATCH, 1, "CPUExecutionProvider"), profile_openvino(artifact, BATCH, 1)):
        assert {OpKind.CONV_1X1, OpKind.DEPTHWISE, OpKind.OTHER_CONV} <= set(times)
        assert set(times) <= {OpKind.CONV_1X1, OpKind.DEPTHWISE, OpKind.OTHER_CONV, OpKind.REARRANGING, OpKind.OTHER}

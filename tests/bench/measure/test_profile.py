"""What a run is made up of, as each engine's own profiler has it."""

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from lkdn_deploy.bench.complexity.operations import OpKind
from lkdn_deploy.bench.measure.profile import Times, of_openvino, of_ort, of_torch
from lkdn_deploy.bench.measure.torch_session import TorchSession
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.export.job import open_checkpoint
from lkdn_deploy.runtime.bundled import bundled

BATCH = np.random.default_rng(0).random((1, 3, 48, 64), np.float32)
ARTEFACT = bundled()["lkdn-s", 4]
PROFILERS: dict[str, Callable[[], Times]] = {
    "ort": lambda: of_ort(ARTEFACT, BATCH, 1, "CPUExecutionProvider"),
    "openvino": lambda: of_openvino(ARTEFACT, BATCH, 1),
    "torch": lambda: of_torch(TorchSession(open_checkpoint(None), device="cpu"), BATCH),
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


@pytest.mark.parametrize("profile", [partial(of_ort, provider="CPUExecutionProvider"), of_openvino])
def test_a_file_that_is_no_model_is_refused(tmp_path: Path, profile: Callable[..., Times]) -> None:
    (tmp_path / "a.onnx").write_bytes(b"not onnx")
    with pytest.raises(InputError, match=r"a\.onnx cannot be opened"):
        profile(tmp_path / "a.onnx", BATCH, threads=1)


def test_convolutions_are_told_apart_by_their_weights(tmp_path: Path) -> None:
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
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), tmp_path / "a.onnx")
    for times in (
        of_ort(tmp_path / "a.onnx", BATCH, 1, "CPUExecutionProvider"),
        of_openvino(tmp_path / "a.onnx", BATCH, 1),
    ):
        assert {OpKind.CONV_1X1, OpKind.DEPTHWISE, OpKind.OTHER_CONV} <= set(times)
        assert set(times) <= {OpKind.CONV_1X1, OpKind.DEPTHWISE, OpKind.OTHER_CONV, OpKind.REARRANGING, OpKind.OTHER}

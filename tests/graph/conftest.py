"""Small graphs in ONNX's own text form, and a way to run them."""

from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper, parser

MakeGraph = Callable[..., onnx.ModelProto]


@pytest.fixture(scope="session")
def graph() -> MakeGraph:
    """``graph(body, channels=3, w=array)``: from ``lr`` (1, 3, H, W) to ``sr``, with weights."""

    def make(body: str, channels: int = 3, **weights: NDArray[np.float32]) -> onnx.ModelProto:
        head = '<ir_version: 10, opset_import: ["" : 20]>'
        text = f"{head} g (float[N, 3, H, W] lr) => (float[N, {channels}, HH, WW] sr) {{ {body} }}"
        model = parser.parse_model(text)
        for name, value in weights.items():
            model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, np.float32), name))
        onnx.checker.check_model(model, full_check=True)
        return model

    return make


@pytest.fixture(scope="session")
def run() -> Callable[[onnx.ModelProto, NDArray[np.generic]], NDArray[np.generic]]:
    """``run(model, batch)``: the output on ONNX Runtime."""

    def on_cpu(model: onnx.ModelProto, batch: NDArray[np.generic]) -> NDArray[np.generic]:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
        return np.asarray(session.run(None, {"lr": batch})[0])

    return on_cpu


@pytest.fixture(scope="session")
def noise() -> NDArray[np.float32]:
    """(1, 3, 9, 11) in 0..1."""
    return np.random.default_rng(0).random((1, 3, 9, 11), np.float32)

"""Opens damaged artefacts, upscales with them, and compares the native engine with ONNX Runtime."""

import random
from pathlib import Path

import numpy as np
import onnx
import onnxruntime

import lkdn_deploy.backends.native.executor
import lkdn_deploy.graph.pipeline
import lkdn_deploy.verify.comparison  # noqa: F401 - imported here once, and not in each child
from lkdn_deploy.backends.native.frontend.partition import needed_nodes
from lkdn_deploy.backends.native.session import NativeSession
from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.runtime.optimised import optimised_for
from lkdn_deploy.runtime.upscaler import Upscaler

SIZES = ((20, 24), (7, 31), (33, 9), (16, 70))


def open_and_run(path: Path, source: random.Random) -> str:
    """Open an artefact, upscale with it, and compare the native engine with ONNX Runtime."""
    backend = source.choices(["native", "ort-cpu", "auto"], [20, 1, 1])[0]
    try:
        session = open_session(read_artifact(path), backend, threads=source.choice([1, 2]), optimise=optimised_for)
        height, width = source.choice(SIZES)
        batch = np.random.default_rng(0).random((1, 3, height, width), np.float32)
        pixels = (batch[0].transpose(1, 2, 0) * 255).astype(np.uint8)
        result = Upscaler(session, tile=source.choice([None, None, 8]) if not session.fixed_size else None)(pixels)
        assert result.shape == (height * session.metadata.scale, width * session.metadata.scale, 3)
        if not isinstance(session, NativeSession) or session.fixed_size:
            return f"a picture on {session.backend}"
        values = session.run(batch)
    except InputError as error:
        about_file = path.name in error.message
        at_run = any(
            it in error.message for it in ("fuzzed", "ONNX Runtime", "native-cpu", "ort-cpu", "scale", "shape")
        )
        at_run = at_run or "claims" in error.message or "small" in error.message
        return type(error).__name__ if about_file or at_run else f"! no file in {error.message[:60]!r}"
    try:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        other = onnxruntime.InferenceSession(_without_unused(path), options, providers=["CPUExecutionProvider"])
        expected = other.run(None, {other.get_inputs()[0].name: batch})[0]
    except Exception as error:
        return f"! a picture that ONNX Runtime refuses: {str(error)[:90]!r}"
    if expected.shape != values.shape:
        return "! a picture of another size"
    scale = max(1.0, float(np.abs(expected[np.isfinite(expected)]).max(initial=0)))
    close = np.allclose(values, expected, rtol=1e-3, atol=1e-3 * scale, equal_nan=True)
    return "a picture on both" if close or not np.isfinite(expected).all() else "! another picture than ONNX Runtime's"


def _without_unused(path: Path) -> bytes:
    """Return a model without what its output does not depend on, which the native engine does not look at."""
    model = onnx.load_model(path)
    nodes = needed_nodes(model.graph.node, {model.graph.output[0].name})
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    return bytes(model.SerializeToString())

"""The time that a run spends in each kind of layer, by each engine's own profiler.

Profiling slows a run, and engines fuse layers: an activation that is part of a convolution counts as convolution. So
the figures show how a run is composed, not how long it takes.
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.io import to_input
from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.bench.complexity.op_kinds import OpKind, conv_kind, kind_of
from lkdn_deploy.bench.measure.torch_session import TorchSession
from lkdn_deploy.core.errors import LkdnError
from lkdn_deploy.core.optional import import_engine, needs
from lkdn_deploy.core.protocols import Session

Times = dict[str, float]
"""Milliseconds by ``OpKind``."""


def profile(session: Session, artifact: Artifact | None, batch: NDArray[np.float32], threads: int) -> Times:
    """Profile one run on the engine of a session.

    Args:
        session: an open session.
        artifact: the artefact that it runs; ``None`` for PyTorch, which is profiled as opened.
        batch: (N, 3, H, W) RGB in 0..1.
        threads: CPU threads.

    Returns:
        An empty dictionary for engines without a profiler.

    Raises:
        LkdnError: if the engine or its profiler fails.
    """
    try:
        if isinstance(session, TorchSession):
            return profile_torch(session, batch)
        if artifact is not None and session.backend == "openvino-cpu":
            return profile_openvino(artifact, batch, threads)
        if artifact is not None and session.backend in _ORT_PROVIDERS:
            return profile_ort(artifact, batch, threads, _ORT_PROVIDERS[session.backend])
    except RuntimeError as error:
        msg = f"no profile: {str(error).splitlines()[0]}"
        raise LkdnError(msg) from error
    return {}


_ORT_PROVIDERS = {"ort-cpu": "CPUExecutionProvider", "ort-cuda": "CUDAExecutionProvider"}


def profile_ort(artifact: Artifact, batch: NDArray[np.float32], threads: int, provider: str) -> Times:
    """Profile one run on ONNX Runtime, after one to warm up.

    Args:
        artifact: the artefact to run.
        batch: (N, 3, H, W) RGB in 0..1.
        threads: CPU threads.
        provider: name of the execution provider.
    """
    ort = import_engine("onnxruntime", "cpu")
    with TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.enable_mem_pattern = False  # as in the sessions of the backend
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(artifact.data, options, providers=[provider])
        feed = {session.get_inputs()[0].name: to_input(batch, artifact.metadata.io)}
        session.run(None, feed)
        session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    begin = max(event["ts"] for event in events if event["name"] == "model_run")
    times: defaultdict[str, float] = defaultdict(float)
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= begin:
            node = event["args"]
            shapes = [next(iter(shape.values())) for shape in node["input_type_shape"]]
            plain_conv = re.search("conv(?!transpose)", node["op_name"].lower())
            kind = conv_kind(shapes[0][1], tuple(shapes[1])) if plain_conv else _kind(node["op_name"])
            times[kind] += event["dur"] / 1e3
    return dict(times)


def profile_openvino(artifact: Artifact, batch: NDArray[np.float32], threads: int) -> Times:
    """Profile one run on OpenVINO's CPU device, after one to warm up."""
    openvino = import_engine("openvino", "openvino")
    core = openvino.Core()
    model = core.read_model(artifact.data)
    model.reshape(list(batch.shape))
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERF_COUNT": True}
    request = core.compile_model(model, "CPU", options).create_infer_request()
    request.infer({0: batch})
    request.infer({0: batch})
    times: defaultdict[str, float] = defaultdict(float)
    for node in request.profiling_info:
        name, kind = node.node_type.lower(), _kind(node.node_type)
        if name == "convolution" and "1x1" in node.exec_type:
            kind = OpKind.CONV_1X1
        elif name == "groupconvolution" and "dw" in node.exec_type:
            kind = OpKind.DEPTHWISE
        times[kind] += node.real_time.total_seconds() * 1e3
    return dict(times)


def profile_torch(session: TorchSession, batch: NDArray[np.float32]) -> Times:
    """Profile one run in PyTorch, after one to warm up; on CUDA the time of the device's kernels."""
    with needs("bench"):
        import torch
        from torch.profiler import ProfilerActivity, profile
    x = session.upload(batch)
    session.forward(x)
    activities = [ProfilerActivity.CPU, *([] if session.on_cpu else [ProfilerActivity.CUDA])]
    with _quiet_stderr(), profile(activities=activities, record_shapes=True) as profiler:
        session.forward(x)
        if not session.on_cpu:
            torch.cuda.synchronize()
    times: defaultdict[str, float] = defaultdict(float)
    for event in profiler.events():
        if event.cpu_parent is None and event.name.startswith("aten::"):
            name = event.name.removeprefix("aten::").rstrip("_")
            shapes = event.input_shapes
            shaped = name in ("conv2d", "convolution") and len(shapes) > 1
            kind = conv_kind(shapes[0][1], tuple(shapes[1])) if shaped else _kind(name)
            microseconds = event.cpu_time_total if session.on_cpu else event.device_time_total
            times[kind] += microseconds / 1e3
    return dict(times)


def _kind(name: str) -> OpKind:
    return kind_of(name) or OpKind.OTHER


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """Discard what PyTorch's profiler writes to the process's stderr, past Python."""
    try:
        kept = os.dup(2)
    except OSError:  # stderr is closed
        yield
        return
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)

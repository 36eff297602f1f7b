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

Batch = NDArray[np.float32]
"""(N, 3, H, W) RGB in 0..1."""
Times = Iterator[tuple[OpKind, float]]
"""Kind and milliseconds of each event of a run, which follows one to warm up."""

_ORT_PROVIDERS = {"ort-cpu": "CPUExecutionProvider", "ort-cuda": "CUDAExecutionProvider"}


def profile(session: Session, artifact: Artifact | None, batch: Batch, threads: int) -> dict[str, float]:
    """Return the milliseconds in each ``OpKind`` of one run on the engine of a session, none without a profiler.

    Args:
        session: an open session.
        artifact: the artefact that it runs; ``None`` for PyTorch, which is profiled as opened.
        batch: the input.
        threads: CPU threads.

    Raises:
        LkdnError: if the engine or its profiler fails.
    """
    events: Times = iter(())
    if isinstance(session, TorchSession):
        events = _profile_torch(session, batch)
    elif artifact is not None and session.backend == "openvino-cpu":
        events = _profile_openvino(artifact, batch, threads)
    elif artifact is not None and session.backend in _ORT_PROVIDERS:
        events = _profile_ort(artifact, batch, threads, _ORT_PROVIDERS[session.backend])
    times: defaultdict[str, float] = defaultdict(float)
    try:
        for kind, milliseconds in events:
            times[kind] += milliseconds
    except RuntimeError as error:
        msg = f"no profile: {str(error).splitlines()[0]}"
        raise LkdnError(msg) from error
    return dict(times)


def _profile_ort(artifact: Artifact, batch: Batch, threads: int, provider: str) -> Times:
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
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= begin:
            node = event["args"]
            shapes = [next(iter(shape.values())) for shape in node["input_type_shape"]]
            plain_conv = re.search("conv(?!transpose)", node["op_name"].lower())
            kind = conv_kind(shapes[0][1], tuple(shapes[1])) if plain_conv else _kind(node["op_name"])
            yield kind, event["dur"] / 1e3


def _profile_openvino(artifact: Artifact, batch: Batch, threads: int) -> Times:
    openvino = import_engine("openvino", "openvino")
    core = openvino.Core()
    model = core.read_model(artifact.data)
    model.reshape(list(batch.shape))
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERF_COUNT": True}
    request = core.compile_model(model, "CPU", options).create_infer_request()
    request.infer({0: batch})
    request.infer({0: batch})
    for node in request.profiling_info:
        name, kind = node.node_type.lower(), _kind(node.node_type)
        if name == "convolution" and "1x1" in node.exec_type:
            kind = OpKind.CONV_1X1
        elif name == "groupconvolution" and "dw" in node.exec_type:
            kind = OpKind.DEPTHWISE
        yield kind, node.real_time.total_seconds() * 1e3


def _profile_torch(session: TorchSession, batch: Batch) -> Times:
    """Profile a run in PyTorch; on CUDA the time of the device's kernels."""
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
    for event in profiler.events():
        if event.cpu_parent is None and event.name.startswith("aten::"):
            name = event.name.removeprefix("aten::").rstrip("_")
            shapes = event.input_shapes
            shaped = name in ("conv2d", "convolution") and len(shapes) > 1
            kind = conv_kind(shapes[0][1], tuple(shapes[1])) if shaped else _kind(name)
            yield kind, (event.cpu_time_total if session.on_cpu else event.device_time_total) / 1e3


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

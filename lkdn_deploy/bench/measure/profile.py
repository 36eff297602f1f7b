"""Where a run's time goes, by kind of layer, as each engine's own profiler has it.

A profiler slows what it watches, and engines fuse: an activation that is part of a convolution counts as that. So the
figures say how a run is made up, not how long it takes.
"""

import json
import os
import re
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.io import to_input
from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.bench.complexity.operations import OpKind
from lkdn_deploy.core.artifact import Io
from lkdn_deploy.core.optional import import_engine, needs

if TYPE_CHECKING:
    from lkdn_deploy.bench.measure.torch_session import TorchSession

_KINDS = {
    OpKind.LINEAR: "matmul gemm fusedmatmul linear addmm fullyconnected",
    OpKind.NORM: "layernormalization simplifiedlayernormalization batchnormalization rms mvn layer_norm batch_norm",
    OpKind.ACTIVATION: "gelu fastgelu relu leakyrelu prelu sigmoid tanh elu erf hardsigmoid clip clamp leaky_relu",
    OpKind.ARITHMETIC: "add sub mul div pow sqrt exp sum neg reciprocal eltwise subgraph power square rsub",
    OpKind.REARRANGING: "concat cat transpose reorder reorderinput reorderoutput depthtospace spacetodepth "
    "pixel_shuffle reshape slice stridedslice split pad expand gather squeeze unsqueeze flatten cast clone contiguous "
    "repeat tile shapeof constant_pad_nd memcpytohost memcpyfromhost convert",
    OpKind.POOLING: "globalaveragepool averagepool maxpool reducemean reducesum pooling reduce mean max_pool2d std var "
    "adaptive_avg_pool2d",
    OpKind.RESAMPLING: "resize interpolate upsample upsample_bilinear2d upsample_bicubic2d upsample_nearest2d",
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names.split()}
"""Of the operators of ONNX and the nodes of OpenVINO in lower case, and of ATen's functions."""

Times = dict[str, float]
"""Milliseconds by ``OpKind``."""


def of_ort(artefact: Path, batch: NDArray[np.float32], threads: int, provider: str, io: Io = "fp32") -> Times:
    """One run on ONNX Runtime, after one to warm up; ``io`` is the artefact's."""
    ort = import_engine("onnxruntime", "cpu")
    with TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.log_severity_level = 3
        options.enable_mem_pattern = False  # as it runs otherwise
        options.intra_op_num_threads = threads
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder) / "profile")
        session = ort.InferenceSession(read_artifact(artefact).data, options, providers=[provider])
        feed = {session.get_inputs()[0].name: to_input(batch, io)}
        session.run(None, feed)
        session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_text())
    begin = max(event["ts"] for event in events if event["name"] == "model_run")
    nodes = (
        event["args"] | {"ms": event["dur"] / 1e3}
        for event in events
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time") and event["ts"] >= begin
    )
    times: defaultdict[str, float] = defaultdict(float)
    for node in nodes:
        shapes = [next(iter(shape.values())) for shape in node["input_type_shape"]]
        name = node["op_name"].lower()
        times[_of_convolution(*shapes[:2]) if re.search("conv(?!transpose)", name) else _of_name(name)] += node["ms"]
    return dict(times)


def of_openvino(artefact: Path, batch: NDArray[np.float32], threads: int) -> Times:
    """One run on OpenVINO's CPU device, after one to warm up."""
    openvino = import_engine("openvino", "openvino")
    core = openvino.Core()
    model = core.read_model(read_artifact(artefact).data)
    model.reshape(list(batch.shape))
    options = {"INFERENCE_PRECISION_HINT": "f32", "INFERENCE_NUM_THREADS": threads, "PERF_COUNT": True}
    request = core.compile_model(model, "CPU", options).create_infer_request()
    request.infer({0: batch})
    request.infer({0: batch})
    times: defaultdict[str, float] = defaultdict(float)
    for node in request.profiling_info:
        name, kernel = node.node_type.lower(), node.exec_type
        if name == "convolution":
            kind = OpKind.CONV_1X1 if "1x1" in kernel else OpKind.OTHER_CONV
        elif name == "groupconvolution":
            kind = OpKind.DEPTHWISE if "dw" in kernel else OpKind.OTHER_CONV
        else:
            kind = OpKind.OTHER_CONV if "conv" in name and name != "convert" else _of_name(name)
        times[kind] += node.real_time.total_seconds() * 1e3
    return dict(times)


def of_torch(session: "TorchSession", batch: NDArray[np.float32]) -> Times:
    """One run in PyTorch, after one to warm up; on CUDA the time of the kernels."""
    with needs("train"):
        import torch
        from torch.profiler import ProfilerActivity, profile
    cuda = session.device.type == "cuda"
    x = session.upload(batch)
    session.forward(x)
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if cuda else [])]
    with _quiet_stderr(), profile(activities=activities, record_shapes=True) as profiler:
        session.forward(x)
        if cuda:
            torch.cuda.synchronize()
    times: defaultdict[str, float] = defaultdict(float)
    for event in profiler.events():
        if event.cpu_parent is None and event.name.startswith("aten::"):
            name = event.name.removeprefix("aten::").rstrip("_")
            shaped = name in ("conv2d", "convolution") and len(event.input_shapes) > 1
            kind = _of_convolution(*event.input_shapes[:2]) if shaped else _of_name(name)
            times[kind] += (event.device_time_total if cuda else event.cpu_time_total) / 1e3
    return dict(times)


def _of_convolution(x: Sequence[int], weight: Sequence[int]) -> OpKind:
    """By the shapes of its input, (N, C, H, W), and of its weights, (out, in / groups, height, width)."""
    if weight[1] == 1 and x[1] > 1:
        return OpKind.DEPTHWISE
    return OpKind.CONV_1X1 if set(weight[2:]) == {1} else OpKind.OTHER_CONV


def _of_name(name: str) -> OpKind:
    if "conv" in name and name != "convert":
        return OpKind.OTHER_CONV
    return _KIND_OF.get(name, OpKind.OTHER)


@contextmanager
def _quiet_stderr() -> Iterator[None]:
    """PyTorch's profiler writes lines of its own there, past Python."""
    try:
        kept = os.dup(2)
    except OSError:  # it is closed
        yield
        return
    try:
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)

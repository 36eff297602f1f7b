"""Modules shaped like ``tensorrt`` 11, ``tensorrt`` 10 and ``tensorrt_rtx``, which build engines that say what was set.

They have what our code uses and nothing else: none of the names that TensorRT 11 removed, so that code which needs one
fails. ``test_build.py`` compares them with the real ``tensorrt_rtx``.
"""

import json
import sys
import weakref
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

import onnx
import pytest

from lkdn_deploy.backends.trt.gpu import Gpu
from lkdn_deploy.backends.trt.runtimes import RUNTIMES

NO_KERNEL = (
    "No low-precision conv kernel available for this strongly-typed Conv/ConvTranspose. Consider keeping "
    "Conv/ConvTranspose and Q/DQ ops in FP32 (e.g. via modelopt.onnx.autocast.convert_to_f16 with "
    "op_block_list=['Conv','ConvTranspose','QuantizeLinear','DequantizeLinear'])."
)
"""As NVIDIA/TensorRT issue 4838 quotes it, without the node."""


@dataclass
class Behaviour:
    """The behaviour of a fake, and a record of what was done with it."""

    version: str = "11.5.0.7"
    rtx: bool = False
    device: bool = True
    """Whether engines can be opened."""
    no_kernel: bool = False
    """Whether it builds no grouped convolution in FP16."""
    names_node: bool = True
    """Whether it then names it."""
    in_fp32: bool = False
    """Whether its engines are in FP32, whatever the graph's types, as was reported of TensorRT 11."""
    refuses: tuple[str, ...] = ()
    """Targets that it refuses."""
    no_builder: bool = False
    """Whether there is no builder, as where the driver is too old: the bindings then return a null pointer."""
    gives_nothing: str = ""
    """The message with which it builds no engine."""
    builds: int = 0
    settings: dict[str, Any] = field(default_factory=dict)
    """Settings of the last build."""


def install(monkeypatch: pytest.MonkeyPatch, *behaviours: Behaviour, gpu: Gpu | None = None) -> None:
    """Put fake runtimes and a GPU in place; no other runtime is installed."""
    for runtime in RUNTIMES.values():
        monkeypatch.setitem(sys.modules, runtime.module, None)
    for module in map(fake, behaviours):
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.setattr("lkdn_deploy.backends.trt.resolve.gpu_here", lambda: gpu)


def fake(behaviour: Behaviour) -> ModuleType:
    """Return a module, whose classes are made anew each time, since they are of one behaviour."""
    Severity = Enum("Severity", ["INTERNAL_ERROR", "ERROR", "WARNING", "INFO", "VERBOSE"])

    class ILogger:
        Severity: Any = None

        def __init__(self) -> None: ...

        def log(self, severity: Any, msg: str) -> None: ...

    ILogger.Severity = Severity

    class IProgressMonitor:
        def __init__(self) -> None: ...

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None: ...

        def step_complete(self, phase_name: str, step: int) -> bool: ...

        def phase_finish(self, phase_name: str) -> None: ...

    NetworkDefinitionCreationFlag = IntEnum("NetworkDefinitionCreationFlag", {"STRONGLY_TYPED": 1})
    ProfilingVerbosity = Enum("ProfilingVerbosity", ["DETAILED"])
    MemoryPoolType = Enum("MemoryPoolType", ["WORKSPACE"])
    LayerType = Enum("LayerType", ["CONVOLUTION", "DECONVOLUTION", "CAST", "ELEMENTWISE"])
    DataType = Enum("DataType", ["FLOAT", "HALF", "UINT8"])
    LayerInformationFormat = Enum("LayerInformationFormat", ["JSON"])
    ComputeCapability = Enum("ComputeCapability", ["NONE", "CURRENT", "SM75", "SM80", "SM86", "SM89", "SM120", "SM121"])

    class ITensor:
        def __init__(self, name: str, dtype: Any, shape: tuple[int, ...] = ()) -> None:
            self.name, self.dtype, self.shape = name, dtype, shape

    class ILayer:
        def __init__(self, node: onnx.NodeProto, dtype: Any) -> None:
            types = {
                "Conv": LayerType.CONVOLUTION,
                "ConvTranspose": LayerType.DECONVOLUTION,
                "Cast": LayerType.CAST,
            }
            self.name, self.type = node.name, types.get(node.op_type, LayerType.ELEMENTWISE)
            self._input = ITensor(node.input[0], dtype)
            groups = [attribute.i for attribute in node.attribute if attribute.name == "group"]
            self._grouped = bool(groups) and groups[0] > 1

        def get_input(self, index: int) -> Any:
            assert index == 0
            return self._input

    class INetworkDefinition:
        def __init__(self) -> None:
            self._layers: list[Any] = []
            self._inputs: list[Any] = []
            self._outputs: list[Any] = []

        num_layers = property(lambda self: len(self._layers))
        num_inputs = property(lambda self: len(self._inputs))
        num_outputs = property(lambda self: len(self._outputs))

        def get_layer(self, index: int) -> Any:
            return self._layers[index]

        def get_input(self, index: int) -> Any:
            return self._inputs[index]

        def get_output(self, index: int) -> Any:
            return self._outputs[index]

    class ParserError:
        def __init__(self, node: onnx.NodeProto) -> None:
            self._node = node

        def desc(self) -> str:
            return f"no importer for {self._node.op_type}"

        def node_name(self) -> str:
            return self._node.name

        def node_operator(self) -> str:
            return self._node.op_type

    class OnnxParser:
        def __init__(self, network: Any, logger: Any) -> None:
            self._network, self._errors = network, []

        num_errors = property(lambda self: len(self._errors))

        def get_error(self, index: int) -> Any:
            return self._errors[index]

        def parse(self, model: bytes, path: str | None = None) -> bool:
            graph = onnx.load_model_from_string(model).graph
            kinds = {onnx.TensorProto.FLOAT: DataType.FLOAT, onnx.TensorProto.FLOAT16: DataType.HALF}
            weights = {tensor.name: kinds.get(tensor.data_type) for tensor in graph.initializer}
            self._errors = [ParserError(node) for node in graph.node if node.op_type == "Nonsense"]
            for node in graph.node:
                known = [weights[name] for name in node.input if name in weights]
                self._network._layers.append(ILayer(node, known[0] if known else DataType.FLOAT))
            for values, into in ((graph.input, self._network._inputs), (graph.output, self._network._outputs)):
                for value in values:
                    kind = value.type.tensor_type
                    shape = tuple(dim.dim_value or -1 for dim in kind.shape.dim)
                    into.append(ITensor(value.name, kinds[kind.elem_type], shape))
            return not self._errors

    class IOptimizationProfile:
        def __init__(self) -> None:
            self._shapes: dict[str, Any] = {}

        def set_shape(self, input: str, min: Any, opt: Any, max: Any) -> None:  # noqa: A002
            self._shapes[input] = [list(min), list(opt), list(max)]

    class ITimingCache:
        def __init__(self, data: bytes) -> None:
            self._data = data

        def serialize(self) -> bytes:
            return self._data + b" measured"

    class IBuilderConfig:
        def __init__(self) -> None:
            self._did: dict[str, Any] = {"profiles": [], "targets": {}}
            self._count = 0
            self.profiling_verbosity: Any = None
            self._monitor = lambda: None

        @property
        def progress_monitor(self) -> Any:
            return self._monitor()

        @progress_monitor.setter
        def progress_monitor(self, monitor: Any) -> None:
            self._monitor = weakref.ref(monitor)  # stricter than TensorRT for RTX 1.7.1, which keeps it

        def clear_flag(self, flag: Any) -> None:
            self._did.setdefault("cleared", []).append(flag.name)

        def set_memory_pool_limit(self, pool: Any, pool_size: int) -> None:
            self._did[pool.name] = pool_size

        def add_optimization_profile(self, profile: Any) -> int:
            self._did["profiles"].append(profile._shapes)
            return len(self._did["profiles"]) - 1

        def create_timing_cache(self, serialized_timing_cache: bytes) -> Any:
            self._no_timing_on_rtx()
            return None if serialized_timing_cache == b"foreign" else ITimingCache(serialized_timing_cache)

        def set_timing_cache(self, cache: Any, ignore_mismatch: bool) -> bool:
            self._no_timing_on_rtx()
            self._did["timing"] = cache._data.decode()
            return True

        @staticmethod
        def _no_timing_on_rtx() -> None:
            assert not behaviour.rtx, "a timing cache was touched, which forces a GPU"

        if behaviour.rtx:

            def set_flag(self, flag: Any) -> None:
                self._did.setdefault("flags", []).append(flag.name)

            def set_compute_capability(self, compute_capability: Any, index: int) -> bool:
                name = compute_capability.name.lower()
                if index >= self._count or name in behaviour.refuses:
                    return False
                self._did["targets"][index] = name
                return True

            num_compute_capabilities = property(
                lambda self: self._count, lambda self, count: setattr(self, "_count", count)
            )

    class Builder:
        def __init__(self, logger: Any) -> None:
            assert isinstance(logger, ILogger)
            if behaviour.no_builder:
                logger.log(Severity.ERROR, "Error Code 6: API Usage Error (CUDA initialization failure with error: 35)")
                msg = "pybind11::init(): factory function returned nullptr"
                raise TypeError(msg)
            self._logger = logger

        def create_network(self, flags: int = 0) -> Any:
            assert flags == 1 << int(NetworkDefinitionCreationFlag.STRONGLY_TYPED)
            return INetworkDefinition()

        def create_builder_config(self) -> Any:
            return IBuilderConfig()

        def create_optimization_profile(self) -> Any:
            return IOptimizationProfile()

        def build_serialized_network(self, network: Any, config: Any) -> bytes | None:
            behaviour.builds += 1
            did = config._did | {"verbosity": config.profiling_verbosity.name, "version": behaviour.version}
            did["input"] = list(network._inputs[0].shape)
            behaviour.settings = did
            monitor = config.progress_monitor
            assert monitor is not None, "the monitor is gone before the build"
            monitor.phase_start("Building engine", None, 2)
            for step in range(2):
                if not monitor.step_complete("Building engine", step):
                    return None
            monitor.phase_finish("Building engine")
            self._logger.log(Severity.VERBOSE, "chose kernels")
            half = [layer for layer in network._layers if layer.get_input(0).dtype == DataType.HALF]
            if behaviour.no_kernel and (bad := [layer.name for layer in half if layer._grouped]):
                text = f"{NO_KERNEL} Failing node: {bad[0]}" if behaviour.names_node else NO_KERNEL
                self._logger.log(Severity.ERROR, text)
                return None
            if behaviour.gives_nothing:
                self._logger.log(Severity.ERROR, behaviour.gives_nothing)
                return None
            kind = {True: "Half", False: "Float"}
            did["layers"] = [[layer.name, kind[layer in half and not behaviour.in_fp32]] for layer in network._layers]
            lines = [
                f"Name: {name}_myl0, LayerType: correlation, Inputs: [ {{ Name: x, Dimensions: [1,3,-1,-1], "
                f"Datatype: {kind}, Format: (NHWC) }}], Constants: [ {{ Name: w, Datatype: Half }}], "
                f"Outputs: [ {{ Name: y, Datatype: Float, Format: (NHWC) }}], TacticName: , "
                f"Metadata: [ONNX Layer: {name}]"
                for name, kind in did["layers"]
            ]
            text = "\n".join(["Layers:", *lines])
            self._logger.log(Severity.VERBOSE, text)
            return b"fake engine\n" + json.dumps(did).encode()

    BuilderFlag = Enum("BuilderFlag", ["TF32", *(["REQUIRE_USER_ALLOCATION"] if behaviour.rtx else [])])

    class EngineInspector:
        def __init__(self, layers: list[list[str]]) -> None:
            self._layers = layers

        def get_engine_information(self, format: Any) -> str:  # noqa: A002
            assert format is LayerInformationFormat.JSON
            old = behaviour.version.startswith("10.")
            text = {"Half": "Channel major FP16 format where channel % 8 == 0", "Float": "Row major linear FP32"}

            def tensor(kind: str) -> dict[str, str]:
                return {"Format/Datatype": text[kind]} if old else {"Format": "Linear", "Datatype": kind}

            layers = [
                {
                    "Name": f"{name} + PWN(gelu)",
                    "Inputs": [tensor(kind)],
                    "Outputs": [tensor("Float")],
                    "Metadata": f"[ONNX Layer: {name}]\x1f[ONNX Layer: gelu]",
                }
                for name, kind in self._layers
            ]
            return json.dumps({"Layers": layers, "Bindings" if old else "I/O Tensors": []})

    class ICudaEngine:
        def __init__(self, data: bytes) -> None:
            self._layers = json.loads(data.partition(b"\n")[2])["layers"]

        def create_engine_inspector(self) -> Any:
            return EngineInspector(self._layers)

    class Runtime:
        def __init__(self, logger: Any) -> None:
            self._logger = logger

        def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
            if not behaviour.device:
                self._logger.log(Severity.ERROR, "no CUDA-capable device is detected")
                return None
            return ICudaEngine(serialized_engine)

    names = {name: value for name, value in locals().items() if isinstance(value, type) and name != "Severity"}
    if not behaviour.rtx:
        del names["ComputeCapability"]
    module = ModuleType("tensorrt_rtx" if behaviour.rtx else "tensorrt")
    vars(module).update(names, __version__=behaviour.version, __spec__=ModuleSpec(module.__name__, None))
    return module

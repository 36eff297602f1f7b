"""Engines from artefacts: really built by TensorRT for RTX, and by modules shaped like others."""

import dataclasses
import enum
import inspect
import json
import re
import sys
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from artefacts_fake import SPEC
from onnx import TensorProto, helper, numpy_helper
from tensorrt_fake import Behaviour, fake, install

from lkdn_deploy.backends.trt import audit as audits
from lkdn_deploy.backends.trt.audit import (
    EngineLayer,
    LayerCount,
    audit_engine,
    check_half,
    count_layers,
    inspected,
    listed,
)
from lkdn_deploy.backends.trt.build import BuildError, NoHalfKernelError, build
from lkdn_deploy.backends.trt.engine_spec import EngineSpec, Profile
from lkdn_deploy.backends.trt.record import Audit, Tensor
from lkdn_deploy.backends.trt.runtimes import RUNTIMES
from lkdn_deploy.core.errors import InputError, MissingError, UsageError, VerificationError
from lkdn_deploy.graph.fp16.cast import cast_to_fp16
from lkdn_deploy.graph.pipeline import rewrite
from lkdn_deploy.graph.targets import TARGETS
from lkdn_deploy.runtime.bundled import bundled

LKDN_S = bundled()["lkdn-s", 4].read_bytes()
DYNAMIC, SMALL = SPEC.sizes, Profile.fixed((48, 64))
RTX, TRT = SPEC, dataclasses.replace(SPEC, runtime="tensorrt", targets=("sm89",))
RTX_HALF, TRT_HALF = (dataclasses.replace(spec, precision="fp16") for spec in (RTX, TRT))


def convolution(operator: str = "Conv", size: Any = ("h", "w")) -> bytes:
    """Return a 1x1 and a depthwise 3x3 convolution in FP16, between casts."""
    random = np.random.default_rng(0)
    shapes = {"w1": (4, 3, 1, 1), "w2": (4, 1, 3, 3), "b2": (4,)}
    weights = {name: random.standard_normal(shape).astype(np.float16) for name, shape in shapes.items()}
    nodes = [
        helper.make_node("Cast", ["lr"], ["x"], name="enter", to=TensorProto.FLOAT16),
        helper.make_node("Conv", ["x", "w1"], ["y"], name="pointwise"),
        helper.make_node(operator, ["y", "w2", "b2"], ["z"], name="depthwise", group=4, pads=[1] * 4),
        helper.make_node("Cast", ["z"], ["sr"], name="leave", to=TensorProto.FLOAT),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("lr", TensorProto.FLOAT, (1, 3, *size))],
        [helper.make_tensor_value_info("sr", TensorProto.FLOAT, (1, 4, *size))],
        [numpy_helper.from_array(values, name) for name, values in weights.items()],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()


@pytest.fixture(scope="module")
def real() -> ModuleType:
    return pytest.importorskip("tensorrt_rtx")


@pytest.fixture(scope="module")
def half() -> bytes:
    """LKDN-S in FP16."""
    return cast_to_fp16(onnx.load_model_from_string(LKDN_S)).model.SerializeToString()


# Real builds: TensorRT for RTX on this machine's CPU.


@pytest.mark.parametrize("targets", [("sm89",), ("sm86", "sm89")])
@pytest.mark.parametrize("profile", [SMALL, DYNAMIC])
def test_lkdn_s_is_built_without_a_gpu(real: ModuleType, profile: Profile, targets: tuple[str, ...]) -> None:
    built = build(LKDN_S, dataclasses.replace(RTX, profile=profile, targets=targets))
    assert len(built.engine) > 500_000
    assert (built.input, built.output) == (Tensor("lr", "float32"), Tensor("sr", "float32"))
    assert built.audits == (Audit(86, 0, "network"), Audit(86, 0, "engine"))
    assert built.timings == b""
    shape = r"Name: lr, .*MinShape: \[1,3,32,32\], OptShape: \[1,3,64,64\], MaxShape: \[1,3,128,128\]"
    assert bool(re.search(shape, built.log)) == (profile is DYNAMIC)
    assert ("Dimensions: [1,3,48,64]" in built.log) == (profile is SMALL)


def test_an_fp16_artefact_makes_an_fp16_engine(real: ModuleType, half: bytes) -> None:
    built = build(half, RTX_HALF)
    assert built.audits == (Audit(86, 86, "network"), Audit(86, 86, "engine"))


@pytest.mark.parametrize("streams", [None, 0])
def test_a_graph_for_tensorrt_has_few_kernels(real: ModuleType, streams: int | None) -> None:
    """The counts that benchmarks/trt_kernels.py records are not to grow."""
    form = rewrite(onnx.load_model_from_string(LKDN_S), TARGETS["tensorrt"]).model
    half = cast_to_fp16(form).model.SerializeToString()
    count = count_layers(build(half, dataclasses.replace(RTX_HALF, aux_streams=streams)).log)
    assert count.kernels <= 89
    assert bool(count.events) == (streams is None)


def test_kernels_and_events_are_counted_by_what_the_builder_lists() -> None:
    line = "Name: {}, LayerType: {}, Inputs: [], Outputs: [ { Name: x }], TacticName: , Metadata: "
    log = "\n".join(line.replace("{}", kind, 2) for kind in ("kgen", "signal", "wait", "correlation"))
    assert count_layers(f"Layers:\n{log}\n") == LayerCount(2, 2)


def test_an_fp32_artefact_makes_no_fp16_engine(real: ModuleType) -> None:
    with pytest.raises(VerificationError, match="0 of 86 convolutions in FP16, by the network's types"):
        build(LKDN_S, RTX_HALF)


def test_turing_is_built_for_alone(real: ModuleType) -> None:
    spec = dataclasses.replace(RTX, profile=Profile.fixed((32, 32)), targets=("sm75",))
    assert build(convolution(size=(32, 32)), spec).engine


def test_a_batch_is_part_of_the_sizes(real: ModuleType) -> None:
    built = build(LKDN_S, dataclasses.replace(RTX, batch=3))
    assert "OptShape: [3,3,64,64]" in built.log


def test_a_graph_that_it_rejects_is_refused_with_the_node(real: ModuleType) -> None:
    with pytest.raises(InputError, match=r"expected one input|rejects this graph"):
        build(b"this is no model", RTX)
    with pytest.raises(InputError, match="depthwise") as caught:
        build(convolution(operator="Nonsense"), RTX)
    assert "rejects this graph" in caught.value.message


def test_an_artefact_of_one_size_makes_no_engine_of_another(real: ModuleType) -> None:
    with pytest.raises(UsageError, match=r"fixed shape \(1, 3, 32, 32\), an engine for 32x32:64x64:128x128 pixels"):
        build(convolution(size=(32, 32)), RTX)


def test_too_little_memory_is_said_with_what_to_do(real: ModuleType) -> None:
    with pytest.raises(BuildError, match="built no engine") as caught:
        build(LKDN_S, dataclasses.replace(RTX, workspace=1))
    assert "--workspace" in (caught.value.hint or "")
    assert "workspace" in caught.value.log


def test_progress_is_told_and_what_it_raises_ends_the_build(real: ModuleType) -> None:
    seen: list[tuple[str, int, int]] = []
    build(convolution(), RTX, progress=lambda *step: seen.append(step))
    assert len({phase for phase, _, _ in seen}) > 3
    assert all(0 <= done <= total for _, done, total in seen)

    def stop(_phase: str, done: int, _total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(LKDN_S, RTX, progress=stop)


def test_that_it_cannot_be_opened_here_is_no_complaint(real: ModuleType) -> None:
    said: list[str] = []
    build(convolution(), RTX, on_complaint=lambda _severity, text: said.append(text))
    assert said == []


# Modules shaped like TensorRT 11, TensorRT 10 and TensorRT for RTX.


@pytest.mark.parametrize("version", ["11.5.0.7", "10.13.3.9"])
def test_tensorrt_is_driven_to_the_end(version: str, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Behaviour(version))
    built = build(convolution(), TRT_HALF, timings=b"before")
    assert built.audits == (Audit(2, 2, "network"), Audit(2, 2, "engine"))
    assert built.timings == b"before measured"
    assert "verbose: chose kernels\n" in built.log
    did = json.loads(built.engine.partition(b"\n")[2])
    assert did["verbosity"] == "DETAILED"
    assert did["WORKSPACE"] == 4096 << 20
    assert did["profiles"] == [{"lr": [[1, 3, 32, 32], [1, 3, 64, 64], [1, 3, 128, 128]]}]
    assert did["targets"] == {}
    assert did["timing"] == "before"
    assert build(convolution(), TRT, timings=b"foreign").timings == b" measured"


def test_tensorrt_for_rtx_is_never_asked_for_a_timing_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    behaviour = Behaviour("1.7.1.116", rtx=True, device=False)
    install(monkeypatch, behaviour)
    built = build(convolution(), RTX_HALF, timings=b"before")
    assert built.timings == b""
    assert built.audits[-1] == Audit(2, 2, "engine")
    assert behaviour.settings["targets"] == {0: "sm86", 1: "sm89"}
    with pytest.raises(AssertionError, match="forces a GPU"):
        sys.modules["tensorrt_rtx"].IBuilderConfig().create_timing_cache(b"")


def test_a_size_becomes_part_of_the_network(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, behaviour := Behaviour())
    build(convolution(), dataclasses.replace(TRT, profile=SMALL))
    assert (behaviour.settings["input"], behaviour.settings["profiles"]) == ([1, 3, 48, 64], [])


@pytest.mark.parametrize("device", [True, False])
def test_an_engine_that_is_not_in_fp16_is_refused(device: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Behaviour(in_fp32=True, device=device))
    with pytest.raises(VerificationError, match="0 of 2 convolutions in FP16, by the engine's types"):
        build(convolution(), TRT_HALF)


@pytest.mark.parametrize("names_node", [True, False])
def test_a_convolution_without_a_kernel_is_recognised(names_node: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Behaviour("11.2.1.2", no_kernel=True, names_node=names_node))
    said: list[tuple[str, str]] = []
    with pytest.raises(NoHalfKernelError) as caught:
        build(convolution(), TRT_HALF, on_complaint=lambda *line: said.append(line))
    assert caught.value.layers == (("depthwise",) if names_node else ())
    assert [severity for severity, _ in said] == ["error"]


def test_why_no_engine_came_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Behaviour(gives_nothing="Could not find any implementation for node depthwise"))
    with pytest.raises(BuildError, match="TensorRT built no engine: Could not find any implementation"):
        build(convolution(), TRT)


def test_what_the_caller_raises_comes_before_what_follows_from_it(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Behaviour(gives_nothing="stopped"))

    def fail(*_line: object) -> None:
        msg = "ours"
        raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="ours"):
        build(convolution(), TRT, on_complaint=fail)
    with pytest.raises(RuntimeError, match="ours"):
        build(convolution(), TRT, progress=fail)


def test_without_the_runtime_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    with pytest.raises(MissingError, match=re.escape(".[trt]")):
        build(convolution(), TRT)


def test_all_of_the_parsers_reasons_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, Behaviour())
    with pytest.raises(InputError, match="Nonsense depthwise: no importer for Nonsense"):
        build(convolution(operator="Nonsense"), TRT)


# The audit.


def test_a_convolution_is_half_if_the_layer_that_has_it_is() -> None:
    assert audit_engine([EngineLayer(frozenset(), True)], ["a"]) is None
    assert audit_engine([], ["a"]) is None
    layers = [
        EngineLayer(frozenset({"a", "gelu"}), True),
        EngineLayer(frozenset({"b"}), False),
        EngineLayer(frozenset({"c"}), True),
    ]
    assert audit_engine(layers, ["a", "b"]) == Audit(2, 1, "engine")


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"Layers": ["only", "names"]}'])
def test_an_inspector_without_details_gives_nothing(text: str) -> None:
    assert inspected(text) == []


def test_weights_are_no_inputs() -> None:
    line = (
        "Name: a, LayerType: correlation, Inputs: [ { Name: x, Datatype: Float, Format: (NHWC) }], Constants: [ { "
        "Name: w, Datatype: Half }], Outputs: [ { Name: y, Datatype: Half }], TacticName: , Metadata: [ONNX Layer: a]"
    )
    assert listed(f"Layers:\n{line}\n") == [EngineLayer(frozenset({"a"}), False)]


def test_the_floor_is_of_what_could_be_in_fp16() -> None:
    assert audits.LEAST_HALF == 0.9
    check_half(Audit(10, 9, "engine"))
    check_half(Audit(0, 0, "network"))
    check_half(Audit(10, 1, "engine"), excused=9)
    with pytest.raises(VerificationError, match="8 of 10"):
        check_half(Audit(10, 8, "engine"))
    with pytest.raises(VerificationError):
        check_half(Audit(10, 1, "engine"), excused=8)


# The fakes against the real module.


def classes(module: ModuleType) -> dict[str, type]:
    return {name: value for name, value in vars(module).items() if isinstance(value, type)}


def test_the_fakes_have_no_name_that_the_real_module_lacks(real: ModuleType) -> None:
    found = classes(fake(Behaviour(rtx=True)))
    assert len(found) > 20
    for name, value in found.items():
        assert {member for member in vars(value) if not member.startswith("_")} <= set(dir(getattr(real, name))), name


def test_the_fakes_take_the_arguments_of_the_real_module(real: ModuleType) -> None:
    checked = 0
    for name, value in classes(fake(Behaviour(rtx=True))).items():
        if issubclass(value, enum.Enum):
            continue
        for member, function in vars(value).items():
            if member.startswith("_") or not inspect.isfunction(function):
                continue
            text = getattr(getattr(real, name), member).__doc__ or ""
            # pybind11 has the signature in the first lines of the text, one of each overload.
            signatures = re.findall(
                rf"{member}\(self: [\w.]+(?:, )?([^)]*)\)", text.replace("tensorrt_rtx_bindings.", "")
            )
            ours = [parameter for parameter in inspect.signature(function).parameters if parameter != "self"]
            theirs = [re.findall(r"(\w+): ", signature) for signature in signatures]
            assert any(ours == names[: len(ours)] for names in theirs), (name, member, ours, theirs)
            checked += 1
    assert checked > 25


def test_engines_for_rtx_get_all_memory_from_the_session_so_that_they_can_be_captured(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install(monkeypatch, rtx := Behaviour(rtx=True), trt := Behaviour())
    build(convolution(), RTX)
    build(convolution(), TRT)
    assert rtx.settings["flags"] == ["REQUIRE_USER_ALLOCATION"]
    assert "flags" not in trt.settings


def test_tf32_is_left_out_where_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, rtx := Behaviour(rtx=True), trt := Behaviour())
    for spec, behaviour in ((RTX, rtx), (TRT, trt)):
        build(convolution(), spec)
        assert "cleared" not in behaviour.settings
        build(convolution(), dataclasses.replace(spec, tf32=False))
        assert behaviour.settings["cleared"] == ["TF32"]


@pytest.mark.parametrize("spec", [RTX, TRT])
def test_a_builder_that_does_not_start_is_an_error_with_its_own_words(
    monkeypatch: pytest.MonkeyPatch, spec: EngineSpec
) -> None:
    install(monkeypatch, Behaviour(rtx=True, no_builder=True), Behaviour(no_builder=True))
    with pytest.raises(
        BuildError, match=r"builder of TensorRT.* does not start: .*CUDA initialization failure"
    ) as error:
        build(convolution(), spec)
    assert "nvidia-smi" in str(error.value.hint)


def test_the_fakes_differ_as_the_table_says() -> None:
    plain, rtx = classes(fake(Behaviour())), classes(fake(Behaviour(rtx=True)))
    assert rtx.keys() - plain.keys() == {"ComputeCapability"}
    assert not hasattr(plain["IBuilderConfig"], "num_compute_capabilities")
    assert {kind: runtime.timing_cache for kind, runtime in RUNTIMES.items()} == {
        "tensorrt": True,
        "tensorrt-rtx": False,
    }
    for module in (plain, rtx):
        removed = {"EXPLICIT_BATCH", "FP16", "INT8", "PREFER_PRECISION_CONSTRAINTS"}
        members = {member for value in module.values() for member in vars(value)}
        assert not removed & members
        assert "IInt8Calibrator" not in module

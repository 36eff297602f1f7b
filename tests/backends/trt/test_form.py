"""The graph that engines are built from: fewer kernels and the same results, whoever builds the engine."""

import dataclasses
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import pytest
from artefacts_fake import METADATA, SPEC, twice

from lkdn_deploy.backends.onnx_bytes import Artifact, parse_artifact, read_artifact
from lkdn_deploy.backends.ort import open_cpu
from lkdn_deploy.backends.trt.audit import count_layers
from lkdn_deploy.backends.trt.build import build
from lkdn_deploy.backends.trt.engine_spec import Profile
from lkdn_deploy.backends.trt.form import form_of, rewrites_for
from lkdn_deploy.core.artifact import IOS, Io
from lkdn_deploy.core.errors import MissingError
from lkdn_deploy.graph.fp16.cast import cast_to_fp16
from lkdn_deploy.graph.pipeline import serialize
from lkdn_deploy.graph.targets import TARGETS
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.verify.comparison import verify

LKDN_S = read_artifact(bundled()["lkdn-s", 4])
NOISE = {"noise": np.random.default_rng(0).random((1, 3, 24, 32), np.float32)}


def half(io: Io) -> Artifact:
    """LKDN-S in FP16."""
    facts = dataclasses.replace(LKDN_S.metadata, precision="fp16", io=io)
    model = cast_to_fp16(onnx.load_model_from_string(LKDN_S.data), io).model
    return parse_artifact(LKDN_S.path, serialize(model, facts))


@pytest.mark.parametrize("artifact", [LKDN_S, *map(half, IOS)], ids=["plain", *IOS])
def test_it_computes_the_same_with_fewer_convolutions(artifact: Artifact) -> None:
    form = form_of(artifact, rewrites_for(artifact.metadata), "trt")
    assert form.rewrites == TARGETS["tensorrt"][1:]  # this file takes one copy of its input
    run, reference = (
        open_cpu(each, threads=1).run for each in (dataclasses.replace(artifact, data=form.data), artifact)
    )
    verify(NOISE, run, reference, artifact.metadata.precision)
    before, after = (onnx.load_model_from_string(data).graph for data in (artifact.data, form.data))
    assert [sum(node.op_type == "Conv" for node in graph.node) for graph in (before, after)] == [86, 80]
    for one, other in ((after.input[0], before.input[0]), (after.output[0], before.output[0])):
        assert (one.name, one.type) == (other.name, other.type)
    assert form_of(artifact, form.rewrites, "trt").data == form.data  # the same bytes each time


@pytest.mark.parametrize(
    "changes", [{"target": "tensorrt"}, {"target": "ort-cpu"}, {"islands": {"range": 2}}, {"islands": {"faint": 1}}]
)
def test_rewritten_graphs_and_those_with_values_out_of_range_stay(changes: dict[str, Any]) -> None:
    """Values decide the operations that such a file keeps in FP32, and a rewritten graph has others."""
    facts = dataclasses.replace(METADATA, **changes)
    assert rewrites_for(facts) == ()
    assert form_of(Artifact(Path("a.onnx"), b"as it is", facts), (), "trt") == (b"as it is", ())


@pytest.mark.parametrize("data", [None, b"no model"])
def test_a_graph_that_cannot_be_rewritten_is_built_as_it_is(
    data: bytes | None, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither bytes that are no model, nor a network of 8-bit levels that another program wrote."""
    facts = dataclasses.replace(METADATA, precision="fp16", io="uint8")
    artifact = read_artifact(twice(tmp_path / "levels.onnx", facts))
    artifact = dataclasses.replace(artifact, data=data or artifact.data)
    assert form_of(artifact, TARGETS["tensorrt"], "trt") == (artifact.data, ())
    assert "the engine is built from levels.onnx as it is, not rewritten: " in caplog.text


def test_what_rewrites_is_part_of_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    with pytest.raises(MissingError) as caught:
        form_of(LKDN_S, TARGETS["tensorrt"], "trt-rtx")
    assert ".[trt-rtx]" in str(caught.value.hint)


@pytest.fixture(scope="module")
def real() -> ModuleType:
    return pytest.importorskip("tensorrt_rtx")


@pytest.mark.long
@pytest.mark.parametrize(("name", "most"), [("lkdn-s", 100), ("lkdn", 140)])
@pytest.mark.parametrize("gpu", ["sm86", "sm89", "sm120"])
@pytest.mark.parametrize("size", [Profile.fixed((180, 320)), None], ids=["fixed", "any size"])
def test_the_default_has_few_kernels(
    real: ModuleType, data: Path, tmp_path: Path, name: str, most: int, gpu: str, size: Profile | None
) -> None:
    """In FP16, with the published weights."""
    from lkdn_deploy.export.job import ExportSettings, export_onnx, open_checkpoint

    weights = data / "weights" / "LKDN" / f"{name.upper()}_x4.pth"
    exported = export_onnx(open_checkpoint(weights), tmp_path / "a.onnx", ExportSettings(precision="fp16"))
    artifact = read_artifact(exported.path)
    form = form_of(artifact, rewrites_for(artifact.metadata), "trt-rtx")
    spec = dataclasses.replace(SPEC, targets=(gpu,), profile=size, precision="fp16")
    assert count_layers(build(form.data, spec).log).kernels <= most

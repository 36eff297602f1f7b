"""The form of an artefact that a backend is given."""

import importlib.util
import logging
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from lkdn_deploy import load
from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.graph import pipeline
from lkdn_deploy.graph.fp16.cast import cast_to_fp16
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.runtime.optimised import TARGETS, optimised_for
from lkdn_deploy.samples import sample_pixels

PHOTOGRAPH = np.ascontiguousarray(sample_pixels()[:40, :52])


pytestmark = pytest.mark.usefixtures("empty_cache")


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    """One that does not come with the package."""
    path = tmp_path / "mine.onnx"
    path.write_bytes(bundled()["lkdn-s", 4].read_bytes())
    return path


def form_for(path: Path, backend: str) -> Path:
    return optimised_for(read_artifact(path), backend).path


@pytest.mark.parametrize("backend", TARGETS)
def test_an_artefact_is_rewritten_once_and_gives_the_same_picture(
    backend: str, artefact: Path, empty_cache: Path
) -> None:
    form = form_for(artefact, backend)
    assert form.parent == empty_cache / "forms"
    made = form.stat().st_ino
    assert form_for(artefact, backend) == form
    assert form.stat().st_ino == made
    before, after = open_session(artefact, backend), open_session(form, backend)
    assert after.metadata.target == backend
    assert after.metadata.live_channels < before.metadata.live_channels
    assert (after.metadata.receptive_radius, after.metadata.weights_sha256) == (63, before.metadata.weights_sha256)
    batch = np.random.default_rng(0).random((2, 3, 17, 31), np.float32)
    assert np.abs(after.run(batch) - before.run(batch)).max() < 2e-5


def test_bundled_artefacts_come_with_theirs(empty_cache: Path) -> None:
    for path in bundled().values():
        for backend, name in TARGETS.items():
            assert form_for(path, backend) == path.with_name(f"{path.stem}_{name}.onnx")
    assert not (empty_cache / "forms").exists()
    assert load(backend="ort-cpu").session.metadata.target == "ort-cpu"


def test_what_comes_with_the_package_is_what_would_be_made_of_it() -> None:
    for path in bundled().values():
        for backend, name in TARGETS.items():
            shipped = onnx.load(form_for(path, backend))
            made = pipeline.rewrite_for(onnx.load(path), open_session(path).metadata, name).model
            assert [node.SerializeToString() for node in shipped.graph.node] == [
                node.SerializeToString() for node in made.graph.node
            ]
            weights = [
                {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
                for model in (shipped, made)
            ]
            assert weights[0].keys() == weights[1].keys()
            for key, value in weights[0].items():
                assert np.allclose(value, weights[1][key], rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("damage", [b"", b"no model", None])
def test_a_form_in_the_cache_that_is_not_one_is_made_again(damage: bytes | None, artefact: Path) -> None:
    form = form_for(artefact, "ort-cpu")
    good = form.read_bytes()
    form.write_bytes(artefact.read_bytes() if damage is None else damage)
    assert form_for(artefact, "ort-cpu") == form
    assert form.read_bytes() == good


def test_what_has_no_form_runs_as_it_is(artefact: Path, tmp_path: Path) -> None:
    for backend in ("trt", "ort-cuda", "ort-trt"):
        assert form_for(artefact, backend) == artefact
    done = form_for(artefact, "ort-cpu")
    assert form_for(done, "ort-cpu") == done
    half = cast_to_fp16(onnx.load(artefact)).model
    metadata = ArtifactMetadata.from_props({item.key: item.value for item in half.metadata_props})
    onnx.helper.set_model_props(half, metadata.to_props() | {"lkdn.precision": '"fp16"'})
    onnx.save(half, tmp_path / "half.onnx")
    assert form_for(tmp_path / "half.onnx", "ort-cpu") == tmp_path / "half.onnx"


def test_without_the_package_that_rewrites_it_runs_as_it_is(
    artefact: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    find_spec = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "onnx_ir" else find_spec(name))
    with caplog.at_level(logging.INFO):
        assert form_for(artefact, "ort-cpu") == artefact
    assert "onnx-ir" in caplog.text
    assert not (empty_cache / "forms").exists()


def test_a_form_whose_numbers_differ_is_not_used(
    artefact: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    right = pipeline.rewrite_for

    def wrong(*args: Any) -> pipeline.RewrittenArtifact:
        result = right(*args)
        tensor = next(item for item in result.model.graph.initializer if item.name.endswith("bias"))
        tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) + 0.01, tensor.name))
        return result

    monkeypatch.setattr(pipeline, "rewrite_for", wrong)
    assert form_for(artefact, "ort-cpu") == artefact
    assert "runs as it is, not rewritten for ort-cpu" in caplog.text
    assert not (empty_cache / "forms").exists()


@pytest.mark.parametrize("error", [KeyError("x"), ValueError("y"), RecursionError(), MemoryError(), OSError("z")])
def test_a_rewrite_that_cannot_be_made_leaves_the_graph_as_it_is(
    error: Exception,
    artefact: Path,
    empty_cache: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    def fail(*_: Any) -> pipeline.RewrittenArtifact:
        raise error

    monkeypatch.setattr(pipeline, "rewrite_for", fail)
    assert form_for(artefact, "ort-cpu") == artefact
    assert f"mine.onnx cannot be used: {type(error).__name__}" in caplog.text
    assert not (empty_cache / "forms").exists()


def test_a_graph_of_shapes_that_do_not_fit_is_not_rewritten(
    artefact: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    model = onnx.load(artefact)
    node = next(it for it in model.graph.node if it.op_type == "DepthToSpace")
    node.attribute[0].i = 7 if node.attribute[0].name == "blocksize" else node.attribute[0].i
    node.attribute[1].i = 7 if node.attribute[1].name == "blocksize" else node.attribute[1].i
    onnx.save(model, artefact)
    assert form_for(artefact, "ort-cpu") == artefact
    assert "Traceback" not in caplog.text + "".join(capfd.readouterr())


@pytest.mark.parametrize("change", ["other weights", "a zeroed page"])
def test_a_form_with_other_weights_or_a_zeroed_page_is_not_used(change: str, artefact: Path) -> None:
    form = form_for(artefact, "ort-cpu")
    good = form.read_bytes()
    if change == "a zeroed page":
        form.write_bytes(good[:8192] + bytes(4096) + good[12288:])
    else:
        model = onnx.load(form)
        for tensor in model.graph.initializer:
            values = numpy_helper.to_array(tensor)
            if values.dtype == np.float32:
                tensor.CopyFrom(numpy_helper.from_array(values * np.float32(1.5), tensor.name))
        onnx.save(model, form)
    assert optimised_for(read_artifact(artefact), "ort-cpu").data == good


def test_a_cache_that_cannot_be_written_is_no_reason_to_fail(
    artefact: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert form_for(artefact, "ort-cpu") == artefact
    assert "runs as it is" in caplog.text
    assert load(artefact, backend="ort-cpu")(PHOTOGRAPH).shape == (160, 208, 3)

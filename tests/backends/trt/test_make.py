"""From artefacts to engines in the cache and in a folder, by modules shaped like TensorRT's."""

import hashlib
import re
from pathlib import Path
from typing import Any

import onnx
import pytest
from artefacts_fake import ADA
from tensorrt_fake import Behaviour, install

from lkdn_deploy.backends.onnx_bytes import Artifact, read_artifact
from lkdn_deploy.backends.trt.engine_cache import StoredEngine, find_engine, log_path, sidecar_path
from lkdn_deploy.backends.trt.engine_spec import Profile
from lkdn_deploy.backends.trt.make import make_engine
from lkdn_deploy.backends.trt.record import Audit, EngineRecord
from lkdn_deploy.backends.trt.resolve import resolve, resolve_for
from lkdn_deploy.core.errors import InputError, VerificationError
from lkdn_deploy.graph.fp16.cast import cast_to_fp16
from lkdn_deploy.graph.targets import TARGETS
from lkdn_deploy.runtime.bundled import bundled

LKDN_S = read_artifact(bundled()["lkdn-s", 4])
AHEAD = ("tensorrt-rtx", ("sm89", "sm86"))
RTX = "1.7.1.116"
MERGED = 80
"""Convolutions of LKDN-S after those that run beside each other were merged; it has 86."""


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """LKDN-S in FP16, as lkdn-export writes it."""
    model = cast_to_fp16(onnx.load(LKDN_S.path)).model
    props = {item.key: item.value for item in model.metadata_props} | {"lkdn.precision": '"fp16"'}
    onnx.helper.set_model_props(model, props)
    path = tmp_path_factory.mktemp("half") / "lkdn-s_x4_fp16.onnx"
    onnx.save(model, path)
    return read_artifact(path)


@pytest.fixture
def ahead(monkeypatch: pytest.MonkeyPatch) -> Behaviour:
    """TensorRT for RTX on a machine without a GPU."""
    install(monkeypatch, behaviour := Behaviour(RTX, rtx=True, device=False))
    return behaviour


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch) -> Behaviour:
    """TensorRT on a machine with a GPU; tests may change how it behaves."""
    install(monkeypatch, behaviour := Behaviour(), gpu=ADA)
    return behaviour


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def check_files(stored: StoredEngine, artifact: Artifact) -> None:
    """The three files agree."""
    assert EngineRecord.from_json(sidecar_path(stored.path).read_bytes()) == stored.record
    assert stored.record.engine_sha256 == digest(stored.path)
    assert stored.record.spec.artefact_sha256 == digest(artifact.path)
    assert stored.data == stored.path.read_bytes()
    assert log_path(stored.path).stat().st_size > 0


def test_an_engine_is_built_kept_and_copied(
    half: Artifact, tmp_path: Path, ahead: Behaviour, monkeypatch: pytest.MonkeyPatch
) -> None:
    reasons: list[str] = []
    stored = make_engine(half, resolve(*AHEAD), tmp_path / "out" / "new", on_build=reasons.append)
    assert stored.path == tmp_path / "out" / "new" / "lkdn-s_x4_fp16_tensorrt-rtx_sm86-sm89.engine"
    assert {path.suffix for path in stored.path.parent.iterdir()} == {".engine", ".json", ".log"}
    assert reasons == [stored.reason]
    check_files(stored, half)
    spec, record = stored.record.spec, stored.record
    assert (spec.targets, spec.gpu, spec.driver, spec.runtime_version) == (("sm86", "sm89"), "", "", RTX)
    assert record.audit == Audit(MERGED, MERGED, "engine")
    assert spec.rewrites == TARGETS["tensorrt"]
    assert record.rewrites == spec.rewrites[1:]  # this file takes one copy of its input
    assert spec.precision == record.metadata.precision == "fp16"
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", record.made)
    again = make_engine(half, resolve(*AHEAD), tmp_path / "other", on_build=reasons.append)
    assert (ahead.builds, again.reason, again.record) == (1, "", record)
    check_files(again, half)
    check_files(cached := make_engine(half, resolve(*AHEAD)), half)
    assert cached.path.parent == tmp_path / "cache" / "lkdn-deploy" / "engines"
    install(monkeypatch, Behaviour(RTX, rtx=True), gpu=ADA)  # the machine with the GPU looks for the same
    here = resolve_for(resolve(), half)
    assert here.targets == ("sm89",)
    found = find_engine(here)
    assert found is not None
    assert found.path == cached.path


@pytest.mark.parametrize(
    ("options", "name"),
    [
        ({}, "lkdn-s_x4_tensorrt_sm89.engine"),
        ({"batch": 4}, "lkdn-s_x4_tensorrt_sm89_batch4.engine"),
        ({"profile": Profile.fixed((180, 320))}, "lkdn-s_x4_tensorrt_sm89_320x180.engine"),
        (
            {"profile": Profile((8, 8), (64, 64), (96, 128))},
            "lkdn-s_x4_tensorrt_sm89_8x8-64x64-128x96.engine",
        ),
    ],
)
def test_names_tell_what_is_unusual(options: dict[str, Any], name: str, tmp_path: Path, here: Behaviour) -> None:
    stored = make_engine(LKDN_S, resolve(**options), tmp_path / "out")
    assert stored.path.name == name
    assert (stored.record.spec.gpu, stored.record.spec.driver, stored.record.audit) == (ADA.name, ADA.driver, None)


@pytest.mark.parametrize("names_node", [True, False])
def test_convolutions_without_a_kernel_are_put_back_to_fp32_and_recorded(
    names_node: bool, half: Artifact, here: Behaviour, caplog: pytest.LogCaptureFixture
) -> None:
    """The builder refuses one after the other; so after the one that it names come all that are like it."""
    here.no_kernel, here.names_node = True, names_node
    record = make_engine(half, resolve()).record
    grouped = sum(
        item.name == "group" and item.i > 1 for node in onnx.load(half.path).graph.node for item in node.attribute
    )
    assert len(record.fallbacks) == grouped == len(set(record.fallbacks))
    assert here.builds == (3 if names_node else 2)
    assert record.audit == Audit(MERGED, MERGED - grouped, "engine")
    assert record.spec.artefact_sha256 == digest(half.path)
    assert "building again with" in caplog.text


def test_an_engine_that_is_not_in_fp16_is_not_kept(half: Artifact, tmp_path: Path, here: Behaviour) -> None:
    here.in_fp32 = True
    with pytest.raises(VerificationError):
        make_engine(half, resolve(), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert {path.suffix for path in (tmp_path / "cache" / "lkdn-deploy" / "engines").iterdir()} == {".lock"}


def test_timings_of_a_build_shorten_the_next(half: Artifact, here: Behaviour) -> None:
    make_engine(half, resolve())
    assert here.settings["timing"] == ""
    make_engine(LKDN_S, resolve())
    assert here.settings["timing"] == " measured"


def test_a_folder_that_cannot_be_created_is_named(tmp_path: Path, here: Behaviour) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file/below cannot be created"):
        make_engine(LKDN_S, resolve(), tmp_path / "file" / "below")

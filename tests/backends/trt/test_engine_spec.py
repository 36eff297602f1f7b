"""The specification of an engine: what it accepts, and what becomes of it on a machine and for an artefact."""

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

import onnx
import pytest
from artefacts_fake import ADA, METADATA, OTHER, SPEC
from tensorrt_fake import Behaviour, install

from lkdn_deploy.backends.onnx_bytes import Artifact, read_artifact
from lkdn_deploy.backends.trt.engine_spec import DEFAULT_PROFILE, DEFAULT_WORKSPACE, EngineSpec, Profile
from lkdn_deploy.backends.trt.gpu import Gpu
from lkdn_deploy.backends.trt.resolve import resolve, resolve_for, suitable_profile
from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.graph.targets import TARGETS
from lkdn_deploy.runtime.bundled import bundled

PLAIN, RTX = Behaviour(), Behaviour("1.7.1.116", rtx=True)
REWRITES = TARGETS["tensorrt"]
ONE = dataclasses.replace(SPEC, targets=("sm86",))


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(EngineSpec)])
def test_any_change_changes_the_digest(name: str) -> None:
    changed = dataclasses.replace(ONE if name != "targets" else SPEC, **{name: OTHER[name]})
    assert changed.digest != (ONE if name != "targets" else SPEC).digest
    assert dataclasses.replace(changed, **{name: getattr(ONE, name)}).digest == ONE.digest


@pytest.mark.parametrize(
    "changes",
    [
        {"targets": ()},
        {"targets": ("89",)},
        {"targets": ("sm89", "sm89")},
        {"runtime": "tensorrt"},
        {"runtime": "openvino"},
        {"workspace": 0},
        {"batch": 1025},
        {"aux_streams": 17},
        {"artefact_sha256": "a"},
    ],
)
def test_values_out_of_range_are_refused(changes: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        dataclasses.replace(SPEC, **changes)


def test_sizes_are_written_as_they_are_given() -> None:
    assert Profile((32, 48), (64, 64), (128, 96)).text() == "48x32:64x64:96x128"
    assert dataclasses.replace(SPEC, profile=Profile.fixed((180, 320)), batch=4).inputs == "320x180 pixels, batch 4"
    assert Profile.fixed((180, 320)).fixed_size == (180, 320)
    assert Profile((32, 32), (32, 32), (64, 32)).fixed_size is None


@pytest.mark.parametrize("sizes", [((0, 1), (1, 1), (1, 1)), ((1, 2), (1, 1), (1, 3)), ((1, 1), (1, 1), (1, 20_000))])
def test_a_profile_out_of_order_is_refused(sizes: Any) -> None:
    with pytest.raises(UsageError, match="must rise and lie in"):
        Profile(*sizes)


# on a machine


def test_by_default_it_is_for_the_gpu_at_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    install(monkeypatch, PLAIN, RTX, gpu=ADA)
    bound = resolve()
    assert (bound.runtime, bound.runtime_version, bound.targets) == ("tensorrt", "11.5.0.7", ("sm89",))
    assert (bound.gpu, bound.driver) == (ADA.name, ADA.driver)
    assert (bound.profile, bound.batch, bound.workspace) == (None, 1, DEFAULT_WORKSPACE)
    rtx = resolve("tensorrt-rtx")
    install(monkeypatch, PLAIN, RTX)
    assert resolve(targets=("sm89",)) == rtx  # what is built ahead is what the GPU looks for
    assert rtx.gpu == rtx.driver == ""
    assert resolve(targets=("sm120", "sm89", "sm89"), batch=3).targets == ("sm89", "sm120")


@pytest.mark.parametrize(
    ("behaviours", "gpu", "options", "error", "said"),
    [
        ([PLAIN, RTX], None, {"runtime": "tensorrt"}, MissingError, "this machine has none"),
        ([PLAIN], None, {}, MissingError, "this machine has none"),
        ([PLAIN], ADA, {"targets": ("sm86",)}, UsageError, "not for sm86"),
        ([RTX], None, {}, UsageError, "this machine has no GPU"),
        ([RTX], None, {"targets": ("sm90",)}, UsageError, "does not build for sm90"),
        ([RTX], None, {"targets": ("sm75", "sm86")}, UsageError, "serves no other GPUs"),
        ([], ADA, {}, MissingError, "neither TensorRT nor TensorRT for RTX"),
        ([], ADA, {"runtime": "tensorrt"}, MissingError, r"\.\[trt\]"),
        ([], ADA, {"runtime": "tensorrt-rtx"}, MissingError, r"\.\[trt-rtx\]"),
    ],
)
def test_what_cannot_be_built_here_is_refused(
    monkeypatch: pytest.MonkeyPatch,
    behaviours: list[Behaviour],
    gpu: Gpu | None,
    options: dict[str, Any],
    error: type[Exception],
    said: str,
) -> None:
    install(monkeypatch, *behaviours, gpu=gpu)
    with pytest.raises(error, match=said):
        resolve(**options)


# for an artefact


def test_an_artefact_completes_it() -> None:
    asked = dataclasses.replace(SPEC, profile=None)
    spec = resolve_for(asked, artifact := read_artifact(bundled()["lkdn-s", 4]))
    sha256 = hashlib.sha256(artifact.data).hexdigest()
    assert spec == dataclasses.replace(asked, profile=DEFAULT_PROFILE, artefact_sha256=sha256, rewrites=REWRITES)


@pytest.mark.parametrize("data", [b"not a model", onnx.ModelProto().SerializeToString()])
def test_what_has_no_input_is_refused(data: bytes) -> None:
    with pytest.raises(InputError, match=r"a\.onnx"):
        resolve_for(SPEC, Artifact(Path("a.onnx"), data, METADATA))


@pytest.mark.parametrize(
    ("asked", "smallest", "fixed", "profile"),
    [
        (None, 48, None, Profile((48, 48), (256, 256), (512, 512))),
        (Profile.fixed((32, 64)), 48, None, "accepts sides of 48 pixels or more"),
        (None, 1, (180, 320), Profile.fixed((180, 320))),
        (Profile.fixed((180, 320)), 1, (180, 320), Profile.fixed((180, 320))),
        (DEFAULT_PROFILE, 1, (180, 320), "accepts one picture of 320x180 pixels, but 32x32:256x256:512x512 pixels"),
    ],
)
def test_sizes_are_those_of_the_artefact_unless_others_are_chosen(
    asked: Profile | None, smallest: int, fixed: tuple[int, int] | None, profile: Profile | str
) -> None:
    spec = dataclasses.replace(SPEC, profile=asked)
    metadata = dataclasses.replace(METADATA, smallest=smallest)
    if isinstance(profile, Profile):
        assert suitable_profile(spec, metadata, fixed) == profile
        return
    with pytest.raises(UsageError, match=profile):
        suitable_profile(spec, metadata, fixed)


def test_an_artefact_of_one_size_takes_no_batch() -> None:
    spec = dataclasses.replace(SPEC, profile=None, batch=2)
    with pytest.raises(UsageError, match=r"accepts one picture .* but 320x180 pixels, batch 2"):
        suitable_profile(spec, METADATA, (180, 320))

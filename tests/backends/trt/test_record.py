"""The record beside an engine: it is read back as written, and what is impossible is refused."""

import dataclasses
import json
from typing import Any

import pytest
from artefacts_fake import SPEC

from lkdn_deploy.backends.trt.engine_spec import EngineSpec
from lkdn_deploy.backends.trt.record import Audit, EngineRecord, Tensor
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError

RECORD = EngineRecord(
    spec=dataclasses.replace(SPEC, batch=2),
    metadata=ArtifactMetadata("lkdn-s", 4, 63, 507, True, precision="fp16", tools={"torch": "2.13"}),
    input=Tensor("lr", "float32"),
    output=Tensor("sr", "float16"),
    engine_sha256="b" * 64,
    audit=Audit(86, 80, "engine"),
    fallbacks=("node_Conv_1",),
    build_seconds=1.25,
    made="2026-11-24T01:31:59+00:00",
)
FIELDS = [(item.name,) for item in dataclasses.fields(EngineRecord)]
FIELDS += [("spec", item.name) for item in dataclasses.fields(EngineSpec)]
FIELDS += [("spec", "profile", "optimum"), ("audit", "half"), ("input", "dtype")]


@pytest.mark.parametrize(
    "record",
    [
        RECORD,
        dataclasses.replace(RECORD, audit=None, fallbacks=(), build_seconds=2),
        dataclasses.replace(RECORD, spec=dataclasses.replace(SPEC, profile=None)),
    ],
)
def test_what_is_written_is_read_back(record: EngineRecord) -> None:
    assert EngineRecord.from_json(record.to_json()) == EngineRecord.from_json(record.to_json().encode()) == record


def damaged(path: tuple[str, ...], value: Any) -> str:
    """The JSON with a value in another's place; ``...`` removes it."""
    content = json.loads(RECORD.to_json())
    *parents, last = path
    inner = content
    for name in parents:
        inner = inner[name]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return json.dumps(content)


@pytest.mark.parametrize(
    ("path", "value", "said"),
    [
        ("engine_sha256", "b" * 63, "engine_sha256 must be 64 hex"),
        ("spec.artefact_sha256", "C" * 64, "artefact_sha256 must be 64 hex"),
        ("spec.runtime", "openvino", "runtime: expected tensorrt or tensorrt-rtx, got"),
        ("spec.targets", [], "targets must be compute capabilities"),
        ("spec.targets", ["86"], "targets must be compute capabilities"),
        ("spec.targets", "sm86", "targets: expected tuple"),
        ("spec.targets", [86], "targets: expected str, got 86"),
        ("spec.gpu", "\x1b[2J", "gpu: expected str"),
        ("spec.profile.optimum", [1, 1], "rise"),
        ("spec.profile.maximum", [1, True], "maximum: expected int, got True"),
        ("spec.profile.maximum", [128], "maximum: "),
        ("spec.profile", {"minimum": [1, 1]}, "profile: missing or unknown fields: maximum, optimum"),
        ("spec.profile", 3, "profile: expected Profile, got 3"),
        ("spec.batch", 0, "the batch must lie in"),
        ("audit", {"convolutions": 3, "half": 4, "source": "engine"}, "4 of 3 convolutions in FP16 is impossible"),
        ("audit.source", "hope", "source: expected network or engine, got"),
        ("build_seconds", float("nan"), "must be a duration"),
        ("build_seconds", "1", "build_seconds: expected float, got '1'"),
        ("input.dtype", "int8", "float32, float16, uint8"),
        ("metadata", {"model": "x"}, "metadata: "),
        ("metadata", [], "metadata: expected ArtifactMetadata"),
        ("format", 1, "expected format 4"),
        ("more", 1, "missing or unknown fields: more"),
    ],
)
def test_what_is_impossible_is_refused_with_the_reason(path: str, value: Any, said: str) -> None:
    with pytest.raises(InputError, match="side-car is damaged") as caught:
        EngineRecord.from_json(damaged(tuple(path.split(".")), value))
    assert said in caught.value.message
    assert caught.value.hint == "build the engine again"


@pytest.mark.parametrize(
    ("path", "said"), [("build_seconds", "build_seconds: "), ("metadata.peak", "peak must be"), ("spec.batch", "batch")]
)
def test_a_number_beyond_all_others_is_refused(path: str, said: str) -> None:
    with pytest.raises(InputError, match=f"side-car is damaged.*{said}"):
        EngineRecord.from_json(damaged(tuple(path.split(".")), 10**400))


@pytest.mark.parametrize("path", FIELDS)
def test_a_missing_field_is_named(path: tuple[str, ...]) -> None:
    with pytest.raises(InputError, match=f"missing or unknown fields: {path[-1]} "):
        EngineRecord.from_json(damaged(path, ...))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_what_is_not_a_record_is_refused(text: bytes) -> None:
    with pytest.raises(InputError, match="side-car is damaged"):
        EngineRecord.from_json(text)

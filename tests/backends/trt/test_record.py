"""The file beside an engine: what it says comes back, and what cannot be so is refused."""

import dataclasses
import json
from typing import Any

import pytest

from lkdn_deploy.backends.trt.record import _READERS, Audit, Profile, SideCar, Tensor
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, UsageError

METADATA = ArtifactMetadata("lkdn-s", 4, 63, 507, True, precision="fp16", tools={"torch": "2.13"})
SIDECAR = SideCar(
    METADATA,
    Tensor("lr", "float32"),
    Tensor("sr", "float16"),
    Profile((32, 32), (256, 256), (512, 512), 2),
    "tensorrt-rtx",
    "1.7.1.116",
    ("sm86", "sm120"),
    "",
    "",
    "Linux x86_64",
    "a" * 64,
    "b" * 64,
    "c" * 64,
    Audit(86, 80, "engine"),
    {"workspace": "4096 MiB"},
    ("node_Conv_1",),
    1.25,
    "2026-11-24T01:31:59+00:00",
)


def test_all_that_is_written_is_read_back() -> None:
    assert SideCar.from_json(SIDECAR.to_json()) == SIDECAR
    plain = dataclasses.replace(SIDECAR, audit=None, options={}, fallbacks=())
    assert SideCar.from_json(plain.to_json().encode()) == plain


def test_every_fact_has_a_reader() -> None:
    assert set(_READERS) == {item.name for item in dataclasses.fields(SideCar)}


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"engine_sha256": "b" * 63}, "engine_sha256 is a SHA-256"),
        ({"key": "C" * 64}, "key is a SHA-256"),
        ({"runtime": "openvino"}, "runtime is one of tensorrt, tensorrt-rtx"),
        ({"targets": []}, "targets are compute capabilities"),
        ({"targets": ["86"]}, "targets are compute capabilities"),
        ({"targets": "sm86"}, "targets: expected a list"),
        ({"targets": [86]}, "targets: expected a text"),
        ({"gpu": "\x1b[2J"}, "gpu: expected a text"),
        ({"profile": {"minimum": [64, 64], "optimum": [32, 32], "maximum": [64, 64], "batch": 1}}, "rise"),
        ({"profile": {"minimum": [1, 1], "optimum": [1, 1], "maximum": [1, True], "batch": 1}}, "expected an integer"),
        ({"profile": {"minimum": [1, 1]}}, "profile: 'optimum'"),
        ({"profile": 3}, "profile: "),
        ({"audit": {"convolutions": 3, "half": 4, "source": "engine"}}, "no audit is so"),
        ({"audit": {"convolutions": 3, "half": 3, "source": "hope"}}, "no audit is so"),
        ({"build_seconds": float("nan")}, "a duration"),
        ({"build_seconds": "1"}, "build_seconds: expected a number"),
        ({"input": {"name": "lr", "dtype": "int8"}}, "float32, float16, uint8"),
        ({"options": ["workspace"]}, "options: expected a table"),
        ({"metadata": {"model": "x"}}, "metadata: "),
        ({"metadata": []}, "metadata: expected a table"),
        ({"format": 2}, "format 1"),
        ({"more": 1}, "missing or unknown are more"),
    ],
)
def test_what_cannot_be_so_is_refused_with_what_is_wrong(changes: dict[str, Any], said: str) -> None:
    value = json.loads(SIDECAR.to_json()) | changes
    with pytest.raises(InputError, match="side-car is damaged") as caught:
        SideCar.from_json(json.dumps(value))
    assert said in caught.value.message
    assert caught.value.hint == "build the engine again"


@pytest.mark.parametrize("name", [item.name for item in dataclasses.fields(SideCar)])
def test_a_missing_fact_is_named(name: str) -> None:
    value = json.loads(SIDECAR.to_json())
    del value[name]
    with pytest.raises(InputError, match=f"missing or unknown are {name} "):
        SideCar.from_json(json.dumps(value))


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"null", b"\xff", b"[" * 100_000])
def test_what_is_no_side_car_is_refused(text: bytes) -> None:
    with pytest.raises(InputError, match="side-car is damaged"):
        SideCar.from_json(text)


def test_a_profile_is_told_as_it_is_given() -> None:
    assert str(Profile((32, 48), (64, 64), (128, 96))) == "48x32:64x64:96x128"
    assert str(Profile.fixed((180, 320), 4)) == "320x180, batch 4"
    assert Profile.fixed((180, 320)).fixed_size == (180, 320)
    assert Profile((32, 32), (32, 32), (64, 32)).fixed_size is None


@pytest.mark.parametrize(
    ("sizes", "batch"),
    [
        (((0, 1), (1, 1), (1, 1)), 1),
        (((1, 2), (1, 1), (1, 3)), 1),
        (((1, 1), (1, 1), (1, 20_000)), 1),
        (((1, 1), (1, 1), (1, 1)), 0),
    ],
)
def test_a_profile_out_of_order_is_refused(sizes: Any, batch: int) -> None:
    with pytest.raises(UsageError):
        Profile(*sizes, batch)

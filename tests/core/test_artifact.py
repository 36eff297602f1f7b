from dataclasses import replace

import pytest

from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError

METADATA = ArtifactMetadata(
    model="lkdn-s",
    scale=4,
    receptive_radius=63,
    live_channels=462,
    fused=True,
    weights_sha256="ab" * 32,
    tools={"torch": "2.13.0"},
)


def test_metadata_comes_back_from_string_pairs_as_it_was() -> None:
    props = METADATA.to_props()
    assert all(isinstance(value, str) for value in props.values())
    assert ArtifactMetadata.from_props({"other": "tool", **props}) == METADATA


def test_a_file_of_another_tool_is_told_apart() -> None:
    with pytest.raises(InputError, match="not made by lkdn-export"):
        ArtifactMetadata.from_props({"producer": "somebody"})


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("lkdn.scale", "99", "scale must be between 1 and 8"),
        ("lkdn.scale", '"4"', "scale must be between"),
        ("lkdn.scale", "true", "scale must be between"),
        ("lkdn.scale", "{", "damaged"),
        ("lkdn.receptive_radius", "-1", "receptive_radius must be between"),
        ("lkdn.live_channels", "1e9", "live_channels must be between"),
        ("lkdn.colour", '"BGR"', "runs colour RGB only"),
        ("lkdn.value_range", '"0..255"', r"runs value_range 0\.\.1 only"),
        ("lkdn.format", "7", "format '7' is not known"),
        ("lkdn.tools", "[" * 100_000, "damaged"),
        ("lkdn.tools", "3", "tools must be a table"),
        ("lkdn.target", "7", "target, precision"),
        ("lkdn.io", '"int4"', "io must be one of fp32, fp16, uint8"),
        ("lkdn.io", "[]", "io must be one of"),
        ("lkdn.islands", '{"range": "many"}', "islands must be counts"),
        ("lkdn.peak", '"high"', "peak must be a number"),
        ("lkdn.peak", "NaN", "peak must be a number"),
        ("lkdn.peak_at", "7", "must be texts"),
        ("lkdn.ranges", '{"conv2d": "wide"}', "ranges must be numbers"),
        ("lkdn.ranges", '{"conv2d": -1}', "ranges must be numbers"),
    ],
)
def test_metadata_that_would_mislead_the_runtime_is_refused(key: str, value: str, said: str) -> None:
    with pytest.raises(InputError, match=said):
        ArtifactMetadata.from_props(METADATA.to_props() | {key: value})


def test_missing_metadata_is_named() -> None:
    props = METADATA.to_props()
    del props["lkdn.receptive_radius"]
    with pytest.raises(InputError, match="receptive_radius"):
        ArtifactMetadata.from_props(props)


def test_facts_of_an_fp16_artefact_come_back() -> None:
    facts = {"islands": {"statistics": 5}, "peak": 655.04, "peak_at": "conv2d_3", "ranges": {"conv2d_3": 655.04}}
    half = replace(METADATA, precision="fp16", io="uint8", **facts)
    assert ArtifactMetadata.from_props(half.to_props()) == half


def test_a_file_from_before_fp16_is_an_fp32_one() -> None:
    later = ("io", "islands", "peak", "peak_at", "ranges")
    props = {key: value for key, value in METADATA.to_props().items() if key.removeprefix("lkdn.") not in later}
    old = ArtifactMetadata.from_props(props)
    assert old == METADATA
    assert (old.io, old.peak) == ("fp32", None)

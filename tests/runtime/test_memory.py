"""Pictures that are accepted fit into the memory that there is."""

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from twice import Twice

import lkdn_deploy.runtime.memory as module
from lkdn_deploy import Upscaler
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.limits import parse_memory
from lkdn_deploy.imaging.files.formats import format_for
from lkdn_deploy.imaging.files.picture import Header
from lkdn_deploy.runtime.memory import ProcessMemory


@settings(max_examples=40)
@given(
    header=st.builds(Header, st.integers(1, 6000), st.integers(1, 6000), st.integers(1, 4), st.sampled_from([8, 16])),
    suffix=st.sampled_from([".png", ".tif", ".webp"]),
    limit=st.integers(1 << 20, 1 << 33),
    parts=st.one_of(st.none(), st.integers(0, 1 << 26)),
    held=st.integers(0, 1 << 30),
)
def test_windows_and_pictures_stay_within_the_limit(
    header: Header, suffix: str, limit: int, parts: int | None, held: int
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_taken", lambda: 0)
        patch.setattr(module, "available_memory", lambda: 1 << 34)
        memory, upscaler = ProcessMemory(limit), Upscaler(Twice())
        kind = format_for(Path(f"x{suffix}"))
        picture = memory.plan(header, kind, upscaler, file_size=1000, parts=lambda: parts)
        assert not (picture.in_parts and parts is None)
        try:
            memory.check(picture, header, upscaler, 0)
        except InputError:
            return
        room = picture.room(memory.budget(picture, 0))
        taken = picture.source + picture.result + sum(upscaler.room_taken(header.height, header.width, room))
        assert taken <= limit - module._ENGINE
        if held > limit:
            with pytest.raises(InputError):
                memory.check(picture, header, upscaler, held)


@pytest.mark.parametrize(
    ("text", "size"), [("2G", 2 << 30), ("900M", 900 << 20), ("1.5GiB", 3 << 29), ("4096 kb", 1 << 22), ("1t", 1 << 40)]
)
def test_amounts_of_memory(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "G", "1", "1023k", "-2G", "2X", "1e9M", "\u0662G"])
def test_what_is_no_amount_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="such as 900M or 2G"):
        parse_memory(text)

import os
import time
from pathlib import Path

import pytest

from lkdn_deploy.core.errors import InputError, LkdnError, UsageError
from lkdn_deploy.core.files import publish, read_bounded, reading, remove_stale_parts


def test_the_file_appears_when_the_block_ends_well(tmp_path: Path) -> None:
    target = tmp_path / "out.bin"
    with publish(target) as part:
        part.write_bytes(b"whole")
        assert not target.exists()
        assert part.suffix == ".bin"
    assert target.read_bytes() == b"whole"
    assert list(tmp_path.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_and_the_old_file_stays_when_it_fails(tmp_path: Path, error: type[BaseException]) -> None:
    target = tmp_path / "out.bin"
    target.write_bytes(b"old")

    def fail_half_way() -> None:
        with publish(target) as part:
            part.write_bytes(b"half")
            raise error

    with pytest.raises(error):
        fail_half_way()
    assert target.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_place_that_cannot_be_written_is_an_input_error(tmp_path: Path) -> None:
    blocker = tmp_path / "file"
    blocker.write_bytes(b"")
    with pytest.raises(InputError, match=r"out\.bin cannot be written"), publish(blocker / "out.bin") as part:
        part.write_bytes(b"x")


def test_a_long_name_does_not_make_the_temporary_one_too_long(tmp_path: Path) -> None:
    for name in ("n" * 250 + ".png", "é" * 124 + ".png"):
        with publish(tmp_path / name) as part:
            part.write_bytes(b"x")
        assert (tmp_path / name).exists()


def test_a_replaced_file_passes_on_its_permissions(tmp_path: Path) -> None:
    target = tmp_path / "private.png"
    target.write_bytes(b"old")
    target.chmod(0o600)
    with publish(target) as part:
        part.write_bytes(b"new")
    assert target.read_bytes() == b"new"
    assert target.stat().st_mode & 0o777 == 0o600


def test_a_link_stays_and_what_it_leads_to_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "real.png").write_bytes(b"old")
    (tmp_path / "link.png").symlink_to("real.png")
    with publish(tmp_path / "link.png") as part:
        part.write_bytes(b"new")
    assert (tmp_path / "link.png").is_symlink()
    assert (tmp_path / "real.png").read_bytes() == b"new"


@pytest.mark.parametrize(
    ("error", "kind", "said"),
    [
        (OSError(5, "Input/output error"), InputError, "f cannot be read: Input/output error"),
        (MemoryError(), InputError, "f cannot be read: memory ran out"),
        (RecursionError("deep"), InputError, "f is not a list: deep"),
        (KeyError(), InputError, "f is not a list: KeyError"),
        (ValueError("one\ntwo" * 1000), InputError, "f is not a list: one"),
        (UsageError("no such key"), UsageError, "f: no such key"),
    ],
)
def test_whatever_a_reader_raises_names_the_file(error: Exception, kind: type[LkdnError], said: str) -> None:
    with pytest.raises(LkdnError) as raised, reading("f", "a list", "give a list"):
        raise error
    assert (type(raised.value), raised.value.message, raised.value.hint) == (kind, said, "give a list")


def test_no_more_of_a_file_is_read_than_allowed(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"12345")
    assert read_bounded(tmp_path / "f", 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        read_bounded(tmp_path / "f", 4)
    with pytest.raises(OSError, match=r"/dev/zero|not a regular file"):
        read_bounded("/dev/zero", 4)


def test_what_a_killed_run_left_is_told_from_what_is_written_by_the_clock_of_the_file_system(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new, other = (
        tmp_path / name for name in (".0123456789ab.part.png", ".0123456789ac.part.png", "mine.part.png")
    )
    for path in (old, new, other):
        path.touch()
    for path in (old, other):
        os.utime(path, (0, 0))
    for wrong in (0.0, 2.0**33):
        monkeypatch.setattr(time, "time", lambda wrong=wrong: wrong)
        remove_stale_parts(tmp_path)
        assert set(tmp_path.iterdir()) == {new, other}

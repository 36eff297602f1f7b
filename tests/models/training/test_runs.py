"""The log of a training run."""

import pytest

from lkdn_deploy.core.errors import InputError
from lkdn_models.training.runs import RunFolder


@pytest.mark.parametrize("line", [b"[" * 100_000, b"\xff", b'{"step": 1' + b"0" * 5000, b"1", b'{"step": "1"}'])
def test_a_log_that_is_none_is_named(tmp_path, line):
    (tmp_path / "log.jsonl").write_bytes(line + b"\n")
    with pytest.raises(InputError, match=r"log\.jsonl is not "):
        RunFolder(tmp_path).read_log()


def test_numbers_of_a_log_fit_into_arrays(tmp_path):
    (tmp_path / "log.jsonl").write_text('{"step": 1, "loss": 1' + "0" * 400 + "}\n")
    assert RunFolder(tmp_path).read_log() == [{"step": 1, "loss": float("inf")}]

"""Nothing that this project runs writes identifiers to the home folder or looks for a server."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from lkdn_deploy.samples import sample_pixels

COMMANDS = {
    "ort-cpu": "from lkdn_deploy import load; load(backend='ort-cpu')(picture)",
    "openvino": "from lkdn_deploy import load; load(backend='openvino')(picture)",
    "native": "from lkdn_deploy import load; load(backend='native')(picture)",
    "profile": (
        "from types import SimpleNamespace; from lkdn_deploy.bench.measure.profile import profile\n"
        "from lkdn_deploy.hub.artifacts import find_artifact\n"
        "for backend in ('ort-cpu', 'openvino-cpu'):\n"
        "    session, batch = SimpleNamespace(backend=backend), np.zeros((1, 3, 16, 16), np.float32)\n"
        "    assert profile(session, find_artifact(), batch, 1)"
    ),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_an_empty_home_folder_gets_no_files_but_ours(name: str, tmp_path: Path) -> None:
    code = f"import numpy as np; picture = np.zeros((16, 16, 3), np.uint8)\n{COMMANDS[name]}"
    unset = {"XDG_CACHE_HOME", "ORT_DISABLE_TELEMETRY", "CI"}
    environment = {key: value for key, value in os.environ.items() if key not in unset} | {"HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr
    written = [path.relative_to(tmp_path) for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in written if path.parts[:2] != (".cache", "lkdn-deploy")] == []


def test_a_user_may_ask_for_telemetry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORT_DISABLE_TELEMETRY", "0")
    from lkdn_deploy import load

    load(backend="ort-cpu")(sample_pixels()[:16, :16])
    assert os.environ["ORT_DISABLE_TELEMETRY"] == "0"

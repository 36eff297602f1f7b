"""The contents of the wheel."""

import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from lkdn_deploy import __version__


@pytest.fixture(scope="module")
def wheel(built: Path) -> list[str]:
    """Return the names of the wheel's files."""
    (path,) = built.glob("*.whl")
    return zipfile.ZipFile(path).namelist()


@pytest.mark.parametrize(
    "name",
    [
        "lkdn_deploy/py.typed",
        "lkdn_deploy/samples/dandelion.png",
        "lkdn_deploy/samples/CREDITS.md",
        "lkdn_deploy/runtime/artefacts/lkdn-s_x4.onnx",
        "lkdn_models/py.typed",
        "lkdn_models/recipes/tiny.toml",
        "lkdn_models/zoo/networks.toml",
        "lkdn_models/weights/lkdn-s_x4.safetensors",
        "lkdn_models/weights/lkdn-s_x4.md",
        "lkdn_models/weights/DATA.md",
        "lkdn_deploy/runtime/artefacts/lkdn-s_x2.onnx",
        "lkdn_deploy/runtime/artefacts/lkdn-s_x3.onnx",
    ],
)
def test_the_wheel_has_what_is_needed_at_run_time(wheel: list[str], name: str) -> None:
    assert name in wheel


def test_the_wheel_has_nothing_else_at_its_top(wheel: list[str]) -> None:
    assert {name.partition("/")[0] for name in wheel} == {
        "lkdn_deploy",
        "lkdn_models",
        f"lkdn_deploy-{__version__}.dist-info",
    }


def test_an_installed_project_does_not_make_its_tools_importable() -> None:
    code = "import importlib.util as u; print([u.find_spec(n) for n in ('tools', 'benchmarks', 'models', 'recipes')])"
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[None, None, None, None]"

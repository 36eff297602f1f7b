"""The contents of the wheel, and the truth of the README's commands."""

import functools
import re
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from lkdn_deploy import __version__

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Build the wheel and return the names of its files."""
    folder = tmp_path_factory.mktemp("wheel")
    options = ["--quiet", "--no-deps", "--no-build-isolation", "--wheel-dir", str(folder)]
    subprocess.run([sys.executable, "-m", "pip", "wheel", *options, str(ROOT)], check=True)
    (path,) = folder.glob("*.whl")
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


def test_every_command_of_the_readme_exists() -> None:
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    targets = re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), re.M)
    blocks = re.findall(r"^```sh\n(.*?)^```", (ROOT / "README.md").read_text(), re.M | re.S)
    lines = [line.split("#")[0].split() for block in blocks for line in block.splitlines() if line.strip()]
    assert len(lines) > 5
    for words in lines:
        if words and words[0].startswith("lkdn-"):
            assert words[0] in scripts
        elif words and words[0] == "make":
            assert words[1] in targets


@functools.cache
def help_of(name: str, task: str = "") -> str:
    """Return what ``lkdn-NAME [TASK] --help`` prints."""
    code = f"from lkdn_deploy.cli.{name} import main; main()"
    words = [sys.executable, "-c", code, *task.split(), "--help"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout


@pytest.mark.parametrize("name", ["bench", "eval", "export", "serve", "train", "upscale", "zoo"])
def test_every_option_of_the_readme_exists(name: str) -> None:
    lines = re.findall(rf"^lkdn-{name} (.*)$", (ROOT / "README.md").read_text(), re.M)
    assert lines
    for line in lines:
        # lkdn-train's options are those of its commands; the name of a recipe is short for run.
        first = line.split()[0]
        task = "" if name != "train" else first if first in ("plot", "export") else "run"
        for option in re.findall(r"(?<!\S)--?[a-z][a-z-]*", line.split("#")[0]):
            assert re.search(rf"(?<!\S){option}(?![a-z-])", help_of(name, task)), option


CARDS = sorted(str(path.relative_to(ROOT)) for path in (ROOT / "models" / "lkdn_models" / "weights").glob("*.md"))


@pytest.mark.parametrize("path", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", *CARDS])
def test_links_between_files_lead_somewhere(path: str) -> None:
    folder = (ROOT / path).parent
    for target in re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", (ROOT / path).read_text()):
        assert (folder / target).exists(), target

"""Both distributions install into clean environments, and what is said about a release is of this version."""

import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml

from lkdn_deploy import __version__

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
SAMPLE = ROOT / "lkdn_deploy" / "samples" / "dandelion.png"

USE = """
import sys
from pathlib import Path
import lkdn_deploy, lkdn_models
from lkdn_deploy import load
from lkdn_deploy.samples import sample_pixels
print(lkdn_deploy.__version__, load(scale=2)(sample_pixels()[:16, :16]).shape)
for package in (lkdn_deploy, lkdn_models):
    folder = Path(package.__file__).parent
    assert (folder / "py.typed").is_file() and folder.is_relative_to(sys.argv[1]), folder
"""
SAID = f"{__version__} (32, 32, 3)\n"


def interpreter(version: str) -> str:
    """Return a Python of a version, or skip."""
    names = [shutil.which(f"python{version}"), *Path.home().glob(f".pyenv/versions/{version}*/bin/python")]
    for name in filter(None, names):
        done = subprocess.run([name, "-c", "import venv"], capture_output=True, check=False)
        if done.returncode == 0:
            return str(name)
    pytest.skip(f"there is no Python {version} here")


def clean() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "VIRTUAL_ENV"))}


def test_the_wheel_works_where_it_is_unpacked(built: Path, tmp_path: Path) -> None:
    (wheel,) = built.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path)  # noqa: S202
    environment = os.environ | {"PYTHONPATH": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", USE, str(tmp_path)],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, SAID), done.stderr


def test_the_source_distribution_has_what_builds_tests_and_documents(built: Path) -> None:
    (path,) = built.glob("*.tar.gz")
    with tarfile.open(path) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    wanted = {
        "pyproject.toml",
        "mkdocs.yml",
        "docs/upscale.md",
        "examples/upscale_array.py",
        "tests/conftest.py",
        "LICENSE",
    }
    wanted |= {"Makefile", "README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md", "CITATION.cff"}
    assert wanted - names == set()


@pytest.mark.long
@pytest.mark.parametrize("version", ["3.11", "3.12", "3.13"])
@pytest.mark.parametrize("kind", ["whl", "tar.gz"])
def test_distributions_install_into_clean_environments(built: Path, tmp_path: Path, version: str, kind: str) -> None:
    """With the extra native, from the index of packages; a command and the Python API run, far from the checkout."""
    (path,) = built.glob(f"*.{kind}")
    subprocess.run([interpreter(version), "-m", "venv", str(tmp_path / "env")], check=True, env=clean())
    programs = tmp_path / "env" / "bin"
    words = [str(programs / "python"), "-m", "pip", "install", "--quiet", f"lkdn-deploy[native] @ {path.as_uri()}"]
    subprocess.run(words, check=True, env=clean(), cwd=tmp_path)
    done = subprocess.run(
        [programs / "python", "-c", USE, str(tmp_path)],
        cwd=tmp_path,
        env=clean(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, SAID), done.stderr
    subprocess.run([programs / "lkdn-upscale", SAMPLE, "out.png"], cwd=tmp_path, env=clean(), check=True)
    assert (tmp_path / "out.png").is_file()
    facts = subprocess.run(
        [programs / "lkdn-upscale", "--version", "--verbose"], env=clean(), capture_output=True, text=True, check=True
    ).stdout
    assert f"python: {version}." in facts
    assert "backends installed: native\n" in facts
    words = [programs / "lkdn-export", "--onnx"]
    missing = subprocess.run(words, cwd=tmp_path, env=clean(), capture_output=True, text=True, check=False)
    assert missing.returncode == 3
    assert "pip install" in missing.stderr


def test_changelog_and_citation_are_of_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    heading = re.search(r"^## (\S+) \((\d{4}-\d\d-\d\d)\)$", changelog, re.MULTILINE)
    assert heading is not None
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    assert (citation["version"], citation["date-released"]) == heading.groups()
    assert heading[1] == __version__
    assert citation["license"] == PROJECT["license"]
    (paper,) = citation["references"]
    assert paper["title"].startswith("Large Kernel Distillation Network")


def test_issue_templates_ask_for_the_facts_that_a_command_prints() -> None:
    folder = ROOT / ".github" / "ISSUE_TEMPLATE"
    forms = {path.stem: yaml.safe_load(path.read_text(encoding="utf-8")) for path in folder.glob("*.yml")}
    assert forms.pop("config") == {"blank_issues_enabled": False}
    for form in forms.values():
        assert {"name", "description", "body"} == form.keys()
        assert all(part["type"] in ("textarea", "input", "checkboxes") and "id" in part for part in form["body"])
    for name in ("bug_report", "slow"):
        assert any("lkdn-upscale --version --verbose" in str(part) for part in forms[name]["body"])


def test_every_dependency_is_listed_with_its_licence() -> None:
    page = (ROOT / "docs" / "licences.md").read_text(encoding="utf-8")
    optional = {name: wanted for name, wanted in PROJECT["optional-dependencies"].items() if name != "dev"}
    for text in (*PROJECT["dependencies"], *(text for wanted in optional.values() for text in wanted)):
        name = re.split(r"[^\w-]", text)[0].lower()
        assert name == PROJECT["name"] or re.search(rf"^\| {name} \| .+ \| .+ \|$", page, re.MULTILINE), name

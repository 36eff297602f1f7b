"""The tests in VapourSynth, in an environment of their own: its package needs a newer Python than the project."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LEAST = (3, 12)
PACKAGES = [f"{ROOT}[native,cpu,vapoursynth]", "vapoursynth-mlrt-ort>=17", "pytest>=8.3", "hypothesis>=6.100"]


def pythons() -> Iterator[Path]:
    """Yield the Pythons of this machine that may be new enough: those on the path, and those of pyenv."""
    names = [f"python3.{minor}" for minor in range(LEAST[1], LEAST[1] + 3)]
    yield from (Path(found) for name in names if (found := shutil.which(name)))
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"), "versions")
    for name in names:
        yield from versions.glob(f"{name.removeprefix('python')}.*/bin/{name}")


def works(python: Path) -> bool:
    """Return whether a Python runs; a shim of pyenv may not."""
    return subprocess.run([python, "-c", "import venv"], capture_output=True, check=False).returncode == 0


@pytest.mark.long
def test_in_an_environment_of_its_own(tmp_path: Path) -> None:
    python = next(filter(works, pythons()), None)
    if python is None:
        pytest.skip("VapourSynth's package needs Python 3.12 or newer, which is not installed")
    subprocess.run([python, "-m", "venv", tmp_path / "env"], check=True)
    inside = tmp_path / "env" / "bin" / "python"
    installed = subprocess.run([inside, "-m", "pip", "install", "--quiet", *PACKAGES], capture_output=True, check=False)
    if installed.returncode:
        pytest.skip(f"VapourSynth cannot be installed: {installed.stderr.decode().strip().splitlines()[-1]}")
    tests = Path(__file__).with_name("test_in_vapoursynth.py")
    words = [inside, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--import-mode=importlib", tests]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert int(re.search(r"(\d+) passed", done.stdout)[1]) > 20  # type: ignore[index]

"""The tests of the code for TensorRT see mistakes: each of ``MUTATIONS`` makes one of them fail; none is left out."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mutations import MUTATIONS, Mutation

ROOT = Path(__file__).parents[3]
SOURCES = Path("lkdn_deploy", "backends", "trt")


def changed(mutation: Mutation) -> str:
    """Return the file's text with the mistake in it."""
    text = (ROOT / SOURCES / mutation.file).read_text()
    for old, new in mutation.edits:
        assert text.count(old) == 1, f"{mutation.name}: the text is not there, or not once: {old!r}"
        text = text.replace(old, new)
    compile(text, mutation.file, "exec")
    return text


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_a_mistake_can_still_be_made(mutation: Mutation) -> None:
    assert changed(mutation) != (ROOT / SOURCES / mutation.file).read_text()


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the project."""
    folder = tmp_path_factory.mktemp("mutants")
    ignored = shutil.ignore_patterns("__pycache__", "node_modules")
    for name in ("lkdn_deploy", "models", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=ignored)
    shutil.copy(ROOT / "pyproject.toml", folder)
    return folder


@pytest.mark.long
@pytest.mark.parametrize("mutation", [None, *MUTATIONS], ids=lambda mutation: mutation.name if mutation else "none")
def test_a_mistake_is_caught(copy: Path, mutation: Mutation | None) -> None:
    tests = mutation.tests if mutation else {name for mutation in MUTATIONS for name in mutation.tests}
    if mutation:
        target = copy / SOURCES / mutation.file
        before, text = target.read_text(), changed(mutation)
        target.write_text(text)
    # Tests with whole networks see no more than those with small ones.
    small = "not photograph and not every_kind and not halves and not one_size_is_run and not real and not make_gpu"
    command = [sys.executable, "-m", "pytest", "-qxp", "no:cacheprovider", "--tb=line", "-k", small]
    places = [str(Path("tests", "backends", "trt", name)) for name in sorted(tests)]
    paths = os.pathsep.join((str(copy), str(copy / "models")))
    surroundings = os.environ | {"PYTHONPATH": paths, "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        done = subprocess.run(
            [*command, *places], cwd=copy, env=surroundings, capture_output=True, text=True, timeout=600
        )
    finally:
        if mutation:
            target.write_text(before)
    assert done.returncode == (1 if mutation else 0), done.stdout[-2000:] + done.stderr

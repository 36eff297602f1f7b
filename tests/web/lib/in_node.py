"""Fixtures and programs that the tests of the browser's engine share."""

import shutil
import subprocess
from pathlib import Path

import pytest

from lkdn_deploy.jit.compiler import Processor

HERE = Path(__file__).parent

PLAIN = Processor("x86-64", "", lanes=4, max_outputs=4)
"""A processor that, as WebAssembly, does not fuse a multiplication and an addition."""


def program(name: str) -> str:
    """Return the path of a program, or skip the test."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(*words: object, cwd: Path | None = None, env: dict[str, str] | None = None) -> str:
    """Run a program, and return what it prints."""
    done = subprocess.run(
        [*map(str, words)], capture_output=True, text=True, timeout=3000, cwd=cwd, env=env, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def node(script: "str | Path", *arguments: object, cwd: Path | None = None) -> str:
    """Run a script, of this folder if only its name is given, in Node, and return what it prints."""
    return run(program("node"), HERE / script, *arguments, cwd=cwd)

"""Fixtures and programs that the tests of the browser's engine share."""

import shutil
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Literal

import llvmlite.binding as llvm
import pytest

from lkdn_deploy.jit.compiler import Processor

HERE = Path(__file__).parent

Instructions = Literal["plain", "relaxed"]
"""The instructions that Node has: SIMD, or relaxed SIMD, too."""

PLAIN = Processor("x86-64", "", lanes=4, max_outputs=4)
"""A processor that, as plain WebAssembly, does not fuse a multiplication and an addition."""
FUSED = replace(PLAIN, features="+avx,+fma") if llvm.get_host_cpu_features().get("fma") else PLAIN
"""One that computes as relaxed SIMD does on this machine."""
PROCESSORS: dict[Instructions, Processor] = {"plain": PLAIN, "relaxed": FUSED}
"""Processors that compute as Node does with these instructions."""


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


def node(script: str | Path, *arguments: object, instructions: Instructions = "plain") -> str:
    """Run a script, of this folder if only its name is given, in Node, and return what it prints."""
    return run(program("node"), "--import", HERE / f"{instructions}.mjs", HERE / script, *arguments)

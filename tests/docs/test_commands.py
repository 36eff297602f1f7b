"""The commands of README and docs run as printed, one after the other, in the folder of a reader.

A block that cannot is marked in a comment before it: `<!-- not run: REASON -->`, or `<!-- long: REASON -->` if only the
long tests run it.
"""

import importlib
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest
from pages import PAGES, ROOT, Block, blocks
from readers_folder import link_data, make_films, make_photographs, make_pictures

SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
RUN = [page for page in PAGES if any(block.mark == "" and block.language != "toml" for block in blocks(page))]
LONG = [page for page in PAGES if any(block.mark == "long" for block in blocks(page))]


def programs(folder: Path) -> Path:
    """Write each command of this checkout as a program, for shells."""
    folder.mkdir()
    for name, target in SCRIPTS.items():
        module, _, function = target.partition(":")
        path = folder / name
        path.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "from {module} import {function}; {function}()" "$@"\n')
        path.chmod(0o755)
    return folder


def simple(code: str) -> list[list[str]] | None:
    """Return the words of each line if all are commands of ours without anything that only a shell understands."""
    lines = [re.sub(r"\s+#.*$", "", line) for line in code.splitlines() if line.strip() and not line.startswith("#")]
    plain = all(re.match(r"lkdn-[a-z]+ [^$|<>&*\\`]*$", line) for line in lines)
    return [shlex.split(line) for line in lines] if plain else None


def run_in_process(words: Sequence[str]) -> None:
    from lkdn_deploy.cli._shell import run

    command = importlib.import_module(f"lkdn_deploy.cli.{words[0].removeprefix('lkdn-')}").command
    assert run(command, words[1:]) == 0, words


def run_block(block: Block, bin_folder: Path) -> None:
    where = f"{block.page.relative_to(ROOT)}:{block.line}"
    if block.language == "python":
        exec(compile(block.code, where, "exec"), {"__name__": "__main__"})  # noqa: S102
    elif (lines := simple(block.code)) is not None:
        for words in lines:
            run_in_process(words)
    else:
        path = f"{bin_folder}{os.pathsep}{os.environ['PATH']}"
        script = ["bash", "-e", "-u", "-o", "pipefail", "-c", block.code]
        done = subprocess.run(script, env=os.environ | {"PATH": path}, capture_output=True, text=True, check=False)
        assert done.returncode == 0, (where, done.stderr)


def run_page(page: Path, folder: Path, marks: set[str]) -> None:
    bin_folder = programs(folder.parent / f"{folder.name}-bin")
    for block in blocks(page):
        if block.mark in marks and block.language in ("sh", "python"):
            run_block(block, bin_folder)


@pytest.mark.parametrize("page", RUN, ids=lambda page: page.stem)
def test_commands_run_as_printed(page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pictures(tmp_path)
    monkeypatch.chdir(tmp_path)
    run_page(page, tmp_path, {""})


@pytest.mark.long
@pytest.mark.parametrize("page", LONG, ids=lambda page: page.stem)
def test_long_commands_run_as_printed(page: Path, tmp_path: Path, data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_pictures(tmp_path)
    make_photographs(tmp_path)
    make_films(tmp_path)
    link_data(tmp_path, data)
    monkeypatch.chdir(tmp_path)
    run_page(page, tmp_path, {"", "long"})


def test_every_block_is_seen_and_marks_have_reasons() -> None:
    for page in PAGES:
        text = page.read_text(encoding="utf-8")
        found = blocks(page)
        assert len(found) == len(re.findall(r"^ *```(?:sh|bash|shell|console|python|js|toml)$", text, re.MULTILINE)), (
            page
        )
        assert len([block for block in found if block.mark]) == len(
            re.findall(r"^<!-- (?:not run|long)", text, re.MULTILINE)
        ), page
        for block in found:
            assert not block.mark or len(block.reason.split()) > 1, (page, block.line)
    assert len(RUN) > 5
    assert len(LONG) > 3

"""Commands and options that README and docs name exist, and the reference has all of them."""

import importlib
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from pages import PAGES, ROOT, TEXTS, blocks

SCRIPTS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
TARGETS = re.findall(r"^([a-z0-9-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
OTHERS = {"--format=csv", "--nproc-per-node", "--query-gpu"}
"""Options of other programs that the pages name."""


def command(name: str) -> click.Command:
    found = importlib.import_module(f"lkdn_deploy.cli.{name.removeprefix('lkdn-')}").command
    assert isinstance(found, click.Command)
    return found


def options(node: click.Command) -> set[str]:
    """Return the options of a command, without those of its parts."""
    parameters = node.get_params(click.Context(node))
    return {
        name for each in parameters if isinstance(each, click.Option) for name in (*each.opts, *each.secondary_opts)
    }


def parts(node: click.Command) -> dict[str, click.Command]:
    return dict(node.commands) if isinstance(node, click.Group) else {}


def everything() -> Iterator[str]:
    for name in (*SCRIPTS, "lkdn-web"):  # the last one is called python -m lkdn_deploy.web
        top = command(name)
        for each in (top, *parts(top).values()):
            yield from options(each)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_their_options_exist(page: Path) -> None:
    for block in blocks(page):
        for words in block.commands:
            assert words[0] in SCRIPTS, (block.line, words)
            node = command(words[0])
            known = options(node)
            inner = parts(node)
            if inner:
                # lkdn-train RECIPE is short for lkdn-train run RECIPE.
                first = words[1] if len(words) > 1 else ""
                known |= options(inner[first] if first in inner else inner.get("run", node))
            for word in words[1:]:
                assert not re.match(r"--?[a-z]", word) or word in known, (block.line, word)
        for words in re.findall(r"^make ([\w-]+)", block.code, re.MULTILINE):
            assert words in TARGETS


@pytest.mark.parametrize("page", [page for page in TEXTS if page.name != "CHANGELOG.md"], ids=lambda page: page.stem)
def test_options_named_in_the_text_exist(page: Path) -> None:
    known = {*everything(), *OTHERS}
    text = re.sub(r"^ *```.*?^ *```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    for code in re.findall(r"`([^`\n]+)`", text):
        if re.match(r"-|lkdn-", code):
            for option in re.findall(r"(?<!\S)--[a-z][a-z0-9-]*(?==csv)?", code):
                assert option in known, option


def test_the_reference_has_every_option(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT / "tools"))
    from command_reference import reference
    from docs_site import COMMANDS

    assert COMMANDS in (ROOT / "docs" / "commands.md").read_text(encoding="utf-8")
    text = reference()
    for name in SCRIPTS:
        section = text.partition(f"## {name}\n")[2].partition("\n## ")[0]
        assert section, name
        for each in (command(name), *parts(command(name)).values()):
            assert [option for option in options(each) if not re.search(rf"`{option}\b", section)] == [], name

"""The options of all commands as Markdown, for the page docs/commands.md; tools/docs_site.py puts them there."""

import re
import tomllib
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
FIRST = "lkdn-upscale"
OTHERS = {"python -m lkdn_deploy.web": "lkdn_deploy.cli.web"}
"""Commands that are no scripts, with their modules."""


def commands() -> dict[str, click.Command]:
    """Return the commands by the words that start them."""
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["scripts"]
    modules = {name: f"lkdn_deploy.cli.{name.removeprefix('lkdn-')}" for name in sorted(scripts, key=FIRST.__ne__)}
    return {name: import_module(module).command for name, module in (modules | OTHERS).items()}


def reference() -> str:
    """Return the whole page's sections."""
    return "\n\n".join(part for name, command in commands().items() for part in _sections(name, command, 2))


def _sections(name: str, command: click.Command, level: int) -> Iterator[str]:
    context = click.Context(command, info_name=name)
    usage = " ".join([name, *command.collect_usage_pieces(context)])
    yield f"{'#' * level} {name}\n\n{_prose(command.help or '')}\n\n```text\n{usage}\n```"
    groups: dict[str, list[tuple[str, str]]] = {}
    for option in command.get_params(context):
        if isinstance(option, click.Option) and (row := option.get_help_record(context)) is not None:
            groups.setdefault(getattr(option, "group", None) or "Other", []).append(row)
    many = len(groups) > 1
    for group, rows in groups.items():
        title = f"**{group}**\n\n" if many else ""
        yield title + "\n".join(["| option | meaning |", "| --- | --- |", *(_row(*row) for row in rows)])
    for inner, part in sorted(getattr(command, "commands", {}).items()):
        yield from _sections(f"{name} {inner}", part, level + 1)


def _row(names: str, text: str) -> str:
    parts = ", ".join(f"`{each}`" for each in re.split(r", (?=-)| / ", names))
    return f"| {parts} | {_escaped(text)} |".replace("\n", " ")


def _prose(text: str) -> str:
    r"""Return paragraphs; those after ``\b`` are printed as they are."""
    paragraphs = [re.sub(r"\s*\n\s*", " ", each.strip()) for each in text.split("\n\n")]
    shown = [f"```text\n{each[1:].strip()}\n```" if each.startswith("\b") else _escaped(each) for each in paragraphs]
    return "\n\n".join(shown)


def _escaped(text: str) -> str:
    """Return text in which nothing is markup, and options and placeholders look like code."""
    kept = re.split(r"(`[^`]*`)", text)
    for index in range(0, len(kept), 2):
        plain = re.sub(r"([\\*_|\[\]])", r"\\\1", kept[index]).replace("<", "&lt;")
        kept[index] = re.sub(r"(?<![\w-])(--[a-z][\w-]*|\{\w+\})", r"`\1`", plain)
    return "".join(each.replace("|", "&#124;") if index % 2 else each for index, each in enumerate(kept))

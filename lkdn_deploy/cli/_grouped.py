"""A command whose options are in groups, with examples."""

import re
from typing import Any

import click

_ADDRESS = re.compile(r"auto|local|ray://.+|[\w.-]+:\d{1,5}|\[[0-9a-fA-F:]+\]:\d{1,5}", re.ASCII)
"""The addresses of Ray clusters."""


class GroupedOption(click.Option):
    """An option that --help shows under the title of its group."""

    def __init__(self, *args: Any, group: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose --help shows options by their groups, in the order of declaration, and examples as they are.

    ``--version --verbose`` prints what a report of an error needs.
    """

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words, unless they ask for the facts of this installation."""
        if "--version" in args and not {"-v", "--verbose"}.isdisjoint(args):
            from lkdn_deploy.cli._facts import facts_for_reports

            click.echo("\n".join(f"{name}: {value}" for name, value in facts_for_reports().items()))
            ctx.exit()
        return super().parse_args(ctx, _with_address(args))

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group, and last one for options without a group."""
        options = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        groups = dict.fromkeys(option.group for option in options if isinstance(option, GroupedOption))
        for group in (*groups, None):
            members = [option for option in options if getattr(option, "group", None) == group]
            with formatter.section(group or "Other"):
                formatter.write_dl([row for option in members if (row := option.get_help_record(ctx)) is not None])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples without wrapping their lines."""
        with formatter.section("Examples"):
            for line in (self.epilog or "").splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _with_address(args: list[str]) -> list[str]:
    """Return words of which the one after --ray is joined to it if it looks like an address, and no input."""
    for index, word in enumerate(args):
        if word == "--":
            break
        if word == "--ray":
            following = args[index + 1] if index + 1 < len(args) else ""
            given = _ADDRESS.fullmatch(following) is not None
            return [*args[:index], f"--ray={following if given else ''}", *args[index + 1 + given :]]
    return args

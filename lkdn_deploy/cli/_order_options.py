"""The options of ``lkdn-upscale`` that a request to ``lkdn-serve`` may have: read from a query, described as OpenAPI.

They are the options of the command, with the same names, types, limits and messages.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import click

from lkdn_deploy.cli._upscale_options import declared_options
from lkdn_deploy.core.errors import UsageError

if TYPE_CHECKING:
    from lkdn_deploy.hub.choice import NetworkChoice
    from lkdn_deploy.service.orders import Order

IN_REQUESTS = ("model", "scale", "width", "height", "fit", "self_ensemble", "wrap", "format", "quality")
"""The options, by their parameters."""

_FLAGS = {"true": True, "1": True, "false": False, "0": False}
_LONGEST = 64
"""Characters of a value."""

_EXAMPLES: Mapping[str, Any] = {"scale": 2, "width": 1920, "height": 1080, "fit": "3840x2160", "quality": 90}
_SCHEMAS: Mapping[str, Mapping[str, Any]] = {
    "scale": {
        "anyOf": [
            {"type": "number", "exclusiveMinimum": 1, "maximum": 4},
            {"type": "string", "pattern": "^[1-9][0-9]{0,2}/[1-9][0-9]{0,2}$"},
        ]
    },
    "fit": {"type": "string", "pattern": "^[1-9][0-9]{0,4}x[1-9][0-9]{0,4}$"},
}
"""The schemas of options whose values are read by a function."""


def order_parser(choices: "Mapping[str, NetworkChoice]") -> "Callable[[Sequence[tuple[str, str]]], Order]":
    """Return a function that reads the options of a request.

    Args:
        choices: the networks that may be asked for, by their names; the first is the default.
    """
    options = {_name(option): option for option in declared_options(IN_REQUESTS)}

    def parse(query: Sequence[tuple[str, str]]) -> "Order":
        given: dict[str, Any] = dict.fromkeys(IN_REQUESTS)
        seen: set[str] = set()
        for name, text in query:
            if name not in options:
                msg = f"there is no option {name[:_LONGEST]!r}"
                raise UsageError(msg, f"there are {', '.join(options)}")
            if name in seen:
                msg = f"the option {name!r} was given twice"
                raise UsageError(msg, "give it once")
            seen.add(name)
            given[options[name].name or ""] = _value(options[name], name, text, choices)
        return _order(given, choices)

    return parse


def _value(option: click.Option, name: str, text: str, choices: "Mapping[str, NetworkChoice]") -> Any:
    if name == "model":
        if text.lower() not in choices:
            msg = f"model: this service has {', '.join(choices)}, got {text[:_LONGEST]!r}"
            raise UsageError(msg, "choose one of them, or leave it out")
        return text.lower()
    try:
        if len(text) > _LONGEST or not text.isprintable():
            msg = f"expected at most {_LONGEST} characters"
            raise click.BadParameter(msg)
        if option.is_flag:
            if text.lower() not in _FLAGS:
                msg = f"expected true or false, got {text!r}"
                raise click.BadParameter(msg)
            return _FLAGS[text.lower()]
        context = click.Context(click.Command("upscale"))
        return option.process_value(context, text)
    except click.BadParameter as error:
        msg = f"{name}: {error.message}"
        raise UsageError(msg) from error


def _order(given: Mapping[str, Any], choices: "Mapping[str, NetworkChoice]") -> "Order":
    from lkdn_deploy.cli._upscale_options import output_size
    from lkdn_deploy.runtime.settings import OutputSettings
    from lkdn_deploy.service.orders import Order

    size = output_size(*(given[name] for name in ("scale", "width", "height", "fit")))
    choice = choices[given["model"] or next(iter(choices))]
    choice = replace(choice, size=size, self_ensemble=bool(given["self_ensemble"]), wrap=bool(given["wrap"]))
    return Order(choice, OutputSettings(format=given["format"], quality=given["quality"]))


def parameters(choices: "Mapping[str, NetworkChoice]") -> list[dict[str, Any]]:
    """Return the options as OpenAPI describes parameters.

    Args:
        choices: as in ``order_parser``.
    """
    return [_described(option, choices) for option in declared_options(IN_REQUESTS)]


def _described(option: click.Option, choices: "Mapping[str, NetworkChoice]") -> dict[str, Any]:
    name, help_text = _name(option), option.help or ""
    schema: Mapping[str, Any]
    if name == "model":
        schema = {"type": "string", "enum": list(choices), "default": next(iter(choices))}
        help_text = "Network, of those that this service has."
    elif name in _SCHEMAS:
        schema = _SCHEMAS[name]
    elif option.is_flag:
        schema = {"type": "boolean", "default": False}
    elif isinstance(option.type, click.IntRange):
        limits = {"minimum": option.type.min, "maximum": option.type.max}
        schema = {"type": "integer", **{key: value for key, value in limits.items() if value is not None}}
    elif isinstance(option.type, click.Choice):
        schema = {"type": "string", "enum": list(option.type.choices)}
    else:
        schema = {"type": "string"}
    found = {"name": name, "in": "query", "required": False, "description": help_text, "schema": dict(schema)}
    return found | ({"example": _EXAMPLES[name]} if name in _EXAMPLES else {})


def _name(option: click.Option) -> str:
    """Return the long name of an option without its dashes."""
    return next(word for word in option.opts if word.startswith("--"))[2:]

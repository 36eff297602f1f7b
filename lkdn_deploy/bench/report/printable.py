"""Words that are safe to print: a report has names of files in it, which may hold anything."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any, TypeVar, cast

T = TypeVar("T")


def plain(text: str) -> str:
    """One line without control characters: no terminal obeys it, no direction of writing changes in it."""
    shown = "".join(char if char.isprintable() or char.isspace() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return " ".join(shown.split())


def printable(value: T) -> T:
    """A dataclass, mapping or sequence as it is, with every word in it ``plain``."""
    return cast("T", _printable(value))


def _printable(value: Any) -> Any:
    if isinstance(value, str) and not isinstance(value, Enum):
        return plain(value)
    if isinstance(value, Mapping):
        return {_printable(key): _printable(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_printable(each) for each in value)
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: _printable(getattr(value, each.name)) for each in fields(value)})
    return value

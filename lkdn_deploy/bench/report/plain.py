"""Reports in which every text is safe to print: they hold names of files, which may contain anything."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from enum import Enum
from typing import Any


def plain(text: str) -> str:
    """Return the text as one line without control characters, so that it cannot steer a terminal or text direction."""
    shown = "".join(char if char.isprintable() or char.isspace() else "\N{REPLACEMENT CHARACTER}" for char in text)
    return " ".join(shown.split())


def with_plain_texts(value: Any) -> Any:
    """Return a copy of a dataclass, mapping or sequence in which every text is ``plain``."""
    if isinstance(value, str) and not isinstance(value, Enum):
        return plain(value)
    if isinstance(value, Mapping):
        return {with_plain_texts(key): with_plain_texts(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(map(with_plain_texts, value))
    if is_dataclass(value) and not isinstance(value, type):
        return replace(value, **{each.name: with_plain_texts(getattr(value, each.name)) for each in fields(value)})
    return value

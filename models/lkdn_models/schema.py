"""Dataclasses from TOML tables: unknown keys, missing ones and wrong types are refused by name. Needs no torch."""

from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import StrEnum
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from lkdn_deploy.core.errors import UsageError

T = TypeVar("T")


def build(kind: type[T], table: Any, where: str = "") -> T:
    """Return an instance of a dataclass from a TOML table.

    Args:
        kind: the dataclass. Its fields may be numbers, texts, enumerations, tuples and mappings of these, other
            dataclasses, or one of them or None.
        table: keys and values; a value may also be an instance of the field's type.
        where: prefix of the keys in messages, such as ``network.``.

    Raises:
        UsageError: if a key is unknown, missing or of the wrong type.
    """
    if isinstance(table, kind):
        return table
    if not isinstance(table, Mapping):
        msg = f"{where.rstrip('.')} must be a table"
        raise UsageError(msg)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    if unknown := [name for name in table if name not in known]:
        msg = f"unknown key {where}{unknown[0]}"
        raise UsageError(msg, f"known keys: {', '.join(known)}")
    # A table that is left out is an empty one, so that the message names the keys that it must have.
    left_out = [f.name for f in known.values() if f.name not in table and f.default is MISSING and is_dataclass(f.type)]
    values = {
        name: _value(value, known[name].type, f"{where}{name}")
        for name, value in {**table, **{key: {} for key in left_out}}.items()
    }
    try:
        return kind(**values)
    except TypeError as error:
        msg = f"incomplete: {str(error).partition('() ')[2]}"
        raise UsageError(msg) from error


def _value(value: Any, wanted: Any, where: str) -> Any:
    """Return a TOML value as the type ``wanted``."""
    if get_origin(wanted) is UnionType:
        wanted = next(kind for kind in get_args(wanted) if kind is not type(None))
    if is_dataclass(wanted):
        return build(wanted, value, f"{where}.")  # type: ignore[arg-type]
    if get_origin(wanted) is tuple:
        kinds = get_args(wanted)
        if not isinstance(value, list) or (kinds[-1] is not ... and len(value) != len(kinds)):
            msg = f"{where} must be a list{'' if kinds[-1] is ... else f' of {len(kinds)}'}, got {value!r}"
            raise UsageError(msg)
        return tuple(_value(item, kinds[0], where) for item in value)
    if get_origin(wanted) is Mapping:
        if not isinstance(value, Mapping):
            msg = f"{where} must be a table, got {value!r}"
            raise UsageError(msg)
        return {key: _value(item, get_args(wanted)[1], f"{where}.{key}") for key, item in value.items()}
    if issubclass(wanted, StrEnum):
        if value not in list(wanted):
            msg = f"{where} must be one of {', '.join(wanted)}, got {value!r}"
            raise UsageError(msg)
        return wanted(value)
    if wanted is float and type(value) is int:
        try:
            return float(value)
        except OverflowError as error:
            msg = f"{where} is too large"
            raise UsageError(msg) from error
    if type(value) is not wanted:
        msg = f"{where} must be of type {wanted.__name__}, got {value!r}"
        raise UsageError(msg)
    return value

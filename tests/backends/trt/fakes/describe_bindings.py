"""Describes the classes of a module of bindings, for comparison with the stand-ins. Run as a program, it prints JSON.

python describe_bindings.py MODULE
"""

import enum
import importlib
import inspect
import json
import re
import sys
from typing import Any

Signature = list[tuple[str, bool]]
"""Names of parameters without ``self``, and whether each may be left out."""


def described(module: Any) -> dict[str, dict[str, Any]]:
    """Return for each public class its members: of a function the signatures that pybind11 documents, else a word."""
    found: dict[str, dict[str, Any]] = {}
    for name, kind in vars(module).items():
        if isinstance(kind, type) and not name.startswith("_"):
            members = {member: _member(getattr(kind, member)) for member in dir(kind) if not member.startswith("_")}
            found[name] = members | dict.fromkeys(getattr(kind, "__members__", {}), "constant")
    return found


def _member(member: Any) -> Any:
    if isinstance(member, property):
        return "settable" if member.fset else "property"
    if not callable(member) or isinstance(member, type):
        return "constant"
    return [_parameters(line) for line in re.findall(r"^(?:\d+\. )?\w+\(self.*\) -> .+$", member.__doc__ or "", re.M)]


def _parameters(signature: str) -> Signature:
    """Parse ``f(self: T, name: Sequence[int], other: int = 0) -> bool``."""
    text = re.sub(r"\[[^\[\]]*\]", "", re.sub(r"\[[^\[\]]*\]", "", signature))  # commas of types
    inside = text[text.index("(") + 1 : text.rindex(") ->")]
    parts = [part.strip() for part in inside.split(",")][1:]
    return [(re.split(r"[:=]", part)[0].strip(), "=" in part) for part in parts if part]


def used(stand_in: Any) -> dict[str, dict[str, Any]]:
    """Return what a stand-in has of each class: parameters of functions, or a word."""
    found: dict[str, dict[str, Any]] = {}
    for name, kind in vars(stand_in).items():
        if not isinstance(kind, type) or name.startswith("_"):
            continue
        if issubclass(kind, enum.Enum):
            found[name] = dict.fromkeys(kind.__members__, "constant")
            continue
        found[name] = {
            member: list(inspect.signature(value).parameters)[1:] if inspect.isfunction(value) else "property"
            for member, value in vars(kind).items()
            if not member.startswith("_")
        }
    return found


def missing(stand_in: Any, real: dict[str, dict[str, Any]]) -> list[str]:
    """Return what our code uses, going by a stand-in, and real bindings lack or want otherwise."""
    complaints = []
    for name, members in used(stand_in).items():
        for member, ours in members.items():
            theirs = real.get(name, {}).get(member)
            fits = theirs is not None
            if isinstance(ours, list) and isinstance(theirs, list) and theirs:
                fits = any(_takes(signature, ours) for signature in theirs)
            if not fits:
                complaints.append(f"{name}.{member}: {ours}, but {theirs}")
        if name not in real:
            complaints.append(f"{name} is missing")
    return complaints


def _takes(signature: Signature, ours: list[str]) -> bool:
    names, rest = [name for name, _ in signature[: len(ours)]], signature[len(ours) :]
    return names == ours and all(optional for _, optional in rest)


if __name__ == "__main__":
    json.dump(described(importlib.import_module(sys.argv[1])), sys.stdout)

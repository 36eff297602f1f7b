"""Write docs/licences.md: what the package and its extras install, with the licence that each distribution states.

    python tools/dependency_licences.py

Only what is installed here can be read; a distribution that an extra names and that is not is listed as such. Markers
that do not hold here are left out.
"""

import re
import tomllib
from collections.abc import Iterator
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]
PAGE = ROOT / "docs" / "licences.md"
PROJECT = "lkdn-deploy"
TABLE = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
LEFT_OUT = {"dev"}
"""Extras of no user."""

HEAD = """# Dependencies and their licences

Distributions that the package and its extras install, each with the licence that its metadata state, made by
`tools/dependency_licences.py` on Linux, x86-64, Python 3.11. Versions are those that were tested. An extra is named
where a distribution comes with it only; "always" is the package without extras. Wheels may hold further libraries
under licences of their own: PyAV's holds FFmpeg with x264 and x265 (GPL), pi-heif's libheif and libde265 (LGPL),
PyTorch's and onnxruntime-gpu's those of NVIDIA's CUDA. This package itself is under the MIT licence.

| distribution | version | licence | needed by |
| --- | --- | --- | --- |
"""


def normal(name: str) -> str:
    """Return a distribution's name as indices compare it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def licence(found: Distribution) -> str:
    """Return the licence of a distribution in a few words."""
    metadata = found.metadata
    if stated := metadata.get("License-Expression"):
        return str(stated)
    named = [text.rpartition(" :: ")[2] for text in metadata.get_all("Classifier", []) if text.startswith("License ::")]
    named = [text for text in named if text != "OSI Approved"]
    stated = (metadata.get("License") or "").strip().splitlines()
    return "; ".join(named) or (stated[0] if stated and len(stated[0]) < 60 else "see its files")


def needed(found: Distribution | None, extras: set[str]) -> Iterator[Requirement]:
    """Return what a distribution with extras requires on this machine; ``None`` is this project."""
    if found is None:
        inner = (text for extra in extras for text in TABLE["optional-dependencies"][extra])
        yield from map(Requirement, (*TABLE["dependencies"], *inner))
        return
    for text in found.requires or ():
        requirement = Requirement(text)
        marker = requirement.marker
        if marker is None or any(marker.evaluate({"extra": extra}) for extra in extras or {""}):
            yield requirement


def closure(extra: str) -> tuple[dict[str, Distribution], set[str]]:
    """Return the distributions that the package with an extra installs, and the names of those that are not there."""
    found: dict[str, Distribution] = {}
    missing: set[str] = set()
    todo = [(PROJECT, {extra} if extra else set[str]())]
    seen: set[tuple[str, frozenset[str]]] = set()
    while todo:
        name, extras = todo.pop()
        if (name, frozenset(extras)) in seen:
            continue
        seen.add((name, frozenset(extras)))
        try:
            there = None if name == PROJECT else distribution(name)
        except PackageNotFoundError:
            missing.add(name)
            continue
        if there is not None:
            found[name] = there
        todo += [(normal(each.name), set(each.extras)) for each in needed(there, extras)]
    return found, missing


def page() -> str:
    """Return the page."""
    extras = sorted(TABLE["optional-dependencies"].keys() - LEFT_OUT)
    base, _ = closure("")
    users: dict[str, list[str]] = {name: ["always"] for name in base}
    known, absent = dict(base), dict[str, list[str]]()
    for extra in extras:
        found, missing = closure(extra)
        known |= found
        for name in found.keys() - base.keys():
            users.setdefault(name, []).append(extra)
        for name in missing:
            absent.setdefault(name, []).append(extra)
    rows = [
        f"| {name} | {known[name].version} | {licence(known[name])} | {', '.join(users[name])} |"
        for name in sorted(known)
    ]
    rows += [f"| {name} | | not installed where this was made | {', '.join(absent[name])} |" for name in sorted(absent)]
    return HEAD + "\n".join(rows) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    print(PAGE)

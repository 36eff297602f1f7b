"""Names by content: a file is called by a part of its hash, so that its name changes with it, and what refers to it
follows.

A browser may then keep each file for ever, and a page never runs with files of another version. A reference to a file
is its name as a quoted relative path, ``"./page.mjs"``, whatever the language.
"""

import hashlib
import re
from collections.abc import Mapping
from pathlib import PurePosixPath

KEPT = {"index.html", "service-worker.js", "manifest.webmanifest", "package.json", "LICENSE.txt"}
"""Files that others must find, whose names stay."""

_TEXTS = {".mjs", ".js", ".css", ".html", ".json", ".webmanifest", ".svg"}
_DIGITS = 8
_REFERENCE = re.compile(rb'"\./([\w.-]+)"')
HASHED = re.compile(rf"[\w.-]+\.[0-9a-f]{{{_DIGITS}}}\.\w+")
"""The form of a name by content."""


def keeps_name(name: str) -> bool:
    """Return whether a file has its own name, and not one by content."""
    return name in KEPT or name.endswith((".d.mts", ".d.ts"))


def named_by_content(files: Mapping[str, bytes]) -> dict[str, tuple[str, bytes]]:
    """Return the new name and content of each file, by its old name.

    Raises:
        ValueError: if files refer to each other in a circle.
    """
    found: dict[str, tuple[str, bytes]] = {}
    open_names: list[str] = []

    def new_name(name: str) -> str:
        if name in open_names:
            msg = f"files that refer to each other in a circle: {', '.join([*open_names, name])}"
            raise ValueError(msg)
        if name not in found:
            open_names.append(name)
            content = files[name]
            if PurePosixPath(name).suffix in _TEXTS:
                content = _REFERENCE.sub(referred, content)
            digest = hashlib.sha256(content).hexdigest()[:_DIGITS]
            path = PurePosixPath(name)
            found[name] = (name if keeps_name(name) else f"{path.stem}.{digest}{path.suffix}"), content
            open_names.pop()
        return found[name][0]

    def referred(match: re.Match[bytes]) -> bytes:
        name = match[1].decode()
        # Files that keep their names may refer to each other as they like.
        return f'"./{new_name(name)}"'.encode() if name in files and not keeps_name(name) else match[0]

    for name in files:
        new_name(name)
    return found


def reachable(names: Mapping[str, bytes], start: str) -> set[str]:
    """Return the files that one refers to, directly or through others, itself included."""
    found, following = {start}, [start]
    while following:
        for match in _REFERENCE.finditer(names[following.pop()]):
            name = match[1].decode()
            if name in names and name not in found:
                found.add(name)
                following.append(name)
    return found

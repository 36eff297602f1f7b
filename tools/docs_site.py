"""Hooks of MkDocs: the README is the first page, and files outside of docs/ that pages link to are part of the site.

The site has the tree of the repository, but for ``docs/``, whose pages are at its top. So a page of ``docs/`` loses the
``../`` of its links, and the others lose ``docs/``.
"""

import re
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from mkdocs.structure.files import File, Files

sys.path.insert(0, str(Path(__file__).parent))
from command_reference import reference

ROOT = Path(__file__).parents[1]
COMMANDS = "<!-- the options of all commands, when the site is built -->"
LINK = re.compile(r"(?<=\]\()(?![a-z]+:|#|/)([^)\s#]+)")
"""The target of a link or picture that is a path."""


def on_files(files: Files, config: Any) -> Files:
    """Add the README, and what is linked to from any page, and from those pages in turn."""
    files.append(File.generated(config, "index.md", abs_src_path=str(ROOT / "README.md")))
    todo = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
    for page in todo:
        for target in LINK.findall(page.read_text(encoding="utf-8")):
            path = (page.parent / target).resolve()
            inside = path.relative_to(ROOT) if path.is_relative_to(ROOT) else None
            if inside is None or not path.is_file() or inside.parts[0] == "docs" or path in todo:
                continue  # what is missing, MkDocs says
            if files.get_file_from_path(inside.as_posix()) is None:
                files.append(File.generated(config, inside.as_posix(), abs_src_path=str(path)))
                if path.suffix == ".md":
                    todo.append(path)
    return files


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """Let links follow the tree of the site."""
    source = Path(page.file.abs_src_path).resolve().relative_to(ROOT)
    here = PurePosixPath(page.file.src_uri).parent

    def moved(match: re.Match[str]) -> str:
        path = (ROOT / source.parent / match[1]).resolve()
        if not path.is_relative_to(ROOT):
            return match[0]
        inside = path.relative_to(ROOT)
        if path == ROOT / "README.md":
            inside = Path("index.md")
        elif inside.parts[0] == "docs":
            inside = inside.relative_to("docs")
        return "../" * len(here.parts) + inside.as_posix()

    if page.file.src_uri == "commands.md":
        markdown = markdown.replace(COMMANDS, reference())
    return LINK.sub(moved, markdown)

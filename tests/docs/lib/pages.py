"""The pages of the documentation, and the blocks of code in them."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[3]
PAGES = (ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md")))
TEXTS = (*PAGES, *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md", "CHANGELOG.md", "benchmarks/README.md")))
"""All pages that belong to the site; a model card or the README of recipes is a page of its room."""

BLOCK = re.compile(
    r"^(?:<!-- (not run|long): ([^\n]+) -->\n)?^```(sh|python|js|toml)\n(.*?)^```$", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Block:
    """A block of code.

    Attributes:
        page: the file in which it stands.
        line: number of its first line.
        language: sh, python, js or toml.
        code: its lines.
        mark: ``not run``, ``long`` or empty.
        reason: why it is marked.
    """

    page: Path
    line: int
    language: str
    code: str
    mark: str
    reason: str

    @property
    def commands(self) -> list[list[str]]:
        """The words of each command of ours, without those of other programs; lines may be continued or piped."""
        found = []
        for line in re.sub(r"\\\n|(?<=\|)\n", " ", self.code).splitlines():
            for part in re.split(r"[|;]", re.sub(r"\s#.*|^#.*", "", line)):
                words = (
                    shlex.split(part.replace("$(", "").replace(")", "")) if part.count("'") % 2 == 0 else part.split()
                )
                if words and words[0].startswith("lkdn-"):
                    found.append(words)
        return found


def blocks(page: Path) -> list[Block]:
    """Return the blocks of a page that can be run, in their order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in BLOCK.finditer(text):
        mark, reason, language, code = match.groups()
        line = text.count("\n", 0, match.start(4)) + 1
        found.append(Block(page, line, language, code, mark or "", reason or ""))
    return found

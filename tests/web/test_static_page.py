"""The page's files, without a browser: nothing inline, nothing from elsewhere, every name that is used exists."""

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from lkdn_deploy.web.folder import STATIC
from lkdn_deploy.web.server import POLICY

MODULES = sorted(STATIC.glob("*.mjs"))
LARGEST = 200_000  # bytes of everything but the networks


class Tags(HTMLParser):
    """Collects the elements of a page with their attributes, and the texts of scripts and styles."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str]]] = []
        self.inline: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] in ("script", "style") and data.strip():
            self.inline.append(data)


@pytest.fixture(scope="module")
def page() -> Tags:
    tags = Tags()
    tags.feed((STATIC / "index.html").read_text(encoding="utf-8"))
    return tags


def test_scripts_and_styles_are_files_of_their_own(page: Tags) -> None:
    assert page.inline == []
    names = {name for _, attributes in page.found for name in attributes}
    assert not [name for name in names if name == "style" or name.startswith("on")]
    assert "style" not in {tag for tag, _ in page.found}


def test_the_policy_of_the_page_is_that_of_the_server(page: Tags) -> None:
    (policy,) = [it["content"] for tag, it in page.found if it.get("http-equiv") == "Content-Security-Policy"]
    # Browsers take this one from headers only.
    assert policy == POLICY.replace("; frame-ancestors 'none'", "")
    assert "unsafe-inline" not in policy


@pytest.mark.parametrize(
    "path", [path for path in sorted(STATIC.iterdir()) if path.suffix != ".png"], ids=lambda path: path.name
)
def test_nothing_comes_from_elsewhere(path: Path) -> None:
    assert not re.search(r"https?://|[\"'(]//\w", path.read_text(encoding="utf-8").replace("http://www.w3.org/", ""))


def test_every_file_that_is_named_exists(page: Tags) -> None:
    linked = {
        it[name] for _, it in page.found for name in ("src", "href") if name in it and not it[name].startswith("#")
    }
    icons = {it["src"] for it in json.loads((STATIC / "manifest.webmanifest").read_text())["icons"]}
    imported = {name for path in MODULES for name in re.findall(r'"(\./[\w.-]+)"', path.read_text(encoding="utf-8"))}
    missing = {name for name in linked | icons | imported if not (STATIC / name).exists()}
    assert missing <= {"./models.json"}  # written by the export
    assert not [name for name in linked | icons if not name.startswith("./")]


def test_every_element_that_modules_ask_for_exists_once(page: Tags) -> None:
    identities = [it["id"] for _, it in page.found if "id" in it]
    assert len(identities) == len(set(identities))
    texts = [path.read_text(encoding="utf-8") for path in MODULES]
    asked = {name for text in texts for name in re.findall(r'(?:byId\("|querySelector\("#)([\w-]+)"', text)}
    assert len(asked) > 20
    assert asked <= set(identities)
    pointed = {
        name
        for _, it in page.found
        for key in ("for", "aria-labelledby", "aria-describedby")
        for name in it.get(key, "").split()
    }
    assert pointed <= set(identities)


def test_every_class_of_the_style_is_used(page: Tags) -> None:
    style = re.sub(r"\{[^{}]*\}", "{}", (STATIC / "style.css").read_text(encoding="utf-8"))
    used = {name for _, it in page.found for name in it.get("class", "").split()}
    modules = "".join(path.read_text(encoding="utf-8") for path in MODULES)
    used |= set(re.findall(r'classList\.toggle\("([\w-]+)"', modules))
    assert set(re.findall(r"\.([a-z][\w-]*)", style)) <= used


def test_the_page_is_small() -> None:
    assert sum(path.stat().st_size for path in STATIC.iterdir()) < LARGEST

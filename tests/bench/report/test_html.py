"""The page: that it is whole, asks for nothing, and takes a report's words for words."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from typing import Any

import pytest

from lkdn_deploy.bench.report.html import html
from lkdn_deploy.bench.results import LeftOut, Report

VOID = {"meta", "br", "hr", "img", "input", "link"}
LOADING = {"script", "link", "img", "iframe", "object", "embed", "base", "form", "audio", "video", "source", "image"}
NAMESPACES = {"http://www.w3.org/1999/xlink", "http://www.w3.org/2000/svg"}


class Page(HTMLParser):
    """The content of a page; fails if its tags are not closed in order."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.text: list[str] = []
        self.open: list[str] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def asked_for(page: Page, source: str) -> list[str]:
    """Everything that a browser might fetch."""
    found = [tag for tag in page.tags if tag in LOADING]
    found += [name for name, _ in page.attributes if name.startswith("on") or name in {"src", "srcset"}]
    found += [value for name, value in page.attributes if name.endswith("href") and not value.startswith("#")]
    found += [value for name, value in page.attributes if "http" in value and value not in NAMESPACES]
    found += [value for value in re.findall(r"url\(([^)]*)\)", source) if not value.startswith("#")]
    return found + re.findall(r"@import", source)


def test_the_page_is_whole_and_asks_for_nothing(full: Report) -> None:
    source = html(full)
    page = Page(source)
    assert not page.open
    assert asked_for(page, source) == []
    assert page.tags.count("svg") == 3
    policy = "default-src 'none'; style-src 'unsafe-inline'; img-src data:"
    for wanted in (("lang", "en"), ("content", policy), ("name", "viewport")):
        assert wanted in page.attributes
    assert "prefers-color-scheme: dark" in source


@pytest.mark.parametrize(
    "given", ["<img src=x>", '<a href="http://a.b"></a>', "<style>@import 'a'</style>", "<p onclick=a></p>"]
)
def test_the_check_finds_what_would_be_fetched(full: Report, given: str) -> None:
    source = html(full).replace("<main>", f"<main>{given}")
    assert asked_for(Page(source), source)


def test_it_shows_all_that_the_text_does_and_the_machine(full: Report) -> None:
    report = replace(full, interrupted=True, left_out=(LeftOut("TensorRT", "no GPU"),))
    found = Page(html(report)).text
    for words in ("lkdn-s x4", "199.0", "0.64", "[0.62, 0.67]", "29.40", "33", "129.2", "6.41", "32.050", "0.8936"):
        assert words in found
    for words in ("Left out: TensorRT: no GPU", "versions numpy", "2.4.6", "measured 2026-01-02T03:04:05Z"):
        assert words in found
    assert any(each.startswith("Interrupted") for each in found)


def test_sections_of_nothing_are_not_there(make: Any) -> None:
    source = html(make.report(machine={}))
    page = Page(source)
    assert not page.open
    assert page.tags.count("section") == 1
    assert "svg" not in page.tags


@pytest.mark.parametrize(
    "word",
    [
        "<script>alert(1)</script>",
        '"><img src=http://a.b/c onerror=d>',
        "'><svg onload=a>",
        "</style><style>@import url(http://a.b)</style>",
        "]]><!-- a --> $title $$ ${body}",
        "&lt;b&gt; &amp;",
    ],
)
def test_hostile_names_are_only_names(make: Any, full: Report, word: str) -> None:
    source = html(make.hostile(word))
    page = Page(source)
    assert not page.open
    assert asked_for(page, re.sub(r">[^<]*<", "><", source)) == []
    assert set(page.tags) <= set(Page(html(full)).tags) | {"ul", "li"}
    assert page.text.count(word) > 5

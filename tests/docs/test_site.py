"""The built site asks no other host for anything."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from pages import ROOT

REMOTE = re.compile(
    r"""<(?:script|img|iframe|source)\b[^>]*\bsrc=["']?(?:https?:)?//|<link\b[^>]*href=["']?(?:https?:)?//"""
)


@pytest.mark.long
def test_the_site_builds_without_a_warning_and_is_self_contained(tmp_path: Path) -> None:
    """`make check` builds it, too."""
    words = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path / "site")]
    done = subprocess.run(words, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    pages = [*(tmp_path / "site").rglob("*.html")]
    assert len(pages) > 20
    for page in pages:
        assert REMOTE.search(page.read_text(encoding="utf-8")) is None, page
    for sheet in (tmp_path / "site").rglob("*.css"):
        assert not re.search(r"""(?:url\(|@import)\s*["']?(?:https?:)?//""", sheet.read_text(encoding="utf-8")), sheet
    text = (tmp_path / "site" / "commands.html").read_text(encoding="utf-8")
    assert "--self-ensemble" in text
    assert "unpkg" not in text

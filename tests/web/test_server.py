"""``python -m lkdn_deploy.web``: a folder on the loopback interface, with the headers that isolate its page."""

import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Thread

import pytest

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.web.server import open_server


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("lkdn.mjs", "index.html", "page.01234567.mjs", "a.89abcdef.wasm", "b.01234567.bin"):
        (tmp_path / name).write_text(name)
    (tmp_path / "sub").mkdir()
    return tmp_path


@contextmanager
def serving(folder: Path, *, isolated: bool = True) -> Iterator[str]:
    with open_server(folder, 0, isolated=isolated) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
        thread.join()


def fetch(address: str) -> tuple[int, bytes, dict[str, str]]:
    try:
        with urllib.request.urlopen(address, timeout=20) as answer:  # noqa: S310 - the address is ours
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers)


def test_files_have_their_types_and_the_page_is_isolated(folder: Path) -> None:
    with serving(folder) as address:
        for name, kind, cache in (
            ("", "text/html; charset=utf-8", "no-cache"),
            ("page.01234567.mjs", "text/javascript; charset=utf-8", "public, max-age=31536000, immutable"),
            ("a.89abcdef.wasm?x=1", "application/wasm", "public, max-age=31536000, immutable"),
            ("b.01234567.bin", "application/octet-stream", "public, max-age=31536000, immutable"),
            ("lkdn.mjs", "text/javascript; charset=utf-8", "no-cache"),
        ):
            status, content, headers = fetch(address + name)
            assert (status, content.decode()) == (200, name.partition("?")[0] or "index.html")
            assert (headers["Content-type"], headers["Cache-Control"]) == (kind, cache)
            assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert headers["Cross-Origin-Embedder-Policy"] == "require-corp"
            assert "'wasm-unsafe-eval'" in headers["Content-Security-Policy"]
            assert "unsafe-inline" not in headers["Content-Security-Policy"]
        for outside in ("sub/", "nothing.01234567.mjs", "../secret", "%2e%2e/%2e%2e/etc/passwd"):
            status, content, headers = fetch(address + outside)
            assert status == 404
            assert headers["Cache-Control"] == "no-cache"
            assert b"passwd" not in content


def test_isolation_can_be_left_out(folder: Path) -> None:
    with serving(folder, isolated=False) as address:
        headers = fetch(address)[2]
        assert "Cross-Origin-Opener-Policy" not in headers
        assert "Content-Security-Policy" in headers


def test_a_folder_of_another_kind_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is not a folder that lkdn-export --web wrote"):
        open_server(tmp_path, 0)


def test_the_command_prints_its_address_and_ends_when_told(folder: Path) -> None:
    words = [sys.executable, "-m", "lkdn_deploy.web", str(folder), "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert fetch(process.stdout.readline().strip())[0] == 200
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=20)
    assert (process.returncode, errors) == (143, "interrupted\n")

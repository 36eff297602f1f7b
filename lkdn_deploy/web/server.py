"""A server of one folder for the programs of this machine, with the headers that a page needs for several threads."""

from functools import partial
from http import HTTPStatus
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.web.naming import HASHED

LOOPBACK = "127.0.0.1"

POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self' 'wasm-unsafe-eval'",
        "worker-src 'self'",
        "style-src 'self'",
        "img-src 'self' blob: data:",
        "connect-src 'self'",
        "manifest-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""The content security policy: nothing of other sites, and no scripts or styles inside the page."""

_ISOLATION = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
}
"""Headers that isolate a page from other sites; browsers let threads share memory only then."""

_FOR_EVER = "public, max-age=31536000, immutable"


class _Handler(SimpleHTTPRequestHandler):
    server_version, sys_version = "lkdn-deploy", ""
    extensions_map = {  # noqa: RUF012 - the base class has it so; the system's own table is often wrong
        "": "application/octet-stream",
        ".css": "text/css; charset=utf-8",
        ".html": "text/html; charset=utf-8",
        ".js": "text/javascript; charset=utf-8",
        ".json": "application/json",
        ".mjs": "text/javascript; charset=utf-8",
        ".mts": "text/plain; charset=utf-8",
        ".png": "image/png",
        ".svg": "image/svg+xml",
        ".txt": "text/plain; charset=utf-8",
        ".wasm": "application/wasm",
        ".webmanifest": "application/manifest+json",
    }

    def __init__(self, *args: Any, headers: dict[str, str], **others: Any) -> None:
        self._headers = headers
        super().__init__(*args, **others)

    def send_response(self, code: int, message: str | None = None) -> None:
        self._found = code < HTTPStatus.BAD_REQUEST
        super().send_response(code, message)

    def end_headers(self) -> None:
        name = self.path.partition("?")[0].rpartition("/")[2]
        self.send_header("Cache-Control", _FOR_EVER if self._found and HASHED.fullmatch(name) else "no-cache")
        for header, value in self._headers.items():
            self.send_header(header, value)
        super().end_headers()

    def list_directory(self, path: Any) -> None:
        self.send_error(HTTPStatus.NOT_FOUND)

    def log_message(self, *_: Any) -> None:
        pass


def open_server(folder: Path, port: int, *, isolated: bool = True) -> ThreadingHTTPServer:
    """Return a server of a folder on the loopback interface, which answers once its ``serve_forever`` runs.

    Args:
        folder: the folder that ``write_folder`` made.
        port: the port to listen on; 0: any free one.
        isolated: whether to send the headers that isolate the page.

    Raises:
        UsageError: if this is no such folder.
        InputError: if the port cannot be used.
    """
    if not (folder / "lkdn.mjs").is_file():
        msg = f"{folder} is not a folder that lkdn-export --web wrote"
        raise UsageError(msg, f"write it: lkdn-export --web {folder}")
    headers = {"Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"} | (
        _ISOLATION if isolated else {}
    )
    handler = partial(_Handler, directory=str(folder), headers=headers)
    try:
        return ThreadingHTTPServer((LOOPBACK, port), handler)
    except (OSError, OverflowError) as error:
        msg = f"port {port} cannot be used: {error}"
        raise InputError(msg, "choose another one with --port, or 0 for any") from error

"""The gate in front of the application: who may ask, and what becomes of requests while the service ends."""

import asyncio
import hashlib
import hmac
import logging
import time
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from lkdn_deploy.core.files import printable
from lkdn_deploy.service.problems import Problem

log = logging.getLogger(__name__)

OPEN = frozenset({"/healthz", "/openapi.json"})
"""Paths that need no token."""

LOOPBACK_NAMES = frozenset({"localhost", "127.0.0.1", "[::1]"})
"""Names by which programs of this machine ask for it. Another one in a request that comes over the loopback interface
is that of a page of a web site, whose name leads here (DNS rebinding)."""

_DROP_SECONDS = 5.0
"""Most seconds in which the rest of a body is read and dropped."""


@dataclass(frozen=True, slots=True)
class Access:
    """The conditions that a request must meet.

    Attributes:
        token: what a request has to show; ``None``: nothing.
        names: names of this machine that a request may have in its header Host; ``None``: any.
    """

    token: str | None = None
    names: Collection[str] | None = LOOPBACK_NAMES

    def check(self, scope: Scope) -> None:
        """Refuse a request that may not be made.

        Raises:
            Problem: in that case.
        """
        headers = [(name, value) for name, value in scope["headers"] if name in (b"host", b"authorization")]
        if self.names is not None:
            hosts = [value.decode("latin-1") for name, value in headers if name == b"host"]
            name, _, port = hosts[0].rpartition(":") if len(hosts) == 1 else ("", "", "")
            if not port.isdigit():
                name = hosts[0] if len(hosts) == 1 else ""
            if name.lower() not in self.names:
                msg = f"this service answers to the names of this machine only: {', '.join(sorted(self.names))}"
                raise Problem(421, msg, "use one of them, or start it with a token and --host")
        if self.token is not None and scope["path"] not in OPEN:
            given = [value for name, value in headers if name == b"authorization"]
            scheme, _, token = given[0].partition(b" ") if len(given) == 1 else (b"", b"", b"")
            # Digests are of equal length, so that the comparison does not tell that of the token.
            same = hmac.compare_digest(_digest(token.strip()), _digest(self.token.encode()))
            if scheme.lower() != b"bearer" or not same:
                asked = {"WWW-Authenticate": 'Bearer realm="lkdn-serve"'}
                raise Problem(401, "this service expects its token", "send: Authorization: Bearer TOKEN", asked)


def _digest(text: bytes) -> bytes:
    return hashlib.sha256(text).digest()


class _Body:
    """The body of a request: what the application does not read is read and dropped before its answer is sent.

    A server that closes a connection with something unread resets it, and the client might never see the answer.

    Args:
        scope: the request.
        receive: gives its messages.
        most: most bytes that are dropped.
    """

    def __init__(self, scope: Scope, receive: Receive, most: int) -> None:
        self._receive, self._most = receive, most
        # Who expects to be asked for a body has not sent it, and the first call of ``receive`` would ask.
        self._expecting = any(name == b"expect" for name, _ in scope["headers"])
        self._complete = False

    async def receive(self) -> Message:
        """Return the next message."""
        self._expecting = False
        message = await self._receive()
        self._complete = not message.get("more_body", False)
        return message

    async def drop(self) -> None:
        """Read what is left, within limits of size and time."""
        with suppress(TimeoutError):
            async with asyncio.timeout(_DROP_SECONDS):
                while not (self._complete or self._expecting) and self._most > 0:
                    self._most -= len((await self.receive()).get("body", b""))


class Gate:
    """An ASGI application around another one.

    Args:
        app: the application.
        access: who may ask.
        most: most bytes of a body that nobody reads.
    """

    def __init__(self, app: ASGIApp, access: Access, most: int) -> None:
        self._app, self._access, self._most = app, access, most

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, unless it is refused."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        start, status, body = time.perf_counter(), 0, _Body(scope, receive, self._most)

        async def noting(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                await body.drop()
            await send(message)

        try:
            self._access.check(scope)
            await self._app(scope, body.receive, noting)
        except Problem as problem:
            await problem.response()(scope, body.receive, noting)
        finally:
            milliseconds = (time.perf_counter() - start) * 1000
            log.info("%s %s: %d, %.0f ms", printable(scope["method"]), printable(scope["path"]), status, milliseconds)

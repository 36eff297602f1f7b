"""The server: its socket, its signals, and its end."""

import asyncio
import ipaddress
import logging
import signal
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http.h11_impl import H11Protocol

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.service.desk import Desk

log = logging.getLogger(__name__)

_MOST_CONNECTIONS = 512
"""Connections beside those that are admitted; more are answered with 503 at once."""
_BACKLOG = 128
_IDLE_SECONDS = 5
_HEAD_BYTES, _HEAD_SECONDS = 1 << 14, 10.0


def is_loopback(host: str) -> bool:
    """Return whether only programs of this machine can reach an address."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def open_socket(host: str, port: int) -> socket.socket:
    """Return a socket that listens.

    Args:
        host: an address or a name of this machine.
        port: the port; 0: any free one.

    Raises:
        UsageError: if there is no such address.
        InputError: if the port cannot be used.
    """
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
    except (OSError, UnicodeError) as error:
        msg = f"{host!r} is no address of this machine: {error}"
        raise UsageError(msg, "give one with --host, such as 127.0.0.1 or 0.0.0.0") from error
    try:
        # Not by socket.create_server: without the number of the protocol, asyncio leaves Nagle's algorithm on, and each
        # answer waits 40 ms for the client's acknowledgement of its head.
        listening = socket.socket(family, kind, protocol)
        if sys.platform != "win32":
            listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        listening.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        msg = f"port {port} of {host} cannot be used: {error}"
        raise InputError(msg, "choose another one with --port, or 0 for any") from error
    return listening


class _TimedHeads(H11Protocol):
    """HTTP on a connection that is closed if the head of a request takes long to arrive."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to look whether heads arrive."""
        super().connection_made(transport)
        self._waited_for: object = self
        self._next_look = self.loop.call_later(_HEAD_SECONDS, self._look)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop looking."""
        self._next_look.cancel()
        super().connection_lost(exc)

    def _look(self) -> None:
        """Close the connection if at the last look it waited for the same head."""
        waiting = self.cycle is None or self.cycle.response_complete
        if waiting and self._waited_for is self.cycle:
            self.transport.close()
            return
        self._waited_for = self.cycle if waiting else self
        self._next_look = self.loop.call_later(_HEAD_SECONDS, self._look)


class _Server(uvicorn.Server):
    """A server that leaves signals to ``run_service``."""

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


async def run_service(
    app: ASGIApp, desk: Desk, listening: socket.socket, ready: Callable[[], None]
) -> signal.Signals | None:
    """Answer requests until SIGTERM or SIGINT; then end the running ones, and refuse new ones.

    A second signal ends it at once.

    Args:
        app: the application.
        desk: knows what is running.
        listening: the socket.
        ready: called when requests are answered.

    Returns:
        The signal that ended it before all was done; ``None`` if nothing was lost.

    Raises:
        LkdnError: if the workers cannot be started.
    """
    config = uvicorn.Config(
        app,
        http=_TimedHeads,
        ws="none",
        lifespan="off",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        limit_concurrency=_MOST_CONNECTIONS + desk.pool.count + desk.limits.waiting,
        timeout_keep_alive=_IDLE_SECONDS,
        timeout_graceful_shutdown=_IDLE_SECONDS,
        h11_max_incomplete_event_size=_HEAD_BYTES,
    )
    server = _Server(config)
    with _signals() as signals:
        starting = asyncio.create_task(desk.pool.start())
        stopped = asyncio.create_task(signals.get())
        try:
            await asyncio.wait({starting, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if not starting.done():
                return signal.Signals(stopped.result())
            await starting
            serving = asyncio.create_task(server.serve(sockets=[listening]))
            ready()
            await asyncio.wait({serving, stopped}, return_when=asyncio.FIRST_COMPLETED)
            desk.draining = True
            log.info("ending: %d requests are running", desk.running)
            again = asyncio.create_task(signals.get())
            while desk.running and not again.done():
                await asyncio.sleep(0.02)
            server.should_exit, server.force_exit = True, again.done()
            await serving
            again.cancel()
            return signal.Signals(again.result()) if server.force_exit else None
        finally:
            stopped.cancel()
            starting.cancel()
            await desk.pool.stop()


@contextmanager
def _signals() -> Iterator[asyncio.Queue[int]]:
    """Give a queue of the signals that arrive and would end the process."""
    loop, arrived = asyncio.get_running_loop(), asyncio.Queue[int]()

    def note(number: int, _: FrameType | None) -> None:
        loop.call_soon_threadsafe(arrived.put_nowait, number)

    before = {number: signal.signal(number, note) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield arrived
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)

"""The connection of this process to a Ray cluster."""

import logging
import os
import signal
import socket
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stdout
from typing import Any, TextIO

from lkdn_deploy.core.errors import MissingError, UsageError
from lkdn_deploy.core.optional import needs

_REACH_SECONDS = 10.0


@contextmanager
def connected(address: str | None) -> Iterator[None]:
    """Be connected to a cluster.

    Args:
        address: as ``ray.init`` takes it; default: that of ``RAY_ADDRESS``, or one of this machine, which is started
            if there is none.

    Raises:
        UsageError: if it is an address of Ray's client.
        MissingError: if there is no such cluster.
    """
    if address is not None and address.startswith("ray://"):
        msg = f"{address} is for Ray's client, which is not among the machines of the cluster"
        raise UsageError(msg, "run the command on one of them, or with: ray job submit")
    # Ray sends statistics to its makers, unless told not to.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    with needs("ray"):
        import ray
    handler = signal.getsignal(signal.SIGTERM)
    try:
        _reach(address or os.environ.get("RAY_ADDRESS") or "")
        ray.init(address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:  # Ray raises errors of any kind, that class itself among them
        said = " ".join(str(error).split())[:300]
        msg = f"no Ray cluster can be reached at {address or 'its usual address'}: {said}"
        raise MissingError(msg, "start one with: ray start --head") from error
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, handler)  # Ray has put one of its own there
    lines = _OwnLines(sys.stdout)
    with redirect_stdout(lines):
        try:
            yield
        finally:
            lines.ended = True
            ray.shutdown()


def _reach(address: str) -> None:
    """Connect to an address once, for which Ray would try minutes.

    Raises:
        OSError: if nothing answers.
    """
    host, _, port = address.rpartition(":")
    if host and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), _REACH_SECONDS).close()


class _OwnLines:
    """Standard output without the lines of Ray, which prints there what it hears of lost workers: in a thread, and
    what is left at its end.

    Args:
        stream: standard output.

    Attributes:
        ended: whether nothing of ours comes any more.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream, self.ended = stream, False

    def write(self, text: str) -> int:
        """Write a text of the main thread, before the end."""
        if threading.current_thread() is threading.main_thread() and not self.ended:
            return self._stream.write(text)
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

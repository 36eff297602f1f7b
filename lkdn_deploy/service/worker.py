"""The process that decodes, upscales and encodes pictures, one after the other, until its pipe is closed.

Decoders read bytes that somebody made to hurt. So nothing but pictures is in this process, it asks the kernel to be the
first to go when memory runs out, and leaves no picture behind in a dump of its memory.
"""

import gc
import os
import signal
import sys
from contextlib import suppress
from dataclasses import replace
from functools import cache
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING

from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.core.errors import DeviceError, InputError, LkdnError, MissingError
from lkdn_deploy.core.protocols import Session
from lkdn_deploy.hub.choice import NetworkChoice, upscalers_for
from lkdn_deploy.runtime.in_memory import NoPictureError, TooLargeError, UpscaledBytes, upscale_bytes
from lkdn_deploy.runtime.memory import ProcessMemory
from lkdn_deploy.runtime.upscalers import Upscalers
from lkdn_deploy.service.orders import Limits, Order, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (NoPictureError, 415),
    (TooLargeError, 413),
    (MissingError, 415),  # of a decoder, such as that of HEIC files
    (DeviceError, 500),
    (LkdnError, 422),
)

_BESIDE = 256 << 20
"""Bytes of address space beside the limit of memory, for what is reserved and never touched, such as stacks."""


def serve(pipe: Connection, choices: tuple[NetworkChoice, ...], limits: Limits, max_memory: int | None) -> None:
    """Carry out the orders that come through a pipe.

    Args:
        pipe: gives an ``Order`` and the bytes of a picture; takes a ``Reply`` and the bytes of a result. The first
            reply comes when the networks are open.
        choices: the networks that orders may name, to be opened at the start.
        limits: of each order.
        max_memory: bytes that the process may take; default: as much as is free.
    """
    _isolate(max_memory)
    networks = _Networks()
    try:
        for choice in choices:
            networks.upscalers(choice).open_common()
        memory = ProcessMemory(max_memory)
        if not memory.free():
            msg = "the program itself takes all the memory that there is"
            raise InputError(msg, "allow more memory with --max-memory, or fewer workers")
    except (LkdnError, MemoryError) as error:
        with suppress(OSError):
            reply = _failed(error)
            pipe.send_bytes(replace(reply, status=500 if type(error) is InputError else reply.status).encode())
        return
    gc.freeze()
    with suppress(EOFError, OSError):  # the service has ended
        pipe.send_bytes(Reply(200, facts=_NO_FACTS).encode())
        while True:
            order = pipe.recv()
            reply, result = _carried_out(order, pipe.recv_bytes(), networks, limits, memory)
            pipe.send_bytes(reply.encode())
            if result is not None:
                pipe.send_bytes(result.content)
            del order, reply, result


_NO_FACTS = {
    **dict.fromkeys(("format", "model", "backend"), ""),
    **dict.fromkeys(("width", "height", "scale", "pixels", "seconds"), 0),
    "exact": True,
    "notes": [],
}


def _carried_out(
    order: Order, content: bytes, networks: "_Networks", limits: Limits, memory: ProcessMemory
) -> tuple[Reply, UpscaledBytes | None]:
    try:
        upscalers = networks.upscalers(order.choice)
        result = upscale_bytes(upscalers, content, order.settings, max_pixels=limits.pixels, memory=memory)
    except (LkdnError, MemoryError) as error:
        return _failed(error), None
    names = ("format", "width", "height", "model", "scale", "backend", "exact", "seconds")
    facts = {name: getattr(result, name) for name in names}
    facts |= {"notes": list(result.notes), "pixels": result.header.width * result.header.height}
    return Reply(200, facts=facts), result


def _failed(error: Exception) -> Reply:
    if isinstance(error, MemoryError):
        error = TooLargeError("the picture does not fit into memory", "send a smaller picture")
    status = next((status for kind, status in _STATUS if isinstance(error, kind)), 500)
    if not isinstance(error, LkdnError):
        error = InputError(f"the picture cannot be upscaled: {type(error).__name__}")
    return Reply(status, error.message, error.hint)


class _Networks:
    """The networks of this process: artefacts are found once, and each is opened once."""

    def __init__(self) -> None:
        self._find: dict[NetworkChoice, Callable[[int | None], Artifact]] = {}
        self._sessions: dict[tuple[NetworkChoice, int], Session] = {}

    def upscalers(self, choice: NetworkChoice) -> Upscalers:
        """Return the upscalers of a network; those for other sizes share its sessions."""
        plain = replace(choice, size=None, self_ensemble=False, wrap=False)
        find = self._find.setdefault(plain, cache(plain.find))

        def open_session(artifact: Artifact) -> Session:
            key = plain, artifact.metadata.scale
            if key not in self._sessions:
                self._sessions[key] = plain.open(artifact)
            return self._sessions[key]

        return upscalers_for(choice, find, open_session)


def _isolate(max_memory: int | None) -> None:
    """Make the process one that dies alone, at the will of its parent only."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # for the parent, which closes the pipe
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if sys.platform == "linux":
        with suppress(OSError), open("/proc/self/oom_score_adj", "w") as file:  # noqa: PTH123
            file.write("1000")
    if sys.platform != "win32":
        import resource

        with suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if max_memory is not None and sys.platform == "linux":
            with suppress(OSError, ValueError):
                resource.setrlimit(resource.RLIMIT_DATA, (max_memory + _BESIDE, max_memory + _BESIDE))
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)
    os.dup2(2, 1)  # stdout is for results

"""Batches one after the other, prepared ahead by other processes."""

import os
import shutil
import signal
import threading
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from lkdn_deploy.core.errors import LkdnError, UsageError
from lkdn_models.data.crops import CropSource

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
"""Where batches pass from process to process. Through a pipe, a large one would take ten times as long."""
AHEAD = 2
"""Batches that each process prepares before they are asked for."""

Batch = tuple[Tensor, Tensor]


def batches(
    source: CropSource, start: int, stop: int, part: int = 0, parts: int = 1, workers: int = 0
) -> Generator[Batch, None, None]:
    """``source.batch(index, part, parts)`` for each index from ``start`` to before ``stop``.

    They are computed by as many processes as ``workers`` says, or, if that is 0, by this one when asked for. The
    processes leave Ctrl-C, and what is sent to this one's process group, to this one, and end when the iterator is
    closed or this process ends.

    Raises:
        UsageError: if there is not enough shared memory for so many processes.
        LkdnError: if such a process ends before its time.
    """
    if not workers:
        for index in range(start, stop):
            yield source.batch(index, part, parts)
        return
    _check_shared_memory(AHEAD * workers * source.nbytes(part, parts), workers)
    loader = DataLoader(
        _Share(source, part, parts),
        batch_size=None,
        sampler=range(start, stop),
        num_workers=workers,
        prefetch_factor=AHEAD,
        worker_init_fn=_leave_signals,
        generator=torch.Generator(),  # without one, the seed that it draws would change what the caller draws next
    )
    with _signals_as_before():
        stream = iter(loader)
    try:
        while (batch := _next(stream)) is not None:
            low, high = batch
            yield low, high
    finally:
        del stream  # ends the processes


class _Share(Dataset[Batch]):
    """The share of each batch that one process trains on."""

    def __init__(self, source: CropSource, part: int, parts: int) -> None:
        self._source, self._part, self._parts = source, part, parts

    def __getitem__(self, index: int) -> Batch:
        return self._source.batch(index, self._part, self._parts)


def _next(stream: Iterator[Batch]) -> Batch | None:
    try:
        return next(stream, None)
    except (RuntimeError, OSError, EOFError) as error:  # by how far it had come with the next batch
        msg = f"a process that prepares batches has ended: {error}"
        raise LkdnError(msg, "go on from the last saved state, with fewer such processes") from error


def _check_shared_memory(need: int, workers: int) -> None:
    """A process that finds it full would be killed by the system without a word."""
    if SHARED_MEMORY.is_dir() and need > (free := shutil.disk_usage(SHARED_MEMORY).free):
        msg = f"{workers} processes need {need >> 20} MiB of shared memory, {SHARED_MEMORY} has {free >> 20} MiB left"
        raise UsageError(msg, "use fewer workers, or start the container with more (docker run --shm-size 8g)")


def _leave_signals(number: int) -> None:
    """In a process that prepares batches: outlive what tells the whole group to stop, as torchrun and timeout do.

    SIGTERM is not ignored: PyTorch ends with it a process that hangs, and has nothing stronger.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)


@contextmanager
def _signals_as_before() -> Iterator[None]:
    """While processes are started: hold back Ctrl-C, until they ignore it themselves; and leave SIGCHLD as it was.

    PyTorch would raise an error from a SIGCHLD handler the moment that one of the processes is killed, in the middle
    of whatever the caller does. Without the handler, the error comes out when the next batch is asked for.
    """
    if not hasattr(signal, "pthread_sigmask") or threading.current_thread() is not threading.main_thread():
        yield  # Windows; and handlers belong to the main thread
        return
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    handler = signal.getsignal(signal.SIGCHLD)
    try:
        yield
    finally:
        if handler is not None:  # None: not set from Python
            signal.signal(signal.SIGCHLD, handler)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

"""Batches that other processes prepare ahead."""

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
from lkdn_models.data.random_crops import CropSource

SHARED_MEMORY = Path("/dev/shm")  # noqa: S108
"""Memory that passes batches between processes. Through a pipe, a large one would take ten times as long."""
AHEAD = 2
"""Batches that each process prepares ahead."""

Batch = tuple[Tensor, Tensor]


def batches(
    source: CropSource, start: int, stop: int, part: int = 0, parts: int = 1, workers: int = 0
) -> Generator[Batch, None, None]:
    """Yield ``source.batch(index, part, parts)`` for each index from ``start`` to before ``stop``.

    The worker processes leave Ctrl-C, and signals to this one's process group, to this process, and end when the
    iterator is closed or this process ends.

    Args:
        source: photographs and the choice of crops.
        start: number of the first batch.
        stop: number after the last batch.
        part: number of this process, where several share a batch.
        parts: number of such processes.
        workers: number of processes that prepare batches; 0: this process prepares each one when it is needed.

    Raises:
        UsageError: if there is not enough shared memory for so many workers.
        LkdnError: if a worker ends early.
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
        generator=torch.Generator(),  # without one, it would draw its seed from the caller's random numbers
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
    """One process's share of each batch."""

    def __init__(self, source: CropSource, part: int, parts: int) -> None:
        self._source, self._part, self._parts = source, part, parts

    def __getitem__(self, index: int) -> Batch:
        return self._source.batch(index, self._part, self._parts)


def _next(stream: Iterator[Batch]) -> Batch | None:
    try:
        return next(stream, None)
    except (RuntimeError, OSError, EOFError) as error:  # depending on how much of the next batch was ready
        msg = f"a process that prepares batches has ended: {error}"
        raise LkdnError(msg, "resume from the last saved state with fewer --workers") from error


def _check_shared_memory(need: int, workers: int) -> None:
    """Refuse workers that would fill the shared memory: the system would kill them without a message."""
    if SHARED_MEMORY.is_dir() and need > (free := shutil.disk_usage(SHARED_MEMORY).free):
        msg = f"{workers} processes need {need >> 20} MiB of shared memory, {SHARED_MEMORY} has {free >> 20} MiB left"
        raise UsageError(msg, "use fewer workers, or start the container with more (docker run --shm-size 8g)")


def _leave_signals(number: int) -> None:
    """Make a worker outlive signals to the whole process group, as torchrun and timeout send them.

    SIGTERM is not ignored, since PyTorch ends a worker that hangs with it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(os, "setpgid"):
        os.setpgid(0, 0)


@contextmanager
def _signals_as_before() -> Iterator[None]:
    """Hold back Ctrl-C while workers start, until they ignore it themselves, and keep the handler of SIGCHLD.

    PyTorch's own handler would raise an error the moment that a worker is killed, in the middle of the caller's work.
    Without it, the error is raised when the next batch is needed.
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

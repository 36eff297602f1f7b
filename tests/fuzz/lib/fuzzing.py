"""Runs a function on many damaged inputs, in child processes that may crash, hang or take all memory.

The children are forked from a new interpreter without threads. Forked from a process of tests, a child would inherit
the locks that its threads held at that moment, and wait for them for ever.

An input is made from a number, so that a finding can be repeated. A finding is a crash, an exception that is not an
``LkdnError``, more than ``MOST_SECONDS`` of work (or ``MOST_WAITING``, on a busy machine), or more than ``MOST_BYTES``
above what the process had before.
"""

import mmap
import multiprocessing
import os
import random
import select
import signal
import struct
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import pytest

from lkdn_deploy.core.errors import LkdnError

MOST_SECONDS, MOST_WAITING = 20.0, 200.0
MOST_BYTES = 1500 << 20
BATCH = 100
"""Inputs for each child process."""

Make = Callable[[random.Random], bytes]
Try = Callable[[Path, random.Random], str]
"""Takes a file of the input, and returns a word for its outcome."""


@dataclass(slots=True)
class Report:
    """Outcomes by their number, and the findings: what was found, and the first number that gives it."""

    outcomes: Counter[str] = field(default_factory=Counter)
    findings: dict[str, int] = field(default_factory=dict)

    def add(self, outcome: str, number: int) -> None:
        self.outcomes[outcome] += 1
        if outcome.startswith("!"):
            self.findings.setdefault(outcome, number)


needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="the harness forks its processes")


def fuzz(
    make: Make, attempt: Try, path: Path, count: int, start: int = 0, prepare: Callable[[], None] | None = None
) -> Report:
    """Try the inputs of the numbers from ``start`` on.

    Args:
        make: Returns an input; it and the functions below can be pickled.
        attempt: The function that is tried.
        path: File that each input is written to.
        count: Number of inputs.
        start: First number.
        prepare: Called once before the children are forked, so that all of them have what it loads.
    """
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(_fuzz, make, attempt, path, count, start, prepare).result()


def _fuzz(make: Make, attempt: Try, path: Path, count: int, start: int, prepare: Callable[[], None] | None) -> Report:
    if prepare is not None:
        prepare()
    report, number = Report(), start
    shared = mmap.mmap(-1, 24)
    while number < start + count:
        end = min(number + BATCH, start + count)
        reading, writing = os.pipe()
        sys.stdout.flush()
        shared[:] = struct.pack("qdd", number, time.monotonic(), 0.0)
        child = os.fork()
        if not child:
            os.close(reading)
            _run(make, attempt, path, range(number, end), writing, shared)
        os.close(writing)
        number, lines = _watch(child, reading, shared)
        for line in lines:
            place, _, outcome = line.partition(" ")
            report.add(outcome, int(place))
        _, status = os.waitpid(child, 0)
        code = os.waitstatus_to_exitcode(status)
        if code:
            what = "hangs" if code == -signal.SIGKILL else f"ends with {code}"
            report.add(f"! the process {what}", number)
        number = number + 1 if code else end
    return report


def _watch(child: int, reading: int, shared: mmap.mmap) -> tuple[int, list[str]]:
    """Collect a child's lines, and kill it if it takes too long for one input. Return the last number too."""
    text, killed = b"", False
    while True:
        ready, _, _ = select.select([reading], [], [], 0.5)
        if ready:
            found = os.read(reading, 1 << 16)
            if not found:
                break
            text += found
        _, began, worked = struct.unpack("qdd", shared[:])
        work = sum(psutil.Process(child).cpu_times()[:2])
        if not killed and (work - worked > MOST_SECONDS or time.monotonic() - began > MOST_WAITING):
            os.kill(child, signal.SIGKILL)
            killed = True
    os.close(reading)
    return struct.unpack("qdd", shared[:])[0], text.decode().splitlines()


def _run(make: Make, attempt: Try, path: Path, numbers: range, writing: int, shared: mmap.mmap) -> None:
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 1)
    os.dup2(null, 2)
    before, code = _peak(), 0
    try:
        for number in numbers:
            shared[:] = struct.pack("qdd", number, time.monotonic(), time.process_time())
            outcome = one(make, attempt, path, number)
            if _peak() - before > MOST_BYTES:
                outcome = f"! {(_peak() - before) >> 20} MiB"
            os.write(writing, f"{number} {outcome}\n".encode())
            if "MiB" in outcome:
                break
    except BaseException:
        code = 3
    finally:
        os._exit(code)


def one(make: Make, attempt: Try, path: Path, number: int) -> str:
    """Return the outcome of one input."""
    source = random.Random(number)  # noqa: S311
    path.write_bytes(make(source))
    try:
        return attempt(path, source)
    except LkdnError as error:
        return type(error).__name__
    except Exception as error:
        places = [it for it in traceback.extract_tb(error.__traceback__) if "lkdn_deploy" in it.filename]
        last = f"{Path(places[-1].filename).name}:{places[-1].lineno}" if places else "?"
        return f"! {type(error).__name__} {last} {str(error)[:80]!r}"


def _peak() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def damaged(data: bytes, source: random.Random) -> bytes:
    """Return bytes with some of them changed, removed, inserted or copied."""
    found = bytearray(data)
    for _ in range(source.choice([1, 1, 1, 2, 3, 5, 10, 40])):
        length = len(found)
        if not length:
            break
        place = source.randrange(min(length, 400) if source.random() < 0.4 else length)
        size = source.choice([1, 2, 4, 8, 64])
        match source.randrange(7):
            case 0:
                found[place] ^= 1 << source.randrange(8)
            case 1:
                found[place] = source.choice([0, 1, 0x7F, 0x80, 0xFF, source.randrange(256)])
            case 2:
                del found[place : place + size]
            case 3:
                found[place:place] = source.randbytes(size)
            case 4 if source.random() < 0.3:
                del found[place:]
            case 5:
                other = source.randrange(length)
                found[place : place + size] = found[other : other + size]
            case _:
                found[place : place + 8] = source.choice([b"\xff" * 8, b"\0" * 8, b"\xff\xff\xff\x7f" * 2])
    return bytes(found)

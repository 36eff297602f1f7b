"""The peak memory of a run, measured in a new process."""

import numpy as np

from lkdn_deploy.bench.measure.new_process import HostMemory, answer, measure
from lkdn_deploy.bench.opening import ModelChoice, open_engine
from lkdn_deploy.bench.results import Memory

TIMEOUT = 900.0
"""Most seconds for opening a model and running it."""


def peak_memory(choice: ModelChoice, engine: str, precision: str, threads: int, size: tuple[int, int]) -> Memory | None:
    """Measure what one run adds to a process that has the model open.

    On the CPU this is the growth of resident memory, on a GPU what ``Session.device_memory`` reports, or ``None``.

    Args:
        choice: the model.
        engine: a name of ``opening.ENGINES``.
        precision: one of ``opening.PRECISIONS``.
        threads: CPU threads.
        size: height and width of the input.

    Raises:
        LkdnError: with the last line of the process, if it failed.
    """
    msg = f"the memory of {choice.model or choice.weights} on {engine} could not be measured"
    found = measure(__name__, choice, engine, precision, threads, size, msg=msg, timeout=TIMEOUT)
    return Memory.of(*found) if found else None


def _measure(
    choice: ModelChoice, engine: str, precision: str, threads: int, size: tuple[int, int]
) -> tuple[int, str] | None:
    session = open_engine(choice, engine, precision, threads)
    batch = np.random.default_rng(0).random((1, 3, *size), np.float32)
    if not session.on_cpu:
        return session.device_memory(batch)
    memory = HostMemory()
    session.run(batch)
    return memory.growth(), "host"


if __name__ == "__main__":
    answer(_measure)

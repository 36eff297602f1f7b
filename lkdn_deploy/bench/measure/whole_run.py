"""A whole run over images as the script of the NTIRE 2023 challenge makes it: one model in a process of its own.

The script (github.com/ofsoundof/NTIRE2023_ESR, ``test_demo.py``) opens a model, upscales every image once, and reads
the peak of allocated memory, which it never resets, at the end. Nothing warms up, and only the network is timed: an
image becomes a tensor of the network's range before, and levels after.
"""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lkdn_deploy.bench.measure.harness import timed, timed_run
from lkdn_deploy.bench.measure.new_process import HostMemory, answer, measure
from lkdn_deploy.bench.opening import COMPILED, ModelChoice, open_engine
from lkdn_deploy.bench.results import Memory


@dataclass(frozen=True, slots=True)
class WholeRun:
    """The measurements of a whole run; times in milliseconds."""

    samples: tuple[float, ...]
    """Times of the images in their order, by the wall clock."""
    device_samples: tuple[float, ...]
    """Times by the device's own events, if it has any."""
    opening: float
    building: float | None
    memory: Memory | None


def whole_run(choice: ModelChoice, engine: str, precision: str, threads: int, images: Path) -> WholeRun:
    """Upscale every image of a folder once, in a new process.

    Args:
        choice: the model.
        engine: a name of ``opening.ENGINES``, or another way.
        precision: one of ``opening.PRECISIONS``.
        threads: CPU threads.
        images: folder of arrays (1, 3, H, W), RGB in 0..1, as ``.npy`` files in the order of their names.

    Raises:
        LkdnError: with the last line of the process, if it failed.
    """
    msg = f"the run of {choice.model or choice.weights} on {engine} failed"
    found = measure(__name__, choice, engine, precision, threads, str(images), msg=msg, timeout=None)
    samples, device_samples, opening, building, memory = found
    memory = Memory.of(*memory) if memory else None
    return WholeRun(tuple(samples), tuple(device_samples), opening, building, memory)


def _run(choice: ModelChoice, engine: str, precision: str, threads: int, images: str) -> tuple[Any, ...]:
    start = time.perf_counter()
    session = open_engine(choice, engine, precision, threads)
    opening = (time.perf_counter() - start) * 1e3
    memory, samples, device_samples = HostMemory(), [], []
    for path in sorted(Path(images).glob("*.npy")):
        run = timed_run(session, np.load(path, allow_pickle=False), converts=False)
        wall, device = timed(run)
        samples.append(wall)
        device_samples += [] if device is None else [device]
    peak = session.device_peak()
    if session.on_cpu and engine != COMPILED:  # the compiler takes more than the run
        peak = memory.growth(), "host"
    seconds = session.build_seconds
    return samples, device_samples, opening, None if seconds is None else seconds * 1e3, peak


if __name__ == "__main__":
    answer(_run)

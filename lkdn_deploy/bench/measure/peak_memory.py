"""The peak memory of a run, measured in a new process: in a used one, memory freed before would serve the run."""

import json
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
import psutil

from lkdn_deploy.bench.opening import ModelChoice, open_engine
from lkdn_deploy.bench.results import Memory
from lkdn_deploy.core.errors import LkdnError

TIMEOUT = 900.0
"""Most seconds for opening a model and running it."""

_CLEAR_PEAK = Path("/proc/self/clear_refs")


def peak_memory(choice: ModelChoice, engine: str, precision: str, threads: int, size: tuple[int, int]) -> Memory | None:
    """Measure what one run adds to a process that has the model open.

    On the CPU this is the growth of resident memory, on a GPU what ``Session.device_memory`` reports, or ``None``.

    Args:
        choice: the model.
        engine: a name of ``opening.ENGINES``.
        precision: ``fp32`` or ``fp16``.
        threads: CPU threads.
        size: height and width of the input.

    Raises:
        LkdnError: with the last line of the process, if it failed.
    """
    weights = str(choice.weights) if choice.weights else None
    task = json.dumps([choice.model, choice.scale, weights, engine, precision, threads, size])
    msg = f"the memory of {choice.model or weights} on {engine} could not be measured"
    try:
        # -P: modules in the current folder are not imported.
        command = [sys.executable, "-P", "-m", __name__, task]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT)  # noqa: S603
        if done.returncode:
            raise LkdnError(msg, (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1])
        found = json.loads(done.stdout.splitlines()[-1])  # an engine may print other lines before
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise LkdnError(msg, str(error)) from error
    return Memory(**found) if found else None


def _measure(task: str) -> Memory | None:
    model, scale, weights, engine, precision, threads, size = json.loads(task)
    session = open_engine(ModelChoice(model, scale, Path(weights) if weights else None), engine, precision, threads)
    batch = np.random.default_rng(0).random((1, 3, *size), np.float32)
    if not session.on_cpu:
        found = session.device_memory(batch)
        return Memory(round(found[0] / 2**20, 1), found[1]) if found else None
    before = psutil.Process().memory_info().rss
    if _CLEAR_PEAK.exists():  # only Linux can reset the peak, so that what opening took for a moment does not count
        _CLEAR_PEAK.write_text("5")
    session.run(batch)
    return Memory(round(max(_peak() - before, 0) / 2**20, 1), "host")


def _peak() -> int:
    """Return the process's peak of resident memory in bytes."""
    if _CLEAR_PEAK.exists():
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    try:
        result = _measure(sys.argv[1])
    except LkdnError as failure:
        sys.exit(str(failure))
    sys.stdout.write(json.dumps(asdict(result) if result else None))

"""The memory that a run takes, measured in a process of its own: in a used one, old memory would serve the new run.

python -m lkdn_deploy.bench.measure.peak_memory '{"model": ..., "scale": ..., ...}'
"""

import json
import subprocess
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import psutil

from lkdn_deploy.backends.trt.session import TrtSession
from lkdn_deploy.bench.engines import open_engine
from lkdn_deploy.bench.results import Memory
from lkdn_deploy.core.errors import LkdnError

TIMEOUT = 900.0
"""Seconds for opening a model and running it twice at most."""

_CLEAR_PEAK = Path("/proc/self/clear_refs")


@dataclass(frozen=True, slots=True)
class Task:
    """What to run; see ``open_engine``."""

    model: str | None
    scale: int | None
    weights: str | None
    engine: str
    precision: str
    threads: int
    size: tuple[int, int]
    """Height and width."""


def peak_memory(task: Task) -> Memory | None:
    """What one run at ``size`` adds to a process that has the model open; ``None`` where that cannot be told.

    The growth of resident memory; on CUDA in PyTorch its allocator's peak, weights included; of TensorRT all that a run
    takes on the device, after the peak was reset. Of other engines on a GPU nothing is told.

    Raises:
        LkdnError: what the process said, if it failed.
    """
    # -P: what lies in the current folder is not taken for a package.
    command = [sys.executable, "-P", "-m", __name__, json.dumps(asdict(task))]
    msg = f"the memory of {task.model or task.weights} on {task.engine} could not be measured"
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=TIMEOUT)  # noqa: S603
        if done.returncode:
            raise LkdnError(msg, (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1])
        found = json.loads(done.stdout.splitlines()[-1])  # an engine may print lines of its own before
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise LkdnError(msg, str(error)) from error
    return Memory(**found) if found else None


def _measure(task: Task) -> Memory | None:
    session = open_engine(
        task.model,
        task.scale,
        Path(task.weights) if task.weights else None,
        task.engine,
        task.precision,
        task.threads,
        lambda _: None,
    )
    height, width = task.size
    batch = np.random.default_rng(0).random((1, 3, height, width), np.float32)
    if session.backend == "torch-cuda":
        import torch

        torch.cuda.reset_peak_memory_stats()
        session.run(batch)
        return Memory(round(torch.cuda.max_memory_allocated() / 2**20, 1), torch.cuda.get_device_name())
    if isinstance(session, TrtSession):
        session.device.reset_peak()
        session.run(batch)
        return Memory(round(session.device.peak / 2**20, 1), session.device.gpu.name)
    if not session.backend.endswith("cpu"):
        return None
    before = psutil.Process().memory_info().rss
    _clear_peak()
    session.run(batch)
    return Memory(round(max(_peak() - before, 0) / 2**20, 1), "host")


def _clear_peak() -> None:
    """So that what opening took for a moment does not count. Only Linux can; elsewhere it does."""
    if _CLEAR_PEAK.exists():
        _CLEAR_PEAK.write_text("5")


def _peak() -> int:
    """Bytes."""
    if _CLEAR_PEAK.exists():
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    values = json.loads(sys.argv[1])
    try:
        result = _measure(Task(**values | {"size": tuple(values["size"])}))
    except LkdnError as failure:
        sys.exit(str(failure))
    sys.stdout.write(json.dumps(asdict(result) if result else None))

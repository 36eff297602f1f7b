"""Measurements in a new process: what a used one has allocated, compiled and cached would serve them."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from lkdn_deploy.bench.opening import ModelChoice
from lkdn_deploy.core.errors import LkdnError

_CLEAR_PEAK = Path("/proc/self/clear_refs")


def measure(module: str, choice: ModelChoice, *task: Any, msg: str, timeout: float | None) -> Any:
    """Run a module as a program that measures a model, and return what ``answer`` wrote there.

    Args:
        module: full name of the module.
        choice: the model.
        task: what else the module's function takes; values that JSON has.
        msg: message of the error if it fails.
        timeout: most seconds; ``None``: no limit.

    Raises:
        LkdnError: with the last line of the process, if it failed.
    """
    weights = str(choice.weights) if choice.weights else None
    given = json.dumps([[choice.model, choice.scale, weights], *task])
    # -P: modules in the current folder are not imported.
    command = [sys.executable, "-P", "-m", module, given]
    try:
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=timeout)  # noqa: S603
        if done.returncode:
            raise LkdnError(msg, (done.stderr.strip() or f"exit status {done.returncode}").splitlines()[-1])
        return json.loads(done.stdout.splitlines()[-1])  # an engine may print other lines before
    except (OSError, subprocess.SubprocessError, ValueError, IndexError) as error:
        raise LkdnError(msg, str(error)) from error


def answer(work: Callable[..., Any]) -> None:
    """Do the work that ``measure`` asked this process for, and write the result to stdout.

    Args:
        work: takes a ``ModelChoice`` and the task, and returns what JSON has.
    """
    (model, scale, weights), *task = json.loads(sys.argv[1])
    try:
        result = work(ModelChoice(model, scale, Path(weights) if weights else None), *task)
    except LkdnError as failure:
        sys.exit(str(failure))
    sys.stdout.write(json.dumps(result))


class HostMemory:
    """The growth of this process's resident memory from now on."""

    def __init__(self) -> None:
        self._before = psutil.Process().memory_info().rss
        if _CLEAR_PEAK.exists():  # only Linux can reset the peak, so that what opening took for a moment does not count
            _CLEAR_PEAK.write_text("5")

    def growth(self) -> int:
        """Return the bytes by which the peak exceeds what was used at the start."""
        return max(_peak() - self._before, 0)


def _peak() -> int:
    """Return the process's peak of resident memory in bytes."""
    if _CLEAR_PEAK.exists():
        status = Path("/proc/self/status").read_text()
        return next(int(line.split()[1]) << 10 for line in status.splitlines() if line.startswith("VmHWM"))
    if sys.platform == "win32":
        return int(psutil.Process().memory_info().peak_wset)
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

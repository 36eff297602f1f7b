"""The folder of a training run.

::

    log.jsonl            reports, one JSON object a line: losses, and qualities on the validation sets
    states/000000500.pt  everything that is needed to resume exactly from that step; the newest few are kept
    weights.safetensors  averaged weights at the newest state, in training form
    best.safetensors     averaged weights that were best on the first validation set
    lags.npy             how far the first weights are behind the teacher, for hard crops
    samples/             pictures: bicubic, network, original
    tensorboard/         the log in TensorBoard's format

Every file but the log appears whole or not at all, and a state is deleted only after a newer one exists.
"""

import io
import json
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import publish, read_bounded, reading
from lkdn_deploy.core.optional import needs
from lkdn_models.pickles import MAX_BYTES, read_pickle

STATE = {"recipe": dict, "step": int, "data": str, "best": dict, "weights": dict, "optimiser": dict, "ema": dict}
"""Entries of a saved state and their types."""
MAX_LOG = 256 << 20
"""Largest size of a log's file."""
FACTS = {"recipe", "init", "data", "tools", "iterations", "iterations_before"}
"""Entries of the log that are not curves."""

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter


class RunFolder:
    """The folder of one training run."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.weights = path / "weights.safetensors"
        self.best = path / "best.safetensors"
        self.lags = path / "lags.npy"
        self.samples = path / "samples"
        self._tensorboard = path / "tensorboard"
        self._writer: SummaryWriter | None = None
        self._purge: int | None = None
        self._states = path / "states"
        self._log = path / "log.jsonl"

    def start(self) -> None:
        """Create the folder of a new run.

        Raises:
            UsageError: if it holds a run.
            InputError: if it cannot be created.
        """
        if self._list():
            msg = f"{self.path} already holds a run"
            raise UsageError(msg, "give --resume to go on with it, or another --output")
        try:
            self._states.mkdir(parents=True, exist_ok=True)
            self.samples.mkdir(exist_ok=True)
            self._log.write_text("", encoding="utf-8")
            for old in (self.weights, self.best, self.lags):
                old.unlink(missing_ok=True)
        except OSError as error:
            msg = f"{self.path} cannot be created: {error.strerror}"
            raise InputError(msg) from error

    def newest(self) -> dict[str, Any]:
        """Return the newest state that can be read; one that cannot is named in a warning.

        Raises:
            UsageError: if there is no state.
            InputError: if none can be read.
        """
        states = self._list()
        if not states:
            msg = f"{self.path} holds no run to resume"
            raise UsageError(msg, "start it without --resume")
        for path in reversed(states):
            try:
                with reading(path, "a state of a training run"):
                    return _checked(read_pickle(read_bounded(path, MAX_BYTES)))
            except InputError as error:
                warnings.warn(str(error), stacklevel=2)
        msg = f"no state in {self._states} can be read"
        raise InputError(msg, "start another run with --output; --init takes weights.safetensors of this one")

    def save(self, step: int, state: Mapping[str, Any], keep: int) -> None:
        """Write the state at ``step``; then delete all but the newest ``keep``, and states of later steps.

        Args:
            step: number of steps done.
            state: entries of ``STATE``.
            keep: number of states to keep.

        Raises:
            InputError: if it cannot be written; the earlier states stay.
        """
        data = io.BytesIO()  # if torch wrote the file, a full disk would be a RuntimeError without a reason
        torch.save(state, data)
        with publish(self._states / f"{step:09d}.pt") as part, part.open("wb") as file:
            file.write(data.getbuffer())
            file.flush()
            os.fsync(file.fileno())  # a power cut must not leave a name without its bytes
        past = [path for path in self._list() if int(path.stem) <= step]
        for old in self._list():
            if old not in past[-keep:]:
                with suppress(OSError):
                    old.unlink()

    def log(self, step: int, **values: Any) -> None:
        """Append a line to the log, and its numbers to TensorBoard's.

        Raises:
            InputError: if it cannot be written.
        """
        try:
            with self._log.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"step": step, **values}) + "\n")
        except OSError as error:
            msg = f"{self._log} cannot be written: {error.strerror}"
            raise InputError(msg) from error
        try:
            for tag, number in _numbers({name: value for name, value in values.items() if name not in FACTS}):
                self._board().add_scalar(tag, number, step)
        except OSError as error:
            msg = f"{self._tensorboard} cannot be written: {error.strerror or error}"
            raise InputError(msg) from error

    def close(self) -> None:
        """Close TensorBoard's file."""
        if self._writer is not None:
            with suppress(OSError):
                self._writer.close()

    def _board(self) -> "SummaryWriter":
        if self._writer is None:
            with needs("train"):
                from torch.utils.tensorboard import SummaryWriter
            self._writer = SummaryWriter(str(self._tensorboard), purge_step=self._purge)
        return self._writer

    def read_log(self) -> list[dict[str, Any]]:
        """Return the entries of the log, without a last line that was cut off while it was written.

        Raises:
            InputError: if there is no log, or a line is not a JSON object.
        """
        with reading(self._log, "a log of JSON lines", "give the folder of a training run"):
            lines = read_bounded(self._log, MAX_LOG).decode().splitlines(keepends=True)
            entries = [json.loads(line, parse_int=_integer) for line in lines if line.endswith("\n")]
        if not all(isinstance(entry, dict) and isinstance(entry.get("step"), int) for entry in entries):
            msg = f"{self._log} is not the log of a training run"
            raise InputError(msg)
        return entries

    def rewind(self, step: int) -> None:
        """Drop what was logged after ``step``, since a run that resumes from its last state logs it again.

        Raises:
            InputError: as ``read_log`` does, or if the log cannot be written.
        """
        self._purge = step + 1
        kept = [entry for entry in self.read_log() if entry["step"] <= step]
        with publish(self._log) as part:
            part.write_text("".join(json.dumps(entry) + "\n" for entry in kept), encoding="utf-8")

    def _list(self) -> list[Path]:
        paths = [path for path in self._states.glob("*.pt") if path.stem.isdecimal()]
        return sorted(paths, key=lambda path: int(path.stem))


def _checked(state: Any) -> dict[str, Any]:
    """Return a saved state that has the entries of ``STATE``.

    Raises:
        ValueError, TypeError, RecursionError: if an entry is missing or of another kind.
    """
    wrong = [
        name for name, kind in STATE.items() if not isinstance(state, dict) or not isinstance(state.get(name), kind)
    ]
    if wrong or state["step"] < 0 or not all(isinstance(best, float) for best in state["best"].values()):
        msg = f"{', '.join(wrong) or 'step or best'} is missing, or of another kind"
        raise ValueError(msg)
    iterations = json.loads(json.dumps(state["recipe"]))["optimisation"]["iterations"]  # nothing but plain values
    if type(iterations) is not int:
        msg = f"the recipe has {iterations!r} iterations"
        raise ValueError(msg)
    found: dict[str, Any] = state
    return found


def _integer(digits: str) -> int | float:
    """Return a number of a log; one beyond 64 bits as a float, which numeric libraries can take."""
    return int(digits) if len(digits) < 19 else float(digits)


def _numbers(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, float]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)):
            yield f"{prefix}{name}", value

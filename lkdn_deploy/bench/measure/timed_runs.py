"""The runs of a session's network that are timed, and what their times include."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.bench.measure.harness import Run
from lkdn_deploy.bench.measure.torch_session import TorchSession
from lkdn_deploy.bench.results import Copies
from lkdn_deploy.core.protocols import Session

Batch = NDArray[np.float32]
"""(N, 3, H, W) RGB in 0..1."""


def timed_runs(session: Session, batches: Sequence[Batch]) -> tuple[list[Run], Copies]:
    """Return a run for each batch that ends when the result is complete, and whether the runs include host copies."""
    if isinstance(session, TorchSession):
        return [session.prepared(batch) for batch in batches], Copies.NONE if session.on_cpu else Copies.LEFT_OUT
    return [_run(session, batch) for batch in batches], Copies.NONE if session.on_cpu else Copies.TIMED


def _run(session: Session, batch: Batch) -> Run:
    def run() -> float | None:
        seconds = session.inference_seconds(batch)
        return None if seconds is None else seconds * 1e3

    return run

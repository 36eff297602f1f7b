"""What is timed: one run of a session's network, and what is part of it."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.trt.session import TrtSession
from lkdn_deploy.bench.measure.harness import Run
from lkdn_deploy.bench.measure.torch_session import TorchSession
from lkdn_deploy.bench.results import Copies
from lkdn_deploy.core.protocols import Session

Batch = NDArray[np.float32]
"""(N, 3, H, W) RGB in 0..1."""


def runs_of(session: Session, batches: Sequence[Batch]) -> tuple[list[Run], Copies]:
    """A run for each batch, each of which ends when the result is there; and whether copies are part of them."""
    if isinstance(session, TorchSession):
        on_gpu = session.device.type == "cuda"
        runs = [_on_cuda(session, batch) if on_gpu else _in_torch(session, batch) for batch in batches]
        return runs, Copies.LEFT_OUT if on_gpu else Copies.NONE
    if isinstance(session, TrtSession):
        return [_on_tensorrt(session, batch) for batch in batches], Copies.TIMED
    copies = Copies.NONE if session.backend.endswith("cpu") else Copies.TIMED
    return [_through(session, batch) for batch in batches], copies


def _through(session: Session, batch: Batch) -> Run:
    def run() -> None:
        session.run(batch)

    return run


def _on_tensorrt(session: TrtSession, batch: Batch) -> Run:
    def run() -> float:
        return session.inference_seconds(batch) * 1e3

    return run


def _in_torch(session: TorchSession, batch: Batch) -> Run:
    x = session.upload(batch)

    def run() -> None:
        session.forward(x)

    return run


def _on_cuda(session: TorchSession, batch: Batch) -> Run:
    import torch

    x = session.upload(batch)
    start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]

    def run() -> float:
        start.record()
        session.forward(x)
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end))

    return run

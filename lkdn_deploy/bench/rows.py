"""Rows of a report while they are measured: a model opened on an engine at a precision."""

import time
from collections.abc import Callable
from dataclasses import dataclass

from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.bench.models import Model
from lkdn_deploy.bench.opening import ModelChoice, open_engine
from lkdn_deploy.bench.results import Copies, Row
from lkdn_deploy.core.protocols import Session
from lkdn_deploy.hub.artifacts import find_artifact
from lkdn_deploy.runtime.optimised import optimised_for


@dataclass(slots=True)
class OpenRow:
    """A row with its open session."""

    model: Model
    choice: ModelChoice
    engine: str
    reopen: Callable[[], Session]
    session: Session
    artifact: Artifact | None
    """The artefact that the session runs; ``None``: it runs the checkpoint."""
    opening: float
    """Milliseconds that opening took."""
    row: Row
    first: float = 0.0
    """Milliseconds of the first run."""
    copies: Copies = Copies.NONE


def open_row(model: Model, engine: str, precision: str, threads: int) -> OpenRow:
    """Open a model on an engine.

    Args:
        model: the model.
        engine: a name of ``opening.ENGINES``.
        precision: ``fp32`` or ``fp16``.
        threads: CPU threads.

    Raises:
        LkdnError: as ``open_engine`` does.
    """
    choice, artifact = model.choice(), None
    if engine == "torch":

        def reopen() -> Session:
            return open_engine(choice, engine, precision, threads)
    else:
        # Converting a checkpoint, optimising and building an engine happen once and are not part of opening.
        found = find_artifact(choice.model, choice.scale, choice.weights, precision=precision)
        artifact = optimised = optimised_for(found, engine)

        def reopen() -> Session:
            return open_session(optimised, engine, threads=threads)

        if engine == "trt":
            reopen()
    start = time.perf_counter()
    session = reopen()
    opening = (time.perf_counter() - start) * 1e3
    row = Row(model.name, model.scale, session.backend, precision, model.origin)
    return OpenRow(model, choice, engine, reopen, session, artifact, opening, row)

"""Sessions by engine and precision: the backends of artefacts, and PyTorch on the checkpoint itself.

Importing this needs no engine.
"""

from pathlib import Path

from lkdn_deploy.backends.registry import BACKENDS, open_session
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.protocols import Session
from lkdn_deploy.export.artefacts import Converting, artefact_for, check_found
from lkdn_deploy.runtime.forms import form_for

ENGINES = (*BACKENDS, "torch")
PRECISIONS = ("fp32", "fp16")


def open_engine(
    model: str | None,
    scale: int | None,
    weights: Path | None,
    engine: str,
    precision: str,
    threads: int | None,
    converting: Converting,
) -> Session:
    """A model on an engine of ``ENGINES``, at a precision of ``PRECISIONS``; see ``artefact_for`` for the others.

    Raises:
        UsageError: if the engine does not run this file or precision, or as ``artefact_for`` does.
        MissingError, InputError: as ``artefact_for`` and the engine do.
    """
    if engine == "torch":
        if any(name is not None and str(name).lower().endswith(".onnx") for name in (model, weights)):
            msg = f"PyTorch runs checkpoints, not {weights or model}"
            raise UsageError(msg, "give a checkpoint with --weights, or a network's name with --model")
        from lkdn_deploy.bench.measure.torch_session import TorchSession
        from lkdn_deploy.export.job import open_checkpoint

        return TorchSession(open_checkpoint(weights, model, scale), precision=precision, threads=threads)
    artefact = artefact_for(model, scale, weights, converting, precision)
    session = open_session(artefact, engine, threads=threads, form=form_for)
    check_found(session.metadata, model, scale, weights)
    check_precision(session, precision)
    return session


def check_precision(session: Session, precision: str) -> None:
    """Refuse an artefact of another precision: it is part of the file.

    Raises:
        UsageError: saying both.
    """
    if session.metadata.precision != precision:
        msg = f"{precision} was asked for, but the artefact that {session.backend} runs is {session.metadata.precision}"
        raise UsageError(msg, f"ask for {session.metadata.precision}, or give the checkpoint instead of the file")

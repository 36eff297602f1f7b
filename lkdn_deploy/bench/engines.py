"""Opens a model on an engine: a backend of artefacts, or PyTorch on the checkpoint itself.

Importing this needs no engine.
"""

from pathlib import Path

from lkdn_deploy.backends.registry import BACKENDS
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.protocols import Session
from lkdn_deploy.hub.artifacts import Converting
from lkdn_deploy.hub.loading import open_model

ENGINES = (*BACKENDS, "torch")
PRECISIONS = ("fp32", "fp16")


def open_engine(
    model: str | None,
    scale: int | None,
    weights: Path | None,
    engine: str,
    precision: str,
    threads: int | None,
    converting: Converting = lambda _: None,
) -> Session:
    """Open a model on an engine of ``ENGINES``, at a precision of ``PRECISIONS``.

    Args:
        model: name of a network, or path of a file, as ``hub.artifacts.find_artifact`` takes it.
        scale: upscaling factor; default 4, or that of the file.
        weights: path of a checkpoint or an ``.onnx`` file.
        engine: name of the engine.
        precision: precision of the arithmetic.
        threads: CPU threads; ``None``: the engine's choice.
        converting: called before a checkpoint is converted.

    Raises:
        UsageError: if the engine does not run this file or precision, or as ``open_model`` does.
        MissingError: as ``open_model`` does.
        InputError: as ``open_model`` does.
    """
    if engine != "torch":
        return open_model(
            model, scale, weights, backend=engine, precision=precision, threads=threads, converting=converting
        )
    if model is not None and weights is None and Path(model).suffix:
        weights, model = Path(model), None
    if weights is not None and weights.suffix.lower() == ".onnx":
        msg = f"PyTorch runs checkpoints, not {weights}"
        raise UsageError(msg, "give a checkpoint with --weights, or a network's name with --model")
    from lkdn_deploy.bench.measure.torch_session import TorchSession
    from lkdn_deploy.export.job import open_checkpoint

    return TorchSession(open_checkpoint(weights, model, scale), precision=precision, threads=threads)

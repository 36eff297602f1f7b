"""The models that a user chooses, and opening them on an engine: a backend, or PyTorch on the checkpoint itself.

Importing this needs no engine.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lkdn_deploy.backends.onnx_bytes import Artifact, reading
from lkdn_deploy.backends.registry import BACKENDS, INT16, open_session
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.protocols import Session
from lkdn_deploy.hub.artifacts import Converting, find_artifact
from lkdn_deploy.hub.loading import open_model
from lkdn_deploy.runtime.bundled import DEFAULT_SCALE

ENGINES = (*BACKENDS, "torch")
TORCH_WAYS = ("eager", "channels-last", "compile", "tf32")
"""Ways in which PyTorch runs a network; ``eager`` is the engine ``torch``, the others are ``torch-`` and their name."""
COMPILED = "torch-compile"
TRT_WAYS: Mapping[str, Mapping[str, Any]] = {"default": {}, "aux0": {"aux_streams": 0}, "no-tf32": {"tf32": False}}
"""Settings of ``open_trt`` by the way in which TensorRT builds an engine; ``default`` is the engine ``trt``, the others
are ``trt-`` and their name."""
PRECISIONS = ("fp32", "fp16", INT16)
BICUBIC = "bicubic"
"""Name of the baseline: enlargement by MATLAB's bicubic, which has no weights."""


@dataclass(frozen=True, slots=True)
class ModelChoice:
    """A model as a user chooses it, as ``hub.artifacts.find_artifact`` takes it."""

    model: str | None = None
    """Name of a network, or path of a file; ``None``: the network that ``weights`` hold."""
    scale: int | None = None
    """``None``: the scale of the file."""
    weights: Path | None = None
    """Path of a checkpoint or an ``.onnx`` file."""

    @property
    def file(self) -> Path | None:
        """The file of the model, if one is given."""
        return Path(self.model) if self.model and _is_file(self.model) else self.weights


def choose_models(models: Sequence[str], scales: Sequence[int], weights: Sequence[Path]) -> list[ModelChoice]:
    """Combine the options ``--model``, ``--scale`` and ``--weights``, which all can be repeated.

    Weights are those of the networks in ``models``: all of one network, or one file for each. If ``models`` has no
    network, the network is detected from each file. The choices come in the order of ``models``, each once.

    Args:
        models: names of networks, in any case, ``bicubic``, or paths of files.
        scales: scales at which to take each model; default 4, or that of the file.
        weights: paths of checkpoints or ``.onnx`` files.

    Raises:
        UsageError: if there are several networks, and not as many files.
    """
    models = [name if _is_file(name) else name.lower() for name in models]
    networks = [name for name in models if not _is_file(name) and name != BICUBIC]
    if weights and len(networks) not in (0, 1, len(weights)):
        msg = f"{len(weights)} --weights do not match the networks {', '.join(networks)}"
        raise UsageError(msg, "give one file for each network in the same order, or leave out --model to detect it")
    pairs: list[tuple[str | None, Path | None]] = []
    files = iter(weights)
    for name in models:
        if not weights or name not in networks:
            pairs.append((name, None))
        else:
            pairs += [(name, path) for path in (weights if len(networks) == 1 else [next(files)])]
    pairs += [] if networks else [(None, path) for path in weights]
    choices = [
        replace(choice, scale=scale)
        for choice in (ModelChoice(name, None, path) for name, path in pairs)
        for scale in scales or (DEFAULT_SCALE if choice.file is None else None,)
    ]
    return list(dict.fromkeys(choices))


def _is_file(name: str) -> bool:
    return bool(Path(name).suffix)


def open_engine(
    choice: ModelChoice, engine: str, precision: str, threads: int | None, converting: Converting = lambda _: None
) -> Session:
    """Open a model on an engine.

    Args:
        choice: the model.
        engine: a name of ``ENGINES``, or another way of ``TORCH_WAYS`` or ``TRT_WAYS``.
        precision: precision of the arithmetic, of ``PRECISIONS``.
        threads: CPU threads; ``None``: the engine's choice.
        converting: called before a checkpoint is converted.

    Raises:
        UsageError: if the engine does not run this file or precision.
        LkdnError: as ``open_model`` does.
    """
    way = torch_way(engine)
    if trt_way(engine) not in (None, "default"):
        found = find_artifact(choice.model, choice.scale, choice.weights, precision=precision, converting=converting)
        return open_form(found, engine, precision, threads)
    if way is None:
        return open_model(
            choice.model,
            choice.scale,
            choice.weights,
            backend=engine,
            precision=precision,
            threads=threads,
            converting=converting,
        )
    weights = choice.file
    if weights is not None and weights.suffix.lower() == ".onnx":
        msg = f"PyTorch runs checkpoints, not {weights}"
        raise UsageError(msg, "give a checkpoint with --weights, or a network's name with --model")
    from lkdn_deploy.bench.measure.torch_session import TorchSession
    from lkdn_deploy.export.job import open_checkpoint

    name = choice.model if choice.weights or weights is None else None
    return TorchSession(open_checkpoint(weights, name, choice.scale), precision=precision, threads=threads, way=way)


def open_form(artifact: Artifact, engine: str, precision: str, threads: int | None) -> Session:
    """Open an artefact, in the form for an engine that is not PyTorch.

    Args:
        artifact: the artefact, not changed any more.
        engine: a name of ``BACKENDS``, or another way of ``TRT_WAYS``.
        precision: precision of the arithmetic, of ``PRECISIONS``.
        threads: CPU threads; ``None``: the engine's choice.

    Raises:
        UsageError: if TF32 is to be left out of an engine in FP16, or the engine has no such precision.
        LkdnError: as ``open_session`` does.
    """
    way = trt_way(engine)
    if way in (None, "default") or precision == INT16:
        return open_session(artifact, engine, precision=precision, threads=threads)
    if way == "no-tf32" and artifact.metadata.precision != "fp32":
        msg = f"TF32 is a way to compute FP32, and the engine would be in {artifact.metadata.precision}"
        raise UsageError(msg, "leave out --trt-way no-tf32")
    from lkdn_deploy.backends.trt.session import open_trt

    with reading(artifact.path):
        return open_trt(artifact, threads=threads, **TRT_WAYS[way])


def torch_way(engine: str) -> str | None:
    """Return the way of ``TORCH_WAYS`` that an engine's name stands for; ``None`` if it is not PyTorch's."""
    return _way(engine, "torch", TORCH_WAYS)


def trt_way(engine: str) -> str | None:
    """Return the way of ``TRT_WAYS`` that an engine's name stands for; ``None`` if it is not that of TensorRT."""
    return _way(engine, "trt", tuple(TRT_WAYS))


def _way(engine: str, name: str, ways: Sequence[str]) -> str | None:
    """Return the way in an engine's name, the first one if it is the bare ``name``; ``None`` if it is another one's."""
    way = ways[0] if engine == name else engine.removeprefix(f"{name}-")
    return way if way in ways and engine.startswith(name) else None

"""From what a user names, a model or weights, to the artefact that runs."""

from collections.abc import Callable
from pathlib import Path

from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.export.cache import artefact_of
from lkdn_deploy.runtime.bundled import DEFAULT_MODEL, DEFAULT_SCALE, bundled, resolve

Converting = Callable[[Path], None]
"""Called with a checkpoint before it is converted, which takes seconds and happens once."""


def artefact_for(model: str | None, scale: int | None, weights: Path | None, converting: Converting) -> Path:
    """The ``.onnx`` file of a bundled, a downloaded or a given network.

    Needs torch only where a checkpoint has to be converted, the first time.

    Args:
        model: a network's name in the zoo or an ``.onnx`` file's path; default lkdn-s, or what ``weights`` are.
        scale: default 4, or what the file has.
        weights: a checkpoint or an ``.onnx`` file.
        converting: is told of the checkpoint that is converted.

    Raises:
        UsageError: if the model and the weights exclude each other, or there is no such network or scale.
        MissingError: if the network is neither bundled nor downloaded.
        InputError: if the weights cannot be read.
    """
    if weights is None and model is not None and (model, scale or DEFAULT_SCALE) not in bundled():
        weights = _downloaded(model, scale)
    if weights is None:
        return resolve(DEFAULT_MODEL if model is None else model, scale)
    if model is not None and model.lower().endswith(".onnx"):
        msg = "--model with an .onnx file and --weights exclude each other"
        raise UsageError(msg, "give one of them")
    return weights if weights.suffix.lower() == ".onnx" else artefact_of(weights, model, scale, converting)


def check_found(metadata: ArtifactMetadata, model: str | None, scale: int | None, weights: Path | None) -> None:
    """Refuse an artefact of another network or scale than those asked for.

    Raises:
        UsageError: saying both.
    """
    named = None if model is None or model.lower().endswith(".onnx") else model
    found = metadata.model, metadata.scale
    asked = named or found[0], scale or found[1]
    if asked != found:
        source = weights or model or "the default"
        msg = "{} x{} was asked for, but {} is {} x{}".format(*asked, source, *found)
        raise UsageError(msg, "leave out --model and --scale: the file tells them")


def _downloaded(model: str, scale: int | None) -> Path | None:
    """The weights that ``lkdn-zoo get`` brought; ``None`` if this is no name of a network."""
    from lkdn_models.zoo import find, names

    if model not in names():
        return None
    from lkdn_models.download import usable

    return usable(find(model, DEFAULT_SCALE if scale is None else scale))

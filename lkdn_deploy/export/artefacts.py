"""From what a user names, a model or weights, to the artefact that runs."""

from collections.abc import Callable
from pathlib import Path

from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.export.cache import artefact_of
from lkdn_deploy.runtime.bundled import DEFAULT_MODEL, DEFAULT_SCALE, bundled, resolve

Converting = Callable[[Path], None]
"""Called with a checkpoint before it is converted, which takes seconds and happens once."""


def artefact_for(
    model: str | None, scale: int | None, weights: Path | None, converting: Converting, precision: str = "fp32"
) -> Path:
    """The ``.onnx`` file of a bundled, a downloaded or a given network.

    Needs torch only where a checkpoint has to be converted, the first time.

    Args:
        model: a network's name in the zoo or an ``.onnx`` file's path; default lkdn-s, or what ``weights`` are.
        scale: default 4, or what the file has.
        weights: a checkpoint or an ``.onnx`` file.
        converting: is told of the checkpoint that is converted.
        precision: of a network or checkpoint; an ``.onnx`` file has its own.

    Raises:
        UsageError: if the model and the weights exclude each other, or there is no such network or scale.
        MissingError: if the network is neither bundled nor downloaded.
        InputError: if the weights cannot be read.
        VerificationError: if the network cannot be converted to that precision.
    """
    if weights is None and not _is_onnx(model):
        # From here on it is a scale that was chosen: some weights serve several.
        name, scale = model or DEFAULT_MODEL, scale or DEFAULT_SCALE
        if (name, scale) in bundled():
            weights = None if precision == "fp32" else _bundled_weights(name, scale)
        else:
            weights = _downloaded(name, scale)
    if weights is None:
        return resolve(DEFAULT_MODEL if model is None else model, scale)
    if _is_onnx(model):
        msg = "--model with an .onnx file and --weights exclude each other"
        raise UsageError(msg, "give one of them")
    return weights if _is_onnx(weights) else artefact_of(weights, model, scale, converting, precision)


def check_found(metadata: ArtifactMetadata, model: str | None, scale: int | None, weights: Path | None) -> None:
    """Refuse an artefact of another network or scale than those asked for.

    Raises:
        UsageError: saying both.
    """
    named = None if _is_onnx(model) else model
    found = metadata.model, metadata.scale
    asked = named or found[0], scale or found[1]
    if asked != found:
        source = weights or model or "the default"
        msg = "{} x{} was asked for, but {} is {} x{}".format(*asked, source, *found)
        raise UsageError(msg, "leave out --model and --scale: the file tells them")


def _is_onnx(name: str | Path | None) -> bool:
    return str(name).lower().endswith(".onnx")


def _bundled_weights(model: str, scale: int) -> Path | None:
    """The checkpoint that a bundled artefact was made of."""
    from lkdn_models.zoo import find

    return find(model, scale).bundled


def _downloaded(model: str, scale: int) -> Path | None:
    """The weights that ``lkdn-zoo get`` brought; ``None`` if this is no name of a network."""
    from lkdn_models.zoo import find, names

    if model not in names():
        return None
    from lkdn_models.download import usable

    return usable(find(model, scale))

"""From what a user names, a network, an ``.onnx`` file or a checkpoint, to the artefact that runs."""

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from lkdn_deploy import __version__
from lkdn_deploy.backends.onnx_bytes import Artifact, is_foreign, parse_artifact, read_artifact, read_onnx
from lkdn_deploy.backends.registry import INT16
from lkdn_deploy.core.cache import Store
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import open_regular, temporary_folder
from lkdn_deploy.core.optional import needs
from lkdn_deploy.hub.foreign import Hints, adopt
from lkdn_deploy.runtime.bundled import DEFAULT_MODEL, DEFAULT_SCALE, bundled

STORE = Store("converted", ".onnx")

NO_HINTS = Hints()

PRECISIONS = ("fp32", "fp16")
"""Precisions of artefacts."""

Telling = Callable[[str], None]
Converting = Callable[[Path], None]
"""Called with a checkpoint before it is converted, which takes seconds and happens once."""


def find_artifact(
    model: str | os.PathLike[str] | None = None,
    scale: int | None = None,
    weights: Path | None = None,
    *,
    precision: str | None = None,
    converting: Converting = lambda _: None,
    hints: Hints = NO_HINTS,
    told: Telling = lambda _: None,
) -> Artifact:
    """Return the artefact of a bundled, a downloaded or a given network.

    torch is needed only where a checkpoint has to be converted, the first time.

    Args:
        model: name of a network of the zoo, in any case, or path of a file, as ``weights``; default lkdn-s, or the
            network that ``weights`` hold.
        scale: upscaling factor; default 4, or that of the file.
        weights: path of a checkpoint or an ``.onnx`` file.
        precision: ``fp32`` or ``fp16``; default fp32, or that of the ``.onnx`` file. For ``int16``, in which the native
            engine computes, the artefact is in fp32.
        converting: called before a checkpoint is converted.
        hints: what is known about the ``.onnx`` file of another program.
        told: called with what is found out about such a file, the first time.

    Raises:
        UsageError: if there is no such network or scale, or a file holds another network, scale or precision, or it
            tells by itself what the hints do.
        MissingError: if the network is neither bundled nor downloaded.
        InputError: if a file cannot be read.
        VerificationError: if the network cannot be converted to that precision.
    """
    precision = "fp32" if precision == INT16 else precision
    if precision not in (None, *PRECISIONS):
        msg = f"no such precision: {precision}"
        raise UsageError(msg, f"known are {', '.join((*PRECISIONS, INT16))}")
    named = os.fspath(model) if model is not None else None
    if named and Path(named).suffix:
        if weights is not None:
            msg = "--model with a file and --weights exclude each other"
            raise UsageError(msg, "give one of them")
        weights, named = Path(named), None
    _refuse(hints, unless=weights is not None and weights.suffix.lower() == ".onnx")
    if weights is None:
        # A scale is chosen here, since some weights serve several.
        named, scale = (named or DEFAULT_MODEL).lower(), scale or DEFAULT_SCALE
        if precision in (None, "fp32") and (shipped := bundled().get((named, scale))):
            return read_artifact(shipped)
        weights = _weights_of(named, scale)
    if weights.suffix.lower() == ".onnx":
        data = read_onnx(weights)
        foreign = _foreign(weights, data)
        _refuse(hints, unless=foreign)
        found = adopt(weights, data, hints, told) if foreign else parse_artifact(weights, data)
    else:
        found = _converted(weights, named, scale, precision or "fp32", converting)
    facts = found.metadata
    asked = (named or facts.model).lower(), scale or facts.scale
    if asked != (facts.model.lower(), facts.scale):
        msg = "{} x{} was asked for, but {} is {} x{}".format(*asked, weights, facts.model, facts.scale)
        raise UsageError(msg, "leave out --model and --scale: they are read from the file")
    if precision not in (None, facts.precision):
        msg = f"{precision} was asked for, but {weights} is {facts.precision}"
        raise UsageError(msg, f"ask for {facts.precision}, or give the checkpoint instead of the file")
    return found


def _refuse(hints: Hints, *, unless: bool) -> None:
    """Refuse hints, unless they are of use.

    Raises:
        UsageError: if there are any.
    """
    if hints.any and not unless:
        msg = "this network tells its range of values and order of colours by itself"
        raise UsageError(msg, "leave out --range, --bgr and --rgb: they are for .onnx files of other programs")


def _foreign(path: Path, data: bytes) -> bool:
    """Return whether another program wrote an ``.onnx`` file.

    Raises:
        InputError: if it has operations that no network has.
    """
    try:
        return is_foreign(data)
    except InputError as error:
        msg = f"{path}: {error.message}"
        raise InputError(msg, error.hint) from error


def _weights_of(model: str, scale: int) -> Path:
    """Return the checkpoint of a network, bundled or downloaded."""
    from lkdn_models.download import usable
    from lkdn_models.zoo import find

    entry = find(model, scale)
    return entry.bundled or usable(entry)


def _converted(weights: Path, model: str | None, scale: int | None, precision: str, converting: Converting) -> Artifact:
    """Return the artefact of a checkpoint: fused, exported and verified the first time, then found in the cache."""
    try:
        with open_regular(weights) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        msg = f"{weights}: cannot be read: {error.strerror}"
        raise InputError(msg) from error
    variant = "" if scale is None else f"-x{scale}"  # some weights serve several scales
    name = f"{digest}{variant}-{precision}-{__version__}"
    if found := STORE.load(name):
        return parse_artifact(*found)
    converting(weights)
    with needs("train"):
        from lkdn_deploy.export.job import ExportSettings, export_onnx, open_checkpoint

    checkpoint = open_checkpoint(weights, model, scale)
    with temporary_folder() as folder:
        report = export_onnx(checkpoint, folder / "converted.onnx", ExportSettings(precision=precision))
        content = report.path.read_bytes()
        return parse_artifact(STORE.write(name, content), content)

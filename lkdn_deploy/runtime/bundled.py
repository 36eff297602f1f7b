"""The artefacts that come with the package, found by model name and scale."""

import re
from pathlib import Path

from lkdn_deploy.core.errors import MissingError, UsageError

FOLDER = Path(__file__).parent / "artefacts"
DEFAULT_MODEL, DEFAULT_SCALE = "lkdn-s", 4


def bundled() -> dict[tuple[str, int], Path]:
    """(model, scale) -> file."""
    found = {}
    for path in sorted(FOLDER.glob("*.onnx")):
        if match := re.fullmatch(r"(.+)_x(\d)", path.stem):
            found[match[1], int(match[2])] = path
    return found


def find(model: str, scale: int) -> Path:
    """The artefact of a bundled model.

    Raises:
        MissingError: if this model, or this model at this scale, is not bundled.
        UsageError: if the name is a file's.
    """
    known = bundled()
    if (model, scale) in known:
        return known[model, scale]
    msg = f"{model} x{scale} does not come with the package; bundled are {', '.join(f'{m} x{s}' for m, s in known)}"
    if Path(model).suffix:
        raise UsageError(msg, "a checkpoint is given with --weights, an artefact ends in .onnx")
    raise MissingError(msg, "`lkdn-zoo list` says what networks there are, by what names, and whose weights can be had")


def resolve(model: str, scale: int | None) -> Path:
    """An artefact named by a bundled model or by the path of an ``.onnx`` file.

    Raises:
        MissingError, UsageError: as ``find`` does.
    """
    path = Path(model)
    if path.suffix.lower() != ".onnx":
        return find(model, DEFAULT_SCALE if scale is None else scale)
    return path

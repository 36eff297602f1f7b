"""The artefacts that ship with the package, by model name and scale."""

import re
from pathlib import Path

FOLDER = Path(__file__).parent / "artefacts"
DEFAULT_MODEL, DEFAULT_SCALE = "lkdn-s", 4


def bundled() -> dict[tuple[str, int], Path]:
    """Return the files by model name and scale."""
    found = {}
    for path in sorted(FOLDER.glob("*.onnx")):
        if match := re.fullmatch(r"(.+)_x(\d)", path.stem):
            found[match[1], int(match[2])] = path
    return found

"""Pictures for a run on a cluster, and what a run leaves."""

import json
from pathlib import Path

import numpy as np
from PIL import Image

from lkdn_deploy.samples import sample_pixels


def save(folder: Path, count: int, width: int = 24, height: int = 20) -> None:
    """Save pictures, each of another content, in three folders."""
    for index in range(count):
        path = folder / "abc"[index % 3] / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.roll(sample_pixels()[:height, :width], index, axis=1)).save(path)


def outputs(folder: Path) -> dict[str, bytes]:
    """Return the outputs in a folder."""
    found = folder.rglob("*.png")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found if path.name[0] != "."}


def written(folder: Path) -> dict[str, tuple[int, int]]:
    """Return what tells whether an output was written again: the number and the time of each file."""
    found = [(path, path.stat()) for path in folder.rglob("*.png") if path.name[0] != "."]
    return {path.relative_to(folder).as_posix(): (facts.st_ino, facts.st_mtime_ns) for path, facts in found}


def journal_lines(folder: Path) -> list[dict[str, object]]:
    """Return the lines of all journals in a folder."""
    texts = [path.read_text() for path in sorted(folder.glob(".lkdn-upscale*.jsonl"))]
    return [json.loads(line) for text in texts for line in text.split("\n") if line]

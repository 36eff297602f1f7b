"""Between float32 in 0..1, which every session takes and gives, and what an artefact's input and output hold."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.artifact import Io


def to_input(batch: NDArray[np.float32], io: Io) -> NDArray[Any]:
    """Values in 0..1 as ``io``; 8-bit levels are rounded half to even, which those of 8-bit images survive."""
    if io == "uint8":
        levels: NDArray[np.uint8] = np.rint(np.clip(batch, 0, 1) * np.float32(255)).astype(np.uint8)
        return levels
    return batch.astype(np.float16) if io == "fp16" else batch


def from_output(result: NDArray[Any], io: Io) -> NDArray[np.float32]:
    """The inverse; floats are not clipped, 8-bit levels were by the artefact."""
    values = np.asarray(result, np.float32)
    return values / np.float32(255) if io == "uint8" else values

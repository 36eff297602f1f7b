"""Values at a network's input and output, and the checks of their shapes that every session makes."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.artifact import Io
from lkdn_deploy.core.errors import InputError, UsageError


def to_input(batch: NDArray[np.float32], io: Io) -> NDArray[Any]:
    """Convert float32 in 0..1 into the input type ``io``. Levels are rounded half to even."""
    if io == "uint8":
        levels: NDArray[np.uint8] = np.rint(np.clip(batch, 0, 1) * np.float32(255)).astype(np.uint8)
        return levels
    return batch.astype(np.float16) if io == "fp16" else batch


def from_output(result: NDArray[Any], io: Io) -> NDArray[np.float32]:
    """Convert an output of type ``io`` into float32. Floats are not clipped; the artefact has clipped 8-bit levels."""
    values = np.asarray(result, np.float32)
    return values / np.float32(255) if io == "uint8" else values


def check_interface(
    path: Path, inputs: Sequence[str], outputs: Sequence[str], shape: Sequence[int | None], types: Mapping[str, Io]
) -> Io:
    """Return the type of an artefact's input and output.

    Args:
        path: the file, for messages.
        inputs: the type of each input, in the engine's words.
        outputs: the type of each output.
        shape: sides of the first input; None is any.
        types: the accepted types by the engine's words.

    Raises:
        InputError: if there are others than one input (N, 3, H, W) and one output of the same type.
    """
    alike = len(inputs) == 1 and list(inputs) == list(outputs)
    if alike and inputs[0] in types and len(shape) == 4 and shape[1] == 3:
        return types[inputs[0]]
    sides = ", ".join("?" if side is None else str(side) for side in shape)
    got = f"inputs of {', '.join(inputs)}, the first ({sides}), and outputs of {', '.join(outputs)}"
    msg = f"{path}: expected one input (N, 3, H, W) and one output, both float32, float16 or uint8; got {got}"
    raise InputError(msg, "export the checkpoint with lkdn-export")


def check_window(fixed_size: tuple[int, int] | None, batch: NDArray[Any]) -> None:
    """Refuse a batch (N, 3, H, W) that does not have the fixed height and width of an artefact, if it has any.

    Raises:
        UsageError: with both sizes.
    """
    height, width = batch.shape[2:]
    if fixed_size not in (None, (height, width)):
        msg = "this artefact takes {1}x{0} pixels only".format(*fixed_size or ()) + f", got {width}x{height}"
        raise UsageError(msg, "export it without --static")


def check_result(scale: int, batch: Sequence[int], result: Sequence[int]) -> None:
    """Refuse a result whose shape is not ``scale`` times that of the batch: the scale in a file may be wrong.

    Args:
        scale: upscaling factor of the artefact's metadata.
        batch: shape of the input, (N, 3, H, W).
        result: shape of the engine's output.

    Raises:
        InputError: with both shapes.
    """
    count, _, height, width = batch
    if tuple(result) != (count, 3, scale * height, scale * width):
        msg = f"the artefact claims to upscale x{scale}, but it turned {tuple(batch)} into {tuple(result)}"
        raise InputError(msg, "export the checkpoint again")

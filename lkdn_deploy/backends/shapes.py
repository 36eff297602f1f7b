"""What every session checks alike: that a batch is what the artefact takes, and a result what it promises."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from lkdn_deploy.core.errors import InputError, UsageError


def check_window(fixed_size: tuple[int, int] | None, batch: NDArray[Any]) -> None:
    """Refuse a batch (N, 3, H, W) of another size than the only one that an artefact takes.

    Raises:
        UsageError: saying both.
    """
    height, width = batch.shape[2:]
    if fixed_size not in (None, (height, width)):
        msg = "this artefact takes {1}x{0} pixels only".format(*fixed_size or ()) + f", got {width}x{height}"
        raise UsageError(msg, "export it without --static")


def check_result(scale: int, batch: Sequence[int], result: Sequence[int]) -> None:
    """Refuse a result whose shape is not ``scale`` times as large as the batch's: metadata comes from a file.

    Raises:
        InputError: saying both shapes.
    """
    count, _, height, width = batch
    if tuple(result) != (count, 3, scale * height, scale * width):
        msg = f"the artefact says it upscales x{scale}, but made {tuple(result)} of {tuple(batch)}"
        raise InputError(msg, "export the checkpoint again")

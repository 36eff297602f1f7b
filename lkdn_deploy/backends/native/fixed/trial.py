"""The trial of a network in fixed point: its pixels beside float32's, before it is used.

Saturation is detected in every window, but the sum of many roundings is not. A network that enlarges the errors of its
values is found here, and refused.
"""

import hashlib
import json
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass

import numpy as np

from lkdn_deploy.backends.native.compile import CompiledNetwork
from lkdn_deploy.backends.native.executor import Executor
from lkdn_deploy.backends.native.fixed.fixed_ir import FixedProgram
from lkdn_deploy.backends.native.fixed.pictures import SIDE, as_image, drawn_pictures, shipped_pictures
from lkdn_deploy.backends.native.fixed.quantise import MARGIN, quantise
from lkdn_deploy.backends.native.fixed.storage import Ranges
from lkdn_deploy.backends.native.fixed.usage import RangeRecord
from lkdn_deploy.backends.native.ir import Bytes, Program, require
from lkdn_deploy.core.cache import Store
from lkdn_deploy.jit.compiler import Processor

log = logging.getLogger(__name__)

MOST_LEVELS = 2
"""Most levels by which a pixel of 8 bits may differ from float32."""

MARGINS = (MARGIN, 1.65)
"""Margins that are tried. With the smaller one integers are finer, and more windows are computed again in float32."""

_VERSION = b"1"
"""Changes whenever results of trials do."""

STORE = Store("trials", ".json", most=64, most_bytes=1 << 20)


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of a trial.

    Attributes:
        margin: the first margin with which no pixel differs too much, or the last one.
        levels: the largest difference of a pixel from float32 with it, in levels of 255.
    """

    margin: float
    levels: int


def tried(program: Program, ranges: Ranges, data: bytes, exact: CompiledNetwork, target: Processor) -> FixedProgram:
    """Return a program in fixed point with the margin that a trial found, now or earlier.

    Args:
        program: the program of an artefact.
        ranges: the ranges of its values.
        data: the artefact, which determines both.
        exact: the program in float32, as code.
        target: the processor at hand.

    Raises:
        UnsupportedError: if pixels differ too much with any margin, or as ``quantise`` does.
    """
    name = hashlib.sha256(_VERSION + data).hexdigest()
    found = _unpacked(STORE.read(name))
    if found is None:
        log.info("comparing fixed point with FP32, once")
        found = _trial(program, ranges, exact, target)
        STORE.keep(name, json.dumps(asdict(found)).encode())
    levels = f"{found.levels} of 255 levels"
    log.info("with fixed point, pixels of drawn pictures differ by at most %s from FP32", levels)
    fits = found.levels <= MOST_LEVELS
    require(fits, f"fixed point for a network whose pixels would differ by up to {levels} from FP32")
    return quantise(program, ranges, found.margin)


def _trial(program: Program, ranges: Ranges, exact: CompiledNetwork, target: Processor) -> Trial:
    pictures = [*shipped_pictures(), *drawn_pictures()]
    for margin in MARGINS:
        fixed = quantise(program, ranges, margin)
        found = Trial(margin, largest_difference(fixed, exact, pictures, target))
        if found.levels <= MOST_LEVELS:
            break
    return found


def largest_difference(
    fixed: FixedProgram, exact: CompiledNetwork, pictures: Iterable[Bytes], target: Processor
) -> int:
    """Return the largest difference of a pixel from float32 in levels of 255, apart from what saturates.

    Args:
        fixed: a program in fixed point.
        exact: the program in float32, as code.
        pictures: (``SIDE``, ``SIDE``, 3), RGB.
        target: the processor at hand.
    """
    record = RangeRecord(fixed)
    integers, floats = (Executor(it, SIDE, SIDE, 1) for it in (CompiledNetwork(fixed.program, target, fixed), exact))
    side = SIDE * exact.scale
    one, other = np.empty((2, side, side, 3), np.uint8)
    largest = 0
    with ThreadPoolExecutor(1) as idle:
        for picture in pictures:
            image = as_image(picture)
            integers.run(image, np.s_[:, :], one, idle)
            if record.add(integers.extremes(), as_pixels=True):
                floats.run(image, np.s_[:, :], other, idle)
                largest = max(largest, int(np.abs(one.astype(np.int16) - other).max()))
    return largest


def _unpacked(content: bytes | None) -> Trial | None:
    """Return a trial as it was written, or ``None`` if that is none."""
    try:
        found = json.loads(content or b"null")
        trial = Trial(found["margin"], found["levels"])
    except (ValueError, KeyError, TypeError):
        return None
    is_one = trial.margin in MARGINS and type(trial.levels) is int and 0 <= trial.levels <= 255
    return trial if is_one else None

"""The trial of a network in fixed point: its pixels beside float32's, before it is used.

Saturation is detected in every window, but the sum of many roundings is not. A network that enlarges the errors of its
values is found here, and refused.
"""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby

import numpy as np

from lkdn_deploy.backends.native.compile import CompiledNetwork
from lkdn_deploy.backends.native.executor import Executor
from lkdn_deploy.backends.native.fixed.fixed_ir import FixedProgram
from lkdn_deploy.backends.native.fixed.pictures import MOST_THREADS, as_image, drawn_pictures, shipped_pictures
from lkdn_deploy.backends.native.fixed.quantise import LEAST_WEIGHT, MARGIN, quantise
from lkdn_deploy.backends.native.fixed.rounding import DAMPING
from lkdn_deploy.backends.native.fixed.storage import Ranges
from lkdn_deploy.backends.native.fixed.usage import RangeRecord
from lkdn_deploy.backends.native.ir import Bytes, ConvOp, DepthwiseOp, Program
from lkdn_deploy.jit.compiler import Processor

MOST_DIFFERENCE = 1.25
"""Most levels by which a pixel may differ from float32 before both are rounded to 8 bits. Pixels differ by more than 2
levels only where these differ by more than 2: the rest is for pictures that are not tried."""

_FEWEST, _MOST, _PRODUCTS = 300, 2000, 300 * 130_000
"""Limits of the number of drawn pictures, and the products of each pixel in all of them: small networks are tried on
more pictures in the same time."""

_FINE = 4000
"""Least weight of the last attempts."""

_NOTHING_COMPARED = 255.0
"""The difference where a value saturates on every picture."""

ATTEMPTS = (
    *((MARGIN, DAMPING, LEAST_WEIGHT), (MARGIN, DAMPING, 4 * LEAST_WEIGHT)),
    *((1.65, DAMPING, LEAST_WEIGHT), (1.65, 10 * DAMPING, LEAST_WEIGHT), (1.65, DAMPING / 10, LEAST_WEIGHT)),
    *((1.65, DAMPING, _FINE), (1.65, 10 * DAMPING, _FINE), (1.4, DAMPING, _FINE), (1.4, 10 * DAMPING, _FINE)),
)
"""Margins, dampings and least weights that are tried. With a smaller margin integers are finer, and more windows are
computed again in float32. With another damping weights are rounded otherwise, to as fine integers. With a larger least
weight more sums are split, whose weights are finer then."""


@dataclass(frozen=True, slots=True)
class Trial:
    """The result of a trial: the first attempt with which no pixel differs too much, or the last one."""

    attempt: tuple[float, float, float]
    """One of ``ATTEMPTS``."""
    difference: float
    """The largest difference of a pixel from float32, in levels of 255; a larger one was not looked for."""

    @property
    def fits(self) -> bool:
        """Whether no pixel differs too much."""
        return self.difference <= MOST_DIFFERENCE


def tried(
    program: Program, ranges: Ranges, exact: CompiledNetwork, target: Processor, threads: int
) -> tuple[Trial, FixedProgram]:
    """Try a program, and return it in fixed point as it was tried last.

    Args:
        program: the program of an artefact.
        ranges: the ranges of its values.
        exact: the program in float32, as code.
        target: the processor at hand.
        threads: number of threads to use.

    Raises:
        UnsupportedError: as ``quantise`` does.
    """
    weights = sum(op.weight.size for op in program.ops if isinstance(op, ConvOp | DepthwiseOp))
    count = min(max(_PRODUCTS // max(weights, 1), _FEWEST), _MOST)
    pictures = [*shipped_pictures(), *drawn_pictures(count)]
    for attempt in ATTEMPTS:
        fixed = quantise(program, ranges, *attempt)
        found = Trial(attempt, largest_difference(fixed, exact, pictures, target, threads))
        if found.fits:
            break
    return found, fixed


def largest_difference(
    fixed: FixedProgram, exact: CompiledNetwork, pictures: Iterable[Bytes], target: Processor, threads: int = 1
) -> float:
    """Return the largest difference of a pixel from float32 in levels of 255, apart from what saturates.

    Pixels are not rounded to 8 bits. Those that are not a number differ by all levels. Pictures after one with more
    than ``MOST_DIFFERENCE`` are left out.

    Args:
        fixed: a program in fixed point.
        exact: the program in float32, as code.
        pictures: (side, side, 3), RGB; executors are made whenever the side changes.
        target: the processor at hand.
        threads: number of threads to use.
    """
    threads = min(threads, MOST_THREADS)
    record, compiled, largest = RangeRecord(fixed), CompiledNetwork(fixed.program, target, fixed), 0.0
    with ThreadPoolExecutor(threads) as idle:
        for side, those in groupby(pictures, len):
            integers, floats = (Executor(it, side, side, threads) for it in (compiled, exact))
            one, other = np.empty((2, 3, exact.scale * side, exact.scale * side), np.float32)
            for image in map(as_image, those):
                integers.run(image, np.s_[:, :], one, idle)
                if record.add(integers.extremes(), as_pixels=True):
                    floats.run(image, np.s_[:, :], other, idle)
                    apart = np.abs(one.clip(0, 1, out=one) - other.clip(0, 1, out=other))
                    largest = max(largest, 255 * float(np.nan_to_num(apart, nan=1).max()))
                    if largest > MOST_DIFFERENCE:
                        return largest
    use = record.take()
    return largest if use.again < use.windows else _NOTHING_COMPARED

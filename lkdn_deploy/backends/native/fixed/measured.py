"""The ranges of a network's values, and the moments of its convolutions, measured on pictures that ship."""

from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from lkdn_deploy.backends.native.compile import CompiledNetwork
from lkdn_deploy.backends.native.executor import Executor
from lkdn_deploy.backends.native.fixed.pictures import MOST_THREADS, SIDE, as_image
from lkdn_deploy.backends.native.fixed.rounding import window_moments, with_moments
from lkdn_deploy.backends.native.fixed.storage import Ranges
from lkdn_deploy.backends.native.ir import (
    Boundary,
    BoundaryKind,
    Bytes,
    Elementwise,
    Floats,
    Op,
    Program,
)
from lkdn_deploy.jit.compiler import Processor

if TYPE_CHECKING:
    from lkdn_deploy.backends.native.fixed.fixed_ir import Doubles


def measure(program: Program, pictures: Iterable[Bytes], target: Processor, threads: int = 1) -> Ranges:
    """Return the ranges of all values, and the moments of what convolutions ``with_moments`` read, over all pictures.

    Args:
        program: a program without subgraphs.
        pictures: (``SIDE``, ``SIDE``, 3), RGB.
        target: the processor at hand.
        threads: number of threads to use.
    """
    low = [np.full(channels, np.inf, np.float32) for channels in program.channels]
    high = [np.full(channels, -np.inf, np.float32) for channels in program.channels]
    moments: dict[int, Doubles] = {}
    watched = with_moments(program.ops, SIDE)
    for maps in _values(program, pictures, target, threads):
        for value, it in maps.items():
            # All channels of the result have one scale.
            rows = it.reshape(1 if value == program.result else len(it), -1)
            np.minimum(low[value], rows.min(axis=1), out=low[value])
            np.maximum(high[value], rows.max(axis=1), out=high[value])
        for op in watched:
            added = window_moments(op, [maps[it] for it in op.inputs])
            moments[op.output] = moments[op.output] + added if op.output in moments else added
    for value in set(range(len(low))) - {0, *(op.output for op in program.ops)}:  # merged into others
        low[value][:] = high[value][:] = 0
    return Ranges(tuple(low), tuple(high), moments)


def _values(
    program: Program, pictures: Iterable[Bytes], target: Processor, threads: int
) -> Iterator[dict[int, Floats]]:
    """Yield all values of a program, (channels, H, W), for each picture. They are valid until the next.

    The result is (3, scale * H, scale * W). Values that are merged into others are left out.
    """
    watched, copies = _with_copies(program)
    threads = min(threads, MOST_THREADS)
    executor = Executor(CompiledNetwork(watched, target), SIDE, SIDE, threads)
    size = SIDE * program.pixel_order.shape[1]
    result = np.empty((3, size, size), np.float32)
    with ThreadPoolExecutor(threads) as idle:
        for picture in pictures:
            image = as_image(picture)
            executor.run(image, np.s_[:, :], result, idle)
            yield (
                {0: image}
                | {value: executor.exported(copy) for value, copy in copies.items()}
                | {program.result: result}
            )


def _with_copies(program: Program) -> tuple[Program, dict[int, int]]:
    """Return a program that exports a copy of each value apart from the result, and the copies by value."""
    ops: list[Op] = []
    boundaries = dict(program.boundaries)
    copies: dict[int, int] = {}
    for op in program.ops:
        ops.append(op)
        if op.output != program.result:
            copy = copies[op.output] = len(program.channels) + op.output
            ops.append(Elementwise((op.output,), copy, "copy"))
            boundaries[copy] = Boundary(BoundaryKind.NCHW, f"copy of {op.output}")
    channels, depths = program.channels * 2, program.depths * 2
    return replace(program, ops=tuple(ops), channels=channels, depths=depths, boundaries=boundaries), copies

"""The ranges of a network's values, measured on drawn pictures and on the photograph that ships."""

import hashlib
import io
import logging
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from zipfile import BadZipFile

import numpy as np

from lkdn_deploy.backends.native.compile import CompiledNetwork
from lkdn_deploy.backends.native.executor import Executor
from lkdn_deploy.backends.native.fixed.pictures import SIDE, as_image, shipped_pictures
from lkdn_deploy.backends.native.fixed.storage import Ranges
from lkdn_deploy.backends.native.ir import Boundary, BoundaryKind, Bytes, Elementwise, Op, Program
from lkdn_deploy.core.cache import Store
from lkdn_deploy.jit.compiler import Processor

log = logging.getLogger(__name__)

_VERSION = b"3"
"""Changes whenever the pictures do."""

STORE = Store("ranges", ".npz", most=64, most_bytes=64 << 20)


def ranges_of(program: Program, data: bytes, target: Processor) -> Ranges:
    """Return the ranges of a program's values, from the cache or measured now.

    Args:
        program: the program of an artefact.
        data: the artefact, which determines the ranges.
        target: the processor at hand.
    """
    name = hashlib.sha256(_VERSION + data).hexdigest()
    if (content := STORE.read(name)) is not None and (found := _unpacked(content, program)) is not None:
        return found
    log.info("measuring the ranges of the network's values, once")
    found = measure(program, shipped_pictures(), target)
    STORE.keep(name, _packed(found))
    return found


def measure(program: Program, pictures: Iterable[Bytes], target: Processor) -> Ranges:
    """Return the lowest and the highest number of each channel of each value, over all pictures.

    Args:
        program: a program without subgraphs.
        pictures: (``SIDE``, ``SIDE``, 3), RGB.
        target: the processor at hand.
    """
    watched, copies = _with_copies(program)
    executor = Executor(CompiledNetwork(watched, target), SIDE, SIDE, 1)
    low = [np.full(channels, np.inf, np.float32) for channels in program.channels]
    high = [np.full(channels, -np.inf, np.float32) for channels in program.channels]
    size = SIDE * program.pixel_order.shape[1]
    result = np.empty((3, size, size), np.float32)
    with ThreadPoolExecutor(1) as idle:
        for picture in pictures:
            image = as_image(picture)
            executor.run(image, np.s_[:, :], result, idle)
            maps = {value: executor.exported(copy) for value, copy in copies.items()}
            for value, it in (maps | {0: image}).items():
                np.minimum(low[value], it.min(axis=(1, 2)), out=low[value])
                np.maximum(high[value], it.max(axis=(1, 2)), out=high[value])
            low[program.result][:] = min(float(low[program.result][0]), float(result.min()))
            high[program.result][:] = max(float(high[program.result][0]), float(result.max()))
    for value in set(range(len(low))) - {0, *(op.output for op in program.ops)}:  # merged into others
        low[value][:] = high[value][:] = 0
    return Ranges(tuple(low), tuple(high))


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


def _packed(ranges: Ranges) -> bytes:
    file = io.BytesIO()
    np.savez(file, low=np.concatenate(ranges.low), high=np.concatenate(ranges.high))
    return file.getvalue()


def _unpacked(content: bytes, program: Program) -> Ranges | None:
    """Return ranges as ``_packed`` wrote them, or ``None`` if they do not fit the program."""
    ends = np.cumsum(program.channels)
    if len(content) > 8 * ends[-1] + (1 << 12):
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            low, high = (np.asarray(arrays[name]) for name in ("low", "high"))
    except (OSError, ValueError, KeyError, EOFError, BadZipFile) as error:
        log.info("the ranges in the cache are not used: %s", error)
        return None
    fit = all(it.dtype == np.float32 and it.shape == (ends[-1],) and np.isfinite(it).all() for it in (low, high))
    if not fit or (low > high).any():
        return None
    return Ranges(*(tuple(np.split(it, ends[:-1])) for it in (low, high)))

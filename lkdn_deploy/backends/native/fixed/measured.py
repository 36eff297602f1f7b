"""The ranges of a network's values, measured on drawn pictures and on the photograph that ships."""

import hashlib
import io
import logging
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from zipfile import BadZipFile

import numpy as np

from lkdn_deploy.backends.native.compile import CompiledNetwork
from lkdn_deploy.backends.native.executor import Executor
from lkdn_deploy.backends.native.fixed.storage import Ranges
from lkdn_deploy.backends.native.ir import Boundary, BoundaryKind, Bytes, Elementwise, Op, Program
from lkdn_deploy.core.cache import Store
from lkdn_deploy.jit.compiler import Processor
from lkdn_deploy.samples import sample_pixels

log = logging.getLogger(__name__)

SIDE = 64
"""Side of the pictures. Larger ones reach hardly further, and all values of a network are in memory at once."""

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
            image = np.ascontiguousarray(picture.astype(np.float32).transpose(2, 0, 1) / np.float32(255))
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


def shipped_pictures() -> Iterator[Bytes]:
    """Yield pictures of the kinds that users have: parts of the photograph, also noisy, text and flat colours.

    Random pixels and checkers are not among them. They reach far beyond all others, and integers of such ranges would
    be too coarse for them nevertheless, so that pixels would differ by up to 9 levels. They are computed in float32.
    """
    photograph = sample_pixels()
    random = np.random.default_rng(3)
    yield from _parts(photograph, 3, 4)
    for turn in range(3):  # in a smaller picture details are sharper; and other colours
        yield from _parts(np.roll(photograph[::2, ::2], turn, axis=2), 2, 2)
    for part in _parts(photograph[::2, ::2], 2, 2):
        for contrast in (2, 4):
            yield np.clip((part.astype(np.int16) - 128) * contrast + 128, 0, 255).astype(np.uint8)
        yield np.clip(part + random.normal(0, 15, part.shape), 0, 255).astype(np.uint8)
    yield from (_text(), 255 - _text())
    rows, _ = np.mgrid[:SIDE, :SIDE]
    for upper, lower in ((0b100, 0b001), (0b010, 0b101), (0b110, 0b001), (0b011, 0b100), (0b000, 0b111)):
        halves = np.where(rows[..., None] < SIDE // 2, upper, lower)
        yield (255 * (halves >> np.array([2, 1, 0]) & 1)).astype(np.uint8)


def _parts(picture: Bytes, down: int, across: int) -> Iterator[Bytes]:
    rows, columns = (
        np.linspace(0, side - SIDE, count).astype(int)
        for side, count in zip(picture.shape[:2], (down, across), strict=True)
    )
    for top in rows:
        yield from (picture[top : top + SIDE, left : left + SIDE] for left in columns)


def _text() -> Bytes:
    from PIL import Image, ImageDraw

    picture = Image.new("RGB", (SIDE, SIDE), "white")
    draw = ImageDraw.Draw(picture)
    for line, colour in enumerate(("black", "red", "blue", "green", "black", "magenta")):
        draw.text((1, 10 * line), "Quick brown fox 012", fill=colour)
    return np.asarray(picture)


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

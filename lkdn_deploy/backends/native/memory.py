"""Memory as the kernels want it: beginning with lines of the caches, in large pages."""

from itertools import accumulate

import numpy as np

from lkdn_deploy.backends.native.layout import LINE
from lkdn_deploy.backends.native.program import Floats


def pieces(sizes: list[int]) -> list[Floats]:
    """Memory for each of so many numbers, all in one piece that begins with one of the system's large pages.

    In small pages, which lie anywhere, rows that are kept would meet in the second-level cache.
    """
    starts = list(accumulate((whole_lines(size) for size in sizes), initial=0))
    memory = aligned(max(starts[-1], ASKED_FOR), PAGE)
    return [memory[start : start + size] for start, size in zip(starts, sizes, strict=False)]


def whole_lines(count: int) -> int:
    """Numbers in as many lines of the cache as so many take."""
    return -(-count // LINE) * LINE


PAGE = 2**21 // 4
"""Floats of a large page, as most systems have them."""

ASKED_FOR = 2**22 // 4
"""Floats for which NumPy asks for large pages."""


def aligned(count: int, unit: int = LINE) -> Floats:
    """Memory for so many numbers, beginning with a line of the cache, or another unit."""
    memory = np.empty(count + unit, np.float32)
    start = -(memory.ctypes.data // 4) % unit
    return memory[start : start + count]

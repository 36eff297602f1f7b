"""The loops over a picture's bytes in machine code, where there can be any."""

import sys
from functools import cache
from threading import Lock
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lkdn_deploy.imaging.files.loops import Loops

_WORTH_LOADING = 1 << 22  # bytes of samples
_LOADING = Lock()


def loops_for(size: int) -> "Loops | None":
    """Machine code for a picture of so many bytes; None for small ones, without llvmlite, and if not little-endian."""
    if size < _WORTH_LOADING:
        return None
    with _LOADING:  # threads write pictures side by side
        return _loaded()


@cache
def _loaded() -> "Loops | None":
    if sys.byteorder != "little":
        return None
    try:
        from lkdn_deploy.imaging.files.loops import Loops
        from lkdn_deploy.jit.compiler import processor
    except ImportError:
        return None
    return Loops(processor())

"""The display matrix of a film: how a player turns its pictures.

The pictures of the result are turned themselves, as photographs are. A matrix would be kept by MP4 and MOV, but not
every player heeds it, and fewer still in Matroska.
"""

import struct
from typing import TYPE_CHECKING

from lkdn_deploy.video.colours import side_data

if TYPE_CHECKING:
    import av

_FILTERS: dict[tuple[int, int, int, int], tuple[str, ...]] = {
    (1, 0, 0, 1): (),
    (-1, 0, 0, 1): ("hflip",),
    (1, 0, 0, -1): ("vflip",),
    (-1, 0, 0, -1): ("hflip", "vflip"),
    (0, 1, -1, 0): ("transpose=clock",),
    (0, -1, 1, 0): ("transpose=cclock",),
    (0, 1, 1, 0): ("transpose=cclock_flip",),
    (0, -1, -1, 0): ("transpose=clock_flip",),
}
"""Filters of FFmpeg for each matrix (a, b, c, d): a point (x, y) is shown at (a x + c y, b x + d y), y downwards."""


def turn_of(frame: "av.VideoFrame") -> tuple[str, ...] | None:
    """Return the filters that turn a picture upright; ``None`` if its matrix is not one of quarter turns and flips."""
    for side in side_data(frame):
        if side.type.name == "DISPLAYMATRIX" and len(bytes(side)) >= 36:
            a, b, _, c, d, *_ = struct.unpack("=9i", bytes(side)[:36])
            sizes = {abs(value) for value in (a, b, c, d)}
            if len(sizes) != 2 or 0 not in sizes:
                return None
            return _FILTERS.get(tuple((value > 0) - (value < 0) for value in (a, b, c, d)))
    return ()


def swaps_sides(turn: tuple[str, ...]) -> bool:
    """Return whether the filters make columns of rows."""
    return any(name.startswith("transpose") for name in turn)

"""Where names stand in a scatter plot, so that none lies on another or on a marker."""

from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

GAPS = (4, 10, 18, 28, 40, 54)
"""Points between a marker's edge and its name."""
ANGLES = (0, 90, 270, 180, 45, 315, 135, 225)
"""In degrees, the dear ones first: right of the marker, above it, below."""


def offsets(centres: Array, sizes: Array, markers: Array, radius: float, frame: Array) -> list[Array | None]:
    """From each centre to the middle of its name, the nearest that is free; ``None`` where nothing is.

    Names are placed in turn, so the first ones lie best. All in points.

    Args:
        centres: (N, 2), of the markers that are named.
        sizes: (N, 2), width and height of the names.
        markers: (M, 2), of all markers.
        radius: of every marker.
        frame: left, bottom, right and top of what must hold the names.
    """
    taken = [np.concatenate([marker - radius, marker + radius]) for marker in markers]
    found: list[Array | None] = []
    for centre, size in zip(centres, sizes, strict=True):
        place = _free(centre, size, radius, taken, frame)
        found.append(place)
        if place is not None:
            middle = centre + place
            taken.append(np.concatenate([middle - size / 2, middle + size / 2]))
    return found


def _free(centre: Array, size: Array, radius: float, taken: Sequence[Array], frame: Array) -> Array | None:
    for gap, angle in product(GAPS, np.radians(ANGLES)):
        direction = np.array([np.cos(angle), np.sin(angle)])
        place: Array = (radius + gap) * direction + np.clip(1.5 * direction, -1, 1) * size / 2
        low, high = centre + place - size / 2, centre + place + size / 2
        inside = (low >= frame[:2]).all() and (high <= frame[2:]).all()
        if inside and not any((low < box[2:]).all() and (high > box[:2]).all() for box in taken):
            return place
    return None

"""Facts that the shapes of a state dict's weights tell: a network's scale, and the number of its blocks."""

import re
from collections.abc import Mapping
from math import isqrt

Shapes = Mapping[str, tuple[int, ...]]
"""The shapes of weights by their names."""


def shuffled_scale(channels: int, colours: int = 3) -> int:
    """Return the scale of a pixel shuffle from so many channels, or from a few more, to so many colours."""
    return isqrt(channels // colours)


def count_blocks(shapes: Shapes, pattern: str) -> int:
    """Return how many different texts the group of a pattern has at the beginnings of the names."""
    return len({match[1] for name in shapes if (match := re.match(pattern, name))})

"""Tables of the residues of activations, max(x, 0) - a(x): even functions that vanish away from 0."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from lkdn_deploy.backends.native.fixed.fixed_ir import HIGHEST, PIECES, Doubles, ResidueTable, Shorts

LEAST_STEP = 16
"""Least ``step`` of a `FixedActivation`: with it, 16 bits reach just beyond the end of the table."""

_UNIT = 1 << 15
"""Steps from one piece to the next."""

_STEPS = (2 * PIECES - 1) * _UNIT // 2
"""Steps from 0 to the end of the table. The first piece has its centre at 0, so only half of it is used."""


@dataclass(frozen=True, slots=True)
class Residue:
    """The residue of an activation."""

    function: Callable[[float], float]
    """Its values from 0 on."""
    end: float
    """The number from which on it is as good as 0, where the table ends."""

    @property
    def unit(self) -> float:
        """The number in the table that stands for 1."""
        return _STEPS / self.end

    def scale(self, step: int) -> float:
        """Return the scale of values whose `FixedActivation` has this step."""
        return _STEPS / (self.end * step)

    def step(self, scale: float) -> int:
        """Return the least step whose scale is at most ``scale``."""
        return max(LEAST_STEP, math.ceil(_STEPS / (self.end * scale)))


RESIDUES = {
    "gelu": Residue(lambda x: x * math.erfc(x / math.sqrt(2)) / 2, 4.5),
    "silu": Residue(lambda x: x / (1 + math.exp(x)), 11.0),
}
"""Residues by kind of ``ir.Elementwise``."""


@cache
def residue_table(kind: str) -> ResidueTable:
    """Return the table of a residue: pieces of the second degree, interpolated at Chebyshev's points."""
    residue = RESIDUES[kind]
    points = np.cos(np.pi * (np.arange(48) + 0.5) / 48)
    width = residue.end / (2 * PIECES - 1)  # half of a piece
    found = np.zeros((3, PIECES))
    for piece in range(PIECES):
        # The first piece is used from its centre on.
        s = points if piece else (points + 1) / 2
        values = [residue.function((2 * piece + it) * width) for it in s]
        found[:, piece] = np.polynomial.polynomial.polyfit(s, values, 2)
    return ResidueTable(np.rint(found * residue.unit).astype(np.int16))


def activation_numbers(kind: str, scale: Doubles) -> tuple[Shorts, Shorts, Shorts]:
    """Return ``end``, ``step`` and ``factor`` of a `FixedActivation` for values of scales that ``Residue.scale`` gives.

    Args:
        kind: key of ``RESIDUES``.
        scale: (channels,).
    """
    step = np.rint(RESIDUES[kind].scale(1) / scale).astype(np.int64)
    end = np.minimum((_STEPS - 1) // step, HIGHEST)
    factor = np.rint(_UNIT / step)
    return end.astype(np.int16), step.astype(np.int16), factor.astype(np.int16)

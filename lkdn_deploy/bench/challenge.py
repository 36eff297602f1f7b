"""The scores of the NTIRE challenges on efficient super-resolution: a network's figures relative to a baseline's.

A score is exp(2 x / x of the baseline), so that of the baseline is e^2 = 7.39, and less is better. The rules are those
of the challenges' repositories (github.com/Amazingren/NTIRE2024_ESR, NTIRE2025_ESR, NTIRE2026_ESR). Times depend on the
machine: the baseline is timed in the same run, and its published time is never used.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from lkdn_deploy.bench.results import Protocol, Report, Row


@dataclass(frozen=True, slots=True)
class Challenge:
    """The rules of one year."""

    baseline: str
    """Name of the baseline in the zoo; empty in 2023, whose ranking has no formula."""
    weights: tuple[float, float, float]
    """Weights of the scores of runtime, FLOPs and parameters in the final one."""
    least_psnr: tuple[float, ...]
    """Decibels below which a network is not ranked: on the validation images, then on the test images."""


_DIV2K_LSDIR = (26.90, 26.99)
CHALLENGES: Mapping[Protocol, Challenge] = {
    Protocol.NTIRE_2023: Challenge("", (0.0, 0.0, 0.0), (29.00,)),
    Protocol.NTIRE_2024: Challenge("rlfn-ntire", (0.7, 0.15, 0.15), _DIV2K_LSDIR),
    Protocol.NTIRE_2025: Challenge("efdn", (0.7, 0.15, 0.15), _DIV2K_LSDIR),
    Protocol.NTIRE_2026: Challenge("span-ch28", (0.8, 0.1, 0.1), _DIV2K_LSDIR),
}


@dataclass(frozen=True, slots=True)
class Score:
    """The scores of a row; less is better."""

    runtime: float
    flops: float
    parameters: float
    final: float


def scores(report: Report) -> list[Score | None]:
    """Return the score of each row, relative to the baseline on the same engine at the same precision.

    A row has none if the protocol has none, or if its latency or that of its baseline was not measured.
    """
    challenge = CHALLENGES.get(report.settings.protocol)
    if challenge is None or not challenge.baseline:
        return [None] * len(report.rows)
    bases = {(row.backend, row.precision): row for row in report.rows if row.model == challenge.baseline}
    return [_score(row, bases.get((row.backend, row.precision)), challenge.weights) for row in report.rows]


def _score(row: Row, base: Row | None, weights: tuple[float, float, float]) -> Score | None:
    if base is None or not (row.latency and row.cost and base.latency and base.cost):
        return None
    pairs = (
        (row.latency.mean, base.latency.mean),
        (row.cost.operations, base.cost.operations),
        (row.cost.parameters, base.cost.parameters),
    )
    runtime, flops, parameters = (math.exp(min(2 * mine / theirs, 700.0)) for mine, theirs in pairs)  # e^710 overflows
    final = weights[0] * runtime + weights[1] * flops + weights[2] * parameters
    return Score(runtime, flops, parameters, final)

"""What samples of a latency tell, and how surely."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.bench.results import Ratio

RESAMPLES = 4000
CONFIDENCE = 0.99
"""Of the intervals. A report has many rows, and each is one more chance of a false alarm."""
LEAST_ROUNDS = 5
"""Below this, the extremes of the samples decide the interval, and nothing is said of a ratio."""


def bootstrap_ratio(samples: Sequence[float], reference: Sequence[float], seed: int = 0) -> Ratio | None:
    """A latency over another's: the median of the rounds' own ratios, with a percentile bootstrap interval.

    What slows a whole round slows both and cancels: on a shared machine that halves the noise of a ratio of medians.
    (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.)

    Args:
        samples, reference: as many, in order of the rounds.
        seed: of the draws.

    Returns:
        ``None`` of fewer than ``LEAST_ROUNDS`` rounds.

    Raises:
        ValueError: if there are not as many of both.
    """
    ratios = np.divide(*_paired(samples, reference))
    return _interval(ratios, np.median, seed) if len(ratios) >= LEAST_ROUNDS else None


def bootstrap_mean_ratio(samples: Sequence[float], reference: Sequence[float], seed: int = 0) -> Ratio | None:
    """The same for the ratio of the means, as of images of different sizes: those that take long weigh more."""
    pairs = _paired(samples, reference)
    if pairs.shape[1] < LEAST_ROUNDS:
        return None
    return _interval(pairs.T, lambda drawn, axis: drawn[..., 0].mean(axis) / drawn[..., 1].mean(axis), seed)


def _paired(samples: Sequence[float], reference: Sequence[float]) -> NDArray[np.float64]:
    """(2, rounds)."""
    if len(samples) != len(reference):
        msg = f"rounds have a sample of each, got {len(samples)} and {len(reference)}"
        raise ValueError(msg)
    return np.array([samples, reference])


def _interval(rounds: NDArray[np.float64], statistic: Callable[..., Any], seed: int) -> Ratio:
    """Of a statistic of the rounds, which are along the first axis."""
    drawn = np.random.default_rng(seed).integers(len(rounds), size=(RESAMPLES, len(rounds)))
    low, high = np.quantile(statistic(rounds[drawn], axis=1), [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Ratio(float(statistic(rounds, axis=0)), float(low), float(high))


def settled(samples: Sequence[float], window: int, tolerance: float) -> bool:
    """Whether the median of the last ``window`` samples is that of as many before.

    It is, if they differ by no more than a fraction of it, or by no more than the samples scatter around their own
    median: on a noisy machine nothing settles nearer.
    """
    if len(samples) < 2 * window:
        return False
    recent = np.array(samples[-2 * window :])
    before, now = np.median(recent[:window]), np.median(recent[window:])
    scatter = np.median(np.abs(recent - np.median(recent)))
    return bool(abs(now - before) <= max(tolerance * before, scatter))

"""Bootstrap intervals for ratios of latencies, and when a series of latencies has settled."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.bench.results import Ratio

RESAMPLES = 4000
CONFIDENCE = 0.99
"""Confidence of the intervals. A report has many rows, and each is another chance of a false alarm."""
LEAST_ROUNDS = 8
"""Fewer rounds allow no such confidence: 7 rounds all lie on one side of the median with a probability of 1.6 %."""

_BLOCK = 1 << 20  # samples drawn at once, which bounds the memory for many rounds


def bootstrap_ratio(samples: Sequence[float], reference: Sequence[float], seed: int = 0) -> Ratio | None:
    """Compute the median of the rounds' ratios of two latencies, with a percentile bootstrap interval.

    What slows a whole round slows both and cancels: on a shared machine that halves the noise of a ratio of medians.
    (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.) For few rounds that interval is too
    narrow: it is widened to the interval between order statistics, which holds for any distribution of the noise.

    Args:
        samples: latencies in order of the rounds.
        reference: latencies of the other candidate in the same rounds.
        seed: seed of the draws.

    Returns:
        ``None`` for fewer than ``LEAST_ROUNDS`` rounds.

    Raises:
        ValueError: if the numbers of samples differ.
    """
    one, other = _paired(samples, reference)
    ratios = np.sort(one / other)
    if len(ratios) < LEAST_ROUNDS:
        return None
    random = np.random.default_rng(seed)
    low, high = _interval(np.concatenate([np.median(ratios[draw], axis=1) for draw in draws(len(ratios), random)]))
    place = _order(len(ratios))
    return Ratio(float(np.median(ratios)), min(low, float(ratios[place])), max(high, float(ratios[-1 - place])))


def bootstrap_mean_ratio(samples: Sequence[float], reference: Sequence[float], seed: int = 0) -> Ratio | None:
    """Compute the ratio of two mean latencies, as of images of different sizes, where slow images weigh more.

    The interval is the bootstrap-t interval (Efron and Tibshirani, chapter 12.5), made for means of few samples; for a
    dozen it still misses about twice as often as its confidence says. Result and errors are those of
    ``bootstrap_ratio``.

    Args:
        samples: latencies, in any unit.
        reference: latencies that they are divided by, of the same images.
        seed: of the random draws.
    """
    one, other = _paired(samples, reference)
    if len(one) < LEAST_ROUNDS:
        return None
    value, error = _mean_ratio(one, other)
    if not error:
        return Ratio(float(value), float(value), float(value))
    scores = []
    for draw in draws(len(one), np.random.default_rng(seed)):
        values, errors = _mean_ratio(one[draw], other[draw])
        with np.errstate(divide="ignore", invalid="ignore"):
            scores.append((values - value) / errors)
    low, high = _interval(np.nan_to_num(np.concatenate(scores)))
    return Ratio(float(value), float(value - high * error), float(value - low * error))


def _paired(samples: Sequence[float], reference: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(samples) != len(reference):
        msg = f"expected as many samples of both candidates, got {len(samples)} and {len(reference)}"
        raise ValueError(msg)
    return np.array(samples, np.float64), np.array(reference, np.float64)


def draws(rounds: int, random: np.random.Generator) -> Iterator[NDArray[np.intp]]:
    """Yield ``RESAMPLES`` resamples of the rounds' indices, in blocks."""
    left = RESAMPLES
    while left:
        count = min(left, max(_BLOCK // rounds, 1))
        yield random.integers(rounds, size=(count, rounds))
        left -= count


def _interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """Return the central part of a distribution that holds ``CONFIDENCE`` of it."""
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _mean_ratio(
    samples: NDArray[np.float64], reference: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute the ratio of the means along the last axis, and its standard error to first order."""
    below = reference.mean(axis=-1)
    value = samples.mean(axis=-1) / below
    rest = samples - value[..., None] * reference
    return value, rest.std(axis=-1, ddof=1) / (below * samples.shape[-1] ** 0.5)


def _order(rounds: int) -> int:
    """Return how many sorted rounds can be cut off at each end while the median stays inside with ``CONFIDENCE``.

    Each round lies below the median with probability 1/2, so their number has a binomial distribution.
    """
    factorials = np.concatenate([[0.0], np.cumsum(np.log(np.arange(1, rounds + 1)))])  # logarithms
    tails = np.cumsum(np.exp(factorials[-1] - factorials - factorials[::-1] - rounds * np.log(2)))
    return max(int(np.searchsorted(tails, (1 - CONFIDENCE) / 2, side="right")) - 1, 0)


def settled(samples: Sequence[float], window: int, tolerance: float) -> bool:
    """Return whether the median of the last ``window`` samples equals that of as many before.

    They may differ by the fraction ``tolerance``, or by the samples' median absolute deviation: on a noisy machine
    nothing settles closer.

    Args:
        samples: latencies so far, in any unit.
        window: number of samples in a median.
        tolerance: largest relative difference of the medians.
    """
    if len(samples) < 2 * window:
        return False
    recent = np.array(samples[-2 * window :])
    before, now = np.median(recent[:window]), np.median(recent[window:])
    scatter = np.median(np.abs(recent - np.median(recent)))
    return bool(abs(now - before) <= max(tolerance * before, scatter))

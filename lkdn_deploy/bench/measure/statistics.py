"""What samples of a latency tell, and how surely."""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.bench.results import Ratio

RESAMPLES = 4000
CONFIDENCE = 0.99
"""Of the intervals. A report has many rows, and each is one more chance of a false alarm."""
LEAST_ROUNDS = 8
"""Below this no interval of such confidence can be had: of 7 rounds, all lie on one side of the median with 1.6 %."""

_BLOCK = 1 << 20  # samples drawn at once, so that many rounds do not take much memory


def bootstrap_ratio(samples: Sequence[float], reference: Sequence[float], seed: int = 0) -> Ratio | None:
    """A latency over another's: the median of the rounds' own ratios, with a percentile bootstrap interval.

    What slows a whole round slows both and cancels: on a shared machine that halves the noise of a ratio of medians.
    (Efron and Tibshirani, "An Introduction to the Bootstrap", 1993, chapter 13.) Of few rounds that interval is too
    narrow: it is widened to the one between order statistics, which holds whatever the noise is like.

    Args:
        samples, reference: as many, in order of the rounds.
        seed: of the draws.

    Returns:
        ``None`` of fewer than ``LEAST_ROUNDS`` rounds.

    Raises:
        ValueError: if there are not as many of both.
    """
    one, other = _paired(samples, reference)
    ratios = np.sort(one / other)
    if len(ratios) < LEAST_ROUNDS:
        return None
    low, high = _between(np.concatenate([np.median(ratios[draw], axis=1) for draw in _draws(len(ratios), seed)]))
    place = _order(len(ratios))
    return Ratio(float(np.median(ratios)), min(low, float(ratios[place])), max(high, float(ratios[-1 - place])))


def bootstrap_mean_ratio(samples: Sequence[float], reference: Sequence[float], seed: int = 0) -> Ratio | None:
    """The same for the ratio of the means, as of images of different sizes: those that take long weigh more.

    The interval is the bootstrap-t one (Efron and Tibshirani, chapter 12.5), made for means of few samples; of a dozen
    it still misses about twice as often as it says.
    """
    one, other = _paired(samples, reference)
    if len(one) < LEAST_ROUNDS:
        return None
    value, error = _mean_ratio(one, other)
    if not error:
        return Ratio(float(value), float(value), float(value))
    scores = []
    for draw in _draws(len(one), seed):
        values, errors = _mean_ratio(one[draw], other[draw])
        with np.errstate(divide="ignore", invalid="ignore"):
            scores.append((values - value) / errors)
    low, high = _between(np.nan_to_num(np.concatenate(scores)))
    return Ratio(float(value), float(value - high * error), float(value - low * error))


def _paired(samples: Sequence[float], reference: Sequence[float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if len(samples) != len(reference):
        msg = f"rounds have a sample of each, got {len(samples)} and {len(reference)}"
        raise ValueError(msg)
    return np.array(samples, np.float64), np.array(reference, np.float64)


def _draws(rounds: int, seed: int) -> Iterator[NDArray[np.intp]]:
    """Rounds drawn anew, ``RESAMPLES`` times."""
    random = np.random.default_rng(seed)
    left = RESAMPLES
    while left:
        count = min(left, max(_BLOCK // rounds, 1))
        yield random.integers(rounds, size=(count, rounds))
        left -= count


def _between(values: NDArray[np.float64]) -> tuple[float, float]:
    """The middle part of so much confidence."""
    low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return float(low), float(high)


def _mean_ratio(
    samples: NDArray[np.float64], reference: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The ratio of the means along the last axis, and its standard error to first order."""
    below = reference.mean(axis=-1)
    value = samples.mean(axis=-1) / below
    rest = samples - value[..., None] * reference
    return value, rest.std(axis=-1, ddof=1) / (below * samples.shape[-1] ** 0.5)


def _order(rounds: int) -> int:
    """How many of the sorted rounds may be cut off at each end so that the median is still inside so surely.

    Whether a round lies below the median is the toss of a coin.
    """
    tail, place = 0.5**rounds, 0
    term = tail
    while tail <= (1 - CONFIDENCE) / 2:
        place += 1
        term *= (rounds - place + 1) / place
        tail += term
    return max(place - 1, 0)


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

"""Intervals on made-up samples of a machine that drifts."""

import numpy as np
import pytest
from numpy.typing import NDArray

from lkdn_deploy.bench.measure.statistics import bootstrap_mean_ratio, bootstrap_ratio, settled


def samples(seed: int, rounds: int, *factors: float) -> list[NDArray[np.float64]]:
    """Latencies of 100 ms times each factor, on a machine whose speed wanders far and jitters by 2 %."""
    random = np.random.default_rng(seed)
    speed = 100 * np.exp(np.cumsum(random.normal(0, 0.1, rounds)))
    return [speed * factor * random.lognormal(0, 0.02, rounds) for factor in factors]


def test_a_planted_slowdown_is_found_and_none_is_seen_where_there_is_none() -> None:
    found = alarms = 0
    for seed in range(100):
        reference, same, slower = samples(seed, 30, 1, 1, 1.1)
        ratio, none = bootstrap_ratio(slower, reference), bootstrap_ratio(same, reference)
        assert ratio
        assert none
        found += ratio.told_apart and ratio.value > 1
        alarms += none.told_apart
    assert found == 100
    assert alarms <= 5  # one in a hundred is expected


def test_the_interval_holds_the_true_ratio() -> None:
    intervals = [bootstrap_ratio(*samples(seed, 30, 0.6, 1)) for seed in range(100)]
    assert sum(1 for each in intervals if each and each.low <= 0.6 <= each.high) >= 95


def test_drift_that_hits_all_rows_alike_does_not_widen_the_interval() -> None:
    reference, other = samples(1, 30, 1, 1.5)
    ratio = bootstrap_ratio(other, reference)
    assert ratio == bootstrap_ratio(other, reference)
    assert ratio
    assert ratio.high - ratio.low < 0.1
    assert reference.max() / reference.min() > 1.5


def test_a_row_over_itself_is_one_and_of_few_rounds_nothing_is_said() -> None:
    assert bootstrap_ratio([1, 2] * 3, [1, 2] * 3) is None
    assert bootstrap_mean_ratio([1, 2] * 3, [1, 2] * 3) is None
    ratio = bootstrap_ratio([3, 1, 2, 5, 4, 7, 6, 8], [3, 1, 2, 5, 4, 7, 6, 8])
    assert (ratio and (ratio.value, ratio.low, ratio.high)) == (1, 1, 1)


def test_the_ratio_of_means_weighs_what_takes_long() -> None:
    ratio = bootstrap_mean_ratio([2] * 7 + [92], [1] * 7 + [46])
    assert ratio
    assert (ratio.value, ratio.low, ratio.high) == pytest.approx((2, 2, 2))
    uneven = bootstrap_mean_ratio([2] * 7 + [46], [1] * 7 + [46])
    assert uneven
    assert uneven.value == pytest.approx(60 / 53)


@pytest.mark.parametrize("rounds", [8, 12, 30])
def test_intervals_are_as_sure_as_they_say_also_of_few_rounds(rounds: int) -> None:
    alarms = {"rounds": 0, "images": 0}
    for seed in range(300):
        random = np.random.default_rng(seed)
        one, other = 100 * random.lognormal(0, 0.02, (2, rounds))
        sizes = random.uniform(0.3, 2, rounds)
        found = {"rounds": bootstrap_ratio(one, other), "images": bootstrap_mean_ratio(one * sizes, other * sizes)}
        for name, ratio in found.items():
            assert ratio
            alarms[name] += ratio.told_apart
    # One in a hundred is what is meant; of a dozen images it is about two.
    assert max(alarms.values()) <= 0.04 * 300


def test_many_rounds_give_a_narrow_interval() -> None:
    ratio = bootstrap_ratio(*samples(0, 1500, 0.6, 1))
    assert ratio
    assert 0.59 < ratio.low < 0.6 < ratio.high < 0.61


def test_samples_must_pair() -> None:
    with pytest.raises(ValueError, match="got 5 and 6"):
        bootstrap_ratio([1] * 5, [1] * 6)


@pytest.mark.parametrize(
    ("times", "is_settled"),
    [
        ([100, 100, 100], False),  # too few
        ([100, 100, 100, 101, 100, 100], True),
        ([200, 190, 180, 100, 101, 100], False),  # still getting faster
        ([100, 120, 90, 95, 125, 105], True),  # noise, but no trend beyond it
    ],
)
def test_warm_is_what_no_longer_changes_by_more_than_it_scatters(times: list[float], is_settled: bool) -> None:
    assert settled(times, window=3, tolerance=0.02) is is_settled

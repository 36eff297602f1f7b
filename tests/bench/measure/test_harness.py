"""The order of runs, warm-up and interruption, on a clock that the tests turn."""

import random
from collections.abc import Callable

import pytest

from lkdn_deploy.bench.measure import harness
from lkdn_deploy.bench.measure.harness import Prepare, Run, WarmUpLimits, measure_rounds
from lkdn_deploy.bench.measure.statistics import bootstrap_ratio


class Clock:
    """Time passes only when something runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.log: list[str] = []

    def perf_counter_ns(self) -> int:
        return round(self.now * 1e6)

    def runs(self, name: str, milliseconds: Callable[[int], float], device: float | None = None) -> Run:
        """Something that takes so long the nth time."""
        count = 0

        def run() -> float | None:
            nonlocal count
            self.now += milliseconds(count)
            self.log.append(name)
            count += 1
            return device

        return run


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(harness.time, "perf_counter_ns", made.perf_counter_ns)
    return made


LIMITS = WarmUpLimits(window=2, tolerance=0.02, most_runs=20, most_seconds=60, runs_before=2, seconds_before=0)


def always(run: Run) -> Prepare:
    return lambda _: run


def test_every_round_times_every_candidate_once_after_untimed_runs_in_changing_order(clock: Clock) -> None:
    names = "abc"
    candidates = [always(clock.runs(name, lambda _, ms=ms: ms)) for name, ms in zip(names, (1, 2, 3), strict=True)]
    timings = measure_rounds(candidates, 12, warm_up=LIMITS)
    assert [timing.samples for timing in timings.each] == [[ms] * 12 for ms in (1, 2, 3)]
    measured = clock.log[-3 * 3 * 12 :]
    rounds = [measured[start : start + 9] for start in range(0, len(measured), 9)]
    for runs in rounds:
        assert runs[::3] == runs[1::3] == runs[2::3]
        assert sorted(runs[::3]) == list(names)
    assert len({tuple(runs) for runs in rounds}) > 1
    assert not timings.interrupted


def test_what_is_opened_anew_is_warm_before_it_is_timed(clock: Clock) -> None:
    """A session's first two runs are slow here."""
    opened: list[int] = []

    def prepare(index: int) -> Run:
        opened.append(index)
        return clock.runs("a", lambda count: 9 if count < 2 else 1)

    timings = measure_rounds([prepare], 5, warm_up=LIMITS)
    assert opened == [0, 0, 1, 2, 3, 4]
    assert timings.each[0].samples == [1] * 5


def test_runs_before_a_timed_one_last_until_clocks_are_up_again(clock: Clock) -> None:
    limits = WarmUpLimits(window=2, most_runs=4, runs_before=2, seconds_before=0.1)
    measure_rounds([always(clock.runs("a", lambda _: 10))], 3, warm_up=limits)
    assert len(clock.log) == 4 + 3 * (10 + 1)


def test_a_shift_of_each_opening_widens_the_interval_until_it_holds_the_truth(clock: Clock) -> None:
    """Each opening is up to a tenth slower or faster than the next, and all its runs alike."""
    luck = random.Random(5)  # noqa: S311

    def opened(_: int) -> Run:
        shift = luck.uniform(0.9, 1.1)
        return clock.runs("a", lambda _: 100 * shift)

    one, other = measure_rounds([opened, opened], 30, warm_up=LIMITS).each
    ratio = bootstrap_ratio(one.samples, other.samples)
    assert ratio
    assert ratio.low < 1 < ratio.high
    assert 0.05 < ratio.high - ratio.low < 0.2


def test_warm_up_lasts_until_nothing_changes_any_more(clock: Clock) -> None:
    cold = clock.runs("cold", lambda count: max(100 - 10 * count, 10))
    timings = measure_rounds([always(cold)], 5, warm_up=LIMITS)
    warm_up = timings.each[0].warm_up
    assert warm_up
    assert warm_up.stable
    assert warm_up.runs >= 9
    assert timings.each[0].samples == [10] * 5


@pytest.mark.parametrize(("first", "runs"), [(1, [LIMITS.most_runs]), (20_000, range(1, 5))])
def test_what_never_settles_is_measured_after_a_bound(clock: Clock, first: int, runs: list[int]) -> None:
    timings = measure_rounds([always(clock.runs("a", lambda count: first * 1.5**count))], 1, warm_up=LIMITS)
    warm_up = timings.each[0].warm_up
    assert warm_up
    assert warm_up.runs in runs
    assert not warm_up.stable


def test_without_warm_up_each_run_is_timed_the_first_included(clock: Clock) -> None:
    images = [[clock.runs(f"{name}{index}", lambda _, ms=index + 1: ms) for index in range(3)] for name in "ab"]
    timings = measure_rounds([each.__getitem__ for each in images], 3, warm_up=None)
    assert len(clock.log) == 6
    assert [timing.samples for timing in timings.each] == [[1, 2, 3]] * 2
    assert timings.each[0].warm_up is None


def test_the_devices_own_time_stands_beside_the_walls(clock: Clock) -> None:
    timings = measure_rounds([always(clock.runs("gpu", lambda _: 5, device=4.5))], 3, warm_up=None)
    assert timings.each[0].samples == [5] * 3
    assert timings.each[0].device_samples == [4.5] * 3


def test_ctrl_c_keeps_the_rounds_that_are_whole(clock: Clock) -> None:
    def interrupt(count: int) -> float:
        if count == 3:
            raise KeyboardInterrupt
        return 1

    candidates = [always(clock.runs("a", lambda _: 2)), always(clock.runs("b", interrupt))]
    timings = measure_rounds(candidates, 9, warm_up=None, seed=1)
    assert timings.interrupted
    assert [timing.samples for timing in timings.each] == [[2] * 3, [1] * 3]


def test_ctrl_c_in_warm_up_leaves_nothing(clock: Clock) -> None:
    def interrupt(_: int) -> float:
        raise KeyboardInterrupt

    timings = measure_rounds([always(clock.runs("a", interrupt))], 3, warm_up=LIMITS)
    assert timings.interrupted
    assert timings.each[0].samples == []


def test_progress_is_told_after_every_timed_run(clock: Clock) -> None:
    seen: list[tuple[int, int]] = []
    candidates = [always(clock.runs(name, lambda _: 1)) for name in "ab"]
    measure_rounds(candidates, 2, warm_up=None, progress=lambda *progress: seen.append(progress))
    assert seen == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_a_planted_slowdown_comes_out_though_the_machine_slows_down_all_the_time(clock: Clock) -> None:
    def drifting(factor: float) -> Callable[[int], float]:
        return lambda _: factor * (100 + clock.now / 100)

    candidates = [always(clock.runs(name, drifting(factor))) for name, factor in (("a", 1), ("b", 1.1), ("c", 1))]
    a, b, c = (timing.samples for timing in measure_rounds(candidates, 20, warm_up=None).each)
    assert max(a) > 1.5 * min(a)
    slower, same = bootstrap_ratio(b, a), bootstrap_ratio(c, a)
    assert slower
    assert same
    assert slower.told_apart
    assert not same.told_apart

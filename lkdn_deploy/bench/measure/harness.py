"""Time several things so that they can be compared: in turn, in rounds, and warm.

A machine drifts: clocks, other work, heat. So every round times each candidate once, in an order that is drawn anew,
and what is compared are samples of the same rounds. Before each timed run come some that are not: they put the
candidate's data back into the caches, and let the threads of the one before come to rest, which some engines let spin
for a while.

A session keeps the luck that it had when it was opened, such as where its weights came to lie in memory: as much as a
tenth of its time (benchmarks/repeat.py). Rounds of one opening all share it, and would say the same wrong thing with
great confidence. So a candidate is made ready for each round anew.
"""

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from lkdn_deploy.bench.measure.statistics import settled
from lkdn_deploy.bench.results import WarmUp

Run = Callable[[], float | None]
"""Does the work once and returns when it is done; what it gives is the device's own time in ms, if it has any."""

Prepare = Callable[[int], Run]
"""Makes ready for a round, by its number, and gives what is timed in it: a session opened anew, or the next image."""

Progress = Callable[[int, int], None]
"""Called with the number of timed runs done and of all; warm-up does not count."""


@dataclass(frozen=True, slots=True)
class WarmUpLimits:
    """When a candidate counts as warm."""

    window: int = 4
    """Runs whose median is compared with that of as many before."""
    tolerance: float = 0.02
    """Fraction by which the two may differ, see ``settled``."""
    most_runs: int = 40
    """Of each candidate: a bound for machines that never settle."""
    most_seconds: float = 20.0
    """Of each candidate."""
    runs_before: int = 2
    """Untimed, before each timed run: the first run of a session takes its memory, the next may still place it."""
    seconds_before: float = 0.1
    """At least so much of them: the clocks of a GPU fall while nothing runs."""


@dataclass(slots=True)
class Timing:
    """Of one candidate, in milliseconds."""

    samples: list[float] = field(default_factory=list)
    device_samples: list[float] = field(default_factory=list)
    warm_up: WarmUp | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Of all candidates, in their order. All have the samples of the same rounds."""

    each: list[Timing]
    interrupted: bool
    """Whether Ctrl-C came before the last round. Of the round in which it came nothing is kept."""


def measure_rounds(
    candidates: Sequence[Prepare],
    rounds: int,
    *,
    warm_up: WarmUpLimits | None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Timings:
    """Time candidates in so many rounds.

    Args:
        candidates: asked for their run in each round, just before it. The warm-up is with that of round 0.
        rounds: how many.
        warm_up: ``None``: none, and no untimed runs before each timed one either: protocols that want it so.
        seed: of the order within the rounds.
        progress: is told after every timed run.
    """
    timings = [Timing() for _ in candidates]
    order = random.Random(seed)  # noqa: S311
    done = 0
    try:
        if warm_up:
            _warm_up([prepare(0) for prepare in candidates], timings, warm_up, order)
        for index in range(rounds):
            found: dict[int, tuple[float, float | None]] = {}
            for place in order.sample(range(len(candidates)), len(candidates)):
                run = candidates[place](index)
                if warm_up:
                    _run_before(run, warm_up)
                found[place] = timed(run)
                done += 1
                if progress:
                    progress(done, rounds * len(candidates))
            for place, (wall, device) in found.items():
                timings[place].samples.append(wall)
                if device is not None:
                    timings[place].device_samples.append(device)
    except KeyboardInterrupt:
        _drop_torn(timings)
        return Timings(timings, interrupted=True)
    return Timings(timings, interrupted=False)


def _drop_torn(timings: Sequence[Timing]) -> None:
    """Ctrl-C may have come while a round was written down."""
    whole = min((len(timing.samples) for timing in timings), default=0)
    for timing in timings:
        del timing.samples[whole:], timing.device_samples[whole:]


def timed(run: Run) -> tuple[float, float | None]:
    """Milliseconds of one run on the wall's clock, and of the device."""
    with _no_collection():
        start = time.perf_counter_ns()
        device = run()
        return (time.perf_counter_ns() - start) / 1e6, device


def _run_before(run: Run, limits: WarmUpLimits) -> None:
    count, start = 0, time.perf_counter_ns()
    while count < limits.runs_before or time.perf_counter_ns() - start < limits.seconds_before * 1e9:
        run()
        count += 1


def _warm_up(runs: Sequence[Run], timings: Sequence[Timing], limits: WarmUpLimits, order: random.Random) -> None:
    """In rounds as the measurement is, until each has settled or is at its bound."""
    seen: list[list[float]] = [[] for _ in runs]
    waiting = set(range(len(runs)))
    while waiting:
        for place in order.sample(sorted(waiting), len(waiting)):
            runs[place]()
            seen[place].append(timed(runs[place])[0])
            stable = settled(seen[place], limits.window, limits.tolerance)
            # Every timed run had an untimed one before it.
            count, seconds = 2 * len(seen[place]), 2 * sum(seen[place]) / 1e3
            if stable or count >= limits.most_runs or seconds >= limits.most_seconds:
                timings[place].warm_up = WarmUp(count, seconds, stable)
                waiting.remove(place)


@contextmanager
def _no_collection() -> Iterator[None]:
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()

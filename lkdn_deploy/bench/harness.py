"""Time several things so that they can be compared: in turn, in rounds, and warm.

A machine drifts: clocks, other work, heat. So every round times each candidate once, in an order that is drawn anew,
and what is compared are samples of the same rounds. Before each timed run comes one that is not: it puts the
candidate's data back into the caches, and lets the threads of the one before come to rest, which some engines let spin
for a while.
"""

import gc
import random
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from lkdn_deploy.bench.results import WarmUp
from lkdn_deploy.bench.statistics import settled

Run = Callable[[], float | None]
"""Does the work once and returns when it is done; what it gives is the device's own time in ms, if it has any."""

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
    candidates: Sequence[Sequence[Run]],
    *,
    warm_up: WarmUpLimits | None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Timings:
    """Time candidates, each given as what it runs in each round: the same every time, or one image after the other.

    Args:
        candidates: as many rounds of each.
        warm_up: ``None``: none, and no untimed run before each timed one either: protocols that want it so.
        seed: of the order within the rounds.
        progress: is told after every timed run.
    """
    timings = [Timing() for _ in candidates]
    order = random.Random(seed)  # noqa: S311
    rounds = min(map(len, candidates), default=0)
    done = 0
    try:
        if warm_up:
            _warm_up([candidate[0] for candidate in candidates], timings, warm_up, order)
        for index in range(rounds):
            found: dict[int, tuple[float, float | None]] = {}
            for place in order.sample(range(len(candidates)), len(candidates)):
                run = candidates[place][index]
                if warm_up:
                    run()
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

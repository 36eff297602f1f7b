"""Time several candidates so that they can be compared: in turn, in rounds, and warm.

A machine drifts with its clocks, other work and heat. So every round times each candidate once, in random order, and
samples are compared within rounds. Each timed run follows untimed ones, which refill the caches with the candidate's
data while the threads of the previous engine, which may spin for a while, come to rest.

The speed of a session also depends on chance when it is opened, such as where its weights lie in memory: by up to a
tenth (benchmarks/repeat.py). Rounds with one opening would share that chance and agree on a wrong value. So each
candidate is prepared again for each round.
"""

import gc
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.bench.measure.statistics import settled
from lkdn_deploy.bench.results import WarmUp
from lkdn_deploy.core.protocols import Session

Run = Callable[[], float | None]
"""Does the work once and returns when it is done, with the device's own time in ms if the device measures one."""

Prepare = Callable[[int], Run]
"""Prepares a round, given its number, and returns what to time: a reopened session, or the next image."""

Progress = Callable[[int, int], None]
"""Called with the number of timed runs done and their total; warm-up does not count."""


@runtime_checkable
class PreparedSession(Protocol):
    """A session that prepares the runs that are timed."""

    def prepared(self, batch: NDArray[np.float32], *, converts: bool = True) -> Run:
        """Return a run of a batch, with or without the conversions of its range of values."""
        ...


def timed_run(session: Session, batch: NDArray[np.float32], *, converts: bool = True) -> Run:
    """Return a run of the session's network that ends when the result is complete.

    Args:
        session: the session.
        batch: (N, 3, H, W) RGB in 0..1.
        converts: whether conversions of the range of values are part of the run, where they are no part of the file.
    """
    if isinstance(session, PreparedSession):
        return session.prepared(batch, converts=converts)

    def run() -> float | None:
        seconds = session.inference_seconds(batch)
        return None if seconds is None else seconds * 1e3

    return run


@dataclass(frozen=True, slots=True)
class WarmUpLimits:
    """Limits of the warm-up. A candidate is warm once its times have settled, or at a limit."""

    window: int = 4
    """Number of runs whose median is compared with that of as many before."""
    tolerance: float = 0.02
    """Fraction by which the two medians may differ, see ``settled``."""
    most_runs: int = 40
    """Most runs of each candidate, for machines that never settle."""
    most_seconds: float = 20.0
    """Most seconds of each candidate."""
    runs_before: int = 2
    """Untimed runs before each timed run: a session's first run allocates its memory, the second may still move it."""
    seconds_before: float = 0.1
    """Least duration of these untimed runs: a GPU's clocks fall while it is idle."""


@dataclass(slots=True)
class Timing:
    """Times of one candidate in milliseconds."""

    samples: list[float] = field(default_factory=list)
    device_samples: list[float] = field(default_factory=list)
    warm_up: WarmUp | None = None


@dataclass(frozen=True, slots=True)
class Timings:
    """Times of all candidates, in their order, from the same rounds."""

    each: list[Timing]
    interrupted: bool
    """Whether Ctrl-C came before the last round ended. The interrupted round is dropped."""


def measure_rounds(
    candidates: Sequence[Prepare],
    rounds: int,
    *,
    warm_up: WarmUpLimits | None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Timings:
    """Time candidates in rounds.

    Args:
        candidates: prepared just before each of their timed runs. The warm-up runs what they prepare for round 0.
        rounds: number of rounds.
        warm_up: limits of the warm-up; ``None`` for no untimed runs at all.
        seed: seed of the order within the rounds.
        progress: called after every timed run.
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
                    count, start = 0, time.perf_counter_ns()
                    while count < warm_up.runs_before or time.perf_counter_ns() - start < warm_up.seconds_before * 1e9:
                        run()
                        count += 1
                found[place] = timed(run)
                done += 1
                if progress:
                    progress(done, rounds * len(candidates))
            for place, (wall, device) in found.items():
                timings[place].samples.append(wall)
                if device is not None:
                    timings[place].device_samples.append(device)
    except KeyboardInterrupt:
        whole = min((len(timing.samples) for timing in timings), default=0)
        for timing in timings:  # of a round that was interrupted while it was being recorded
            del timing.samples[whole:], timing.device_samples[whole:]
        return Timings(timings, interrupted=True)
    return Timings(timings, interrupted=False)


def timed(run: Run) -> tuple[float, float | None]:
    """Return the milliseconds of one run, without garbage collection, by the wall clock and by the device."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        start = time.perf_counter_ns()
        device = run()
        return (time.perf_counter_ns() - start) / 1e6, device
    finally:
        if enabled:
            gc.enable()


def _warm_up(runs: Sequence[Run], timings: Sequence[Timing], limits: WarmUpLimits, order: random.Random) -> None:
    """Run the candidates in rounds like the measurement's, until each has settled or reached a limit."""
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

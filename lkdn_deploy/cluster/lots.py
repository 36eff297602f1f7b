"""The jobs that are left, and the lots in which workers get them."""

from collections import Counter, deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.runtime.outcomes import Failed, Job

MOST_LOSSES = 4
"""Workers that a job may bring down before it is given up."""
_LARGEST = 8
"""Most jobs of a lot: within one, files are read and written while the network works on others."""
_SUSPECTS = 2
"""Jobs without an outcome, of those that a lost worker had, that may have brought it down: the one in the network, and
the one that was read."""


@dataclass(slots=True, eq=False)
class Lot:
    """Jobs that one worker gets at once; their outcomes come in order.

    Attributes:
        jobs: the jobs that have no outcome yet.
        again: whether a worker that had them was lost.
    """

    jobs: deque[Job]
    again: bool = False


@dataclass(slots=True, eq=False)
class WaitingJobs:
    """The jobs that no worker has.

    Args:
        jobs: all jobs; they are taken as they are needed.
        total: their number.
    """

    jobs: Iterator[Job]
    total: int
    _given: int = 0
    _alone: deque[Job] = field(default_factory=deque)
    _others: deque[Job] = field(default_factory=deque)
    _losses: Counter[Job] = field(default_factory=Counter)

    @property
    def left(self) -> int:
        """Number of jobs that no worker has."""
        return self.total - self._given + len(self._others) + len(self._alone)

    def take(self, workers: int) -> Lot | None:
        """Return the next lot for one of so many workers; ``None`` if no job is left.

        Lots become small towards the end, so that no worker has several while others have none.
        """
        if self._alone:
            return Lot(deque([self._alone.popleft()]), again=True)
        if self._others:
            taken = [self._others.popleft() for _ in range(min(self._size(workers), len(self._others)))]
            return Lot(deque(taken), again=True)
        size = self._size(workers)
        taken = [*islice(self.jobs, size)]
        self._given += len(taken)
        return Lot(deque(taken)) if taken else None

    def give_back(self, lot: Lot, why: str) -> Iterable[Failed]:
        """Take the jobs without an outcome of a lost worker; yield those that are given up.

        Args:
            lot: what the worker had.
            why: how it was lost.
        """
        left = [*lot.jobs]
        for job in left[:_SUSPECTS]:
            self._losses[job] += 1
            if self._losses[job] >= MOST_LOSSES:
                msg = f"{job.source}: {MOST_LOSSES} workers that had it were lost: {why}"
                yield Failed(job, InputError(msg, "give workers more memory, or try the picture on one machine"))
            else:
                self._alone.append(job)
        self._others.extend(left[_SUSPECTS:])

    def _size(self, workers: int) -> int:
        return max(1, min(_LARGEST, self.left // (2 * max(workers, 1))))

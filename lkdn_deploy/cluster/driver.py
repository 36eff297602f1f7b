"""Hands jobs to workers on a Ray cluster, and replaces those that are lost."""

import logging
import os
import time
from collections.abc import Generator, Iterable
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from lkdn_deploy.cluster.actor import ClusterTask, JobReport, UpscaleActor
from lkdn_deploy.cluster.lots import Lot, WaitingJobs
from lkdn_deploy.cluster.nodes import WorkerPlace, plan_places
from lkdn_deploy.cluster.scribe import FileLines, Scribe, StoreLines
from lkdn_deploy.cluster.staging import Outcome
from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.runtime.journal import Journal
from lkdn_deploy.runtime.outcomes import Job

log = logging.getLogger(__name__)

_LOOK_AROUND = 5.0
"""Seconds between looks at the nodes of the cluster, of which some may be new or gone."""
_MOST_STARTS = 4
"""Attempts to start a worker in a place where it was lost before it was ready."""
_PATIENCE = 60.0
"""Seconds without a worker that is ready, after which the log says so."""


@dataclass(slots=True, eq=False)
class _ClusterWorker:
    """A worker.

    Attributes:
        place: where it is.
        actor: its handle.
        lot: what it has; ``None`` before it is ready, and while there is nothing to do.
        ready: whether the network is open.
    """

    place: WorkerPlace
    actor: Any
    lot: Lot | None = None
    ready: bool = False


def upscale_on_cluster(
    task: ClusterTask, jobs: Iterable[Job], total: int, journal: Journal | None
) -> Generator[Outcome, None, None]:
    """Upscale files on the cluster that this process is connected to, and yield the outcome of each as it comes.

    A job whose worker is lost is done again by another one, unless the journal says that it was finished. The generator
    must be exhausted or closed, which ends the workers.

    Args:
        task: what the workers need.
        jobs: the jobs.
        total: their number.
        journal: what is known of the outputs, with the driver's paths; ``None``: there is no journal.

    Raises:
        LkdnError: if no worker can be started.
    """
    run = _ClusterRun(task, WaitingJobs(iter(jobs), total), journal)
    try:
        yield from run.outcomes()
    finally:
        run.close()


class _ClusterRun:
    def __init__(self, task: ClusterTask, waiting: WaitingJobs, journal: Journal | None) -> None:
        import ray

        self._ray = ray
        self._task, self._waiting, self._journal = task, waiting, journal
        self._workers: dict[Any, _ClusterWorker] = {}  # by what they are waited for
        self._idle: list[_ClusterWorker] = []
        self._starts: dict[WorkerPlace, int] = {}
        self._refusal: LkdnError | None = None
        self._next_look, self._last_ready = 0.0, time.monotonic()
        self._remote_task = ray.put(task)
        self._scribe = None if journal is None else self._start_scribe(journal)

    def _start_scribe(self, journal: Journal) -> Any:
        """Start the writer of the journal on this node, where the paths of the driver are."""
        ray = self._ray
        place = self._task.staging.place(journal.path.parent)
        lines = FileLines(Path(os.path.abspath(journal.path))) if place is None else StoreLines(place[0])  # noqa: PTH100
        here = self._on(ray.get_runtime_context().get_node_id())
        return ray.remote(num_cpus=0, max_concurrency=1000, scheduling_strategy=here)(Scribe).remote(lines)

    def outcomes(self) -> Generator[Outcome, None, None]:
        """Yield the outcomes of all jobs."""
        while True:
            self._look_around()
            self._assign()
            if not self._waiting.left and all(worker.lot is None for worker in self._workers.values()):
                return
            if not self._idle and not any(worker.ready for worker in self._workers.values()):
                self._complain()
            if not self._workers:
                time.sleep(0.2)
                continue
            ready, _ = self._ray.wait([*self._workers], num_returns=1, timeout=1.0)
            for reference in ready:
                yield from self._advance(reference, self._workers.pop(reference))

    def close(self) -> None:
        """End all workers."""
        for actor in (*(worker.actor for worker in (*self._workers.values(), *self._idle)), self._scribe):
            if actor is not None:
                self._end(actor)

    def _advance(self, reference: Any, worker: _ClusterWorker) -> Generator[Outcome, None, None]:
        """Take what a worker has to say."""
        ray = self._ray
        try:
            if worker.lot is None:
                ray.get(reference)
                worker.ready, self._last_ready = True, time.monotonic()
                self._starts.pop(worker.place, None)
                self._idle.append(worker)
                return
            try:
                report: JobReport = ray.get(next(reference))
            except StopIteration:
                worker.lot = None
                self._idle.append(worker)
                return
        except (LkdnError, ray.exceptions.RayTaskError) as error:
            self._end(worker.actor)
            cause = getattr(error, "cause", None)
            if worker.ready or not isinstance(cause, LkdnError):
                msg = f"a worker failed: {(str(error).strip().splitlines() or [''])[-1][:300]}"
                raise InputError(msg, "the journal has what is finished: --resume goes on") from error
            self._refusal = type(cause)(cause.message, cause.hint)
            self._starts[worker.place] = _MOST_STARTS
            self._next_look = 0.0
        except ray.exceptions.RayError as error:
            yield from self._lost(worker, error)
        else:
            self._workers[reference] = worker
            yield report.outcome(worker.lot.jobs.popleft())

    def _lost(self, worker: _ClusterWorker, error: Exception) -> Generator[Outcome, None, None]:
        why = " ".join(str(error).split())[:200] or type(error).__name__
        log.warning("a worker was lost, and its files are done again: %s", why)
        self._end(worker.actor)
        self._next_look = 0.0
        if not worker.ready:
            self._starts[worker.place] = self._starts.get(worker.place, 0) + 1
            self._refusal = InputError(f"no worker can be started: {why}")
        if worker.lot is not None:
            yield from self._waiting.give_back(worker.lot, why)

    def _end(self, actor: Any) -> None:
        with suppress(Exception):
            self._ray.kill(actor)

    def _look_around(self) -> None:
        """Start workers in places where there are none, if there are jobs for them.

        Raises:
            LkdnError: if none could be started in any place.
        """
        now = time.monotonic()
        if now < self._next_look or not self._waiting.left:
            return
        self._next_look = now + _LOOK_AROUND
        taken = {worker.place for worker in (*self._workers.values(), *self._idle)}
        places = plan_places(_nodes(self._ray), self._task.choice.backend, self._task.choice.threads)
        free = [it for it in places if it not in taken and self._starts.get(it, 0) < _MOST_STARTS]
        if not taken and not free and places and self._refusal is not None:
            raise self._refusal
        for place in free[: max(self._waiting.left - len(self._idle), 0)]:
            self._start(place)

    def _start(self, place: WorkerPlace) -> None:
        ray = self._ray
        append = _no_journal if self._scribe is None else partial(_append, self._scribe)
        actor = ray.remote(
            num_cpus=place.cpus,
            num_gpus=place.gpus,
            memory=self._task.max_memory,
            max_restarts=0,
            max_task_retries=0,
            scheduling_strategy=self._on(place.node),
        )(UpscaleActor).remote(self._remote_task, place.cpus, append)
        self._workers[actor.open.remote()] = _ClusterWorker(place, actor)

    def _on(self, node: str) -> Any:
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        return NodeAffinitySchedulingStrategy(node, soft=False)

    def _assign(self) -> None:
        """Give lots to workers that have none."""
        while self._idle:
            lot = self._waiting.take(len(self._workers) + len(self._idle))
            if lot is None:
                return
            worker = self._idle.pop()
            worker.lot, excerpt = lot, self._excerpt(lot)
            jobs = [_absolute(job, replaceable=lot.again and self._journal is None) for job in lot.jobs]
            self._workers[worker.actor.upscale.options(num_returns="streaming").remote(jobs, excerpt)] = worker

    def _excerpt(self, lot: Lot) -> dict[str, bytes] | None:
        """Return what the journal says of a lot's outputs; ``None`` if that does not matter."""
        journal = self._journal
        if journal is None:
            return None
        targets = [job.target for job in lot.jobs]
        if lot.again:  # the worker that was lost may have finished some
            self._task.staging.fetch_journals(journal.path.parent)
            journal.load(targets)
        return journal.excerpt(targets) if journal.loaded else None

    def _complain(self) -> None:
        now = time.monotonic()
        if now - self._last_ready > _PATIENCE:
            self._last_ready = now
            log.warning("no worker could be started for a minute: the cluster has no free CPUs or GPUs for one")


def _nodes(ray: Any) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = ray.nodes()
    return found


def _absolute(job: Job, *, replaceable: bool) -> Job:
    """Return a job for a worker, whose current folder is another one.

    Args:
        job: the job.
        replaceable: whether its output, if there is one, is that of a lost worker: there is no journal to tell.
    """
    source, target = (Path(os.path.abspath(path)) for path in (job.source, job.target))  # noqa: PTH100
    return replace(job, source=source, target=target, overwrite=job.overwrite or replaceable)


def _append(scribe: Any, line: bytes) -> None:
    """Hand a line to the scribe, and wait until it is written."""
    import ray

    ray.get(scribe.append.remote(line))


def _no_journal(_: bytes) -> None:
    pass

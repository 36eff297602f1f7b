"""The worker on a node of the cluster: it opens the network once, and runs the pipeline of one machine."""

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from lkdn_deploy import __version__
from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.cluster.staging import Outcome, StagedWork, Staging
from lkdn_deploy.core.errors import LkdnError, UsageError
from lkdn_deploy.core.files import temporary_folder
from lkdn_deploy.hub.choice import NetworkChoice, upscalers_for
from lkdn_deploy.runtime.journal import Journal
from lkdn_deploy.runtime.outcomes import Failed, Job, Skipped, Upscaled


@dataclass(frozen=True, slots=True, eq=False)
class ClusterTask:
    """All that is the same for each worker of a run.

    Attributes:
        choice: the network; it was found by the driver.
        artifacts: its artefacts, of all scales that may be needed.
        staging: files that are in stores.
        journal: the folder of the journal, and the digest of all that decides the outputs' bytes; ``None``: no journal.
        max_memory: bytes that a worker may take.
        version: of this package, as the driver has it.
    """

    choice: NetworkChoice
    artifacts: tuple[Artifact, ...]
    staging: Staging
    journal: tuple[Path, bytes] | None
    max_memory: int | None
    version: str = __version__


@dataclass(frozen=True, slots=True, eq=False)
class JobReport:
    """An outcome that can be sent: without its job, which the driver knows, and with the number of a system's error."""

    done: Upscaled | None = None
    skipped: str | None = None
    error: LkdnError | None = None
    errno: int | None = None

    @classmethod
    def of(cls, outcome: Outcome) -> "JobReport":
        """Return the report of an outcome."""
        if isinstance(outcome, Upscaled):
            return cls(done=replace(outcome, job=_NO_JOB))
        if isinstance(outcome, Skipped):
            return cls(skipped=outcome.reason)
        error, cause = outcome.error, outcome.error.__cause__
        plain = type(error)(error.message, error.hint)  # its traceback holds frames, which cannot be sent
        return cls(error=plain, errno=cause.errno if isinstance(cause, OSError) else None)

    def outcome(self, job: Job) -> Outcome:
        """Return the outcome of a job."""
        if self.done is not None:
            return replace(self.done, job=job)
        if self.error is None:
            return Skipped(job, self.skipped or "")
        message = self.error.message
        for path in (job.source, job.target):  # the worker was given absolute paths
            message = message.replace(os.path.abspath(path), str(path))  # noqa: PTH100
        error = type(self.error)(message, self.error.hint)
        if self.errno is not None:
            error.__cause__ = OSError(self.errno, "")
        return Failed(job, error)


_NO_JOB = Job(Path(), Path())


class UpscaleActor:
    """An actor of Ray; its methods run in one thread, as some engines demand.

    Args:
        task: what to do.
        threads: CPU threads.
        append: hands a line of the journal to the scribe.
    """

    def __init__(self, task: ClusterTask, threads: int, append: Callable[[bytes], None]) -> None:
        self._task, self._append = task, append
        self._choice = replace(task.choice, threads=threads)
        self._upscalers = upscalers_for(self._choice, self._find)

    def open(self) -> None:
        """Open the network, if one scale serves all pictures.

        Raises:
            LkdnError: if it cannot be opened here, or this node has another version of this package.
        """
        if __version__ != self._task.version:
            msg = f"a node has lkdn-deploy {__version__}, and this machine {self._task.version}"
            raise UsageError(msg, "install the same version everywhere")
        logging.getLogger("lkdn_deploy").setLevel(logging.ERROR)
        self._upscalers.open_common()

    def upscale(self, jobs: Sequence[Job], excerpt: Mapping[str, bytes] | None) -> Iterator[JobReport]:
        """Carry out jobs, and yield what becomes of each, in order.

        Args:
            jobs: the jobs, with the driver's paths.
            excerpt: what the journal says of their outputs; ``None`` if nobody asks for it.
        """
        with temporary_folder() as folder:
            work = StagedWork(self._task.staging, folder)
            here = [replace(job, source=work.path(job.source), target=work.path(job.target)) for job in jobs]
            journal = None
            if self._task.journal is not None:
                place, digest = self._task.journal
                journal = Journal(work.path(place), digest, append=self._append)
                if excerpt is not None:
                    journal.adopt([job.target for job in here], excerpt)
            with closing(work.run(self._upscalers, here, journal, self._task.max_memory)) as outcomes:
                for outcome in outcomes:  # Ray sends values into the generator, which not every iterator takes
                    yield JobReport.of(outcome)

    def _find(self, least: int | None) -> Artifact:
        for artifact in self._task.artifacts:
            if least is None or artifact.metadata.scale >= least:
                return artifact
        msg = f"the network has no scale of x{least} or more"
        raise UsageError(msg, "choose a smaller size, or a network of a larger scale")

"""Files of stores, for which files in a temporary folder stand while they are worked on.

The driver plans with paths below a folder of its own, in which no such files are. Each worker has a folder, too, into
which it copies the inputs of its jobs, and out of which it copies the results.
"""

from collections.abc import Generator, Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from lkdn_deploy.cluster.stores import StoreFolder
from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.threads import in_order
from lkdn_deploy.runtime.files import upscale_files
from lkdn_deploy.runtime.inputs import Listing, NotTaken, SourceFile
from lkdn_deploy.runtime.journal import JOURNALS, MOST_BYTES, Journal
from lkdn_deploy.runtime.outcomes import Failed, Job, Skipped, Upscaled
from lkdn_deploy.runtime.upscalers import Upscalers

Outcome = Upscaled | Skipped | Failed

_COPIES = 2
"""Files that are copied at once in each direction, while the network works."""


@dataclass(frozen=True, slots=True)
class Staging:
    """The stores of a run.

    Attributes:
        base: folder of the driver.
        stores: the stores, by the names of their folders in ``base``.
    """

    base: Path
    stores: Mapping[str, StoreFolder]

    def folder(self, name: str) -> Path:
        """Return the path that stands for a store."""
        return self.base / name

    def place(self, path: Path) -> tuple[StoreFolder, str] | None:
        """Return the store that a path stands for a file of, and that file; ``None`` if it stands for itself."""
        if not path.is_relative_to(self.base):
            return None
        name, *parts = path.relative_to(self.base).parts
        return self.stores[name], "/".join(parts)

    def url(self, path: Path) -> str:
        """Return the name of what a path stands for."""
        place = self.place(path)
        return str(path) if place is None else "/".join(filter(None, (place[0].url, place[1])))

    def rename(self, text: str) -> str:
        """Return a text in which URLs are in place of the paths that stand for them."""
        for name, store in self.stores.items():
            text = text.replace(str(self.folder(name)), store.url)
        return text

    def renamed(self, error: LkdnError) -> LkdnError:
        """Return an error with URLs in its message."""
        message = self.rename(error.message)
        if message == error.message:
            return error
        named = type(error)(message, error.hint and self.rename(error.hint))
        named.__cause__ = error.__cause__
        return named

    def listings(self) -> dict[Path, Listing]:
        """Return what lists the stores that are folders, by the paths that stand for them.

        Raises:
            LkdnError: if one cannot be asked.
        """
        return {
            self.folder(name): partial(_listed, store, self.folder(name))
            for name, store in self.stores.items()
            if store.is_folder()
        }

    def fetch_journals(self, folder: Path) -> None:
        """Copy the journals of a store to the folder that stands for it.

        Raises:
            LkdnError: if one cannot be read.
        """
        if (place := self.place(folder)) is not None:
            left = MOST_BYTES
            for name in sorted(filter(JOURNALS.fullmatch, place[0].names()), reverse=True):
                if left > 0:
                    left -= place[0].download(name, folder / name, left)


def _listed(store: StoreFolder, folder: Path, recursive: bool) -> tuple[list[SourceFile], list[NotTaken]]:
    files, others = store.search(recursive)
    found = [replace(file, path=folder / file.path) for file in files]
    return found, [replace(other, path=folder / other.path) for other in others]


class StagedWork:
    """The work of a worker on jobs some of whose files are in stores.

    Args:
        staging: the stores, as the driver has them.
        root: a folder of this worker.
    """

    def __init__(self, staging: Staging, root: Path) -> None:
        self._theirs, self._here = staging.base, replace(staging, base=root)
        self._errors: dict[Path, LkdnError] = {}

    def path(self, path: Path) -> Path:
        """Return the path in this worker's folder for one in the driver's."""
        return self._here.base / path.relative_to(self._theirs) if path.is_relative_to(self._theirs) else path

    def run(
        self, upscalers: Upscalers, jobs: Iterable[Job], journal: Journal | None, max_memory: int | None
    ) -> Generator[Outcome, None, None]:
        """Copy inputs, upscale them, and copy results, while the network works on others; yield the outcomes in order.

        Args:
            upscalers, max_memory: as ``upscale_files`` takes them.
            jobs: the jobs, with paths of this worker.
            journal: what is known of the outputs.
        """
        fetched = in_order(partial(self._fetch, journal), jobs, _COPIES)
        with (
            closing(fetched),
            closing(upscale_files(upscalers, fetched, journal=journal, max_memory=max_memory)) as outcomes,
            closing(in_order(self._deliver, outcomes, _COPIES)) as delivered,
        ):
            yield from delivered

    def _fetch(self, journal: Journal | None, job: Job) -> Job:
        """Copy the input of a job, and its output, if there is one that may be finished."""
        try:
            if (target := self._here.place(job.target)) is not None:
                store, name = target
                job.target.parent.mkdir(parents=True, exist_ok=True)
                if store.exists(name):
                    if journal is not None and journal.excerpt([job.target]):
                        store.download(name, job.target)
                    else:
                        job.target.touch()  # that it exists is all that matters
            if (source := self._here.place(job.source)) is not None:
                source[0].download(source[1], job.source)
        except (LkdnError, OSError) as error:
            # Reading the picture will fail then, at the job's place in the order.
            self._errors[job.source] = error if isinstance(error, LkdnError) else InputError(f"{job.source}: {error}")
            self._remove(job.source)
        return job

    def _deliver(self, outcome: Outcome) -> Outcome:
        """Copy a result to its store, and remove what was copied here."""
        job = outcome.job
        if isinstance(outcome, Failed):
            outcome = Failed(job, self._errors.pop(job.source, outcome.error))
        try:
            if isinstance(outcome, Upscaled) and (target := self._here.place(job.target)) is not None:
                target[0].upload(job.target, target[1])
        except LkdnError as error:
            outcome = Failed(job, error)
        self._remove(job.source)
        self._remove(job.target)
        return Failed(job, self._here.renamed(outcome.error)) if isinstance(outcome, Failed) else outcome

    def _remove(self, path: Path) -> None:
        if self._here.place(path) is not None:
            path.unlink(missing_ok=True)

"""The option --ray of ``lkdn-upscale``: URLs, and the work on a cluster."""

import os
from collections.abc import Generator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lkdn_deploy.cli._upscale_options import UpscaleRequest
from lkdn_deploy.core.errors import LkdnError, UsageError
from lkdn_deploy.core.files import temporary_folder

if TYPE_CHECKING:
    from lkdn_deploy.cluster.staging import Outcome, Staging
    from lkdn_deploy.cluster.stores import StoreFolder
    from lkdn_deploy.runtime.journal import Journal
    from lkdn_deploy.runtime.outcomes import Job
    from lkdn_deploy.runtime.upscalers import Upscalers


@contextmanager
def through_stores(request: UpscaleRequest) -> "Iterator[tuple[UpscaleRequest, Staging | None]]":
    """Give a request in which paths stand for URLs; and the stores of these, if there is a cluster that may read them.

    Raises:
        UsageError: if there are URLs without a cluster.
        LkdnError: of the work, with URLs in place of paths.
    """
    if request.ray is None:
        if any("://" in place for place in request.places):
            from lkdn_deploy.cluster.stores import is_url

            for place in filter(is_url, request.places):
                msg = f"{place} is a URL, and only workers of a cluster read and write these"
                raise UsageError(msg, "give --ray, which starts workers on this machine if there is no cluster")
        yield request, None
        return
    from lkdn_deploy.cluster.staging import Staging

    with temporary_folder() as base:
        request, stores = _staged(request, base)
        staging = Staging(base, stores)
        try:
            yield request, staging
        except LkdnError as error:
            named = staging.renamed(error)
            if named is error:
                raise
            raise named from error


def _staged(request: UpscaleRequest, base: Path) -> "tuple[UpscaleRequest, dict[str, StoreFolder]]":
    """Return the request with paths below ``base`` in place of URLs, and the stores by the names of their folders."""
    from lkdn_deploy.cluster.stores import StoreFolder, is_url, local_path, split_url

    into_folder = request.into_folder
    stores: dict[str, StoreFolder] = {}
    paths: list[Path] = []
    for index, place in enumerate(map(local_path, request.places)):
        if not is_url(place):
            paths.append(Path(place))
            continue
        name = f"place{index}"
        store = StoreFolder(place)
        is_output = index == len(request.places) - 1
        if store.is_folder() or (is_output and into_folder):
            into_folder = True
            stores[name] = store
            paths.append(base / name)
        else:
            folder, file = split_url(place)
            stores[name] = StoreFolder(folder)
            paths.append(base / name / file)
    return replace(request, sources=tuple(paths[:-1]), target=paths[-1], into_folder=into_folder), stores


class StagedNames(Mapping[Path, str]):
    """The URLs that paths stand for, as a mapping of no keys but those that are asked for."""

    def __init__(self, staging: "Staging") -> None:
        self._staging = staging

    def __getitem__(self, path: Path) -> str:
        if self._staging.place(path) is None:
            raise KeyError(path)
        return self._staging.url(path)

    def __iter__(self) -> Iterator[Path]:
        return iter(())

    def __len__(self) -> int:
        return 0


@contextmanager
def cluster_outcomes(
    request: UpscaleRequest,
    jobs: "list[Job]",
    upscalers: "Upscalers",
    journal: "Journal | None",
    staging: "Staging",
) -> "Iterator[Generator[Outcome, None, None]]":
    """Give the outcomes of jobs on the cluster that the request names.

    Args:
        request: what is asked for.
        jobs: the jobs.
        upscalers: find the network.
        journal: of the outputs.
        staging: the stores of the run.

    Raises:
        LkdnError: as ``connected`` and ``upscale_on_cluster`` do.
    """
    from lkdn_deploy.cluster.actor import ClusterTask
    from lkdn_deploy.cluster.connection import connected
    from lkdn_deploy.cluster.driver import upscale_on_cluster

    place = None if journal is None else (journal.path.parent.absolute(), journal.work)
    artifacts = tuple(upscalers.artifacts())
    task = ClusterTask(request.choice, artifacts, staging, place, request.max_memory)
    if not request.quiet:
        address = request.ray or os.environ.get("RAY_ADDRESS")
        named = f"at {address}" if address else "of this machine, which is started if there is none"
        click.echo(f"connecting to the Ray cluster {named}", err=True)
    with connected(request.ray or None):
        yield upscale_on_cluster(task, jobs, len(jobs), journal)

"""``lkdn-upscale IN OUT``."""

import gc
import os
import sys
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lkdn_deploy import __version__
from lkdn_deploy.cli._cluster import StagedNames, cluster_outcomes, through_stores
from lkdn_deploy.cli._film import are_films, upscale_films
from lkdn_deploy.cli._grouped import GroupedCommand
from lkdn_deploy.cli._outcomes import OutcomePrinter, prepare_folders
from lkdn_deploy.cli._pipes import through_files, upscale_raw
from lkdn_deploy.cli._shell import converting, discard_stdout, found_out, run
from lkdn_deploy.cli._upscale_options import EXAMPLES, UpscaleRequest, upscale_options
from lkdn_deploy.core.errors import InputError, LkdnError, UsageError

if TYPE_CHECKING:
    from lkdn_deploy.cluster.staging import Staging
    from lkdn_deploy.runtime.inputs import NotTaken
    from lkdn_deploy.runtime.journal import Journal
    from lkdn_deploy.runtime.outcomes import Job
    from lkdn_deploy.runtime.upscalers import Upscalers


@click.command(cls=GroupedCommand, context_settings={"max_content_width": 100}, epilog=EXAMPLES)
@upscale_options
@click.version_option(
    __version__, prog_name="lkdn-upscale", help="Show the version and exit; with --verbose, what a report should tell."
)
def command(**options: Any) -> None:
    """Upscale the image or film IN into the file OUT, or several, or the images of a folder, into the folder OUT.

    The suffix of OUT chooses the format: PNG, JPEG, WebP, TIFF, BMP, AVIF or JPEG XL. Transparency, 16 bits, colour
    profile, EXIF and other metadata are kept where the format can hold them. Large images are processed in tiles, with
    the same result as the whole image. Networks with global attention give different results when tiled, so they are
    tiled only with --tile.

    In a folder, which is created if it does not exist, the outputs have the names of the inputs. A single IN goes into
    OUT if that is a folder or ends with a slash. If one fails, the others are still upscaled, and the exit code is 1. A
    hidden journal beside the outputs lets --resume go on with a run that was broken off, whether or not that had
    --resume.

    A film (MKV, MP4, MOV, WebM, AVI and others) becomes an .mkv, .mp4, .mov or .webm with all its tracks and times.
    What cannot be kept is said or refused before the work begins. --resume goes on with a film that was broken off.

    IN and OUT may be - for standard input and output; --format is then the format of the output.

    Prints the path of each file written.
    """
    request = UpscaleRequest.parse(**options)
    if request.raw is not None or are_films(request):
        request.refuse(("ray",), "is for pictures, of which workers take one after the other")
        upscale_moving = upscale_films if request.raw is None else upscale_raw
        with OutcomePrinter(request, len(request.sources), many=False).logging():
            upscale_moving(request, _upscalers(request))
        return
    with through_files(request) as (request, pipes), through_stores(request) as (request, staging):
        upscalers = _upscalers(request)
        plan = _plan(request, upscalers, staging)
        names = pipes if staging is None else StagedNames(staging)
        printer = OutcomePrinter(request, len(plan.jobs), many=plan.many, names=names)
        with printer.logging():
            printer.not_taken(plan.not_taken)
            if plan.jobs:
                _work(request, plan, upscalers, printer, staging)
            printer.summarise()
        printer.check()


@dataclass(frozen=True, slots=True)
class _Plan:
    """The jobs of one run.

    Attributes:
        jobs: the jobs.
        folder: where the outputs and their journal are.
        many: whether it is a batch.
        not_taken: what is in the input folders beside inputs.
    """

    jobs: "list[Job]"
    folder: Path
    many: bool
    not_taken: "tuple[NotTaken, ...]" = ()


def _upscalers(request: UpscaleRequest) -> "Upscalers":
    """Return what opens the network at the scales that are needed."""
    from lkdn_deploy.hub.choice import upscalers_for

    choice = request.choice
    return upscalers_for(choice, lambda least: choice.find(least, converting, found_out))


def _plan(request: UpscaleRequest, upscalers: "Upscalers", staging: "Staging | None") -> _Plan:
    """Return the jobs; nothing has been done yet.

    Raises:
        UsageError: if the request cannot be carried out, as ``plan_jobs`` says.
        InputError: if a folder cannot be read or holds no image.
    """
    from lkdn_deploy.runtime.inputs import find_inputs, is_folder
    from lkdn_deploy.runtime.jobs import NameTemplate, Shard, plan_jobs
    from lkdn_deploy.runtime.outcomes import Job

    sources, target = request.sources, request.target
    settings = request.settings
    if not request.into_folder:
        _check_single(request)
        job = Job(sources[0], target, settings.for_target(target), request.overwrite, request.skip_existing)
        return _Plan([job], target.parent, many=False)
    if os.path.exists(target) and not is_folder(target):  # noqa: PTH110 - Path.exists raises an error for long names
        msg = f"{target} is a file, and no folder to write to"
        raise UsageError(msg, "name a folder as the last argument")

    template = None if request.name is None else NameTemplate(request.name)
    size = settings.size
    if template is not None and "scale" in template.fields and size is not None and size.scale is None:
        msg = f"{{scale}} in --name is another one for each picture, as the size is '{size}'"
        raise UsageError(msg, "leave it out of --name, or choose a size with --scale")

    def facts() -> dict[str, str]:
        metadata = upscalers.artifacts()[0].metadata
        scale = metadata.scale if size is None or size.scale is None else size.scale
        return {"scale": f"{float(scale):.6g}", "model": metadata.model}

    elsewhere = None if staging is None else staging.listings()
    inputs = find_inputs(sources, recursive=request.recursive, elsewhere=elsewhere)
    jobs = plan_jobs(
        inputs,
        target,
        settings,
        template=template,
        facts=facts,
        shard=None if request.shard is None else Shard.parse(request.shard),
        recursive=request.recursive,
        overwrite=request.overwrite,
    )
    jobs = [replace(job, skip_existing=request.skip_existing) for job in jobs]
    return _Plan(jobs, target, bool(inputs.folders) or len(sources) > 1, inputs.not_taken)


def _check_single(request: UpscaleRequest) -> None:
    """Refuse options that name an output, or share the work, where one file is given with the name of its output."""
    from lkdn_deploy.imaging.files.formats import format_for

    for option, value in (("--name", request.name), ("--shard", request.shard)):
        if value is not None:
            msg = f"{option} is for outputs in a folder, and {request.target} is none"
            raise UsageError(msg, "make the folder first, or leave the option out")
    if request.format is not None and f".{request.format}" not in format_for(request.target).suffixes:
        msg = f"--format {request.format} contradicts the suffix of {request.target}"
        raise UsageError(msg, "leave --format out: the suffix of the output chooses its format")


def _work(
    request: UpscaleRequest,
    plan: _Plan,
    upscalers: "Upscalers",
    printer: OutcomePrinter,
    staging: "Staging | None",
) -> None:
    """Carry out the jobs, and print each outcome."""
    from lkdn_deploy.runtime.files import upscale_files
    from lkdn_deploy.runtime.jobs import folders_of
    from lkdn_deploy.runtime.outcomes import Failed, Skipped, Upscaled
    from lkdn_deploy.runtime.reading import begin

    prepare_folders(folders_of(plan.jobs), create=request.into_folder)
    first = None
    if len(plan.jobs) == 1 and not (request.resume or request.skip_existing or plan.many or staging):
        try:
            first = begin(plan.jobs[0])  # before a checkpoint is converted for nothing
        except LkdnError as error:
            printer.failed(Failed(plan.jobs[0], error))
            raise
    if staging is None:
        upscalers.open_common()
    else:
        staging.fetch_journals(plan.folder)
    journal = _journal(request, plan, upscalers) if plan.many or request.resume else None
    if not gc.isenabled():  # disabled by ``main``
        gc.freeze()
        gc.enable()
    with _summary_if_interrupted(printer), ExitStack() as stack:
        stack.callback(printer.display.close)
        outcomes: Generator[Upscaled | Skipped | Failed, None, None]
        if staging is not None:
            outcomes = stack.enter_context(cluster_outcomes(request, plan.jobs, upscalers, journal, staging))
        else:
            outcomes = upscale_files(
                upscalers,
                plan.jobs,
                progress=printer.progress,
                first=first,
                journal=journal,
                max_memory=request.max_memory,
            )
        for outcome in stack.enter_context(closing(outcomes)):
            if isinstance(outcome, Failed):
                printer.failed(outcome)
            elif isinstance(outcome, Skipped):
                printer.skipped(outcome)
            else:
                printer.done(outcome)


def _journal(request: UpscaleRequest, plan: _Plan, upscalers: "Upscalers") -> "Journal":
    """Return the journal beside the outputs, which knows what has been done if that is asked for."""
    from lkdn_deploy.runtime.journal import Journal

    share = request.shard.replace("/", "of") if request.shard else None
    journal = Journal(plan.folder, upscalers.work(request.backend, request.precision, request.tile), share=share)
    if request.resume:
        journal.load([job.target for job in plan.jobs])
    return journal


@contextmanager
def _summary_if_interrupted(printer: OutcomePrinter) -> Iterator[None]:
    try:
        yield
    except BrokenPipeError as error:
        discard_stdout()
        with suppress(BrokenPipeError):  # of stderr
            printer.summarise(interrupted=printer.left > 0)
        if not printer.left:
            raise
        msg = f"nobody reads standard output any more, with {printer.left} images left to upscale"
        raise InputError(msg, "give the same command with --resume") from error
    except BaseException as error:
        interrupted = isinstance(error, KeyboardInterrupt)
        if printer.begun or interrupted:
            printer.summarise(interrupted=interrupted)
        raise


def main() -> None:
    """Entry point."""
    # Imported modules and the opened network live to the end: searching them for garbage takes 50 of 320 ms.
    gc.disable()
    # OpenBLAS, which nothing here uses, would start a thread per core, each of which spins for 30 ms.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(run(command))

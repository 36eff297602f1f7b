"""``lkdn-upscale IN OUT``."""

import gc
import json
import os
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lkdn_deploy import __version__
from lkdn_deploy.backends.registry import BACKENDS
from lkdn_deploy.cli._shell import complain, converting, echo_path, progress_bar, run
from lkdn_deploy.core.errors import InputError, LkdnError, UsageError
from lkdn_deploy.core.files import remove_stale_parts

if TYPE_CHECKING:
    from collections.abc import Callable

    from lkdn_deploy.runtime.files import Failed, Job, Upscaled
    from lkdn_deploy.runtime.upscaler import Upscaler


@click.command(context_settings={"max_content_width": 100})
@click.argument("sources", metavar="IN...", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--model",
    metavar="NAME",
    help="Network of `lkdn-zoo list`, or an .onnx file that lkdn-export wrote.  [default: lkdn-s]",
)
@click.option("--scale", type=click.IntRange(2, 4), help="Upscaling factor.  [default: 4, or that of the file]")
@click.option(
    "--weights",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Checkpoint (.pth, .safetensors) of the model; its conversion is cached.",
)
@click.option(
    "--backend", type=click.Choice(list(BACKENDS)), default="auto", show_default=True, help="Engine that runs it."
)
@click.option(
    "--tile", type=click.IntRange(1), metavar="N", help="Side of a tile in pixels.  [default: as memory allows]"
)
@click.option(
    "--threads", type=click.IntRange(1, 256), metavar="N", help="Number of CPU threads.  [default: all cores]"
)
@click.option(
    "--quality",
    type=click.IntRange(1, 100),
    metavar="N",
    help="Quality of JPEG, WebP, AVIF and JPEG XL, 1 to 100.  [default: 95]",
)
@click.option("--overwrite", is_flag=True, help="Replace existing files.")
@click.option("--json", "as_json", is_flag=True, help="Print the outcome as JSON, one line per file.")
@click.version_option(__version__, prog_name="lkdn-upscale")
def command(
    sources: tuple[Path, ...],
    target: Path,
    model: str | None,
    scale: int | None,
    weights: Path | None,
    backend: str,
    tile: int | None,
    threads: int | None,
    quality: int | None,
    overwrite: bool,
    as_json: bool,
) -> None:
    """Upscale the image IN into the file OUT, or several images, or those of a folder, into the folder OUT.

    The folder is created if it does not exist. The suffix of OUT chooses the format: PNG, JPEG, WebP, TIFF,
    BMP, AVIF or JPEG XL. Transparency, 16 bits, colour profile, EXIF and other metadata are kept where the format can
    hold them. Large images are processed
    in tiles, with the same result as the whole image. Networks with global attention give different results when tiled,
    so they are tiled only with --tile. Files in a folder keep their names; if one fails, the others are still upscaled.
    Prints the path of each file written.
    """
    from lkdn_deploy.hub.loading import open_model
    from lkdn_deploy.runtime.files import Failed, begin, upscale_files
    from lkdn_deploy.runtime.upscaler import Upscaler

    jobs = _jobs(sources, target, quality, overwrite)
    first = begin(jobs[0]) if len(jobs) == 1 else None  # before a checkpoint is converted for nothing
    for folder in {job.target.parent for job in jobs}:
        remove_stale_parts(folder)
    session = open_model(model, scale, weights, backend=backend, threads=threads, converting=converting)
    upscaler = Upscaler(session, tile=tile, threads=threads)
    if not gc.isenabled():  # disabled by ``main``
        gc.freeze()
        gc.enable()
    failed = 0
    with closing(_Bars()) as bars, closing(upscale_files(upscaler, jobs, progress=bars, first=first)) as outcomes:
        for outcome in outcomes:
            bars.close()
            if not isinstance(outcome, Failed):
                _tell(outcome, upscaler, as_json=as_json)
                continue
            error = _named(outcome)
            if as_json:
                click.echo(json.dumps({**_files(outcome.job), "error": error.message, "hint": error.hint}))
            if len(jobs) == 1:
                raise error
            failed += 1
            complain(error)
    if failed:
        msg = f"{failed} of {len(jobs)} images could not be upscaled"
        raise InputError(msg)


def _jobs(sources: tuple[Path, ...], target: Path, quality: int | None, overwrite: bool) -> list["Job"]:
    """Return a job for each image, and for each image of a folder.

    Several images, and those of a folder, are written under their names into the folder ``target``, which is created if
    it is missing. So is a single image if ``target`` is an existing folder.

    Raises:
        UsageError: if ``target`` is a file but must be a folder, if two images would become one file, or if an image
            would replace itself.
        InputError: if a folder cannot be read, holds no image, or cannot be created.
    """
    from lkdn_deploy.imaging.files.formats import BY_SUFFIX
    from lkdn_deploy.imaging.files.read import scan_folder
    from lkdn_deploy.runtime.files import Job
    from lkdn_deploy.runtime.settings import OutputSettings

    settings = OutputSettings(quality=quality)
    if len(sources) == 1 and not _is_folder(sources[0]) and not _is_folder(target):
        return [Job(sources[0], target, settings, overwrite)]
    if target.exists() and not _is_folder(target):
        msg = f"{target} is a file, and several images need a folder to be written to"
        raise UsageError(msg, "name a folder as the last argument")
    jobs: dict[Path, Job] = {}
    files: list[Path] = []
    for path in sources:
        if _is_folder(path):
            images, note = scan_folder(path)
            files += images
            if note is not None:
                click.echo(f"note: {note}", err=True)
        else:
            files.append(path)
    for source in files:
        place = target / source.name
        if place.suffix.lower() not in BY_SUFFIX:
            place = place.with_suffix(".png")
        if place.resolve() == source.resolve():
            msg = f"{source} would replace itself: {target} is its own folder"
            raise UsageError(msg, "name another folder")
        if place in jobs and jobs[place].source.absolute() != source.absolute():
            msg = f"{jobs[place].source} and {source} would both become {place}"
            raise UsageError(msg, "upscale them into different folders")
        jobs.setdefault(place, Job(source, place, settings.for_target(place, many=True), overwrite))
    try:
        target.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"the folder {target} cannot be created: {error.strerror}"
        raise InputError(msg) from error
    return list(jobs.values())


def _is_folder(path: Path) -> bool:
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises an error for names that are too long


def _files(job: "Job") -> dict[str, str]:
    return {"input": str(job.source), "output": str(job.target)}


def _tell(done: "Upscaled", upscaler: "Upscaler", *, as_json: bool) -> None:
    """Print the result on stdout, and notes and a summary on stderr."""
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    session, header = upscaler.session, done.header
    if as_json:
        result = {
            **_files(done.job),
            "width": done.width,
            "height": done.height,
            "channels": header.channels,
            "depth": header.depth,
            "model": session.metadata.model,
            "scale": upscaler.scale,
            "backend": session.backend,
            "tiles": done.tiles,
            "exact": done.exact,
            "network_seconds": round(done.seconds, 4),
            "notes": list(done.notes),
        }
        click.echo(json.dumps(result))
    else:
        echo_path(done.job.target)
    sizes = f"{header.width}x{header.height} -> {done.width}x{done.height}"
    click.echo(
        f"{sizes} with {session.metadata.model} x{upscaler.scale} on {session.backend}, {done.seconds:.1f} s", err=True
    )


def _named(failed: "Failed") -> LkdnError:
    """Return the error with the name of its file in the message."""
    error = failed.error
    if str(failed.job.source) in error.message or str(failed.job.target) in error.message:
        return error
    return type(error)(f"{failed.job.source}: {error.message}", error.hint)


class _Bars:
    """Progress bars, one file after the other."""

    def __init__(self) -> None:
        self._shown = ExitStack()
        self._advance: Callable[[int, int], None] | None = None

    def __call__(self, job: "Job", done: int, total: int) -> None:
        if done == 0:
            self._advance = self._shown.enter_context(progress_bar(job.source.name))
        if self._advance is not None:
            self._advance(done, total)

    def close(self) -> None:
        """End the line of the bar, before something else is printed."""
        self._shown.close()


def main() -> None:
    """Entry point."""
    # Imported modules and the opened network live to the end: searching them for garbage takes 50 of 320 ms.
    gc.disable()
    # OpenBLAS, which nothing here uses, would start a thread per core, each of which spins for 30 ms.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(run(command))

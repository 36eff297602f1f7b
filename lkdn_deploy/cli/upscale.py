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
from lkdn_deploy.cli._shell import complain, converting, progress_bar, run
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
    "--quality", type=click.IntRange(1, 100), metavar="N", help="JPEG or WebP quality, 1 to 100.  [default: 95]"
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

    The suffix of OUT chooses the format: PNG, JPEG, WebP, TIFF or BMP. Transparency, 16 bits, colour profile and EXIF
    are kept where the format can hold them. Large images are processed in tiles, with the same result as the whole
    image. Networks with global attention give different results when tiled, so they are tiled only with --tile. Files
    in a folder keep their names; if one fails, the others are still upscaled. Prints the path of each file written.
    """
    from lkdn_deploy.hub.loading import open_model
    from lkdn_deploy.runtime.files import Failed, Job, begin, upscale_files
    from lkdn_deploy.runtime.upscaler import Upscaler

    first = None
    if len(sources) > 1 or (sources[0].is_dir() and target.is_dir()):
        jobs = _jobs_of_folder(sources, target, quality, overwrite)
    else:
        jobs = [Job(sources[0], target, quality, overwrite)]
        first = begin(jobs[0])  # before a checkpoint is converted for nothing
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
            elif len(jobs) == 1:
                raise outcome.error
            else:
                failed += 1
                complain(_named(outcome))
    if failed:
        msg = f"{failed} of {len(jobs)} images could not be upscaled"
        raise InputError(msg)


def _jobs_of_folder(sources: tuple[Path, ...], folder: Path, quality: int | None, overwrite: bool) -> list["Job"]:
    """Return a job for each image, and each image of a folder, that writes a file of the same name into ``folder``.

    Raises:
        UsageError: if ``folder`` does not exist, or two images would become one file.
        InputError: if a folder cannot be read or holds no image.
    """
    from lkdn_deploy.imaging.files.formats import BY_SUFFIX
    from lkdn_deploy.imaging.files.read import image_files
    from lkdn_deploy.runtime.files import Job

    if not folder.is_dir():
        msg = f"{folder} is not a folder, and several images need one to be written to"
        raise UsageError(msg, "create the folder first")
    jobs: dict[Path, Job] = {}
    for source in [file for path in sources for file in (image_files(path) if path.is_dir() else [path])]:
        target = folder / source.name
        if target.suffix.lower() not in BY_SUFFIX:
            target = target.with_suffix(".png")
        if target in jobs:
            msg = f"{jobs[target].source} and {source} would both become {target}"
            raise UsageError(msg, "upscale them into different folders")
        kind = BY_SUFFIX[target.suffix.lower()]
        jobs[target] = Job(source, target, quality if kind.lossy else None, overwrite)
    return list(jobs.values())


def _tell(done: "Upscaled", upscaler: "Upscaler", *, as_json: bool) -> None:
    """Print the result on stdout, and notes and a summary on stderr."""
    for note in done.notes:
        click.echo(f"note: {note}", err=True)
    session, header = upscaler.session, done.header
    if as_json:
        result = {
            "input": str(done.job.source),
            "output": str(done.job.target),
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
        click.echo(str(done.job.target))
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

"""``lkdn-upscale IN OUT``."""

import json
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lkdn_deploy import __version__
from lkdn_deploy.backends.registry import BACKENDS
from lkdn_deploy.cli._shell import converting, progress_bar, run
from lkdn_deploy.core.errors import InputError

if TYPE_CHECKING:
    from lkdn_deploy.imaging.files.picture import Header
    from lkdn_deploy.runtime.upscaler import Upscaler


@click.command(context_settings={"max_content_width": 100})
@click.argument("source", metavar="IN", type=click.Path(path_type=Path))
@click.argument("target", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--model", metavar="NAME", help="A network of `lkdn-zoo list`, or an .onnx file of lkdn-export.  [default: lkdn-s]"
)
@click.option("--scale", type=click.IntRange(2, 4), help="Times larger.  [default: 4, or what the file has]")
@click.option(
    "--weights", type=click.Path(path_type=Path), help="A checkpoint (.pth, .safetensors), converted once and kept."
)
@click.option("--backend", type=click.Choice(list(BACKENDS)), default="auto", show_default=True, help="What runs it.")
@click.option(
    "--tile", type=click.IntRange(1), metavar="N", help="Tiles of N pixels a side.  [default: as memory allows]"
)
@click.option("--threads", type=click.IntRange(1, 256), metavar="N", help="CPU threads.  [default: all cores]")
@click.option("--quality", type=click.IntRange(1, 100), metavar="1..100", help="Of a JPEG or WebP.  [default: 95]")
@click.option("--overwrite", is_flag=True, help="Replace OUT if it exists.")
@click.option("--json", "as_json", is_flag=True, help="Print what was done as JSON.")
@click.version_option(__version__, prog_name="lkdn-upscale")
def command(
    source: Path,
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
    """Upscale the image IN into the file OUT.

    PNG, JPEG, WebP, TIFF and BMP, by OUT's suffix. Transparency, 16 bits, colour profile and EXIF are kept where the
    format can hold them. Tiles do not show: the result is that of the whole image. Networks that weigh every pixel by
    the whole image, where it would not be, are tiled only with --tile.
    """
    from lkdn_deploy.imaging.files.read import probe, read_picture
    from lkdn_deploy.imaging.files.write import check_output, check_target, write_picture

    header = probe(source)
    check_target(target, quality=quality, overwrite=overwrite)  # before a checkpoint is converted for nothing
    upscaler = _open(model, scale, weights, backend, tile, threads)
    width, height = header.width * upscaler.scale, header.height * upscaler.scale
    notes = list(
        check_output(
            target,
            width=width,
            height=height,
            channels=header.channels,
            depth=header.depth,
            quality=quality,
            overwrite=overwrite,
        )
    )
    _check_memory(source, header, upscaler)
    tiles = upscaler.plan(header.height, header.width)
    picture = read_picture(source)
    notes += picture.notes
    start = time.perf_counter()
    with progress_bar(source.name) as progress:
        large = upscaler.upscale_picture(picture, progress=progress)
    seconds = time.perf_counter() - start
    notes += write_picture(target, large, quality=quality)
    notes = list(dict.fromkeys(notes))  # checking and writing say the same of the depth
    for note in notes:
        click.echo(f"note: {note}", err=True)
    session = upscaler.session
    if as_json:
        result = {
            "input": str(source),
            "output": str(target),
            "width": width,
            "height": height,
            "channels": header.channels,
            "depth": header.depth,
            "model": session.metadata.model,
            "scale": upscaler.scale,
            "backend": session.backend,
            "tiles": len(tiles),
            "exact": upscaler.exact or len(tiles) == 1,
            "network_seconds": round(seconds, 4),
            "notes": notes,
        }
        click.echo(json.dumps(result))
    else:
        click.echo(str(target))
    said = f"{header.width}x{header.height} -> {width}x{height}"
    click.echo(
        f"{said} with {session.metadata.model} x{upscaler.scale} on {session.backend}, {seconds:.1f} s", err=True
    )


def _open(
    model: str | None, scale: int | None, weights: Path | None, backend: str, tile: int | None, threads: int | None
) -> "Upscaler":
    from lkdn_deploy.export.artefacts import artefact_for, check_found
    from lkdn_deploy.runtime.upscaler import load

    artefact = artefact_for(model, scale, weights, converting)
    upscaler = load(artefact, backend=backend, tile=tile, threads=threads)
    check_found(upscaler.session.metadata, model, scale, weights)
    return upscaler


def _check_memory(source: Path, header: "Header", upscaler: "Upscaler") -> None:
    """Refuse what would not fit: the picture, and the result twice (once more while it is encoded)."""
    import psutil

    scale, smallest = upscaler.scale, upscaler.session.metadata.smallest
    pixels = max(header.width, smallest) * max(header.height, smallest)  # its edge is repeated where it is too small
    size = pixels * header.channels * (header.depth // 8)
    needed, free = size * (1 + 2 * scale**2), psutil.virtual_memory().available
    if needed > free:
        msg = (
            f"{source}: x{scale} of {header.width}x{header.height} needs {needed >> 20} MiB, {free >> 20} MiB are free"
        )
        raise InputError(msg, "cut the image in parts, or use a smaller scale")


def main() -> None:
    """Entry point."""
    sys.exit(run(command))

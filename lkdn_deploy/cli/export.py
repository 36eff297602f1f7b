"""``lkdn-export --fuse --onnx``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lkdn_deploy import __version__
from lkdn_deploy.cli._shell import run, size_option
from lkdn_deploy.core.errors import UsageError

if TYPE_CHECKING:
    from lkdn_deploy.export.job import ExportReport


@click.command(context_settings={"max_content_width": 100})
@click.option("--fuse/--no-fuse", default=True, show_default=True, help="Collapse branches into single convolutions.")
@click.option("--onnx", is_flag=True, help="Write an ONNX file.")
@click.option("--model", metavar="NAME", help="The network.  [default: lkdn-s, or what the weights are]")
@click.option("--scale", type=click.IntRange(2, 4), help="Its scale.  [default: 4, or what the weights are for]")
@click.option("--weights", type=click.Path(path_type=Path), help="A checkpoint.  [default: bundled, or downloaded]")
@click.option("--opset", type=int, metavar="N", help="ONNX opset, 18 to 23.  [default: 20]")
@click.option(
    "--static", callback=size_option, metavar="HxW", help="Fix the input size.  [default: any size and batch]"
)
@click.option("--target", default="plain", show_default=True, help="Engine that the graph is made for.")
@click.option(
    "-o", "--output", type=click.Path(path_type=Path), default=Path(), help="Folder to write to.  [default: .]"
)
@click.version_option(__version__, prog_name="lkdn-export")
def command(
    fuse: bool,
    onnx: bool,
    model: str | None,
    scale: int | None,
    weights: Path | None,
    opset: int | None,
    static: tuple[int, int] | None,
    target: str,
    output: Path,
) -> None:
    """Export a checkpoint, fused and verified, into the folder of -o.

    The file is compared with the checkpoint in PyTorch, without --static at sizes it was not traced at. If the numbers
    differ, nothing is written and the exit code is 4. A file of the same name is replaced. Prints the path of each file
    written.
    """
    if not onnx:
        msg = "nothing to write"
        raise UsageError(msg, "say what: --onnx")
    from lkdn_deploy.export.job import ExportSettings, export_onnx, file_name, open_checkpoint
    from lkdn_deploy.export.to_onnx import DEFAULT_OPSET

    settings = ExportSettings(fuse=fuse, opset=DEFAULT_OPSET if opset is None else opset, static=static, target=target)
    checkpoint = open_checkpoint(weights, model, scale)
    report = export_onnx(checkpoint, output / file_name(checkpoint, settings), settings)
    tell(report)
    click.echo(str(report.path))


def tell(report: "ExportReport") -> None:
    """Say on stderr what was fused, what was not, and how far the file's numbers are from the checkpoint's."""
    for line in report.applied:
        click.echo(f"fused    {line}", err=True)
    for line in report.skipped:
        click.echo(f"skipped  {line}", err=True)
    for comparison in report.comparisons:
        click.echo(f"verified {comparison}", err=True)


def main() -> None:
    """Entry point."""
    sys.exit(run(command))

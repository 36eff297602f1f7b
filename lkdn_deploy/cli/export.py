"""``lkdn-export --fuse --onnx --trt``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lkdn_deploy import __version__
from lkdn_deploy.cli._engine_options import engine_options, write_engine
from lkdn_deploy.cli._shell import echo_path, run, size_option
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.files import temporary_folder

if TYPE_CHECKING:
    from lkdn_deploy.backends.trt.spec import EngineSpec
    from lkdn_deploy.core.artifact import Io
    from lkdn_deploy.export.job import ExportReport


@click.command(context_settings={"max_content_width": 100})
@click.option("--fuse/--no-fuse", default=True, show_default=True, help="Collapse branches into single convolutions.")
@click.option("--onnx", is_flag=True, help="Write an ONNX file.")
@click.option("--model", metavar="NAME", help="The network.  [default: lkdn-s, or what the weights are]")
@click.option("--scale", type=click.IntRange(2, 4), help="Its scale.  [default: 4, or what the weights are for]")
@click.option("--weights", type=click.Path(path_type=Path), help="A checkpoint.  [default: bundled, or downloaded]")
@click.option("--opset", type=int, metavar="N", help="ONNX opset, 18 to 23.  [default: 20]")
@click.option(
    "--static", callback=size_option, metavar="WxH", help="Fix the input size.  [default: any size and batch]"
)
@click.option("--fp16", is_flag=True, help="Weights and values in FP16, and FP32 where the numbers need it.")
@click.option(
    "--io",
    type=click.Choice(["fp32", "fp16", "uint8"]),
    default="fp32",
    show_default=True,
    help="What the input and output of an FP16 file hold.",
)
@engine_options
@click.option(
    "--triton", type=click.Path(path_type=Path), metavar="DIR", help="Put it into a model repository of Triton's."
)
@click.option(
    "--target",
    default="plain",
    show_default=True,
    metavar="NAME",
    help="Engine that the graph is made for: plain, ort-cpu, openvino, tensorrt.",
)
@click.option("--skip", multiple=True, metavar="REWRITE", help="Leave out a rewrite of the target's; may be repeated.")
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
    fp16: bool,
    io: "Io",
    triton: Path | None,
    target: str,
    skip: tuple[str, ...],
    output: Path,
    engine: "EngineSpec | None",
) -> None:
    """Export a checkpoint, fused and verified, into the folder of -o.

    The file is compared with the checkpoint in PyTorch, without --static at sizes it was not traced at. If the numbers
    differ, nothing is written and the exit code is 4. A file in FP16 is held to the 8-bit image that it gives, and must
    give finite values on noise, black and white. A file of the same name is replaced. Prints the path of each file
    written.

    With --target the graph is rewritten into what that engine runs fastest: the same numbers by other operations. What
    was rewritten, and what was not and why, is said.

    With --trt the file becomes a TensorRT engine, which goes into the user's cache too. Its precision is that of the
    file: with --fp16 the convolutions of the engine are counted, and the exit code is 4 if they are not in FP16.
    TensorRT for RTX needs no GPU to build.

    With --triton a model repository gets the ONNX file, or with --trt the engine, if it is TensorRT's own.
    """
    if not onnx and engine is None and triton is None:
        msg = "nothing to write"
        raise UsageError(msg, "say what: --onnx, --trt, --triton DIR")
    from lkdn_deploy.export.job import ExportSettings, export_onnx, file_name, open_checkpoint
    from lkdn_deploy.export.to_onnx import DEFAULT_OPSET

    settings = ExportSettings(
        fuse=fuse,
        opset=DEFAULT_OPSET if opset is None else opset,
        static=static,
        target=target,
        precision="fp16" if fp16 else "fp32",
        io=io,
        skip=skip,
    )
    checkpoint = open_checkpoint(weights, model, scale)
    with temporary_folder() as elsewhere:
        folder = output if onnx else elsewhere
        report = export_onnx(checkpoint, folder / file_name(checkpoint, settings), settings)
        tell(report)
        if onnx:
            echo_path(report.path)
        if engine is not None:
            write_engine(report.path, engine, output, triton)
        elif triton is not None:
            from lkdn_deploy.export.triton import write_onnx

            for path in write_onnx(report.path, triton):
                echo_path(path)


def tell(report: "ExportReport") -> None:
    """Say on stderr what was fused, what was not, and how far the file's numbers are from the checkpoint's."""
    for line in report.applied:
        click.echo(f"fused    {line}", err=True)
    for line in report.skipped:
        click.echo(f"skipped  {line}", err=True)
    for name, outcome in report.rewrites.items():
        if outcome.applied and name != "clean-up":
            click.echo(f"rewrote  {name}: {outcome.applied}", err=True)
        for line in outcome.refused:
            click.echo(f"left     {name}: {line}", err=True)
    if report.fp16:
        click.echo(f"fp16     {report.fp16}", err=True)
    for comparison in report.comparisons:
        click.echo(f"verified {comparison}", err=True)


def main() -> None:
    """Entry point."""
    sys.exit(run(command))

"""The command ``lkdn-export``."""

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lkdn_deploy import __version__
from lkdn_deploy.cli._engine_options import engine_options, write_engine
from lkdn_deploy.cli._shell import PATH, echo_path, refuse_existing, run, size_option
from lkdn_deploy.cli._web_options import only, refuse_others, write_web
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.files import temporary_folder

if TYPE_CHECKING:
    from lkdn_deploy.backends.trt.engine_spec import EngineSpec
    from lkdn_deploy.core.artifact import Io
    from lkdn_deploy.export.job import ExportReport


@click.command(context_settings={"max_content_width": 100})
@click.option("--fuse/--no-fuse", default=True, show_default=True, help="Collapse branches into single convolutions.")
@click.option("--onnx", is_flag=True, help="Write an ONNX file.")
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="Network of `lkdn-zoo list`; with --web repeatable.  [default: lkdn-s, or detected from the weights]",
)
@click.option(
    "--scale",
    "scales",
    multiple=True,
    type=click.IntRange(2, 4),
    help="Scale; with --web repeatable.  [default: 4, or detected from the weights]",
)
@click.option(
    "--weights", type=PATH, metavar="FILE", help="Checkpoint of the network.  [default: the bundled or downloaded one]"
)
@click.option("--opset", type=int, metavar="N", help="ONNX opset, 18 to 23.  [default: 20]")
@click.option(
    "--static", callback=size_option, metavar="WxH", help="Fix the input size.  [default: any size and batch]"
)
@click.option("--fp16", is_flag=True, help="Store weights and values in FP16; operations that need FP32 keep it.")
@click.option(
    "--io",
    type=click.Choice(["fp32", "fp16", "uint8"]),
    default="fp32",
    show_default=True,
    help="Type of the input and output of an FP16 file.",
)
@engine_options
@click.option(
    "--triton", type=PATH, metavar="DIR", help="Model repository of Triton Inference Server to add the model to."
)
@click.option(
    "--backend",
    type=click.Choice(["onnxruntime", "python"]),
    help="Backend of Triton that runs the file; python serves pictures through this package.  [default: onnxruntime]",
)
@click.option(
    "--web",
    type=PATH,
    metavar="DIR",
    help="Folder for a page and a JavaScript package that run the networks in browsers; nothing else is written.",
)
@click.option(
    "--target",
    default="plain",
    show_default=True,
    metavar="NAME",
    help="Engine to rewrite the graph for: plain, ort-cpu, openvino or tensorrt.",
)
@click.option("--skip", multiple=True, metavar="PASS", help="Rewrite of the target to leave out; repeatable.")
@click.option(
    "--also",
    multiple=True,
    metavar="PASS",
    help="Optional rewrite of the target tensorrt: merge-wide-separable-conv, approximate-gelu; repeatable.",
)
@click.option("-o", "--output", type=PATH, metavar="DIR", default=Path(), help="Folder to write to.  [default: .]")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.version_option(__version__, prog_name="lkdn-export")
@click.pass_context
def command(
    context: click.Context,
    fuse: bool,
    onnx: bool,
    models: tuple[str, ...],
    scales: tuple[int, ...],
    weights: Path | None,
    opset: int | None,
    static: tuple[int, int] | None,
    fp16: bool,
    io: "Io",
    triton: Path | None,
    backend: str | None,
    web: Path | None,
    target: str,
    skip: tuple[str, ...],
    also: tuple[str, ...],
    output: Path,
    overwrite: bool,
    engine: "EngineSpec | None",
) -> None:
    """Export a checkpoint to a fused and verified ONNX file, TensorRT engine or Triton model.

    The file is run on ONNX Runtime and compared with the checkpoint in PyTorch, without --static at sizes at which it
    was not traced. If the results differ, nothing is written and the exit code is 4. An FP16 file may differ by what an
    8-bit image does not show, and must give finite values on noise, black and white. The command prints the path of
    each file that it writes.

    With --target the graph is rewritten for one engine: other operations, the same results. The command reports what it
    rewrote, what it skipped, and why. --also merge-wide-separable-conv makes fewer and larger convolutions, which is
    more work; --also approximate-gelu changes results by about as much as FP16 does.

    With --trt the file is built into a TensorRT engine, which is also kept in the user's cache. The graph of a plain
    file is rewritten for TensorRT before that, which leaves the file as it is. The engine has the precision of the
    file: with --fp16 its convolutions are counted, and the exit code is 4 if too few are in FP16. TensorRT for RTX
    builds engines without a GPU.

    With --triton the ONNX file, or with --trt the TensorRT engine, is added to a model repository. With --backend
    python the server takes pictures of any size, (H, W, C) uint8, and upscales them in tiles as lkdn-upscale does; its
    Python needs this package.

    With --web a folder for any static host is written: a page that upscales pictures in the browser, offline after the
    first visit, the same as a JavaScript package, and the networks for both, compiled to WebAssembly. --model and
    --scale may be repeated for several networks; the first one is the default.
    """
    if web is not None:
        refuse_others(context)
        write_web(web, models, scales, weights, overwrite=overwrite)
        return
    model, scale = only(models, "model"), only(scales, "scale")
    if not onnx and engine is None and triton is None:
        msg = "nothing to write"
        raise UsageError(msg, "choose at least one of --onnx, --trt, --triton DIR and --web DIR")
    if backend is not None and (triton is None or engine is not None):
        msg = "--backend is for --triton without --trt: an engine runs on Triton's backend tensorrt"
        raise UsageError(msg, "leave out --backend, or give --triton DIR without --trt")
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
        also=also,
    )
    checkpoint = open_checkpoint(weights, model, scale)
    name = Path(file_name(checkpoint, settings))
    refuse_existing([output / name] if onnx else [], overwrite)
    refuse_existing([triton / name.stem] if triton and engine is None else [], overwrite)
    with temporary_folder() as elsewhere:
        report = export_onnx(checkpoint, (output if onnx else elsewhere) / name, settings)
        tell(report)
        if onnx:
            echo_path(report.path)
        if engine is not None:
            write_engine(
                report.path if onnx else _shipped(report) or report.path, engine, output, triton, overwrite=overwrite
            )
        elif triton is not None:
            from lkdn_deploy.export.triton import write_onnx, write_python

            write = write_python if backend == "python" else write_onnx
            for path in write(report.path, triton):
                echo_path(path)


def _shipped(report: "ExportReport") -> Path | None:
    """Return the bundled artefact of the same network, weights and form, if there is one.

    It differs from the exported file in the versions of the tools at most, and it is the file that ``lkdn-upscale``
    looks for an engine of.
    """
    from dataclasses import replace

    from lkdn_deploy.backends.onnx_bytes import read_artifact
    from lkdn_deploy.runtime.bundled import bundled

    shipped = bundled().get((report.metadata.model, report.metadata.scale))
    if shipped is None or report.path.name != shipped.name:
        return None
    return shipped if replace(read_artifact(shipped).metadata, tools=report.metadata.tools) == report.metadata else None


def tell(report: "ExportReport") -> None:
    """Report on stderr what was fused and rewritten, what was not and why, and how the file compares."""
    lines = [f"fused    {line}" for line in report.applied] + [f"skipped  {line}" for line in report.skipped]
    for name, outcome in report.rewrites.items():
        lines += [f"rewrote  {name}: {outcome.applied}"] if outcome.applied and name != "clean-up" else []
        lines += [f"left     {name}: {line}" for line in outcome.refused]
    lines += [f"fp16     {report.fp16}"] if report.fp16 else []
    for line in [*lines, *(f"verified {comparison}" for comparison in report.comparisons)]:
        click.echo(line, err=True)


def main() -> None:
    """Entry point."""
    sys.exit(run(command))

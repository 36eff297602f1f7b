"""``lkdn-bench`` and ``lkdn-bench compare``."""

import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
from click.core import ParameterSource

from lkdn_deploy import __version__
from lkdn_deploy.cli._progress import progress_bar
from lkdn_deploy.cli._shell import PATH, run, size_option, weights_option
from lkdn_deploy.core.errors import ExitCode, InputError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lkdn_deploy.bench.measure.harness import Progress
    from lkdn_deploy.bench.models import Model
    from lkdn_deploy.bench.results import Protocol, Report

ROUNDS = 30
ENGINES = ("torch", "ort", "openvino", "native", "trt")
"""Engines that are tried by default; those that do not work here are left out."""
FILES = ("bench.json", "bench.md", "bench.html")


@click.group(invoke_without_command=True, context_settings={"max_content_width": 100})
@click.option("--torch", is_flag=True, help="Measure eager PyTorch, the baseline of a deployment.")
@click.option(
    "--torch-way",
    "ways",
    multiple=True,
    type=click.Choice(["eager", "channels-last", "compile", "tf32"]),
    help="Way in which PyTorch runs the networks; repeatable.  [default: eager, with --trt --torch all]",
)
@click.option("--ort", is_flag=True, help="Measure ONNX Runtime, on CUDA if there is a GPU.")
@click.option("--openvino", is_flag=True, help="Measure OpenVINO on the CPU.")
@click.option("--native", is_flag=True, help="Measure the native engine on the CPU.")
@click.option("--trt", is_flag=True, help="Measure TensorRT.  [default: all engines that work here]")
@click.option(
    "--trt-way",
    "trt_ways",
    multiple=True,
    type=click.Choice(["default", "aux0", "no-tf32"]),
    help="Way in which TensorRT builds its engines: aux0 without streams beside the main one, no-tf32 without TF32; "
    "repeatable.  [default: default, with --trt all]",
)
@click.option(
    "--model",
    "names",
    multiple=True,
    metavar="NAME",
    help="Network of `lkdn-zoo list`, or an .onnx file; repeatable.  [default: lkdn, lkdn-s, bsrn, vapsr, rfdn-aim]",
)
@click.option("--scale", type=click.IntRange(2, 4), help="Scale of the models.  [default: 4, or that of the file]")
@weights_option
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["fp32", "fp16", "int16"]),
    help="Precision of weights and activations, int16 on the native engine only; repeatable.  [default: fp32, with "
    "--trt fp16, too]",
)
@click.option(
    "--protocol",
    type=click.Choice(["steady", "ntire2023", "ntire2024", "ntire2025", "ntire2026"]),
    default="steady",
    show_default=True,
    help="steady: one input size, warmed up, medians. The others: as that year's challenge, on the images of --data; "
    "those since 2024 time their baseline, too, and score by it.",
)
@click.option("--size", callback=size_option, metavar="WxH", help="Input size.  [default: for an output of 1280x720]")
@click.option(
    "--data",
    multiple=True,
    type=PATH,
    metavar="DIR",
    help="Test set, folder of test sets, or folder of pictures, to measure PSNR on; repeatable.",
)
@click.option(
    "--rounds", type=click.IntRange(1, 10_000), default=ROUNDS, show_default=True, metavar="N", help="Rounds of timing."
)
@click.option("--threads", type=click.IntRange(1, 256), metavar="N", help="CPU threads.  [default: all cores]")
@click.option("-o", "--output", type=PATH, metavar="DIR", help="Folder for bench.json, .md and .html.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option(
    "--predict",
    metavar="GPU",
    help="Measure nothing; print the least times that the roofline allows on a GPU such as rtx3080.",
)
@click.version_option(__version__, prog_name="lkdn-bench")
@click.pass_context
def command(
    context: click.Context,
    torch: bool,
    ways: tuple[str, ...],
    ort: bool,
    openvino: bool,
    native: bool,
    trt: bool,
    trt_ways: tuple[str, ...],
    names: tuple[str, ...],
    scale: int | None,
    weights: tuple[Path, ...],
    precisions: tuple[str, ...],
    protocol: str,
    size: tuple[int, int] | None,
    data: tuple[Path, ...],
    rounds: int,
    threads: int | None,
    output: Path | None,
    overwrite: bool,
    predict: str | None,
) -> None:
    """Time models on engines side by side, and report their costs.

    Every round reopens and times each row once, so that drift of the machine affects all rows alike. Ratios are to the
    first row, with a 99 % interval. A network whose weights you have not downloaded gets random ones, which do not
    change its speed. Ctrl-C ends the run and keeps what was measured.
    """
    given = [name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    if context.invoked_subcommand:
        _refuse(given, f"{context.invoked_subcommand} takes two reports and no option")
        return
    if trt:
        # Before other imports, so that a missing GPU is reported at once.
        from lkdn_deploy.backends.trt.device import open_device

        open_device()
    if predict:
        others = {
            "torch",
            "ways",
            "ort",
            "openvino",
            "native",
            "trt_ways",
            "protocol",
            "data",
            "rounds",
            "threads",
            "output",
            "overwrite",
        }
        _refuse([name for name in given if name in others], "--predict measures nothing")
    _check_output(output, overwrite)
    from lkdn_deploy.bench.models import find_models
    from lkdn_models.zoo.facts import LR

    models = find_models(names, scale, weights)
    precisions = tuple(dict.fromkeys(precisions)) or (("fp32", "fp16") if trt else ("fp32",))
    usual = LR[models[0].scale]
    if predict:
        from lkdn_deploy.bench.complexity.devices import find
        from lkdn_deploy.bench.complexity.predict import predict as predicted

        click.echo(predicted(models, find(predict), precisions, size or usual))
        return
    from lkdn_deploy.bench.opening import TORCH_WAYS, TRT_WAYS
    from lkdn_deploy.bench.results import Protocol, Settings
    from lkdn_deploy.bench.run import BenchRequest, bench
    from lkdn_deploy.core.limits import cores
    from lkdn_deploy.imaging.testsets import find_all

    if (rules := Protocol(protocol)).is_challenge:
        if size:
            msg = f"--size is for the protocol steady; {protocol} takes the images at their own sizes"
            raise UsageError(msg, "leave one of them out")
        models = _with_baseline(models, rules)
        settings = Settings(rules, None, threads or cores(), rules.runs, 0)
    else:
        settings = Settings(Protocol.STEADY, size or usual, threads or cores(), rounds, 0)
    flags = {"torch": torch, "ort": ort, "openvino": openvino, "native": native, "trt": trt}
    wanted = [name for name, flag in flags.items() if flag]
    if ways and wanted and not torch:
        _refuse(["ways"], "a way of PyTorch was chosen, but not --torch")
    if trt_ways and wanted and not trt:
        _refuse(["trt_ways"], "a way of TensorRT was chosen, but not --trt")
    ways = tuple(dict.fromkeys(ways)) or (TORCH_WAYS if trt and torch else ("eager",))
    builds = tuple(dict.fromkeys(trt_ways)) or (tuple(TRT_WAYS) if trt else ("default",))
    replaced = {"torch": [f"torch-{way}".removesuffix("-eager") for way in ways]}
    replaced["trt"] = [f"trt-{way}".removesuffix("-default") for way in builds]
    replaced["ort"] = [_ort_engine()] if "ort" in (wanted or ENGINES) else []
    engines = [engine for name in wanted or ENGINES for engine in replaced.get(name, [name])]
    sets = find_all(data, models[0].scale)
    report = bench(BenchRequest(models, engines, precisions, settings, sets, required=bool(wanted)), _stage)
    _write(report, output)
    if report.interrupted:
        context.exit(ExitCode.INTERRUPTED)
    if report.failed or any(row.problem for row in report.rows):
        context.exit(ExitCode.INPUT_FAILED)


@command.command()
@click.argument("before", type=PATH)
@click.argument("after", type=PATH)
def compare(before: Path, after: Path) -> None:
    """Compare the reports BEFORE and AFTER (bench.json) and tell changes from noise."""
    from lkdn_deploy.bench.compare import compare, text
    from lkdn_deploy.bench.results import read_report

    click.echo(text(compare(read_report(before), read_report(after))).rstrip())


def _with_baseline(models: "list[Model]", protocol: "Protocol") -> "list[Model]":
    """Add the baseline of a challenge, if it has one and it is not among the models."""
    from lkdn_deploy.bench.challenge import CHALLENGES
    from lkdn_deploy.bench.models import find_models

    name = CHALLENGES[protocol].baseline
    if not name or any(model.name == name for model in models):
        return models
    if models[0].scale != (only := 4):
        msg = f"{protocol} is a challenge of x{only}"
        raise UsageError(msg, f"give models of x{only}")
    return [*models, *find_models([name], only, [])]


def _ort_engine() -> str:
    """Return ``ort-cuda`` if there are a GPU and an onnxruntime for CUDA, else ``ort-cpu``."""
    from lkdn_deploy.bench.machine import gpus
    from lkdn_deploy.core.optional import needs

    if not gpus():
        return "ort-cpu"
    with needs("gpu"):
        from onnxruntime import get_available_providers
    return "ort-cuda" if "CUDAExecutionProvider" in get_available_providers() else "ort-cpu"


@contextmanager
def _stage(name: str) -> "Iterator[Progress | None]":
    with progress_bar(f"{name:<9}") as progress:
        if progress is None:
            click.echo(name, err=True)
        yield progress


def _check_output(folder: Path | None, overwrite: bool) -> None:
    """Create the folder, and check now, not after minutes, that a report can be written."""
    from lkdn_deploy.core.optional import needs

    with needs("bench"):
        import pydantic  # noqa: F401

        if folder is None:
            return
        import matplotlib as mpl  # noqa: F401
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        msg = f"{folder} cannot be written to: {error.strerror}"
        raise InputError(msg, "give another folder with --output") from error
    if there := [name for name in FILES if (folder / name).exists() and not overwrite]:
        msg = f"{folder} already holds {', '.join(there)}"
        raise UsageError(msg, "give another folder, or replace the files with --overwrite")


def _write(report: "Report", folder: Path | None) -> None:
    """Write the files into their folder, then print the tables."""
    from lkdn_deploy.bench.report.html import html
    from lkdn_deploy.bench.report.text import markdown, text
    from lkdn_deploy.bench.results import write_report
    from lkdn_deploy.core.files import publish

    if folder:
        write_report(folder / "bench.json", report)
        for name, content in (("bench.md", markdown(report)), ("bench.html", html(report))):
            with publish(folder / name) as part:
                part.write_text(content, encoding="utf-8")
        click.echo(f"wrote {', '.join(FILES)} in {folder}", err=True)
    click.echo(text(report).rstrip())


def _refuse(options: list[str], why: str) -> None:
    if options:
        called = {"names": "model", "precisions": "precision", "ways": "torch-way", "trt_ways": "trt-way"}
        msg = f"{why}: {', '.join(f'--{called.get(name, name)}' for name in options)}"
        raise UsageError(msg, "leave that out")


def main() -> None:
    """Entry point."""
    sys.exit(run(command))

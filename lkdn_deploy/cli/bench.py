"""``lkdn-bench`` and ``lkdn-bench compare``."""

import sys
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lkdn_deploy import __version__
from lkdn_deploy.cli._shell import progress_bar, run, size_option
from lkdn_deploy.core.errors import ExitCode, InputError, MissingError, UsageError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lkdn_deploy.bench.harness import Progress
    from lkdn_deploy.bench.models import Model
    from lkdn_deploy.bench.results import Report, Settings

ROUNDS = 30


@click.group(invoke_without_command=True, context_settings={"max_content_width": 100})
@click.option("--torch", is_flag=True, help="PyTorch, eager: what deployment is measured against.")
@click.option("--ort", is_flag=True, help="ONNX Runtime, through CUDA where there is a GPU.")
@click.option("--openvino", is_flag=True, help="OpenVINO, on the CPU.")
@click.option("--trt", is_flag=True, help="TensorRT.  [default: all engines that work here]")
@click.option(
    "--model",
    "names",
    multiple=True,
    metavar="NAME",
    help="A network of `lkdn-zoo list` or an .onnx file.  [default: lkdn, lkdn-s, bsrn, vapsr, rfdn-aim]",
)
@click.option("--scale", type=click.IntRange(2, 4), help="Of the networks.  [default: 4]")
@click.option("--weights", multiple=True, type=click.Path(path_type=Path), help="A checkpoint; may be repeated.")
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(["fp32", "fp16"]),
    help="Of weights and activations; may be repeated.  [default: fp32]",
)
@click.option(
    "--protocol",
    type=click.Choice(["steady", "ntire2023"]),
    default="steady",
    show_default=True,
    help="steady: one input size, warmed up, medians. ntire2023: as that challenge, on the images of --data.",
)
@click.option("--size", callback=size_option, metavar="HxW", help="Of the input.  [default: for 1280x720 out]")
@click.option("--data", multiple=True, type=click.Path(path_type=Path), help="Test sets to rate on, as in lkdn-eval.")
@click.option("--rounds", type=click.IntRange(1, 10_000), default=ROUNDS, show_default=True, help="Of timing.")
@click.option("--threads", type=click.IntRange(1, 256), metavar="N", help="CPU threads.  [default: all cores]")
@click.option("-o", "--output", type=click.Path(path_type=Path), help="Folder for bench.json, bench.md and bench.html.")
@click.option("--predict", metavar="GPU", help="Time nothing: the least time by the roofline, such as on rtx3080.")
@click.version_option(__version__, prog_name="lkdn-bench")
@click.pass_context
def command(
    context: click.Context,
    torch: bool,
    ort: bool,
    openvino: bool,
    trt: bool,
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
    predict: str | None,
) -> None:
    """Time models on engines, side by side, and say what they cost.

    Every round times every row once, so that what slows the machine slows all alike; ratios are to the first row, with
    a 99 % interval. Networks without weights at hand get random ones: speed does not hang on them. Ctrl-C keeps what
    was measured.
    """
    if context.invoked_subcommand:
        return
    if trt:
        # Before anything else is imported: it takes no time to say so.
        msg = "TensorRT engines cannot be run by this version"
        raise MissingError(msg, "use --ort, --openvino or --torch; --predict rtx3080 shows what a GPU could do")
    from lkdn_deploy.bench.models import find_models

    models = find_models(names, scale, weights)
    precisions = tuple(dict.fromkeys(precisions)) or ("fp32",)
    if predict:
        _check_alone(torch or ort or openvino, data, output)
        click.echo(_predicted(models, predict, precisions, size))
        return
    wanted = [name for name, flag in (("torch", torch), ("ort", ort), ("openvino", openvino)) if flag]
    report = _measured(models, wanted, precisions, _settings(models, protocol, size, rounds, threads), data)
    _tell(report, output)
    if report.interrupted:
        context.exit(ExitCode.INTERRUPTED)
    if any(row.problem for row in report.rows):
        context.exit(ExitCode.INPUT_FAILED)


@command.command()
@click.argument("before", type=click.Path(path_type=Path))
@click.argument("after", type=click.Path(path_type=Path))
def compare(before: Path, after: Path) -> None:
    """Say what changed between the reports BEFORE and AFTER (bench.json), and whether it is more than noise."""
    from lkdn_deploy.bench.compare import compare, text
    from lkdn_deploy.bench.results import read_report

    click.echo(text(compare(read_report(before), read_report(after))).rstrip())


def _settings(
    models: "list[Model]", protocol: str, size: tuple[int, int] | None, rounds: int, threads: int | None
) -> "Settings":
    from lkdn_deploy.bench.machine import cores
    from lkdn_deploy.bench.results import Protocol, Settings
    from lkdn_models.zoo.facts import LR

    if protocol == Protocol.NTIRE_2023:
        if size:
            msg = "--size is for the protocol steady; ntire2023 takes the images as they are"
            raise UsageError(msg, "leave one of them out")
        return Settings(Protocol.NTIRE_2023, None, threads or cores(), 1, 0)
    return Settings(Protocol.STEADY, size or LR[models[0].scale], threads or cores(), rounds, 0)


def _measured(
    models: "list[Model]",
    wanted: list[str],
    precisions: tuple[str, ...],
    settings: "Settings",
    data: tuple[Path, ...],
) -> "Report":
    from dataclasses import replace

    from lkdn_deploy.bench.machine import gpus
    from lkdn_deploy.bench.results import LeftOut
    from lkdn_deploy.bench.run import Request, bench
    from lkdn_deploy.imaging.testsets import find_sets

    names = {"ort": "ort-cuda" if gpus() else "ort-cpu"}
    engines = [names.get(name, name) for name in wanted or ("torch", "ort", "openvino")]
    sets = [each for folder in data for each in find_sets(folder, models[0].scale)]
    request = Request(models, engines, precisions, settings, sets, required=bool(wanted))
    report = bench(request, _stage)
    if not wanted:
        # What works nowhere yet is not tried.
        report = replace(report, left_out=(*report.left_out, LeftOut("tensorrt", "not run by this version")))
    return report


@contextmanager
def _stage(name: str) -> "Iterator[Progress | None]":
    with progress_bar(f"{name:<9}") as progress:
        if progress is None:
            click.echo(name, err=True)
        yield progress


def _tell(report: "Report", output: Path | None) -> None:
    """The table on stdout, the files in their folder."""
    from lkdn_deploy.bench.report.table import text

    if output:
        _write(report, output)
    click.echo(text(report).rstrip())


def _write(report: "Report", folder: Path) -> None:
    from lkdn_deploy.bench.report.html import html
    from lkdn_deploy.bench.report.table import markdown
    from lkdn_deploy.bench.results import write_report
    from lkdn_deploy.core.files import publish

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{folder} cannot be made: {error.strerror}"
        raise InputError(msg, "give another folder with --output") from error
    write_report(folder / "bench.json", report)
    for name, content in (("bench.md", markdown(report)), ("bench.html", html(report))):
        with publish(folder / name) as part:
            part.write_text(content, encoding="utf-8")
        click.echo(f"wrote {folder / name}", err=True)


def _check_alone(engines: bool, data: tuple[Path, ...], output: Path | None) -> None:
    if engines or data or output:
        msg = "--predict measures nothing: it takes no engine, no --data and no --output"
        raise UsageError(msg, "leave them out, or --predict")


def _predicted(models: "list[Model]", name: str, precisions: tuple[str, ...], size: tuple[int, int] | None) -> str:
    from lkdn_deploy.bench.devices import find
    from lkdn_deploy.bench.predict import predict
    from lkdn_models.zoo.facts import LR

    return predict(models, find(name), precisions, size or LR[models[0].scale])


def main() -> None:
    """Entry point."""
    sys.exit(run(command))

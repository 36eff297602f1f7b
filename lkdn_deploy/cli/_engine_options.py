"""What commands that build TensorRT engines have alike: options, and what is said of the work."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lkdn_deploy.cli._shell import progress_bar, size_option
from lkdn_deploy.core.errors import UsageError

if TYPE_CHECKING:
    from lkdn_deploy.backends.trt.record import Kind, Size
    from lkdn_deploy.backends.trt.resolve import Request


def _range_option(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> "tuple[Size, Size, Size] | None":
    """``64x64:256x256:512x512`` -> three sizes."""
    if value is None:
        return None
    numbers = re.fullmatch(r"(\d{1,5})x(\d{1,5}):(\d{1,5})x(\d{1,5}):(\d{1,5})x(\d{1,5})", value)
    if not numbers:
        msg = f"expected MIN:OPT:MAX, such as 64x64:256x256:512x512, got {value!r}"
        raise click.BadParameter(msg)
    low_w, low_h, width, height, high_w, high_h = map(int, numbers.groups())
    return (low_h, low_w), (height, width), (high_h, high_w)


_OPTIONS = (
    click.option("--trt", is_flag=True, help="Write a TensorRT engine, its side-car and the builder's log."),
    click.option(
        "--runtime",
        type=click.Choice(["tensorrt", "tensorrt-rtx"]),
        help="Of the engine.  [default: tensorrt if it and a GPU are there, else tensorrt-rtx]",
    ),
    click.option(
        "--sm",
        type=click.IntRange(50, 999),
        multiple=True,
        metavar="N",
        help="Compute capability of a GPU to build for, such as 89; may be repeated.  [default: the GPU here]",
    ),
    click.option("--shape", callback=size_option, metavar="WxH", help="The engine's only input size."),
    click.option(
        "--dynamic",
        callback=_range_option,
        metavar="MIN:OPT:MAX",
        help="Its input sizes, each WxH.  [default: 32x32:256x256:512x512]",
    ),
    click.option("--batch", type=click.IntRange(1, 1024), metavar="N", help="Pictures at once.  [default: 1]"),
    click.option(
        "--workspace", type=click.IntRange(1, 1 << 20), metavar="MIB", help="GPU memory it may use.  [default: 4096]"
    ),
)


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options, which the command gets as one argument ``engine``: a ``Request``, or ``None`` without --trt."""

    @functools.wraps(command)
    def packed(*args: Any, trt: bool, **others: Any) -> None:
        names = ("runtime", "sm", "shape", "dynamic", "batch", "workspace")
        given = {name: others.pop(name) for name in names}
        if not trt and any(given.values()):
            msg = f"{', '.join(f'--{name}' for name, value in given.items() if value)} go with --trt only"
            raise UsageError(msg, "add --trt")
        command(*args, engine=_request(**given) if trt else None, **others)

    for option in reversed(_OPTIONS):
        packed = option(packed)
    return packed


def write_engine(artefact: Path, request: "Request", output: Path, triton: Path | None = None) -> None:
    """Build the engine of an ``.onnx`` file into the folder ``output``, or take it from the cache, and say so.

    Prints the paths of the engine, its side-car and the builder's log, and of what was put into the model repository
    ``triton``.

    Raises:
        LkdnError: as ``export_engine`` does.
    """
    from lkdn_deploy.backends.trt.make import export_engine

    with progress_bar("building") as advance:
        outermost: list[str] = []

        def progress(phase: str, done: int, total: int) -> None:
            outermost[:] = outermost or [phase]
            if advance is not None and phase == outermost[0]:
                advance(done, total)

        report = export_engine(artefact, request, output, building=_building, progress=progress, say=_complain)
    car = report.sidecar
    facts = f"{car.runtime} {car.runtime_version} for {', '.join(car.targets)}, {car.profile} pixels"
    took = f"built in {car.build_seconds:.1f} s" if report.reason else f"from the cache, built {car.made}"
    click.echo(f"engine   {facts}: {report.size / 2**20:.1f} MiB, {took}", err=True)
    if car.audit:
        click.echo(f"audited  {car.audit}", err=True)
    for name in car.fallbacks:
        click.echo(f"fallback {name} is in FP32: the builder has no FP16 kernel for it", err=True)
    for path in (report.path, report.sidecar_path, report.log_path):
        click.echo(str(path))
    if triton is not None:
        from lkdn_deploy.export import triton as repository

        for path in repository.write_engine(report.path, car, triton):
            click.echo(str(path))


def _request(
    runtime: "Kind | None",
    sm: tuple[int, ...],
    shape: "Size | None",
    dynamic: "tuple[Size, Size, Size] | None",
    batch: int | None,
    workspace: int | None,
) -> "Request":
    from lkdn_deploy.backends.trt.build import DEFAULT_WORKSPACE
    from lkdn_deploy.backends.trt.record import Profile
    from lkdn_deploy.backends.trt.resolve import Request, check_request

    if shape and dynamic:
        msg = "--shape and --dynamic exclude each other"
        raise UsageError(msg, "give one of them")
    count = batch or 1
    profile: Profile | None = None
    if shape:
        profile = Profile.fixed(shape, count)
    elif dynamic:
        profile = Profile(*dynamic, batch=count)
    targets = tuple(f"sm{number}" for number in sm)
    request = Request(runtime, profile, targets, count, workspace or DEFAULT_WORKSPACE)
    check_request(request)  # before the export, which takes longer
    return request


def _building(reason: str) -> None:
    click.echo(f"building an engine, which takes seconds with TensorRT for RTX, else minutes: {reason}", err=True)


def _complain(severity: str, text: str) -> None:
    click.echo(f"builder  {severity}: {text}", err=True)

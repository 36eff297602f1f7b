"""The options of commands that build TensorRT engines, and the report of the build."""

import functools
import re
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lkdn_deploy.cli._progress import progress_bar
from lkdn_deploy.cli._shell import echo_path, refuse_existing, size_option
from lkdn_deploy.core.errors import UsageError

if TYPE_CHECKING:
    from lkdn_deploy.backends.trt.engine_spec import EngineSpec, Size


def _range_option(
    _context: click.Context, _parameter: click.Parameter, value: str | None
) -> "tuple[Size, Size, Size] | None":
    """Parse ``64x64:256x256:512x512``, each width by height, into three sizes, each height and width."""
    if value is None:
        return None
    if not re.fullmatch(r"\d{1,5}x\d{1,5}(:\d{1,5}x\d{1,5}){2}", value):
        msg = f"expected MIN:OPT:MAX, such as 64x64:256x256:512x512, got {value!r}"
        raise click.BadParameter(msg)
    low_w, low_h, width, height, high_w, high_h = map(int, re.split("[x:]", value))
    return (low_h, low_w), (height, width), (high_h, high_w)


_OPTIONS = (
    click.option("--trt", is_flag=True, help="Write a TensorRT engine, its side-car and the builder's log."),
    click.option(
        "--runtime",
        type=click.Choice(["tensorrt", "tensorrt-rtx"]),
        help="TensorRT flavour to build for.  [default: tensorrt if it and a GPU are available, else tensorrt-rtx]",
    ),
    click.option(
        "--sm",
        type=click.IntRange(50, 999),
        multiple=True,
        metavar="N",
        help="Compute capability of a GPU to build for, such as 89; may be repeated.  [default: that of the GPU here]",
    ),
    click.option("--shape", callback=size_option, metavar="WxH", help="The only input size that the engine accepts."),
    click.option(
        "--dynamic",
        callback=_range_option,
        metavar="MIN:OPT:MAX",
        help="Input sizes that the engine accepts, each WxH, and the one it is tuned for.  "
        "[default: 32x32:256x256:512x512]",
    ),
    click.option(
        "--batch", type=click.IntRange(1, 1024), metavar="N", help="Images that the engine runs at once.  [default: 1]"
    ),
    click.option(
        "--workspace",
        type=click.IntRange(1, 1 << 20),
        metavar="MIB",
        help="GPU memory for what lies between the engine's layers.  [default: 4096]",
    ),
    click.option(
        "--aux-streams",
        type=click.IntRange(0, 16),
        metavar="N",
        help="Streams beside the main one on which layers run at once.  [default: the builder's choice]",
    ),
)


def engine_options(command: Callable[..., None]) -> Callable[..., None]:
    """Add the options to a command, which gets one argument ``engine``: an ``EngineSpec``, or ``None`` without --trt.

    The command raises ``UsageError`` if other options are given without --trt.
    """

    @functools.wraps(command)
    def packed(*args: Any, trt: bool, **others: Any) -> None:
        names = ("runtime", "sm", "shape", "dynamic", "batch", "workspace", "aux_streams")
        given = {name: value for name in names if (value := others.pop(name)) not in (None, ())}
        if given and not trt:
            msg = f"{', '.join('--' + name.replace('_', '-') for name in given)} can be given with --trt only"
            raise UsageError(msg, "add --trt")
        command(*args, engine=_spec(**given) if trt else None, **others)

    for option in reversed(_OPTIONS):
        packed = option(packed)
    return packed


def write_engine(
    artefact: Path, spec: "EngineSpec", output: Path, triton: Path | None = None, *, overwrite: bool = False
) -> None:
    """Build the engine of an ``.onnx`` file, or take it from the cache, write it to a folder and report it.

    Prints the paths of the engine, its side-car and the builder's log, and of what was put into ``triton``.

    Args:
        artefact: the ``.onnx`` file.
        spec: what to build for.
        output: folder of the three files.
        triton: a model repository for the engine.
        overwrite: whether existing files may be replaced.

    Raises:
        UsageError: if a file exists and must not be replaced.
        LkdnError: as ``make_engine`` and ``triton.write_engine``.
    """
    from lkdn_deploy.backends.onnx_bytes import read_artifact
    from lkdn_deploy.backends.trt.engine_cache import log_path, sidecar_path
    from lkdn_deploy.backends.trt.make import engine_name, make_engine
    from lkdn_deploy.backends.trt.resolve import resolve_for

    artifact = read_artifact(artefact)
    name = engine_name(artefact, resolve_for(spec, artifact))
    refuse_existing([output / name, *([triton / Path(name).stem] if triton else [])], overwrite)
    with progress_bar("building") as advance:
        outermost: list[str] = []

        def progress(phase: str, done: int, total: int) -> None:
            outermost[:] = outermost or [phase]
            if advance is not None and phase == outermost[0]:
                advance(done, total)

        stored = make_engine(
            artifact, spec, output, on_build=_announce, progress=progress, on_complaint=_report_complaint
        )
    record, spec = stored.record, stored.record.spec
    took = f"built in {record.build_seconds:.1f} s" if stored.reason else f"from the cache, built {record.made}"
    facts = f"{spec.runtime} {spec.runtime_version} for {', '.join(spec.targets)}, {spec.inputs}"
    click.echo(f"engine   {facts}: {len(stored.data) / 2**20:.1f} MiB, {took}", err=True)
    if record.rewrites:
        click.echo(f"rewrote  the graph for TensorRT: {', '.join(record.rewrites)}", err=True)
    if record.audit:
        click.echo(f"audited  {record.audit}", err=True)
    for name in record.fallbacks:
        click.echo(f"fallback {name} is in FP32: the builder has no FP16 kernel for it", err=True)
    paths = [stored.path, sidecar_path(stored.path), log_path(stored.path)]
    if triton is not None:
        from lkdn_deploy.export import triton as repository

        paths += repository.write_engine(stored.path, record, triton)
    for path in paths:
        echo_path(path)


def _spec(
    shape: "Size | None" = None,
    dynamic: "tuple[Size, Size, Size] | None" = None,
    sm: tuple[int, ...] = (),
    **others: Any,
) -> "EngineSpec":
    """Resolve the options before the export, which takes longer than finding out that they cannot be met."""
    from lkdn_deploy.backends.trt.engine_spec import Profile
    from lkdn_deploy.backends.trt.resolve import resolve

    if shape and dynamic:
        msg = "--shape and --dynamic exclude each other"
        raise UsageError(msg, "give one of them")
    profile = Profile.fixed(shape) if shape else Profile(*dynamic) if dynamic else None
    return resolve(targets=tuple(f"sm{number}" for number in sm), profile=profile, **others)


def _announce(reason: str) -> None:
    click.echo(f"building an engine, which takes seconds with TensorRT for RTX, else minutes: {reason}", err=True)


def _report_complaint(severity: str, text: str) -> None:
    click.echo(f"builder  {severity}: {text}", err=True)

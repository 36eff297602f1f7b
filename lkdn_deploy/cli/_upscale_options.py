"""The options of ``lkdn-upscale`` in groups, and the request that they make up."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.shell_completion import CompletionItem

from lkdn_deploy.backends.registry import BACKENDS
from lkdn_deploy.cli._shell import PATH
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.limits import parse_memory

FORMATS = ("png", "jpg", "webp", "tif", "bmp", "avif", "jxl")
"""The formats that can be written, by their usual suffix. A test compares them with the table of formats, which is not
imported here, as it would slow --help down."""

CODECS = ("libx264", "libx265", "libsvtav1", "ffv1")
"""The encoders of films; a test compares them with the table of codecs."""

NETWORK, OUTPUT, FILMS, MANY, TALK = "Network", "Output", "Films", "Many inputs", "Messages"

EXAMPLES = """\
lkdn-upscale in.jpg out.png
lkdn-upscale film.mkv large.mkv --start 1:00 --end 1:05
lkdn-upscale a.png b.jpg large/ --format webp --quality 90
lkdn-upscale photos/ large/ --recursive --name "{stem}_x{scale}{ext}"
lkdn-upscale photos/ large/ --recursive --resume
lkdn-upscale photos/ large/ --recursive --shard 3/16
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleRequest:
    """What the command line asks for; the options describe each field."""

    sources: tuple[Path, ...]
    target: Path
    model: str | None
    scale: int | None
    weights: Path | None
    backend: str
    tile: int | None
    threads: int | None
    max_memory: int | None
    format: str | None
    quality: int | None
    codec: str | None
    crf: int | None
    preset: str | None
    deinterlace: bool
    start: str | None
    end: str | None
    recursive: bool
    name: str | None
    shard: str | None
    overwrite: bool
    skip_existing: bool
    resume: bool
    as_json: bool
    quiet: bool
    verbose: bool

    def __post_init__(self) -> None:
        for one, other in (("skip_existing", "overwrite"), ("skip_existing", "resume"), ("quiet", "verbose")):
            if getattr(self, one) and getattr(self, other):
                names = " and ".join(f"--{name.replace('_', '-')}" for name in (one, other))
                msg = f"{names} exclude each other"
                raise UsageError(msg, "give one of them")


class GroupedOption(click.Option):
    """An option that --help shows under the title of its group."""

    def __init__(self, *args: Any, group: str, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.group = group


class GroupedCommand(click.Command):
    """A command whose --help shows options by their groups, in the order of declaration, and examples as they are."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write a section for each group, and last one for options without a group."""
        options = [parameter for parameter in self.get_params(ctx) if isinstance(parameter, click.Option)]
        groups = dict.fromkeys(option.group for option in options if isinstance(option, GroupedOption))
        for group in (*groups, None):
            members = [option for option in options if getattr(option, "group", None) == group]
            with formatter.section(group or "Other"):
                formatter.write_dl([row for option in members if (row := option.get_help_record(ctx)) is not None])

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the examples without wrapping their lines."""
        with formatter.section("Examples"):
            for line in (self.epilog or "").splitlines():
                formatter.write(f"{'':>{formatter.current_indent}}{line}\n")


def _models(_context: click.Context, _parameter: click.Parameter, beginning: str) -> list[CompletionItem]:
    """Return the networks whose names begin so, for a shell, or files if there are none."""
    from lkdn_models.zoo import names

    found = [CompletionItem(name) for name in names() if name.startswith(beginning.lower())]
    return found or [CompletionItem(beginning, type="file")]


def _option(group: str, *names: str, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(*names, cls=GroupedOption, group=group, **settings)


def _memory(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    return None if value is None else parse_memory(value)


_DECLARED = (
    click.argument("sources", metavar="IN...", nargs=-1, required=True, type=PATH),
    click.argument("target", metavar="OUT", type=PATH),
    _option(
        NETWORK,
        "--model",
        metavar="NAME",
        shell_complete=_models,
        help="Network of `lkdn-zoo list`, or an .onnx file that lkdn-export wrote.  [default: lkdn-s]",
    ),
    _option(NETWORK, "--scale", type=click.IntRange(2, 4), help="Upscaling factor.  [default: 4, or that of the file]"),
    _option(
        NETWORK,
        "--weights",
        type=PATH,
        metavar="FILE",
        help="Checkpoint (.pth, .safetensors) of the model; its conversion is cached.",
    ),
    _option(
        NETWORK,
        "--backend",
        type=click.Choice(list(BACKENDS)),
        default="auto",
        show_default=True,
        help="Engine that runs it.",
    ),
    _option(
        NETWORK, "--tile", type=click.IntRange(1), metavar="N", help="Side of a tile in pixels.  [default: by memory]"
    ),
    _option(
        NETWORK,
        "--threads",
        type=click.IntRange(1, 256),
        metavar="N",
        help="Number of CPU threads.  [default: all cores]",
    ),
    _option(
        NETWORK,
        "--max-memory",
        metavar="SIZE",
        callback=_memory,
        help="Memory that the whole process may take, such as 900M or 2G.  [default: as much as is free]",
    ),
    _option(
        OUTPUT,
        "--format",
        type=click.Choice(FORMATS, case_sensitive=False),
        help="Format of the outputs in a folder.  [default: those of the inputs, or png]",
    ),
    _option(
        OUTPUT,
        "--quality",
        type=click.IntRange(1, 100),
        metavar="N",
        help="Quality of JPEG, WebP, AVIF and JPEG XL, 1 to 100.  [default: 95]",
    ),
    _option(OUTPUT, "--overwrite", is_flag=True, help="Replace existing files."),
    _option(
        FILMS,
        "--codec",
        type=click.Choice(CODECS),
        help="Encoder of the pictures; ffv1 is lossless.  [default: libx264, or libx265 for more than 8 bits]",
    ),
    _option(FILMS, "--crf", type=click.IntRange(0, 63), metavar="N", help="Quality, lower is better.  [default: high]"),
    _option(FILMS, "--preset", metavar="NAME", help="Speed of the encoder, such as fast or slow.  [default: medium]"),
    _option(FILMS, "--deinterlace", is_flag=True, help="Make whole pictures of interlaced ones, by the filter bwdif."),
    _option(FILMS, "--start", metavar="TIME", help="Where to begin, in seconds or hh:mm:ss, for a trial."),
    _option(FILMS, "--end", metavar="TIME", help="Where to end, in seconds or hh:mm:ss."),
    _option(MANY, "-r", "--recursive", is_flag=True, help="Search folders inside of folders, and keep their tree."),
    _option(
        MANY,
        "--name",
        metavar="TEMPLATE",
        help="Names of the outputs, of {stem}, {name}, {ext}, {scale} and {model}.  [default: {stem}{ext}]",
    ),
    _option(MANY, "--skip-existing", is_flag=True, help="Skip inputs whose output exists, whatever is in it."),
    _option(
        MANY,
        "--resume",
        is_flag=True,
        help="Skip inputs whose output is finished: made of the same input by the same model, settings and version.",
    ),
    _option(
        MANY,
        "--shard",
        metavar="K/N",
        help="Take the K-th of N shares of the inputs, for several machines; the same input is always in the same.",
    ),
    _option(TALK, "--json", "as_json", is_flag=True, help="Print the outcome as JSON, one line per file."),
    _option(TALK, "-q", "--quiet", is_flag=True, help="Print only errors on stderr: no progress, notes or summary."),
    _option(
        TALK, "-v", "--verbose", is_flag=True, help="Print sizes, engine and time of each file, and what is decided."
    ),
)


def upscale_options(function: Callable[..., None]) -> Callable[..., None]:
    """Declare the arguments and options, in the order in which --help shows them."""
    for declare in reversed(_DECLARED):
        function = declare(function)
    return function

"""The options of ``lkdn-upscale`` in groups, and the request that they make up."""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lkdn_deploy.backends.registry import BACKENDS
from lkdn_deploy.cli._grouped import GroupedOption
from lkdn_deploy.cli._shell import PATH, size_option
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.limits import parse_memory

if TYPE_CHECKING:
    from fractions import Fraction

    from click.shell_completion import CompletionItem

    from lkdn_deploy.hub.choice import NetworkChoice
    from lkdn_deploy.imaging.resize import OutputSize
    from lkdn_deploy.runtime.settings import OutputSettings

FORMATS = ("png", "jpg", "webp", "tif", "bmp", "avif", "jxl")
"""The formats that can be written, by their usual suffix. A test compares them with the table of formats, which is not
imported here, as it would slow --help down."""

CODECS = ("libx264", "libx265", "libsvtav1", "ffv1")
"""The encoders of films; a test compares them with the table of codecs."""

NETWORK, SIZE, OUTPUT, FILMS, MANY, TALK = "Network", "Size", "Output", "Films", "Many inputs", "Messages"

PIPE = Path("-")
"""Standard input or output."""

EXAMPLES = """\
lkdn-upscale in.jpg out.png
lkdn-upscale film.mkv large.mkv --start 1:00 --end 1:05
lkdn-upscale a.png b.jpg large/ --format webp --quality 90
lkdn-upscale photos/ large/ --recursive --name "{stem}_x{scale}{ext}"
lkdn-upscale photos/ large/ --recursive --resume
lkdn-upscale photos/ large/ --recursive --shard 3/16
lkdn-upscale photos/ large/ --fit 3840x2160
lkdn-upscale --ray s3://bucket/photos/ s3://bucket/large/ --recursive --resume
curl -s https://example.org/in.jpg | lkdn-upscale - - --format png > out.png
ffmpeg -v error -i in.mp4 -f rawvideo -pix_fmt rgb24 - |
  lkdn-upscale --raw 640x360:rgb24 - - | ...
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class UpscaleRequest:
    """The arguments and options of the command line; the options describe each field.

    Attributes:
        places: IN and OUT as they were given.
        into_folder: whether outputs go into ``target``: there is such a folder, or it ends with a slash, or the inputs
            are several or a folder.
    """

    places: tuple[str, ...]
    sources: tuple[Path, ...]
    target: Path
    into_folder: bool
    model: str | None
    scale: "Fraction | None"
    width: int | None
    height: int | None
    fit: tuple[int, int] | None
    weights: Path | None
    peak: float | None
    bgr: bool | None
    self_ensemble: bool
    wrap: bool
    backend: str
    precision: str | None
    tile: int | None
    threads: int | None
    max_memory: int | None
    format: str | None
    quality: int | None
    raw: str | None
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
    ray: str | None
    as_json: bool
    quiet: bool
    verbose: bool

    def __post_init__(self) -> None:
        for one, other in (("skip_existing", "overwrite"), ("skip_existing", "resume"), ("quiet", "verbose")):
            if getattr(self, one) and getattr(self, other):
                names = " and ".join(f"--{name.replace('_', '-')}" for name in (one, other))
                msg = f"{names} exclude each other"
                raise UsageError(msg, "give one of them")

    @classmethod
    def parse(cls, *, sources: tuple[str, ...], target: str | None, **options: Any) -> "UpscaleRequest":
        """Return the request of a command line.

        Raises:
            UsageError: if the input or the output is missing, or if options exclude each other.
        """
        if target is None or not sources:
            msg = f"expected an input and an output, got {'neither' if target is None else f'only {target}'}"
            raise UsageError(msg, "for example: lkdn-upscale in.png out.png; --help shows all options")
        # Path.is_dir raises an error for names that are too long.
        into_folder = (
            len(sources) > 1
            or target.endswith(("/", os.sep))
            or any(os.path.isdir(path) for path in map(str, (*sources, target)) if path != str(PIPE))  # noqa: PTH112
        )
        places = (*sources, target)
        paths = tuple(map(Path, places))
        return cls(places=places, sources=paths[:-1], target=paths[-1], into_folder=into_folder, **options)

    def refuse(self, names: Iterable[str], why: str) -> None:
        """Refuse options that do not go with what is asked for.

        Raises:
            UsageError: if one of them is given; it says ``why``.
        """
        for name in names:
            if (value := getattr(self, name)) is not None and value is not False:
                msg = f"--{name.replace('_', '-')} {why}"
                raise UsageError(msg, "leave it out")

    @property
    def choice(self) -> "NetworkChoice":
        """The network, and how it runs.

        Raises:
            UsageError: if more than one size is asked for.
        """
        from lkdn_deploy.hub.choice import NetworkChoice

        names = (
            *("model", "weights", "peak", "bgr", "backend", "precision", "tile", "threads", "size", "self_ensemble"),
            "wrap",
        )
        return NetworkChoice(**{name: getattr(self, name) for name in names})

    @property
    def settings(self) -> "OutputSettings":
        """The settings that decide the bytes of outputs.

        Raises:
            UsageError: if it contradicts itself.
        """
        from lkdn_deploy.runtime.settings import OutputSettings

        return OutputSettings(
            format=self.format,
            quality=self.quality,
            size=self.size,
            self_ensemble=self.self_ensemble,
            wrap=self.wrap,
        )

    @property
    def size(self) -> "OutputSize | None":
        """The size of outputs that is asked for.

        Raises:
            UsageError: if more than one is.
        """
        return output_size(self.scale, self.width, self.height, self.fit)


def output_size(
    scale: "Fraction | None", width: int | None, height: int | None, fit: tuple[int, int] | None
) -> "OutputSize | None":
    """Return the size that the options of these names ask for, if any does.

    Args:
        scale, width, height: the values of the options.
        fit: height and width of the box.

    Raises:
        UsageError: if more than one size is asked for.
    """
    from lkdn_deploy.imaging.resize import OutputSize

    if all(value is None for value in (scale, width, height, fit)):
        return None
    return OutputSize(scale=scale, width=width, height=height, fit=None if fit is None else (fit[1], fit[0]))


def _scale(_context: click.Context, _parameter: click.Parameter, value: str | None) -> "Fraction | None":
    """Parse a scale, such as 1.5 or 4/3."""
    if value is None:
        return None
    from lkdn_deploy.imaging.resize import parse_scale  # only where it is needed, as it loads NumPy

    try:
        return parse_scale(value)
    except UsageError as error:
        raise click.BadParameter(error.message) from error


def _models(_context: click.Context, _parameter: click.Parameter, beginning: str) -> "list[CompletionItem]":
    """Return the networks whose names begin so, for a shell, or files if there are none."""
    from click.shell_completion import CompletionItem

    from lkdn_models.zoo import names

    found = [CompletionItem(name) for name in names() if name.startswith(beginning.lower())]
    return found or [CompletionItem(beginning, type="file")]


def _option(group: str, *names: str, **settings: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    return click.option(*names, cls=GroupedOption, group=group, **settings)


def _memory(_context: click.Context, _parameter: click.Parameter, value: str | None) -> int | None:
    return None if value is None else parse_memory(value)


_DECLARED = (
    click.argument("sources", metavar="IN...", nargs=-1, required=False, type=click.Path()),
    click.argument("target", metavar="OUT", required=False, type=click.Path()),
    _option(
        NETWORK,
        "--model",
        metavar="NAME",
        shell_complete=_models,
        help="Network of `lkdn-zoo list`, or an .onnx file of lkdn-export or another program.  [default: lkdn-s]",
    ),
    _option(
        NETWORK,
        "--weights",
        type=PATH,
        metavar="FILE",
        help="Checkpoint (.pth, .safetensors) of the model; its conversion is cached.",
    ),
    _option(
        NETWORK,
        "--range",
        "peak",
        type=click.Choice(["1", "255"]),
        callback=lambda _context, _parameter, value: None if value is None else float(value),
        help="Upper end of the values of another program's .onnx file.  [default: found by trying]",
    ),
    _option(
        NETWORK,
        "--bgr/--rgb",
        "bgr",
        default=None,
        help="Order of colours of another program's .onnx file.  [default: found by trying]",
    ),
    _option(
        NETWORK,
        "--self-ensemble",
        is_flag=True,
        help="Mean over all 8 flips and rotations: slightly better, 8 times the work.",
    ),
    _option(
        NETWORK, "--wrap", is_flag=True, help="Take the input for a texture that tiles, and make an output that tiles."
    ),
    _option(
        NETWORK,
        "--backend",
        type=click.Choice(list(BACKENDS)),
        default="auto",
        show_default=True,
        help="Engine that runs it; auto takes trt where its engine is in the cache.",
    ),
    _option(
        NETWORK,
        "--precision",
        type=click.Choice(["fp32", "fp16", "int16"]),
        help="Precision of the arithmetic; int16 is fixed point on the native engine: faster, and pixels of "
        "photographs differ by at most a level or two.  [default: that of the file, or fp32]",
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
        help="Memory that the whole process may take for pictures, such as 900M or 2G.  [default: as much as is free]",
    ),
    _option(
        SIZE,
        "--scale",
        metavar="FACTOR",
        callback=_scale,
        help="Factor above 1 and at most 4, such as 2, 1.5 or 4/3. The smallest scale of the network that is not below "
        "it is taken, and its result reduced by an antialiased bicubic filter.  [default: 4, or that of the file]",
    ),
    _option(SIZE, "--width", type=click.IntRange(1), metavar="N", help="Width in pixels; the aspect is kept."),
    _option(SIZE, "--height", type=click.IntRange(1), metavar="N", help="Height in pixels; the aspect is kept."),
    _option(SIZE, "--fit", metavar="WxH", callback=size_option, help="Box in pixels that is filled in one direction."),
    _option(
        OUTPUT,
        "--format",
        type=click.Choice(FORMATS, case_sensitive=False),
        help="Format of the outputs in a folder, or on standard output.  [default: those of the inputs, or png]",
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
        OUTPUT,
        "--raw",
        metavar="WxH:FORMAT",
        help="Upscale raw frames from standard input to standard output, rgb24 or rgb48le.",
    ),
    _option(
        FILMS,
        "--codec",
        type=click.Choice(CODECS),
        help="Encoder of the pictures; ffv1 is lossless.  [default: libx264, or libx265 for more than 8 bits]",
    ),
    _option(FILMS, "--crf", type=click.IntRange(0, 63), metavar="N", help="Quality, lower is better.  [default: high]"),
    _option(FILMS, "--preset", metavar="NAME", help="Speed of the encoder, such as fast or slow.  [default: medium]"),
    _option(FILMS, "--deinterlace", is_flag=True, help="Make whole pictures of interlaced ones, by the filter bwdif."),
    _option(FILMS, "--start", metavar="TIME", help="Time to begin at, in seconds or hh:mm:ss, for a trial."),
    _option(FILMS, "--end", metavar="TIME", help="Time to end at, in seconds or hh:mm:ss."),
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
    _option(
        MANY,
        "--ray",
        metavar="[ADDRESS]",
        help="Let the workers of a Ray cluster do it: that of ADDRESS (HOST:PORT), or of RAY_ADDRESS, or one that is "
        "started here. IN and OUT are on a file system that all of them have, or URLs that fsspec opens.",
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


def declared_options(names: Iterable[str]) -> list[GroupedOption]:
    """Return the options of these parameters, for other commands that have some of them."""

    def nothing() -> None:
        pass

    found = {option.name: option for option in getattr(upscale_options(nothing), "__click_params__", ())}
    return [found[name] for name in names]

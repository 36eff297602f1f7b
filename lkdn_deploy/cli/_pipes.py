"""Pictures and raw frames through standard input and output, named ``-``."""

import io
import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import IO, TYPE_CHECKING

import click

from lkdn_deploy.cli._film import FOR_FILMS
from lkdn_deploy.cli._outcomes import described_use
from lkdn_deploy.cli._upscale_options import PIPE, UpscaleRequest
from lkdn_deploy.core.errors import InputError, LkdnError, UsageError
from lkdn_deploy.core.files import temporary_folder

if TYPE_CHECKING:
    from lkdn_deploy.runtime.upscaler import Upscaler
    from lkdn_deploy.runtime.upscalers import Upscalers

_FOR_PICTURES = ("format", "quality", "recursive", "max_memory")

MOST_BYTES = 1 << 32
"""Most bytes of a picture on standard input: more than the largest that is read as a whole."""

_NAMES = {"standard input": "standard-input", "standard output": "standard-output"}
"""Names of the streams in messages, and of the temporary files that stand for them."""

_LINE_SECONDS = 5.0


@contextmanager
def through_files(request: UpscaleRequest) -> Iterator[tuple[UpscaleRequest, dict[Path, str]]]:
    """Give a request in which temporary files stand for standard input and output, and the names of these files.

    Formats are recognised by reading here and there in a file, and a result that fails must not be half written. So
    the picture is taken from standard input before, and given to standard output after the work.

    Raises:
        UsageError: if the request does not go with pipes, or a stream is a terminal.
        InputError: if standard input is empty or too large.
        LkdnError: of the work, with the names of the streams.
        OSError: if standard output cannot be written; ``BrokenPipeError`` if its reader has gone.
    """
    if PIPE not in (*request.sources, request.target):
        yield request, {}
        return
    _check(request)
    with temporary_folder() as folder:
        paths = {stream: folder / name for stream, name in _NAMES.items()}
        sources, target = request.sources, request.target
        if sources == (PIPE,):
            sources = (paths["standard input"],)
            _take(_stdin(), sources[0])
        if target == PIPE:
            target = paths["standard output"].with_suffix(f".{request.format}")
            paths["standard output"] = target
        try:
            yield replace(request, sources=sources, target=target), dict.fromkeys(paths.values(), "-")
        except LkdnError as error:
            message = error.message
            for stream, path in paths.items():
                message = message.replace(str(path), stream)
            if message == error.message:
                raise
            raise type(error)(message, error.hint) from error
        if request.target == PIPE:
            with target.open("rb") as file:
                _give(file, _stdout())


def upscale_raw(request: UpscaleRequest, upscalers: "Upscalers") -> None:
    """Upscale raw frames from standard input to standard output.

    Args:
        request: what is asked for; its ``raw`` is the layout of the frames.
        upscalers: open the network at the scale that is needed.

    Raises:
        UsageError: if the request does not go with raw frames, or a stream is a terminal.
        LkdnError: as ``upscale_frames`` does.
        OSError: if standard output cannot be written; ``BrokenPipeError`` if its reader has gone.
    """
    from lkdn_deploy.runtime.raw_frames import FrameLayout, upscale_frames

    layout = FrameLayout.parse(request.raw or "")
    if (request.sources, request.target) != ((PIPE,), PIPE):
        msg = "--raw reads frames from standard input and writes them to standard output, so IN and OUT are both -"
        raise UsageError(msg, "with files: lkdn-upscale --raw 640x360:rgb24 - - < in.rgb > out.rgb")
    request.refuse(_FOR_PICTURES, "is for pictures, and --raw frames have the pixel format of their input")
    request.refuse(FOR_FILMS, "is for films, and --raw frames are neither decoded nor encoded")
    _check(request)
    source, target = _stdin(), _stdout()
    upscaler = upscalers.for_size(layout.height, layout.width)
    rows, columns = upscaler.result_size(layout.height, layout.width)
    sizes = f"{layout.width}x{layout.height} -> {columns}x{rows}"
    talk = _FrameTalk(quiet=request.quiet)
    count = upscale_frames(upscaler, layout, source, target, progress=talk.progress)
    talk.summarise(count, sizes, upscaler)
    if request.verbose and (use := upscaler.session.range_use()) is not None:
        click.echo(f"fixed point: {described_use(use)}", err=True)


class _FrameTalk:
    """Says on stderr, every few seconds, how many frames are done; how many all will be is not known."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._start = time.monotonic()
        self._next = self._start + _LINE_SECONDS

    def progress(self, count: int) -> None:
        """Say it, if it is time."""
        now = time.monotonic()
        if not self._quiet and now >= self._next:
            self._next = now + _LINE_SECONDS
            click.echo(f"progress: {count} frames, {self._rate(count)}", err=True)

    def summarise(self, count: int, sizes: str, upscaler: "Upscaler") -> None:
        """Say what was done."""
        if not self._quiet:
            session = upscaler.session
            engine = f"{session.metadata.model} x{upscaler.scale} on {session.backend}"
            click.echo(f"{count} frames {sizes} with {engine}, {self._rate(count)}", err=True)

    def _rate(self, count: int) -> str:
        return f"{count / max(time.monotonic() - self._start, 1e-9):.1f} frames a second"


def _check(request: UpscaleRequest) -> None:
    """Refuse what does not go with pipes."""
    if PIPE in request.sources and len(request.sources) > 1:
        msg = "standard input (-) is one picture, and cannot be given beside other inputs"
        raise UsageError(msg, "give it alone, and name the output")
    if PIPE in request.sources and request.target != PIPE and request.into_folder:
        msg = f"a picture from standard input has no name to get in the folder {request.target}"
        raise UsageError(msg, f"name the output, such as {request.target / 'out.png'}")
    if request.target == PIPE:
        if request.into_folder:
            msg = "standard output (-) takes one picture"
            raise UsageError(msg, "name a folder as the last argument")
        if request.as_json:
            msg = "standard output (-) takes the picture and nothing else, so --json has no place there"
            raise UsageError(msg, "write the picture to a file, or leave --json out")
        if request.format is None and request.raw is None:
            msg = "a picture on standard output (-) needs a --format"
            raise UsageError(msg, "for example: lkdn-upscale in.jpg - --format png > out.png")
    for option, value in (
        ("--name", request.name),
        ("--shard", request.shard),
        ("--resume", request.resume),
        ("--skip-existing", request.skip_existing),
        ("--ray", request.ray is not None),
    ):
        if value:
            msg = f"{option} is for files, and does not go with standard input or output (-)"
            raise UsageError(msg, "leave it out")
    if PIPE in request.sources:
        _stdin()
    if request.target == PIPE:
        _stdout()


def _stdin() -> io.RawIOBase:
    """Return standard input without a buffer.

    Raises:
        UsageError: if it is a terminal, or closed.
    """
    if sys.stdin is None or sys.stdin.isatty():
        msg = "standard input (-) is a terminal or closed; expected a pipe or a file"
        raise UsageError(msg, "for example: curl https://example.org/in.jpg | lkdn-upscale - out.png")
    return io.FileIO(sys.stdin.fileno(), closefd=False)


def _stdout() -> io.RawIOBase:
    """Return standard output without a buffer.

    Raises:
        UsageError: if it is a terminal, or closed.
    """
    if sys.stdout is None or sys.stdout.isatty():
        msg = "standard output (-) is a terminal or closed, and would get binary data"
        raise UsageError(msg, "redirect it to a file or a program, or name the output")
    return io.FileIO(sys.stdout.fileno(), "w", closefd=False)


def _take(source: io.RawIOBase, path: Path) -> None:
    """Copy a stream of at most ``MOST_BYTES`` bytes to a file.

    Raises:
        InputError: if it is empty or larger, cannot be read, or there is no room for it.
    """
    try:
        with io.BufferedReader(source) as stream, path.open("wb") as file:
            left = MOST_BYTES
            while (piece := stream.read(min(1 << 20, left + 1))) and left >= 0:
                left -= len(piece)
                file.write(piece)
            size = file.tell()
    except OSError as error:
        msg = f"the picture on standard input cannot be taken: {error.strerror or error}"
        raise InputError(msg, f"it is kept in {path.parent.parent} meanwhile; TMPDIR names another folder") from error
    if size == 0:
        msg = "standard input is empty; expected a picture"
        raise InputError(msg, "check the program that writes it")
    if left < 0:
        msg = f"standard input is larger than {MOST_BYTES:,} bytes"
        raise InputError(msg, "give the picture as a file")


def _give(file: IO[bytes], target: io.RawIOBase) -> None:
    with io.BufferedWriter(target) as stream:
        shutil.copyfileobj(file, stream, 1 << 20)

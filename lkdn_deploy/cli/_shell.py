"""Functions shared by all commands: errors as one clear line, exit codes, progress bars, sizes."""

import os
import re
import signal
import sys
import threading
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType

import click

from lkdn_deploy.core.errors import ExitCode, InputError, LkdnError, UsageError
from lkdn_deploy.core.files import printable
from lkdn_deploy.core.optional import missing

PATH = click.Path(path_type=Path)
"""Type of options and arguments that are paths, of things that need not exist."""
weights_option = click.option(
    "--weights",
    multiple=True,
    type=PATH,
    metavar="FILE",
    help="Weights of the --model, which is detected if not given (.pth, .safetensors, .onnx); repeatable.",
)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived: whatever ends on Ctrl-C ends in the same way."""


def run(command: click.Command, args: Sequence[str] | None = None) -> int:
    """Run a command and return its exit status. Messages go to stderr; stdout is for results."""
    with _terminated_as_interrupted() as received:
        status = _run(command, args)
    return 128 + received[0] if received and status == ExitCode.INTERRUPTED else status


@contextmanager
def _terminated_as_interrupted() -> Iterator[list[int]]:
    """Raise ``Terminated`` when SIGTERM or SIGHUP arrives, and give a list of the signals that did."""
    received: list[int] = []

    def interrupt(number: int, _frame: FrameType | None) -> None:
        received.append(number)
        raise Terminated

    numbers = [number for name in ("SIGTERM", "SIGHUP") if (number := getattr(signal, name, None)) is not None]
    before = {number: signal.getsignal(number) for number in numbers}
    if threading.current_thread() is not threading.main_thread():
        before = {}  # handlers belong to the main thread
    try:
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:  # as nohup sets it
                signal.signal(number, interrupt)
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _run(command: click.Command, args: Sequence[str] | None) -> int:
    try:
        if args is None and (status := _completed(command)) is not None:
            return status
        # command.main() would end the process on some errors, with exit codes of its own.
        words = list(sys.argv[1:] if args is None else args)
        with command.make_context(Path(sys.argv[0]).name, words) as context:
            command.invoke(context)
        if sys.stdout is not None:
            sys.stdout.flush()
        return ExitCode.DONE
    except click.exceptions.Exit as done:
        return done.exit_code
    except LkdnError as error:
        complain(error)
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("interrupted", err=True)
        return ExitCode.INTERRUPTED
    except BrokenPipeError:  # the reader of our output has closed it
        discard_stdout()
        return ExitCode.DONE
    except ImportError as error:
        named = missing(error)
        if named is None:
            raise
        complain(named)
        return named.exit_code
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and "can't allocate memory" not in str(error):  # as PyTorch says it
            raise
        complain(InputError("memory ran out", "close other programs, or give smaller inputs, tiles or batches"))
        return ExitCode.INPUT_FAILED
    except OSError as error:
        discard_stdout()
        complain(InputError(f"cannot read or write: {error}"))
        return ExitCode.INPUT_FAILED


def _completed(command: click.Command) -> int | None:
    """Answer a shell that asks for its script of completion, or for the next words; return ``None`` if none does.

    As in other programs of click, the question is an environment variable: ``_LKDN_UPSCALE_COMPLETE=bash_source``.
    """
    name = Path(sys.argv[0]).name
    variable = f"_{name}_COMPLETE".replace("-", "_").replace(".", "_").upper()
    question = os.environ.get(variable)
    if not question:
        return None
    from click.shell_completion import shell_complete

    return shell_complete(command, {}, name, variable, question)


def discard_stdout() -> None:
    """Drop what standard output could not take: Python would report that again when it closes it."""
    if sys.stdout is not None:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def complain(error: LkdnError) -> None:
    """Print an error and its hint on stderr, unless its reader has gone: the exit code says it, too."""
    with suppress(BrokenPipeError):
        click.echo(f"error: {_plain(error.message)}", err=True)
        if error.hint:
            click.echo(f"hint: {_plain(error.hint)}", err=True)


def echo_path(path: Path) -> None:
    """Print a path on stdout: as its exact bytes for programs, without control characters on a terminal."""
    click.echo(printable(path) if sys.stdout is not None and sys.stdout.isatty() else os.fsencode(path))


def _plain(text: str) -> str:
    """Return the text without control characters, which names from files may contain; lines stay lines."""
    return "\n".join(map(printable, text.splitlines()))


def size_option(_context: click.Context, _parameter: click.Parameter, value: str | None) -> tuple[int, int] | None:
    """Parse ``320x180``, width by height, into (180, 320): height and width."""
    if value is None:
        return None
    if not (match := re.fullmatch(r"([1-9]\d{0,4})x([1-9]\d{0,4})", value)):
        msg = f"expected WIDTHxHEIGHT, such as 320x180, got {value!r}"
        raise click.BadParameter(msg)
    return int(match[2]), int(match[1])


def refuse_existing(paths: Iterable[Path], overwrite: bool) -> None:
    """Refuse to replace files or folders that exist.

    Raises:
        UsageError: if one exists and ``overwrite`` is false.
    """
    for path in () if overwrite else paths:
        if path.exists():
            msg = f"{path} already exists"
            raise UsageError(msg, "choose another place, or allow overwriting with --overwrite")


def found_out(line: str) -> None:
    """Print what was found out about a file that does not tell."""
    click.echo(line, err=True)


def converting(weights: Path) -> None:
    """Print why a command takes longer the first time."""
    click.echo(f"converting {weights} (once)", err=True)

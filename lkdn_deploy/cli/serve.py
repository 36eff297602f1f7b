"""``lkdn-serve``."""

import gc
import logging
import os
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lkdn_deploy import __version__
from lkdn_deploy.cli._grouped import GroupedCommand, GroupedOption
from lkdn_deploy.cli._shell import PATH, converting, found_out, run
from lkdn_deploy.cli._upscale_options import declared_options
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.limits import cores, parse_memory
from lkdn_deploy.core.optional import needs

if TYPE_CHECKING:
    from lkdn_deploy.hub.choice import NetworkChoice

SERVICE, LIMITS = "Service", "Limits"

TOKEN_VARIABLE = "LKDN_SERVE_TOKEN"  # noqa: S105 - the name of a variable
_SHORTEST_TOKEN, _LONGEST_TOKEN = 16, 4096

EXAMPLES = """\
lkdn-serve
lkdn-serve --port 9000 --model lkdn-s --model bsrn --workers 2
lkdn-serve --host 0.0.0.0 --token-file token
curl --data-binary @in.jpg -H 'Content-Type: image/jpeg' \\
  'http://127.0.0.1:8080/upscale?scale=2&format=webp' -o out.webp
"""

# Of the network, but for its name: as in lkdn-upscale.
_OF_NETWORK = ("weights", "peak", "bgr", "backend", "precision", "tile", "threads", "max_memory")


def _option(group: str, *names: str, **settings: Any) -> GroupedOption:
    return GroupedOption(names, group=group, **settings)


def _bytes(_context: click.Context, _parameter: click.Parameter, value: str) -> int:
    return parse_memory(value)


_DECLARED = (
    _option(SERVICE, "--host", default="127.0.0.1", show_default=True, help="Address to listen on."),
    _option(
        SERVICE,
        "--port",
        type=click.IntRange(0, 65535),
        default=8080,
        show_default=True,
        help="Port to listen on; 0: any free one.",
    ),
    _option(
        SERVICE,
        "--token-file",
        type=PATH,
        metavar="FILE",
        help=f"File with the token that requests must show, in place of the variable {TOKEN_VARIABLE}. One of them is "
        "required unless the address is of this machine only.",
    ),
    _option(
        SERVICE,
        "--workers",
        type=click.IntRange(1, 256),
        default=1,
        show_default=True,
        metavar="N",
        help="Processes that upscale, one picture at a time each; they share the cores.",
    ),
    _option(
        LIMITS,
        "--max-pixels",
        type=click.IntRange(1),
        default=16_777_216,
        show_default=True,
        metavar="N",
        help="Most pixels of a picture.",
    ),
    _option(
        LIMITS,
        "--max-bytes",
        metavar="SIZE",
        default="64M",
        show_default=True,
        callback=_bytes,
        help="Most bytes of a picture's file.",
    ),
    _option(
        LIMITS,
        "--timeout",
        type=click.FloatRange(0.1, 86400),
        default=60.0,
        show_default=True,
        metavar="SECONDS",
        help="Most time for a picture to arrive, as much again for waiting and upscaling, and for taking the result.",
    ),
    _option(
        LIMITS,
        "--queue",
        type=click.IntRange(0, 10_000),
        default=16,
        show_default=True,
        metavar="N",
        help="Most requests that wait for a worker.",
    ),
    _option(
        "Network",
        "--model",
        "models",
        multiple=True,
        metavar="NAME",
        help="Network of `lkdn-zoo list`, or an .onnx file; repeated, requests may choose one by its name, and get "
        "the first if they do not.  [default: lkdn-s]",
    ),
    *declared_options(_OF_NETWORK),
    _option("Messages", "-v", "--verbose", is_flag=True, help="Print a line for each request on stderr."),
)


@click.command(cls=GroupedCommand, context_settings={"max_content_width": 100}, epilog=EXAMPLES, params=[*_DECLARED])
@click.version_option(__version__, prog_name="lkdn-serve")
def command(
    host: str,
    port: int,
    token_file: Path | None,
    workers: int,
    max_pixels: int,
    max_bytes: int,
    timeout: float,
    queue: int,
    models: tuple[str, ...],
    max_memory: int | None,
    verbose: bool,
    **network: Any,
) -> None:
    """Serve lkdn-upscale over HTTP: POST a picture to /upscale, get the larger picture.

    The options of a request are those of lkdn-upscale, in its query. /openapi.json describes them, /healthz says
    whether pictures are taken, and /metrics has figures for Prometheus. Nothing is written to files.

    Pictures are decoded and upscaled in processes of their own, which are replaced if one brings them down. By default,
    only programs of this machine can ask. SIGTERM ends the service when the running requests are done.

    Prints its address when it is ready.
    """
    with needs("serve"):
        import fastapi  # noqa: F401
        import prometheus_client  # noqa: F401
        import uvicorn  # noqa: F401

    import asyncio

    from lkdn_deploy.cli._order_options import order_parser, parameters
    from lkdn_deploy.service.app import create_app
    from lkdn_deploy.service.desk import Desk
    from lkdn_deploy.service.gate import LOOPBACK_NAMES, Access, Gate
    from lkdn_deploy.service.orders import Limits
    from lkdn_deploy.service.pool import WorkerPool, WorkerSettings
    from lkdn_deploy.service.running import is_loopback, open_socket, run_service

    token = _token(token_file)
    if token is None and not is_loopback(host):
        msg = f"{host} can be reached by other machines, so requests must show a token"
        raise UsageError(msg, f"give one of {_SHORTEST_TOKEN} or more characters with --token-file or {TOKEN_VARIABLE}")
    if network["threads"] is None:
        network["threads"] = max(cores() // workers, 1)
    choices = _choices(models, network)
    limits = Limits(max_pixels, max_bytes, timeout, queue)
    logging.basicConfig(stream=sys.stderr, format="%(levelname)s: %(message)s", level=logging.WARNING)
    logging.getLogger("lkdn_deploy").setLevel(logging.INFO if verbose else logging.WARNING)
    listening = open_socket(host, port)
    settings = WorkerSettings(tuple(choices.values()), limits, max_memory)
    desk = Desk(WorkerPool(settings, workers), limits, order_parser(choices))
    app = create_app(desk, parameters(choices), secured=token is not None)
    gate = Gate(app, Access(token, LOOPBACK_NAMES if token is None else None), max_bytes)
    gc.enable()  # disabled by ``main``

    def ready() -> None:
        name = f"[{host}]" if ":" in host else host
        click.echo(f"http://{name}:{listening.getsockname()[1]}/")
        sys.stdout.flush()

    if (number := asyncio.run(run_service(gate, desk, listening, ready))) is not None:
        signal.raise_signal(number)


def _token(path: Path | None) -> str | None:
    """Return the token that requests must show, if there is one.

    Raises:
        InputError: if its file cannot be read.
        UsageError: if it is too short to be one.
    """
    from lkdn_deploy.core.files import read_bounded

    if path is None:
        text = os.environ.pop(TOKEN_VARIABLE, None)  # workers do not need to know it
    else:
        try:
            text = read_bounded(path, _LONGEST_TOKEN).decode("ascii", "replace")
        except OSError as error:
            msg = f"{path} cannot be read: {error.strerror or error}"
            raise InputError(msg, "give a file that holds the token") from error
    if text is None:
        return None
    text = text.strip()
    if not (_SHORTEST_TOKEN <= len(text) <= _LONGEST_TOKEN and text.isascii() and text.isprintable()) or " " in text:
        msg = f"expected a token of {_SHORTEST_TOKEN} to {_LONGEST_TOKEN} printable ASCII characters without spaces"
        raise UsageError(msg, "for example: openssl rand -hex 32 > token")
    return text


def _choices(models: tuple[str, ...], network: Mapping[str, Any]) -> "dict[str, NetworkChoice]":
    """Return the networks by the names that requests use, the default one first, each of them found.

    Raises:
        LkdnError: if one cannot be found.
    """
    from lkdn_deploy.hub.choice import NetworkChoice

    if network["weights"] is not None and len(models) > 1:
        msg = f"--weights are those of one network, and --model was given {len(models)} times"
        raise UsageError(msg, "give one --model with --weights, or .onnx files with --model")
    choices: dict[str, NetworkChoice] = {}
    for model in models or (None,):
        choice = NetworkChoice(model=model, **network)
        facts = choice.find(None, converting, found_out).metadata
        name = Path(model).stem.lower() if model and Path(model).suffix else facts.model.lower()
        if name in choices:
            msg = f"two networks would be called {name!r}"
            raise UsageError(msg, "give files other names")
        choices[name] = choice
    return choices


def main() -> None:
    """Entry point."""
    gc.disable()  # as lkdn-upscale does, until all is loaded
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    sys.exit(run(command))

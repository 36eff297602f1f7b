"""The command ``python -m lkdn_deploy.web``."""

import sys
from pathlib import Path

import click

from lkdn_deploy import __version__
from lkdn_deploy.cli._shell import PATH, run


@click.command(context_settings={"max_content_width": 100})
@click.argument("folder", metavar="DIR", type=PATH)
@click.option(
    "--port", type=click.IntRange(0, 65535), default=8000, show_default=True, help="Port to listen on; 0: any free one."
)
@click.option(
    "--no-isolation",
    is_flag=True,
    help="Leave out the headers that let threads share memory, as many static hosts do.",
)
@click.version_option(__version__, prog_name="lkdn-deploy")
def command(folder: Path, port: int, no_isolation: bool) -> None:
    """Serve a folder that lkdn-export --web wrote to the browsers of this machine, until Ctrl-C.

    The command prints the address of the page. It is for trying: any static host serves the folder as well.
    """
    from lkdn_deploy.web.server import LOOPBACK, open_server

    with open_server(folder, port, isolated=not no_isolation) as server:
        click.echo(f"http://{LOOPBACK}:{server.server_port}/")
        server.serve_forever(poll_interval=0.1)


def main() -> None:
    """Entry point."""
    sys.argv[0] = "python -m lkdn_deploy.web"  # for messages; Python puts the path of a file there
    sys.exit(run(command))

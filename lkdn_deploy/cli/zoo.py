"""``lkdn-zoo list / show``."""

import sys
from typing import TYPE_CHECKING

import click

from lkdn_deploy import __version__
from lkdn_deploy.cli._shell import run

if TYPE_CHECKING:
    from lkdn_models.zoo import Entry


@click.group()
@click.version_option(__version__, prog_name="lkdn-zoo")
def command() -> None:
    """The networks: what they cost, how good they are, where their weights are."""


@command.command("list")
def list_() -> None:
    """One line a network and scale.

    Params are of the fused network. Multi-Adds are for a 1280x720 output. PSNR is on luma, of the weights named.
    """
    from lkdn_models.zoo import ENTRIES

    click.echo(f"{'model':<8} {'scale':<5} {'params':>8} {'Multi-Adds':>10} {'Set5 dB':>8} {'Set14 dB':>8}  weights")
    for entry in ENTRIES:
        set5, set14 = (f"{value:.2f}" for value in entry.psnr) if entry.psnr else ("-", "-")
        row = f"{entry.name:<8} {f'x{entry.spec.scale}':<5} {entry.parameters / 1e3:>7.1f}K {entry.multi_adds:>9.1f}G"
        click.echo(f"{row} {set5:>8} {set14:>8}  {_where(entry)}")


@command.command()
@click.argument("name")
def show(name: str) -> None:
    """All facts about one network."""
    from lkdn_models.zoo import PAPERS, entries

    found = list(entries(name))
    spec = found[0].spec
    click.echo(f"{name}: {PAPERS[name]}\n")
    widths = f"{spec.blocks} blocks, {spec.channels} channels, attention {spec.attention_channels}"
    click.echo(f"  {widths}; trained with {spec.block.upper()}, {spec.upsampler} up-sampler")
    click.echo(f"  input {spec.input_copies} copies of RGB in 0..1; receptive radius {spec.receptive_radius} LR pixels")
    for entry in found:
        origin = "the paper's" if entry.in_paper else "not in the paper, counted alike"
        cost = f"{entry.parameters:,} parameters fused, {entry.multi_adds} G Multi-Adds"
        click.echo(f"\n  x{entry.spec.scale}: {cost} ({origin})")
        if entry.psnr:
            click.echo("    published weights: Set5 {:.3f} dB, Set14 {:.3f} dB (PSNR on luma)".format(*entry.psnr))
        if entry.bundled:
            click.echo("    bundled: trained by this project, see its model card")
        if entry.weights:
            click.echo(
                f"    {entry.weights.url}\n    sha256 {entry.weights.sha256}\n    licence {entry.weights.licence}"
            )
        if not entry.bundled and not entry.weights:
            click.echo("    no weights")


def _where(entry: "Entry") -> str:
    if entry.bundled and entry.weights:
        return "bundled, published"
    return "bundled" if entry.bundled else "published" if entry.weights else "none"


def main() -> None:
    """Entry point."""
    sys.exit(run(command))

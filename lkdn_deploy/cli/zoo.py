"""``lkdn-zoo list / show / get / check / engines``."""

import sys
import textwrap
from typing import TYPE_CHECKING

import click

from lkdn_deploy import __version__
from lkdn_deploy.cli._shell import echo_path, run
from lkdn_deploy.core.errors import UsageError, VerificationError

if TYPE_CHECKING:
    from lkdn_models.zoo import ZooEntry


@click.group()
@click.version_option(__version__, prog_name="lkdn-zoo")
def command() -> None:
    """Show the networks with their cost and quality, and download their weights.

    Names are accepted in any case.
    """


@command.command("list")
def list_() -> None:
    """Print one line for each network and scale.

    Parameters are those of the fused network. Multi-Adds are for a 1280x720 output, counted as in the LKDN paper's row
    for this network. PSNR is that of the published weights, on luma. Weights are bundled with the package, downloaded
    into the user's cache, to download with `lkdn-zoo get`, or none were published.
    """
    from lkdn_models.zoo import all_entries

    click.echo(f"{'model':<15} {'':<2} {'params':>8} {'Multi-Adds':>10} {'Set5 dB':>8} {'Set14 dB':>8}  weights")
    for entry in all_entries():
        set5, set14 = (
            f"{entry.measured[name][0]:.2f}" if name in entry.measured else "-" for name in ("Set5", "Set14")
        )
        cost = f"{entry.parameters / 1e3:>7.1f}K {entry.multi_adds:>9.1f}G"
        click.echo(f"{entry.name:<15} x{entry.scale} {cost} {set5:>8} {set14:>8}  {_where(entry)}")


@command.command()
@click.argument("name")
def show(name: str) -> None:
    """Print everything that is known about one network."""
    from lkdn_models.zoo import entries

    found = list(entries(name))
    network, spec = found[0].network, found[0].spec
    _echo_wrapped(f"{network.name}: {network.paper}")
    _echo_wrapped(network.remark, "  ")
    if spec:
        widths = f"{spec.blocks} blocks, {spec.channels} channels, attention {spec.attention_channels}"
        click.echo(f"  {widths}; trained with {spec.block.upper()}, {spec.upsampler} up-sampler")
    click.echo(f"  input: {network.input}")
    _echo_wrapped(f"Multi-Adds count {network.rule.counts}", "  ")
    for entry in found:
        reach = "whole picture" if entry.receptive_radius is None else f"{entry.receptive_radius} LR pixels"
        click.echo(f"\n  x{entry.scale}: {entry.parameters:,} parameters, {entry.multi_adds:.4f} G Multi-Adds")
        click.echo(f"    receptive radius: {reach}")
        if entry.challenge_macs is not None:
            click.echo(f"    {entry.challenge_macs:.4f} G multiply-accumulates at 256x256, as challenges count")
        if entry.printed:
            printed = entry.printed
            counts = f": {printed.parameters} K, {printed.multi_adds} G" if printed.parameters else ""
            click.echo(f"    the LKDN paper (table {printed.tables}){counts}")
            _echo_wrapped(printed.remark, "      ")
        for line in _quality(entry):
            click.echo(f"    {line}")
        if entry.bundled:
            click.echo("    bundled: trained by this project, see its model card")
        if entry.weights:
            click.echo(f"    weights: {entry.weights.page}")
            click.echo(f"    sha256 {entry.weights.sha256}")
            _echo_wrapped(f"licence: {entry.weights.licence}", "    ")
        elif not entry.bundled:
            click.echo("    no weights")


@command.command()
@click.argument("name")
@click.option(
    "--scale", type=click.IntRange(2, 4), help="Download the weights of this scale only.  [default: all published]"
)
def get(name: str, scale: int | None) -> None:
    """Download a network's published weights into the user's cache.

    The files come from their authors' repositories, and their SHA-256 must be the one that `lkdn-zoo show` prints. The
    path of each file is printed.
    """
    from lkdn_models.download import download
    from lkdn_models.zoo import entries, find

    wanted = [entry for entry in ([find(name, scale)] if scale else entries(name)) if entry.weights]
    if not wanted:
        known = next(entries(name)).name
        msg = f"no weights of {known}{f' x{scale}' if scale else ''} were published where they can be downloaded"
        raise UsageError(msg, "`lkdn-zoo list` shows which networks have published weights")
    for weights in dict.fromkeys(entry.weights for entry in wanted if entry.weights):
        path = download(weights, progress=sys.stderr is not None and sys.stderr.isatty())
        click.echo(f"{weights.repository}: licence {weights.licence}", err=True)
        if weights.converter:
            target = path.with_suffix(".safetensors")
            click.echo(f"convert it before use: python {weights.converter} {path} {target}", err=True)
        echo_path(path)


@command.command()
def check() -> None:
    """Count the costs of all networks again.

    Parameters and Multi-Adds are compared with the zoo's and the LKDN paper's figures.

    P are parameters in K, M are Multi-Adds in G. Below newer networks stand their multiply-accumulates for an input of
    256x256, which NTIRE's efficiency challenges count. Where paper and count differ, a row states the reason. The exit
    code is 4 if a count differs from the zoo's figure.
    """
    from lkdn_deploy.bench.complexity.verify_zoo import recount
    from lkdn_models.zoo import all_entries
    from lkdn_models.zoo.facts import LR

    click.echo(f"{'model':<15} {'':<2} {'P paper':>8} {'P here':>9} {'M paper':>8} {'M here':>10}  {'rule':<10} table")
    problems: list[str] = []
    for entry in all_entries():
        checked = recount(entry)
        printed = entry.printed
        paper = (printed.parameters or "-", printed.multi_adds or "-", printed.tables) if printed else ("-", "-", "-")
        size = "" if entry.input_size == LR[entry.scale] else " {1}x{0}".format(*entry.input_size)
        computed = f"{checked.parameters / 1e3:>9.3f} {paper[1]:>8} {checked.multi_adds:>10.4f}"
        rule = f"{entry.network.rule}{size}"
        click.echo(f"{entry.name:<15} x{entry.scale} {paper[0]:>8} {computed}  {rule:<10} {paper[2]}")
        if checked.challenge_macs is not None:
            click.echo(f"{'':<46} {checked.challenge_macs:>10.4f}  C 256x256")
        _echo_wrapped(printed.remark if printed else "", "    ", 78)
        problems += checked.problems
    if problems:
        msg = f"the zoo's figures differ from what is counted: {'; '.join(problems)}"
        raise VerificationError(msg, "correct lkdn_models/zoo/networks.toml, or the network")
    click.echo(f"{len(all_entries())} rows: all figures agree", err=True)


@command.command()
@click.option(
    "--prune",
    metavar="all|DAYS",
    callback=lambda _context, _parameter, value: _days(value),
    help="Remove all engines, or those unused for this many days, and print their paths.",
)
def engines(prune: float | None) -> None:
    """List the TensorRT engines in the cache.

    The last used is the first, and each has its path.
    """
    from lkdn_deploy.backends.trt import engine_cache

    if prune is not None:
        gone = engine_cache.prune(days=prune)
        for entry in gone:
            echo_path(entry.path)
        size = sum(entry.size for entry in gone) / 2**20
        click.echo(f"removed {_counted(len(gone))}, {size:.1f} MiB", err=True)
        return
    found = engine_cache.entries()
    for entry in found:
        record = entry.record
        if record is None:
            click.echo("no readable side-car: the engine will be built again")
        else:
            spec = record.spec
            network = f"{record.metadata.model} x{record.metadata.scale} {spec.precision}"
            click.echo(f"{network}, {spec.runtime} {spec.runtime_version}, {', '.join(spec.targets)}")
            click.echo(f"    {spec.inputs}, {entry.size / 2**20:.1f} MiB, made {record.made}")
        click.echo(f"    {entry.path}")
    size = sum(entry.size for entry in found) / 2**20
    click.echo(f"{_counted(len(found))}, {size:.1f} MiB in {engine_cache.folder()}", err=True)


def _counted(engines: int) -> str:
    return "1 engine" if engines == 1 else f"{engines} engines"


def _days(text: str | None) -> float | None:
    """Return the days of ``--prune``; 0 for ``all``."""
    if text is None or text == "all":
        return None if text is None else 0.0
    if not text.isascii() or not text.isdigit():
        msg = f"expected all or a number of days, got {text!r}"
        raise click.BadParameter(msg)
    return float(text)


def _echo_wrapped(text: str, indent: str = "", width: int = 80) -> None:
    """Print text in lines of at most so many columns; print nothing if it is empty."""
    for line in textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent, break_on_hyphens=False):
        click.echo(line)


def _quality(entry: "ZooEntry") -> list[str]:
    """Return a line for each test set: the quality of the published weights, and the papers' figures."""
    printed = entry.printed.quality if entry.printed else {}
    lines = []
    for name in dict.fromkeys([*printed, *entry.measured]):
        here = "{:.3f} / {:.4f} measured".format(*entry.measured[name]) if name in entry.measured else ""
        paper = "{} / {} in the paper".format(*printed[name]) if name in printed else ""
        lines.append(f"{name:<9} {', '.join(filter(None, (here, paper)))}")
    if entry.printed and entry.printed.div2k:
        lines.append(f"{'DIV2K':<9} {entry.printed.div2k} in the paper, on its validation set")
    for table, row in entry.printed.trials.items() if entry.printed else ():
        lines.append(f"another training ({table}):")
        lines += ["  {:<9} {} / {} in the paper".format(name, *figures) for name, figures in row.items()]
    return lines


def _where(entry: "ZooEntry") -> str:
    """Return where the weights are: with the package, in the user's cache, or where they can be downloaded."""
    from lkdn_models.download import local

    found = ["bundled"] if entry.bundled else []
    if weights := entry.weights:
        path = local(weights)
        if not path.is_file():
            found.append("to download")
        else:
            usable = not weights.converter or path.with_suffix(".safetensors").is_file()
            found.append("downloaded" if usable else "to convert")
    return ", ".join(found) or "none"


def main() -> None:
    """Run the command."""
    sys.exit(run(command))

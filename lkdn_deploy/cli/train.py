"""``lkdn-train RECIPE --data DIR``, ``lkdn-train plot RUN...``, ``lkdn-train export RUN``."""

import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from lkdn_deploy import __version__
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.export import tell
from lkdn_deploy.core.errors import ExitCode
from lkdn_deploy.core.optional import needs

PATH = click.Path(path_type=Path)


class _RecipeOrTask(click.Group):
    """A group that takes what begins with none of its commands or options for the arguments of ``run``."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if args and args[0] not in self.commands and args[0] not in own:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_RecipeOrTask, subcommand_metavar="RECIPE --data DIR ... | COMMAND ...")
@click.version_option(__version__, prog_name="lkdn-train")
def command() -> None:
    """Train a network from RECIPE: the name of one that comes with the package, or a TOML file.

    This is short for the command run, whose --help shows the options. A recipe file that is named like a command is
    given as ./run.

    Several processes, or GPUs, share a training when torchrun starts them:

    \b
    torchrun --nproc-per-node N -m lkdn_models.training RECIPE --data DIR ...
    """


@command.command("run")
@click.argument("recipe")
@click.option(
    "--data",
    multiple=True,
    required=True,
    type=PATH,
    metavar="DIR",
    help="Folder of photographs, or a tree of pairs named as DIV2K is. May be repeated.",
)
@click.option(
    "--val", multiple=True, type=PATH, metavar="DIR", help="Folder of pictures to measure PSNR and SSIM on. Repeatable."
)
@click.option("--out", type=PATH, metavar="DIR", help="Run folder.  [default: runs/RECIPE]")
@click.option("--resume", is_flag=True, help="Go on with the run in the run folder.")
@click.option(
    "--init",
    type=PATH,
    metavar="FILE",
    help="Weights to start from; of another scale, all but the up-sampler is taken.",
)
@click.option("--iterations", type=int, metavar="N", help="Batches in all, instead of the recipe's.")
@click.option("--bf16", is_flag=True, help="Compute in bfloat16 where PyTorch's autocast does.")
@click.option("--compile", "compiled", is_flag=True, help="Run the network through torch.compile.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: one a core]")
@click.option(
    "--workers", type=click.IntRange(0), default=0, metavar="N", help="Processes that cut crops.  [default: 0]"
)
@click.option("--cache", type=PATH, metavar="DIR", help="Folder for decoded photographs.  [default: the user's cache]")
def train_command(
    recipe: str,
    data: tuple[Path, ...],
    val: tuple[Path, ...],
    out: Path | None,
    resume: bool,
    init: Path | None,
    iterations: int | None,
    bf16: bool,
    compiled: bool,
    threads: int | None,
    workers: int,
    cache: Path | None,
) -> None:
    """Train the network of RECIPE. Prints the path of the averaged weights.

    SIGTERM and Ctrl-C save the run and end with exit code 130; --resume goes on as if nothing had happened.
    """
    with needs("train"):
        import torch

        from lkdn_models.training.recipe import find_recipe, read_recipe
        from lkdn_models.training.train import Places, train
    if threads is not None:
        torch.set_num_threads(threads)
    speaks = os.environ.get("RANK", "0") == "0"  # torchrun's number for this process: one of them is enough
    if speaks:
        warnings.showwarning = lambda message, *_: click.echo(f"warning: {message}", err=True)
    else:
        warnings.simplefilter("ignore")
    path = find_recipe(recipe)
    settings = read_recipe(path)
    changes: dict[str, Any] = {"iterations": iterations, "bf16": bf16 or None, "compile": compiled or None}
    changed = {name: value for name, value in changes.items() if value is not None}
    settings = replace(settings, optimisation=replace(settings.optimisation, **changed))
    folder = out or Path("runs") / path.stem
    places = Places(data=data, out=folder, val=val, init=init, cache=cache)
    weights = train(settings, places, resume, workers, bar=sys.stderr.isatty())
    if weights is None:
        if speaks:
            again = [f"--{name}" + (f" {value}" if name == "iterations" else "") for name, value in changed.items()]
            click.echo(f"stopped and saved; go on with {' '.join(['--resume --out', str(folder), *again])}", err=True)
        raise click.exceptions.Exit(ExitCode.INTERRUPTED)
    if speaks:
        click.echo(str(weights))


@command.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=PATH)
@click.option(
    "-o",
    "--output",
    type=PATH,
    metavar="FILE",
    default=Path("curves.png"),
    show_default=True,
    help="A .png, .svg or .pdf file. One that is there is replaced.",
)
def plot(runs: tuple[Path, ...], output: Path) -> None:
    """Draw the convergence of the runs in the folders RUN. Prints the path of the figure.

    Left the training loss, right the PSNR on the validation sets that all of them share, with bicubic's.
    """
    with needs("train"):
        from lkdn_models.training.curves import labels, shared_sets, write_curves
        from lkdn_models.training.runs import RunFolder
    logs = {name: RunFolder(path).read_log() for name, path in labels(runs).items()}
    if not shared_sets(logs):
        click.echo("only the loss is drawn: the logs have no validation set in common", err=True)
    write_curves(output, logs)
    click.echo(str(output))


@command.command("export")
@click.argument("folder", metavar="RUN", type=PATH)
@click.option("-o", "--output", type=PATH, metavar="DIR", default=Path(), help="Folder to write to.  [default: .]")
def export_command(folder: Path, output: Path) -> None:
    """Write a run's weights, verified ONNX file and model card.

    Of the run in the folder RUN, the best weights are taken if it was validated, else the newest. The ONNX file is
    what lkdn-export makes of them; if its numbers differ, nothing is written and the exit code is 4. Files of the same
    names are replaced. Prints the three paths.
    """
    with needs("train"):
        from lkdn_deploy.export.release import pick_weights, release
    picked = pick_weights(folder)
    click.echo(f"weights  {picked}", err=True)
    done = release(picked, output)
    tell(done.report)
    for path in (done.weights, done.artefact, done.card):
        click.echo(str(path))
    click.echo("the licence is for you to fill in, at the card's end", err=True)


def main() -> None:
    """Entry point."""
    sys.exit(run(command))


if __name__ == "__main__":
    main()

"""The command ``lkdn-train``, with ``plot`` and ``export``."""

import os
import sys
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from lkdn_deploy import __version__
from lkdn_deploy.cli._shell import echo_path, refuse_existing, run
from lkdn_deploy.cli.export import tell
from lkdn_deploy.core.errors import ExitCode
from lkdn_deploy.core.optional import needs

PATH = click.Path(path_type=Path)
OVERWRITE = click.option("--overwrite", is_flag=True, help="Replace files that exist.")


class _RecipeOrTask(click.Group):
    """A group that runs ``run`` when the first argument is neither a command nor an option of the group."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        own = {name for parameter in self.get_params(ctx) for name in parameter.opts}
        if args and args[0] not in self.commands and args[0] not in own:
            args = ["run", *args]
        return super().parse_args(ctx, args)


@click.group(cls=_RecipeOrTask, subcommand_metavar="RECIPE --data DIR ... | COMMAND ...")
@click.version_option(__version__, prog_name="lkdn-train")
def command() -> None:
    """Train a network from RECIPE: a recipe that comes with the package, such as tiny or lkdn_x4, or a TOML file.

    `lkdn-train RECIPE` is short for `lkdn-train run RECIPE`, whose --help shows the options. Give a recipe file that is
    named like a command as ./run.

    torchrun lets several processes or GPUs share a training:

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
    help="Folder of photographs, or a tree of pairs laid out as DIV2K; repeatable.",
)
@click.option(
    "--val", multiple=True, type=PATH, metavar="DIR", help="Folder of pictures to measure PSNR and SSIM on; repeatable."
)
@click.option("-o", "--output", type=PATH, metavar="DIR", help="Run folder.  [default: runs/RECIPE]")
@click.option("--resume", is_flag=True, help="Resume the run in the run folder.")
@click.option(
    "--init",
    type=PATH,
    metavar="FILE",
    help="Weights to start from. If their scale differs, the up-sampler is fitted to the photographs.",
)
@click.option(
    "--iterations",
    type=int,
    metavar="N",
    help="Number of batches, instead of the recipe's. The learning rate's final fall moves with it.",
)
@click.option(
    "--graphics",
    multiple=True,
    type=PATH,
    metavar="DIR",
    help="Folder of drawings, for a recipe that takes a share of each batch from them; repeatable.",
)
@click.option("--teacher", type=PATH, metavar="FILE", help="Weights to learn from, for a recipe with [distillation].")
@click.option("--bf16", is_flag=True, help="Compute in bfloat16 where PyTorch's autocast does.")
@click.option("--compile", "compiled", is_flag=True, help="Run the network through torch.compile.")
@click.option("--threads", type=click.IntRange(1), metavar="N", help="CPU threads.  [default: one per core]")
@click.option(
    "--workers", type=click.IntRange(0), default=0, metavar="N", help="Processes that cut crops.  [default: 0]"
)
@click.option(
    "--cache",
    type=PATH,
    metavar="DIR",
    help="Folder for decoded photographs, at most 48 GiB.  [default: in the user's cache]",
)
def train_command(
    recipe: str,
    data: tuple[Path, ...],
    val: tuple[Path, ...],
    output: Path | None,
    resume: bool,
    init: Path | None,
    graphics: tuple[Path, ...],
    teacher: Path | None,
    iterations: int | None,
    bf16: bool,
    compiled: bool,
    threads: int | None,
    workers: int,
    cache: Path | None,
) -> None:
    """Train the network of RECIPE.

    The path of the averaged weights is printed. Photographs are decoded once into the cache, which takes about three
    bytes for each pixel of each size. SIGTERM and Ctrl-C save the run and end with exit code 130; --resume continues it
    with the same result as without a break.
    """
    with needs("train"):
        import torch

        from lkdn_models.training.recipe import find_recipe, read_recipe
        from lkdn_models.training.train import Places, train
    if threads is not None:
        torch.set_num_threads(threads)
    prints = os.environ.get("RANK", "0") == "0"  # torchrun's number of this process: one of them prints
    if prints:
        warnings.showwarning = lambda message, *_: click.echo(f"warning: {message}", err=True)
    else:
        warnings.simplefilter("ignore")
    path = find_recipe(recipe)
    settings = read_recipe(path)
    changes: dict[str, Any] = {"iterations": iterations, "bf16": bf16 or None, "compile": compiled or None}
    changed = {name: value for name, value in changes.items() if value is not None}
    settings = replace(settings, optimisation=replace(settings.optimisation, **changed))
    folder = output or Path("runs") / path.stem
    places = Places(data, folder, val, graphics, init, teacher, cache)
    weights = train(settings, places, resume, workers, bar=sys.stderr.isatty())
    if weights is None:
        if prints:
            again = [f"--{name}" + (f" {value}" if name == "iterations" else "") for name, value in changed.items()]
            click.echo(f"stopped and saved; resume with {' '.join(['--resume -o', str(folder), *again])}", err=True)
        raise click.exceptions.Exit(ExitCode.INTERRUPTED)
    if prints:
        echo_path(weights)


@command.command()
@click.argument("runs", nargs=-1, required=True, metavar="RUN...", type=PATH)
@click.option(
    "-o",
    "--output",
    type=PATH,
    metavar="FILE",
    default=Path("curves.png"),
    show_default=True,
    help="A .png, .svg or .pdf file.",
)
@OVERWRITE
def plot(runs: tuple[Path, ...], output: Path, overwrite: bool) -> None:
    """Draw the convergence of runs.

    The path of the figure is printed. The left half shows the training loss, the right half the PSNR on the validation
    sets that all runs share, and bicubic's.
    """
    refuse_existing([output], overwrite)
    with needs("train"):
        from lkdn_models.training.curves import labels, shared_sets, write_curves
        from lkdn_models.training.runs import RunFolder
    logs = {name: RunFolder(path).read_log() for name, path in labels(runs).items()}
    if not shared_sets(logs):
        click.echo("only the loss is drawn, since the logs have no validation set in common", err=True)
    write_curves(output, logs)
    echo_path(output)


@command.command("export")
@click.argument("folder", metavar="RUN", type=PATH)
@click.option("-o", "--output", type=PATH, metavar="DIR", default=Path(), help="Folder to write to.  [default: .]")
@OVERWRITE
def export_command(folder: Path, output: Path, overwrite: bool) -> None:
    """Write the weights, ONNX file and card of RUN.

    The ONNX file is verified, and the three paths are printed. The weights are the best of the run in the folder RUN if
    it was validated, else the newest. The ONNX file is the one that lkdn-export writes; if its results differ from the
    weights', nothing is written and the exit code is 4.
    """
    with needs("train"):
        from lkdn_deploy.export.release import pick_weights, release
    picked = pick_weights(folder)
    click.echo(f"weights  {picked}", err=True)
    done = release(picked, output, overwrite=overwrite)
    tell(done.report)
    for path in (done.weights, done.artefact, done.card):
        echo_path(path)
    click.echo("fill in the licence at the end of the card", err=True)


def main() -> None:
    """Run the command."""
    sys.exit(run(command))

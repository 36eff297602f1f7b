"""Train a network from a recipe: ``python -m lkdn_models.train RECIPE --data DIR --out RUN``.

One loop. Started by ``torchrun --nproc-per-node N -m lkdn_models.train ...``, N processes share each batch and add up
their gradients; on a CPU, processes of one thread each are faster than one with several threads, and lose far less
when other work takes a core. A run folder holds ``state.pt`` (all that is needed to go on exactly), ``log.jsonl``
and, at the end, ``weights.safetensors`` (the averaged weights, training form).
"""

import json
import math
import os
import signal
import sys
import time
import tomllib
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

import click
import torch
from torch import Tensor, distributed, nn
from tqdm import tqdm

from lkdn_deploy.core.errors import ExitCode, InputError, LkdnError, UsageError
from lkdn_deploy.core.files import publish
from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_models.checkpoint import save_checkpoint
from lkdn_models.data import CropSettings, CropSource, load_photos
from lkdn_models.lkdn import LKDN
from lkdn_models.online import OnlineLKDN
from lkdn_models.optim import Adan, Ema

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Optimisation:
    """How long and how fast to learn.

    Attributes:
        iterations: batches in all.
        learning_rate: between warm-up and tail.
        warm_up: iterations in which the rate grows linearly to ``learning_rate``.
        tail: share of the iterations, at the end, in which it falls to zero along a cosine.
        ema: share that the average of the weights keeps in each step.
        max_grad_norm: gradients with a larger norm are scaled down to it.

    Raises:
        UsageError: if a value is out of range, naming it.
    """

    iterations: int
    learning_rate: float
    warm_up: int = 0
    tail: float = 0.4
    ema: float = 0.999
    max_grad_norm: float = math.inf

    def __post_init__(self) -> None:
        for name, fits, what in (
            ("iterations", 1 <= self.iterations <= 10**8, "from 1 to 100 million"),
            ("learning_rate", 0 < self.learning_rate <= 1, "above 0 and at most 1"),
            ("warm_up", 0 <= self.warm_up <= 10**8, "0 or more"),
            ("tail", 0 <= self.tail <= 1, "a share from 0 to 1"),
            ("ema", 0 <= self.ema < 1, "a share from 0 to below 1"),
            ("max_grad_norm", self.max_grad_norm > 0, "above 0"),
        ):
            if not fits:
                msg = f"{name} must be {what}, got {getattr(self, name)}"
                raise UsageError(msg)

    def rate(self, step: int) -> float:
        """The learning rate of step number ``step`` (from 0)."""
        warm = min(1.0, (step + 1) / (self.warm_up + 1))
        tail = self.tail * self.iterations
        left = self.iterations - step
        cosine = 0.5 - 0.5 * math.cos(math.pi * left / tail) if left < tail else 1.0
        return self.learning_rate * warm * cosine


@dataclass(frozen=True, slots=True)
class Recipe:
    """All that decides a training run, but for the photographs."""

    network: LkdnSpec
    data: CropSettings
    optimisation: Optimisation
    seed: int = 0
    log_every: int = 50
    save_every: int = 500

    def __post_init__(self) -> None:
        for name, low in (("seed", 0), ("log_every", 1), ("save_every", 1)):
            if getattr(self, name) < low:
                msg = f"{name} must be {low} or more, got {getattr(self, name)}"
                raise UsageError(msg)


def read_recipe(path: Path) -> Recipe:
    """Read a recipe's TOML file.

    Raises:
        InputError: if it cannot be read.
        UsageError: if it is not TOML, or a key is unknown, missing, of the wrong type or out of range.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise InputError(msg) from error
    except ValueError as error:
        msg = f"{path} is not a TOML file: {error}"
        raise UsageError(msg) from error
    try:
        for name, kind in (("network", LkdnSpec), ("data", CropSettings), ("optimisation", Optimisation)):
            table[name] = _build(kind, table.get(name, {}), f"{name}.")
        return _build(Recipe, table, "")
    except UsageError as error:
        msg = f"{path}: {error.message}"
        raise UsageError(msg, error.hint) from error


def _build(kind: type[T], table: Any, where: str) -> T:
    """An instance of the dataclass ``kind`` from a TOML table."""
    if not isinstance(table, dict):
        msg = f"{where.rstrip('.')} must be a table"
        raise UsageError(msg)
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    values = {}
    for name, value in table.items():
        if name not in known:
            msg = f"unknown key {where}{name}"
            raise UsageError(msg, "known: " + ", ".join(known))
        wanted: Any = known[name].type
        if wanted in (Block, Upsampler):
            if value not in list(wanted):
                msg = f"{where}{name} must be one of {', '.join(wanted)}, got {value!r}"
                raise UsageError(msg)
            values[name] = wanted(value)
        elif wanted is float and type(value) is int:
            values[name] = float(value)
        elif type(value) is not wanted:
            msg = f"{where}{name} must be of type {wanted.__name__}, got {value!r}"
            raise UsageError(msg)
        else:
            values[name] = value
    try:
        return kind(**values)
    except TypeError as error:
        msg = f"incomplete: {str(error).partition('() ')[2]}"
        raise UsageError(msg) from error


class _Learner:
    """What changes in a run: weights, the optimiser's averages, the averaged weights."""

    def __init__(self, recipe: Recipe) -> None:
        torch.manual_seed(recipe.seed)
        self._recipe = recipe
        self.weights = dict(LKDN(recipe.network).named_parameters())
        self.ema = Ema(self.weights, recipe.optimisation.ema)
        self._optimiser = Adan(self.weights.values(), lr=recipe.optimisation.learning_rate)
        self._network = OnlineLKDN(recipe.network)

    def differentiate(self, low: Tensor, high: Tensor) -> float:
        """Mean absolute error of a batch; its gradients are left on the weights."""
        loss = nn.functional.l1_loss(self._network(self.weights, low), high)
        self._optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss.item()

    def update(self, step: int, rate: float) -> float:
        """Take step number ``step`` (from 0); returns the norm of the gradients before they are bounded."""
        norm = nn.utils.clip_grad_norm_(self.weights.values(), self._recipe.optimisation.max_grad_norm)
        self._optimiser.param_groups[0]["lr"] = rate
        self._optimiser.step()
        self.ema.update(self.weights, step + 1)
        return norm.item()

    def save(self, path: Path, step: int) -> None:
        """Write all that is needed to go on at ``step``."""
        state = {
            "recipe": _as_json(self._recipe),
            "step": step,
            "weights": {name: value.detach() for name, value in self.weights.items()},
            "optimiser": self._optimiser.state_dict(),
            "ema": self.ema.average,
        }
        with publish(path) as part:
            torch.save(state, part)

    def restore(self, state: Mapping[str, Any]) -> int:
        """Take over what `save` wrote; returns the step to go on with."""
        with torch.no_grad():
            for name, value in self.weights.items():
                value.copy_(state["weights"][name])
        self._optimiser.load_state_dict(state["optimiser"])
        self.ema.average = state["ema"]
        return int(state["step"])


def train(recipe: Recipe, data: Path, out: Path, resume: bool = False, bar: bool = False) -> Path | None:
    """Run or go on with a training run; returns the weights' path, or None if a signal ended it early.

    Raises:
        InputError: if photographs or the run's state cannot be read, or a result cannot be written.
        UsageError: if the run folder holds a run and ``resume`` is not given, or the other way round, or the run was
            made by another recipe.
        LkdnError: if the loss is no longer finite.
    """
    rank, processes = _processes()
    if recipe.data.batch % processes:
        msg = f"a batch of {recipe.data.batch} cannot be shared by {processes} processes"
        raise UsageError(msg, "give a number of processes that divides it")
    state = _open_run(recipe, out, resume)
    settings = recipe.optimisation
    learner = _Learner(recipe)
    start = learner.restore(state) if state else 0
    source = CropSource(
        load_photos(data, recipe.network.scale, recipe.data), recipe.network.scale, recipe.data, recipe.seed
    )
    losses: list[float] = []
    since = time.monotonic()
    with (
        _stop_requests() as stopped,
        tqdm(total=settings.iterations, initial=start, disable=not bar or rank > 0) as meter,
    ):
        for step in range(start, settings.iterations):
            rate = settings.rate(step)
            low, high = source.batch(step, rank, processes)
            loss, stop = _share(learner.weights, learner.differentiate(low, high), bool(stopped), processes)
            if stop:
                if rank == 0:
                    learner.save(out / "state.pt", step)
                return None
            if not math.isfinite(loss):
                msg = f"the loss is {loss} at step {step}, learning rate {rate:.3g}"
                raise LkdnError(msg, "lower learning_rate or max_grad_norm in the recipe and start again")
            norm = learner.update(step, rate)
            if rank > 0:
                continue
            losses.append(loss)
            meter.update()
            done = step + 1
            if done % recipe.log_every == 0 or done == settings.iterations:
                now = time.monotonic()
                mean = sum(losses) / len(losses)
                _log(
                    out,
                    step=done,
                    loss=round(mean, 6),
                    lr=float(f"{rate:.4g}"),
                    grad_norm=float(f"{norm:.4g}"),
                    images_per_s=round(len(losses) * recipe.data.batch / (now - since), 2),
                )
                meter.set_postfix(loss=f"{mean:.4f}")
                losses, since = [], now
            if done % recipe.save_every == 0 or done == settings.iterations:
                learner.save(out / "state.pt", done)
    result = out / "weights.safetensors"
    if rank == 0:
        save_checkpoint(result, recipe.network, learner.ema.average)
    return result


def _processes() -> tuple[int, int]:
    """This process's number and how many there are, as told by torchrun."""
    if "WORLD_SIZE" not in os.environ:
        return 0, 1
    if not distributed.is_initialized():
        distributed.init_process_group("gloo")
    return distributed.get_rank(), distributed.get_world_size()


def _share(weights: Mapping[str, Tensor], loss: float, stop: bool, processes: int) -> tuple[float, bool]:
    """Replace each process's gradients by their mean; the mean loss, and whether any process is to stop."""
    if processes == 1:
        return loss, stop
    gradients = [value.grad for value in weights.values() if value.grad is not None]
    told = torch.tensor([loss, float(stop)])
    flat = torch.cat([told, *(gradient.reshape(-1) for gradient in gradients)]) / processes
    distributed.all_reduce(flat)
    start = len(told)
    for gradient in gradients:
        gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
        start += gradient.numel()
    return flat[0].item(), flat[1].item() > 0


def _open_run(recipe: Recipe, out: Path, resume: bool) -> dict[str, Any] | None:
    """The state to go on from, or None for a new run, whose folder is made."""
    path = out / "state.pt"
    if not resume:
        if path.exists():
            msg = f"{out} already holds a run"
            raise UsageError(msg, "give --resume to go on with it, or another --out")
        try:
            out.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"{out} cannot be made: {error.strerror}"
            raise InputError(msg) from error
        return None
    if not path.exists():
        msg = f"{out} holds no run to go on with"
        raise UsageError(msg, "start it without --resume")
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        was, step = state["recipe"], state["step"]
    except Exception as error:
        msg = f"{path} cannot be read: {error}"
        raise InputError(msg) from error
    # The number of iterations alone may change: a running job can be told to end sooner or later.
    total = recipe.optimisation.iterations
    if _same_but_iterations(was) != _same_but_iterations(_as_json(recipe)):
        msg = f"{out} was made by another recipe"
        raise UsageError(msg, "only the number of iterations may change; give another --out")
    if step > total:
        msg = f"{out} is already at step {step}, beyond {total} iterations"
        raise UsageError(msg)
    return state


def _as_json(recipe: Recipe) -> dict[str, Any]:
    table: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return table


def _same_but_iterations(table: Mapping[str, Any]) -> dict[str, Any]:
    return {**table, "optimisation": {**table["optimisation"], "iterations": None}}


def _log(out: Path, **values: float) -> None:
    try:
        with (out / "log.jsonl").open("a", encoding="utf-8") as file:
            file.write(json.dumps(values) + "\n")
    except OSError as error:
        msg = f"{out / 'log.jsonl'} cannot be written: {error.strerror}"
        raise InputError(msg) from error


@contextmanager
def _stop_requests() -> Iterator[list[int]]:
    """A list that gets an entry when SIGTERM or Ctrl-C arrives, instead of the process ending at once."""
    asked: list[int] = []

    def note(number: int, frame: FrameType | None) -> None:
        asked.append(number)

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@click.command()
@click.argument("recipe", type=click.Path(path_type=Path))
@click.option("--data", required=True, type=click.Path(path_type=Path), help="Folder of photographs.")
@click.option("--out", required=True, type=click.Path(path_type=Path), help="Run folder.")
@click.option("--resume", is_flag=True, help="Go on with the run in the run folder.")
@click.option("--iterations", type=int, help="Batches in all, instead of the recipe's.")
@click.option("--threads", type=click.IntRange(1), help="CPU threads (default: one a core).")
def main(recipe: Path, data: Path, out: Path, resume: bool, iterations: int | None, threads: int | None) -> None:
    """Train the network of RECIPE (a TOML file)."""
    if threads is not None:
        torch.set_num_threads(threads)
    warnings.showwarning = lambda message, *rest: click.echo(f"warning: {message}", err=True)
    try:
        settings = read_recipe(recipe)
        if iterations is not None:
            settings = replace(settings, optimisation=replace(settings.optimisation, iterations=iterations))
        weights = train(settings, data, out, resume, bar=sys.stderr.isatty())
    except KeyboardInterrupt:  # before the first step: nothing to save yet
        sys.exit(ExitCode.INTERRUPTED)
    except LkdnError as error:
        click.echo(f"error: {error.message}", err=True)
        if error.hint:
            click.echo(f"hint: {error.hint}", err=True)
        sys.exit(error.exit_code)
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()
    if weights is None:
        click.echo(f"stopped; go on with --resume --out {out}", err=True)
        sys.exit(ExitCode.INTERRUPTED)
    click.echo(str(weights))


if __name__ == "__main__":
    main()

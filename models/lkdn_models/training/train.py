"""Train a network from a recipe. ``lkdn-train`` is the command; several processes are started by ``torchrun``::

    torchrun --nproc-per-node N -m lkdn_models.training RECIPE --data DIR --out RUN

The processes share each batch and add up their gradients. On a CPU, processes of one thread each are faster than one
with several threads, and lose far less when other work takes a core.
"""

import math
import signal
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

from tqdm import tqdm

from lkdn_deploy.core.errors import LkdnError, UsageError
from lkdn_deploy.core.files import printable
from lkdn_models.checkpoint import load_checkpoint, save_checkpoint
from lkdn_models.data import CropSource, Photos, batches, open_photos
from lkdn_models.training.learner import Learner
from lkdn_models.training.parallel import Team, team
from lkdn_models.training.recipe import Recipe, as_table
from lkdn_models.training.runs import RunFolder
from lkdn_models.training.validation import Validation


@dataclass(frozen=True, slots=True)
class Places:
    """Where a run reads and writes.

    Attributes:
        data: folders of photographs, or trees of pairs named as DIV2K and Flickr2K are.
        out: the run folder.
        val: folders of pictures to validate on; none: the photographs that the recipe holds out.
        init: weights to start from instead of random ones.
        cache: folder for the decoded photographs; None: the user's cache.
    """

    data: Sequence[Path]
    out: Path
    val: Sequence[Path] = ()
    init: Path | None = None
    cache: Path | None = None


def train(recipe: Recipe, places: Places, resume: bool = False, workers: int = 0, bar: bool = False) -> Path | None:
    """Run or go on with a training run; returns the weights' path, or None if a signal ended it early.

    ``workers`` processes prepare the batches, and ``bar`` shows the progress on stderr; neither changes the result.

    Raises:
        InputError: if photographs, weights or the run's state cannot be read, or a result cannot be written.
        UsageError: if the run folder holds a run and ``resume`` is not given, or the other way round, or the run was
            made by another recipe; or if the processes cannot share a batch.
        LkdnError: if the loss is no longer finite, or compiling fails.
    """
    with _terminated_as_interrupted(), team() as crew, closing(RunFolder(places.out)) as run:
        return _train(recipe, places, run, crew, resume, workers, bar)


def _train(
    recipe: Recipe, places: Places, run: RunFolder, crew: Team, resume: bool, workers: int, bar: bool
) -> Path | None:
    settings = recipe.optimisation
    if recipe.data.batch % crew.size:
        msg = f"a batch of {recipe.data.batch} cannot be shared by {crew.size} processes"
        raise UsageError(msg, "give a number of processes that divides it")
    if resume and places.init:
        msg = "a run that goes on has its weights"
        raise UsageError(msg, "leave out --init, or start another run with it")
    state = _state_to_resume(run, recipe) if resume else None
    learner = Learner(recipe, crew.device, load_checkpoint(places.init) if places.init else None)
    # Before the photographs are decoded, which takes longer than to find a mistake here.
    validation = Validation(run, recipe.network.scale, places.val) if crew.leads else None
    if not resume and crew.leads:
        run.start()
    photos = _photos(recipe, places, crew, bar)
    start = 0
    if state:
        if state["data"] != photos.digest:
            msg = f"{run.path} was trained on other photographs than {', '.join(map(printable, places.data))} holds"
            raise UsageError(msg, "give the same --data as before, or another --out and --init")
        learner.restore(state)
        start = state["step"]

    def save(step: int) -> None:
        if validation:
            told = {"recipe": as_table(recipe), "step": step, "data": photos.digest, "best": validation.best}
            run.save(step, {**told, **learner.state()}, recipe.keep)
            save_checkpoint(run.weights, recipe.network, learner.ema.average, step)

    if validation:
        validation.hold_out(photos.held_out)
        if state:
            run.rewind(start)
            validation.best = state["best"]
            run.log(start, iterations=settings.iterations, bicubic=validation.bicubic())
        else:
            run.log(0, **_facts(recipe, places, photos), bicubic=validation.bicubic())
        if not state or start == settings.iterations:  # it may have ended between the state and the weights
            save(start)
    source = CropSource(photos.training, recipe.network.scale, recipe.data, recipe.seed)
    losses: list[float] = []
    with (
        _stop_requests() as stopped,
        closing(batches(source, start, settings.iterations, crew.rank, crew.size, workers)) as stream,
        tqdm(total=settings.iterations, initial=start, disable=not (bar and crew.leads), dynamic_ncols=True) as meter,
    ):
        since = time.monotonic()
        for step, (low, high) in enumerate(stream, start):
            rate = settings.rate(step)
            loss, stop = crew.share(learner.weights.values(), learner.differentiate(low, high), bool(stopped))
            if stop:
                save(step)
                return None
            norm = learner.update(step, rate) if math.isfinite(loss) else math.nan
            if not math.isfinite(norm):
                what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
                msg = f"{what} at step {step}, learning rate {rate:.3g}, on {', '.join(source.names(step))}"
                raise LkdnError(msg, "look at these pictures, or lower learning_rate or max_grad_norm in the recipe")
            if not validation:
                continue
            losses.append(loss)
            meter.update()
            done = step + 1
            last = done == settings.iterations
            if last or done % recipe.log_every == 0:
                mean, speed = sum(losses) / len(losses), len(losses) * recipe.data.batch / (time.monotonic() - since)
                run.log(done, loss=_short(mean), lr=_short(rate), grad_norm=_short(norm), images_per_s=_short(speed))
                meter.set_postfix_str(f"loss {mean:.4f}, rate {rate:.2g}, {speed:.0f} images/s")
                losses, since = [], time.monotonic()
            paused = time.monotonic()
            due = last or (recipe.validate_every and done % recipe.validate_every == 0)
            if due and validation.measure(done, learner.averaged()):
                save_checkpoint(run.best, recipe.network, learner.ema.average, done)
            if last or done % recipe.save_every == 0:
                save(done)
            since += time.monotonic() - paused
    return run.weights


def _photos(recipe: Recipe, places: Places, crew: Team, bar: bool) -> Photos:
    """The photographs; the leading process decodes those that are not in the cache, the others wait for it."""
    if not crew.leads:
        crew.wait()
    with tqdm(desc="decoding", unit="photograph", delay=1, leave=False, disable=not (bar and crew.leads)) as meter:

        def progress(done: int, total: int) -> None:
            meter.total = total
            meter.update(done - meter.n)

        scale, settings = recipe.network.scale, recipe.data
        photos = open_photos(places.data, scale, settings, recipe.seed, places.cache, progress=progress)
    if crew.leads:
        crew.wait()
    return photos


def _facts(recipe: Recipe, places: Places, photos: Photos) -> dict[str, Any]:
    """What a model card says of a run; of a photograph used at several sizes, the largest counts."""
    pixels: dict[Path, int] = {}
    for photo in photos.training:
        pixels[photo.path] = max(pixels.get(photo.path, 0), math.prod(photo.high.shape[:2]))
    return {
        "recipe": as_table(recipe),
        "init": printable(places.init or ""),
        "data": {
            "folders": [printable(folder) for folder in places.data],
            "images": len(pixels),
            "megapixels": _short(sum(pixels.values()) / 1e6),
        },
        "tools": {name: version(name) for name in ("lkdn-deploy", "torch")},
    }


def _state_to_resume(run: RunFolder, recipe: Recipe) -> dict[str, Any]:
    state = run.newest()
    total = recipe.optimisation.iterations
    was, now = dict(_leaves(state["recipe"])), dict(_leaves(as_table(recipe)))
    # A running job can be told to end sooner or later.
    for name in [name for name in was | now if name != "optimisation.iterations"]:
        if was.get(name) != now.get(name):
            msg = f"{run.path} was made by another recipe: {name} was {was.get(name)}, and is {now.get(name)}"
            raise UsageError(msg, "only the number of iterations may change; give another --out")
    if state["step"] > total:
        msg = f"{run.path} is already at step {state['step']}, beyond {total} iterations"
        raise UsageError(msg)
    return state


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """The values of nested tables, with their paths."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _short(value: float) -> float:
    return float(f"{value:.5g}")


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    """SIGTERM as Ctrl-C: outside the loop, nothing needs saving, but half-written files must go."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


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

"""Train a network from a recipe: the command is ``lkdn-train``, and ``torchrun`` starts it in several processes::

    torchrun --nproc-per-node N -m lkdn_models.training RECIPE --data DIR -o RUN

The processes share each batch and average their gradients. On a CPU, processes of one thread each are faster than one
process with several threads, and lose far less when other work takes a core.
"""

import math
import signal
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import Any

from torch import Tensor
from tqdm import tqdm

from lkdn_deploy.core.errors import LkdnError, UsageError
from lkdn_deploy.core.files import printable
from lkdn_models.checkpoint import load_checkpoint, save_checkpoint
from lkdn_models.data import CropSettings, CropSource, Photo, Photos, batches, open_photos
from lkdn_models.data.hard_places import read_lags, write_lags
from lkdn_models.training.distillation import Teacher, lag_map
from lkdn_models.training.learner import Learner
from lkdn_models.training.parallel import Team, start_team
from lkdn_models.training.recipe import Optimisation, Recipe, as_table, from_table
from lkdn_models.training.runs import RunFolder
from lkdn_models.training.upsampler import FIT_CROPS
from lkdn_models.training.validation import Validation

REPORT_EVERY, REPORT_AT_LEAST = 5.0, 60.0
"""Seconds between two lines of progress where no bar is drawn: at first, and after twenty minutes."""


class _Pace:
    """The moments at which a line of progress is due: every few seconds at first, then ever more rarely."""

    def __init__(self) -> None:
        self._start = self._last = time.monotonic()

    def due(self) -> bool:
        """Return whether a line is due; it counts as written then."""
        now = time.monotonic()
        if now - self._last < min(max(REPORT_EVERY, (now - self._start) / 20), REPORT_AT_LEAST):
            return False
        self._last = now
        return True


@dataclass(frozen=True, slots=True)
class Places:
    """Folders and files that a run reads and writes.

    Attributes:
        data: folders of photographs, or trees of pairs laid out as DIV2K and Flickr2K.
        out: run folder.
        val: folders of pictures to validate on; empty: the photographs that the recipe holds out.
        graphics: folders of drawings, from which the recipe takes a share of each batch.
        init: weights to start from; None: random ones.
        teacher: weights of the network to learn from, if the recipe asks for one.
        cache: folder for the decoded photographs; None: the user's cache.
    """

    data: Sequence[Path]
    out: Path
    val: Sequence[Path] = ()
    graphics: Sequence[Path] = ()
    init: Path | None = None
    teacher: Path | None = None
    cache: Path | None = None


def train(recipe: Recipe, places: Places, resume: bool = False, workers: int = 0, bar: bool = False) -> Path | None:
    """Start a training run, or resume one; return the weights' path, or None if a signal ended it early.

    A run that is resumed with another number of iterations than it had, where the learning rate falls over a share of
    them, follows another schedule from then on; a warning and the log say so.

    Args:
        recipe: everything that decides the result but for the photographs.
        places: folders and files.
        resume: whether to go on with the run in the run folder.
        workers: number of processes that prepare batches; it does not change the result.
        bar: whether to draw progress bars on stderr.

    Raises:
        InputError: if photographs, weights or the run's state cannot be read, or a result cannot be written.
        UsageError: if the run folder holds a run and ``resume`` is not given, or the other way round, or the run was
            made by another recipe; or if the processes cannot share a batch.
        LkdnError: if the loss is no longer finite, or compiling fails.
    """
    # Outside the loop nothing is saved at a signal, but half-written files are removed.
    with _on_signals(_interrupt, signal.SIGTERM), start_team() as team, closing(RunFolder(places.out)) as run:
        return _train(recipe, places, run, team, resume, workers, bar)


def _train(
    recipe: Recipe, places: Places, run: RunFolder, team: Team, resume: bool, workers: int, bar: bool
) -> Path | None:
    settings = recipe.optimisation
    if recipe.data.batch % team.size:
        msg = f"a batch of {recipe.data.batch} cannot be shared by {team.size} processes"
        raise UsageError(msg, "start a number of processes that divides the batch")
    if resume and places.init:
        msg = "a resumed run starts from its own weights"
        raise UsageError(msg, "leave out --init, or start another run with it")
    for name, wanted, given in (
        ("teacher", recipe.distillation.active, places.teacher),
        ("graphics", recipe.data.graphics > 0, places.graphics),
    ):
        if wanted != bool(given):
            msg = f"the recipe {'asks for' if wanted else 'has no use for'} {name}"
            raise UsageError(msg, f"{'give' if wanted else 'leave out'} --{name}, or change the recipe")
    state = _state_to_resume(run, recipe) if resume else None
    teacher = None
    if places.teacher:
        teacher = Teacher(load_checkpoint(places.teacher), recipe.network, recipe.distillation, team.device)
    init = load_checkpoint(places.init) if places.init else None
    learner = Learner(recipe, team.device, init, teacher)
    # Mistakes here are found before the photographs are decoded, which takes a while.
    validation = Validation(run, recipe.network.scale, places.val) if team.leads else None
    if not resume and team.leads:
        run.start()
    photos = _photos(places.data, recipe, recipe.data, places.cache, team, bar)
    digest = photos.digest
    drawings: Sequence[Photo] = ()
    if places.graphics:  # neither shrunk nor held out
        of_drawings = replace(recipe.data, max_sides=(), held_out=0)
        drawn = _photos(places.graphics, recipe, of_drawings, places.cache, team, bar)
        digest, drawings = digest + drawn.digest, drawn.training
    start = 0
    if state:
        if state["data"] != digest:
            msg = f"{run.path} was trained on other photographs than {', '.join(map(printable, places.data))} holds"
            raise UsageError(msg, "give the same --data as before, or start another run with --output and --init")
        learner.restore(state)
        start = state["step"]

    if init and init.spec.scale != recipe.network.scale:
        # Before the first state is saved, so that a resumed run has it too.
        learner.fit_upsampler(_single_crops(photos.training, recipe, drawings))

    def save(step: int) -> None:
        if validation:
            facts = {"recipe": as_table(recipe), "step": step, "data": digest, "best": validation.best}
            run.save(step, {**facts, **learner.state()}, recipe.keep)
            save_checkpoint(run.weights, recipe.network, learner.ema.average, step)

    if validation:
        validation.hold_out(photos.held_out)
        if state:
            run.rewind(start)
            validation.best = state["best"]
            run.log(start, **_iterations(state, settings), bicubic=validation.bicubic())
        else:
            run.log(0, **_facts(recipe, places, photos), bicubic=validation.bicubic())
        if not state or start == settings.iterations:  # a run may have ended after its state and before its weights
            save(start)
    if recipe.data.hard and teacher and team.leads and not state:
        _compare(learner, teacher, photos.training, run, team, bar)
    team.wait()
    lags = read_lags(run.lags, photos.training) if recipe.data.hard else []
    source = CropSource(photos.training, recipe.network.scale, recipe.data, recipe.seed, drawings, lags)
    losses: list[float] = []
    stops: list[object] = []
    with (
        _on_signals(lambda *signal_and_frame: stops.append(signal_and_frame), signal.SIGINT, signal.SIGTERM),
        closing(batches(source, start, settings.iterations, team.rank, team.size, workers)) as stream,
        tqdm(total=settings.iterations, initial=start, disable=not (bar and team.leads), dynamic_ncols=True) as meter,
    ):
        since, pace = time.monotonic(), _Pace()
        for step, (low, high) in enumerate(stream, start):
            rate = settings.rate(step)
            loss, stop = team.share(learner.weights.values(), learner.differentiate(low, high), bool(stops))
            if stop:
                save(step)
                return None
            norm = learner.update(step, rate) if math.isfinite(loss) else math.nan
            if not math.isfinite(norm):
                what = f"the loss is {loss}" if not math.isfinite(loss) else f"the gradient's norm is {norm}"
                msg = f"{what} at step {step}, learning rate {rate:.3g}, on {', '.join(source.names(step))}"
                raise LkdnError(msg, "check these pictures, or lower learning_rate or max_grad_norm in the recipe")
            if not validation:
                continue
            losses.append(loss)
            meter.update()
            done = step + 1
            last = done == settings.iterations
            if not bar and pace.due():
                line = f"step {done:,} of {settings.iterations:,}: loss {loss:.4f}, rate {rate:.2g}"
                tqdm.write(line, file=sys.stderr)
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


def _photos(
    folders: Sequence[Path], recipe: Recipe, settings: CropSettings, cache: Path | None, team: Team, bar: bool
) -> Photos:
    """Open photographs; the leading process decodes those that are not in the cache, the others wait for it."""
    if not team.leads:
        team.wait()
    pace = _Pace()
    with tqdm(desc="decoding", unit="photograph", delay=1, leave=False, disable=not (bar and team.leads)) as meter:

        def progress(done: int, total: int) -> None:
            meter.total = total
            meter.update(done - meter.n)
            if not bar and team.leads and pace.due():
                tqdm.write(f"decoded {done} of {total} photographs", file=sys.stderr)

        photos = open_photos(folders, recipe.network.scale, settings, recipe.seed, cache, progress=progress)
    if team.leads:
        team.wait()
    return photos


def _single_crops(
    photos: Sequence[Photo], recipe: Recipe, drawings: Sequence[Photo]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield crops to fit an up-sampler to, one at a time: a whole batch may take too much memory."""
    source = CropSource(photos, recipe.network.scale, replace(recipe.data, hard=0.0), recipe.seed, drawings)
    for number in range(FIT_CROPS):
        index, part = divmod(number, recipe.data.batch)
        yield source.batch(index, part, recipe.data.batch)


def _compare(
    learner: Learner, teacher: Teacher, photos: Sequence[Photo], run: RunFolder, team: Team, bar: bool
) -> None:
    """Write how far the first weights are behind the teacher in each photograph."""
    network, pace, lags = learner.averaged(), _Pace(), []
    for photo in tqdm(photos, desc="comparing with the teacher", unit="photograph", leave=False, disable=not bar):
        lags.append(lag_map(photo, network, teacher.output, team.device))
        if not bar and pace.due():
            tqdm.write(f"compared {len(lags)} of {len(photos)} photographs with the teacher's", file=sys.stderr)
    write_lags(run.lags, lags)


def _facts(recipe: Recipe, places: Places, photos: Photos) -> dict[str, Any]:
    """Return a run's facts for its model card; the largest size of each photograph counts."""
    pixels: dict[Path, int] = {}
    for photo in photos.training:
        pixels[photo.path] = max(pixels.get(photo.path, 0), math.prod(photo.high.shape[:2]))
    return {
        "recipe": as_table(recipe),
        "init": printable(places.init or ""),
        "teacher": printable(places.teacher or ""),
        "data": {
            "folders": [printable(folder) for folder in (*places.data, *places.graphics)],
            "images": len(pixels),
            "megapixels": _short(sum(pixels.values()) / 1e6),
        },
        "tools": {name: version(name) for name in ("lkdn-deploy", "torch")},
    }


def _state_to_resume(run: RunFolder, recipe: Recipe) -> dict[str, Any]:
    state = run.newest()
    total = recipe.optimisation.iterations
    try:
        # Settings that are younger than the run had what is now their default.
        before = from_table(state["recipe"])
    except UsageError as error:
        msg = f"{run.path} was made by another recipe, which this version does not know: {error.message}"
        raise UsageError(msg, "start another run with --output; --init takes the weights of this one") from error
    was, now = dict(_leaves(as_table(before))), dict(_leaves(as_table(recipe)))
    # The number of iterations of a run may change.
    for name in [name for name in now if name != "optimisation.iterations"]:
        if was[name] != now[name]:
            msg = f"{run.path} was made by another recipe: {name} was {was[name]}, and is {now[name]}"
            raise UsageError(msg, "only the number of iterations may change; start another run with --output")
    if state["step"] > total:
        msg = f"{run.path} is already at step {state['step']}, beyond {total} iterations"
        raise UsageError(msg)
    if "iterations_before" in (change := _iterations(state, recipe.optimisation)):
        warnings.warn(
            f"{run.path} had {change['iterations_before']} iterations and now has {total}: its learning rate falls "
            f"over the last {recipe.optimisation.tail:.0%} of them, so it follows another schedule than the recipe's "
            f"from step {state['step']} on",
            stacklevel=2,
        )
    return state


def _iterations(state: Mapping[str, Any], settings: Optimisation) -> dict[str, int]:
    """Return the iterations of a resumed run for its log, and those it had if the change moves its schedule."""
    before = state["recipe"]["optimisation"]["iterations"]
    moved = settings.tail > 0 and before != settings.iterations
    return {"iterations": settings.iterations} | ({"iterations_before": before} if moved else {})


def _leaves(table: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the values of nested tables with their paths."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def _short(value: float) -> float:
    return float(f"{value:.5g}")


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


@contextmanager
def _on_signals(handler: Callable[[int, FrameType | None], object], *numbers: signal.Signals) -> Iterator[None]:
    """Handle signals in another way for the time of a block."""
    before = {number: signal.signal(number, handler) for number in numbers}
    try:
        yield
    finally:
        for number, old in before.items():
            signal.signal(number, old)

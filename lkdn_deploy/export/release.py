"""Release a training run: write its weights, their verified artefact and a model card, all three or none.

The card is ``card.md`` filled in; it states only what the run's log holds, and says of the rest that it is unknown.
"""

import hashlib
import json
import math
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from string import Formatter
from typing import Any

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import publish
from lkdn_deploy.core.optional import needs
from lkdn_deploy.core.spec import LkdnSpec, Upsampler
from lkdn_deploy.export.job import ExportReport, ExportSettings, export_onnx, file_name, make_folder

with needs("train"):
    import torch

    from lkdn_models.checkpoint import Checkpoint, load_checkpoint
    from lkdn_models.nets.lkdn import LKDN
    from lkdn_models.training.runs import RunFolder
    from lkdn_models.zoo import all_entries

UNKNOWN = "unknown"
LICENCE_FILES = ("SOURCES.MD", "LICENSE", "LICENCE", "CREDITS", "COPYING", "COPYRIGHT")
"""Beginnings of the names, in capitals, of files that state where photographs come from or under what licence."""

Qualities = Mapping[str, str]
"""PSNR in dB and SSIM on luma, ``31.173 / 0.8800``, by validation set. The run picks its best weights by the first."""


@dataclass(frozen=True, slots=True)
class History:
    """The course of a training run, as far as its log shows it; ``None`` is unknown.

    Attributes:
        recipe: the keys and tables that it was started with.
        planned: number of iterations that it was last given.
        replanned: step and number of iterations before, for each time that another number moved the learning rate's
            schedule.
        tools: versions of the packages that it ran with.
        init: path of the weights that it started from; empty for random ones.
        folders: the folders of photographs, as they were given to it.
        images: number of photographs that it trained on.
        megapixels: of all of them.
        bicubic: what bicubic reaches.
        validations: steps, and what the averaged weights reached there.
    """

    recipe: Mapping[str, Any] | None = None
    planned: int | None = None
    replanned: tuple[tuple[int, int], ...] = ()
    tools: Mapping[str, str] | None = None
    init: str | None = None
    folders: tuple[str, ...] | None = None
    images: int | None = None
    megapixels: float | None = None
    bicubic: Qualities | None = None
    validations: tuple[tuple[int, Qualities], ...] = ()

    def reached(self, step: int | None) -> Qualities:
        """Return what was measured at ``step``; nothing if it was not validated."""
        return next((qualities for at, qualities in self.validations if at == step), {})


@dataclass(frozen=True, slots=True)
class PickedWeights:
    """The weights of a run that are worth publishing.

    Attributes:
        path: their file in the run's folder.
        step: the step that they are from, if known.
        best_on: the validation set on which they did best; ``None`` if they are the newest.
        history: the run.
    """

    path: Path
    step: int | None
    best_on: str | None
    history: History

    def __str__(self) -> str:
        """Return one line for a report."""
        step = "step unknown" if self.step is None else f"step {self.step:,}"
        return f"{self.path}, {step}, {f'the best on {self.best_on}' if self.best_on else 'the newest'}"


@dataclass(frozen=True, slots=True)
class Release:
    """The files that were written, and the report of the export."""

    weights: Path
    artefact: Path
    card: Path
    report: ExportReport


def pick_weights(folder: Path) -> PickedWeights:
    """Return the best weights of a run by its first validation set, or the newest if it was not validated.

    Raises:
        InputError: if ``folder`` is no run folder, or holds no weights yet.
    """
    run = RunFolder(folder)
    history = read_history(run.read_log())
    path = run.best if run.best.exists() else run.weights
    if not path.exists():
        msg = f"{folder} holds no weights yet"
        raise InputError(msg, "a run writes them with its first saved state")
    step = load_checkpoint(path).step
    first_set = next(iter(history.reached(step)), "the first validation set")
    return PickedWeights(path, step, first_set if path == run.best else None, history)


def release(picked: PickedWeights, folder: Path, *, overwrite: bool = False) -> Release:
    """Write ``NAME_xS.safetensors``, ``.onnx`` and ``.md`` into a folder.

    Args:
        picked: the weights of a run.
        folder: the folder to write to; it is created if it does not exist.
        overwrite: whether existing files may be replaced.

    Raises:
        VerificationError: if the artefact does not compute what the weights do; nothing is written.
        UsageError: if a file exists and must not be replaced, or is a folder.
        InputError: if the weights cannot be read, or a file cannot be written.
        MissingError: if a package is missing.
    """
    checkpoint, data = _read(picked.path)
    settings = ExportSettings()
    artefact = folder / file_name(checkpoint, settings)
    weights, page = artefact.with_suffix(".safetensors"), artefact.with_suffix(".md")
    make_folder(folder)
    for path in (weights, artefact, page):
        if path.is_dir():
            msg = f"{path} is a folder"
            raise UsageError(msg, "give another folder with -o")
        if path.exists() and not overwrite:
            msg = f"{path} already exists"
            raise UsageError(msg, "choose another folder, or allow overwriting with --overwrite")
    with publish(weights) as weights_part, publish(artefact) as artefact_part, publish(page) as page_part:
        weights_part.write_bytes(data)
        report = export_onnx(checkpoint, artefact_part, settings)
        difference = max(comparison.max_abs for comparison in report.comparisons)
        text = card(picked, checkpoint, difference, report.metadata.tools)
        page_part.write_text(text, encoding="utf-8")
    return Release(weights, artefact, page, replace(report, path=artefact))


def _read(path: Path) -> tuple[Checkpoint, bytes]:
    """Return the weights, and the bytes of the file that they were read from."""
    checkpoint = load_checkpoint(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise InputError(msg) from error
    if hashlib.sha256(data).hexdigest() != checkpoint.sha256:
        msg = f"{path} was replaced while it was read"
        raise InputError(msg, "the run is going on; try again")
    return checkpoint, data


def _parameters(spec: LkdnSpec) -> int:
    with torch.device("meta"):
        return sum(value.numel() for value in LKDN(spec).parameters())


def read_history(log: Sequence[Mapping[str, Any]]) -> History:
    """Return what the entries of a log show, as ``RunFolder.read_log`` gives them.

    Values that are not as a training run writes them count as unknown.
    """
    start = next((entry for entry in log if isinstance(entry.get("recipe"), Mapping)), {})
    data, recipe = _inner(start, "data"), start.get("recipe")
    settings = _inner(recipe or {}, "optimisation")
    # A run that is continued can be given another number.
    planned = [entry["iterations"] for entry in (settings, *log) if "iterations" in entry]
    folders = _only(list, data.get("folders"))
    return History(
        recipe=recipe,
        planned=_only(int, planned[-1]) if planned else None,
        replanned=tuple(
            (e["step"], e["iterations_before"]) for e in log if isinstance(e.get("iterations_before"), int)
        ),
        tools=_only(Mapping, start.get("tools")),
        init=_only(str, start.get("init")),
        folders=None if folders is None else tuple(map(str, folders)),
        images=_only(int, data.get("images")),
        megapixels=_only((int, float), data.get("megapixels")),
        bicubic={name: figures for entry in log for name, figures in _qualities(entry, "bicubic").items()} or None,
        validations=tuple((entry["step"], found) for entry in log if (found := _qualities(entry, "validation"))),
    )


def _qualities(entry: Mapping[str, Any], name: str) -> dict[str, str]:
    found = {}
    for dataset, row in _inner(entry, name).items():
        match row:
            case {"psnr_y": int() | float() as psnr, "ssim_y": int() | float() as ssim} if math.isfinite(psnr):
                found[str(dataset)] = f"{psnr:.3f} / {ssim:.4f}"
            case {"psnr_y": int() | float() as psnr} if math.isfinite(psnr):
                found[str(dataset)] = f"{psnr:.3f}"
    return found


def _only(kind: type[Any] | tuple[type[Any], ...], value: Any) -> Any:
    return value if isinstance(value, kind) else None


def _inner(table: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = table.get(name)
    return value if isinstance(value, Mapping) else {}


def find_licence_files(folders: Iterable[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return files in folders that may state licences, and the folders that cannot be read, as a card may name them."""
    files, absent = [], []
    for name in folders:
        try:
            found = sorted(path.name for path in Path(name).iterdir() if path.name.upper().startswith(LICENCE_FILES))
        except OSError:
            absent.append(public_path(name))
        else:
            files += [f"{public_path(name)}/{file}" for file in found]
    return tuple(files), tuple(absent)


def public_path(path: str) -> str:
    """Return a path as a card may name it: only the end of an absolute one, which names a machine and its users."""
    whole = Path(path)
    return "/".join(whole.parts[1:][-2:]) or "/" if whole.is_absolute() else whole.as_posix()


def card(picked: PickedWeights, checkpoint: Checkpoint, difference: float, tools: Mapping[str, str]) -> str:
    """Return the model card, in Markdown.

    Args:
        picked: the weights and the history of a training run.
        checkpoint: the same weights, loaded.
        difference: largest difference of the artefact's results from the weights' in PyTorch, on 0..1.
        tools: versions of the packages that made the files.
    """
    name, spec, history = checkpoint.name, checkpoint.spec, picked.history
    fused, branched = _parameters(spec.deployed), _parameters(spec)  # with all input copies, as papers count them
    recipe, init, folders = history.recipe or {}, history.init, history.folders
    settings, reached, bicubic = _inner(recipe, "optimisation"), history.reached(picked.step), history.bicubic or {}
    rows = [(dataset, figures, bicubic.get(dataset, UNKNOWN)) for dataset, figures in reached.items()]
    files, absent = find_licence_files(folders or ())
    start = "" if init == "" else _codes([public_path(init)]) if init else None
    fields = {
        "name": name,
        "paper": next((entry.network.paper for entry in all_entries() if entry.name == name), ""),
        "sha256": checkpoint.sha256,
        "step": picked.step,
        "spec": spec,
        "history": history,
        "data": _inner(recipe, "data"),
        "settings": settings,
        "seed": recipe.get("seed"),
        "stem": f"{name}_x{spec.scale}",
        "blocks": f"{spec.blocks} block{'' if spec.blocks == 1 else 's'}",
        "upsampler": "re-parameterised" if spec.upsampler is Upsampler.REP else "plain",
        "size": f"It has {fused:,} parameters fused, {branched:,} in training form."
        if branched != fused
        else f"It has {fused:,} parameters, and no branches to fuse.",
        "form": "" if spec.fused else "fused, ",
        "difference": f"{difference:.1e}",
        "trained_with": _versions(history.tools),
        "exported_with": _versions(tools),
        "quality": _table(("set", "this model", "bicubic"), *rows) if rows else "",
        "held_out": "held-out" in reached,
        "picked": picked.best_on and len(history.validations) > 1 and reached,
        "validations": len(history.validations),
        "first_set": next(iter(reached), ""),
        "folders": None if folders is None else _codes(map(public_path, folders)),
        "rate": _rate(settings)
        + "".join(
            f"; until step {_known(step)} the run was planned for {_known(before)} steps, which moved the fall"
            for step, before in history.replanned
        ),
        "started_from": "random weights" if start == "" else start,
        "recipe": as_toml(recipe),
        "weights_too": " and of the weights that it may have started from"
        if start is None
        else start and f" and of the weights that it started from ({start})",
        "licence_files": _codes(files),
        "no_licence_files": folders and not files and not absent,
        "absent_folders": _codes(absent),
    }
    return _fill(Path(__file__).with_name("card.md").read_text(encoding="utf-8"), fields)


class _Formatter(Formatter):
    """Formats values for people to read, and missing ones as unknown; ``{name:upper}`` applies a method of strings."""

    def get_field(self, field_name: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
        try:
            return super().get_field(field_name, args, kwargs)
        except KeyError:
            return None, field_name

    def format_field(self, value: Any, format_spec: str) -> str:
        text = _known(value)
        return str(getattr(text, format_spec)()) if format_spec and value is not None else text


def _fill(template: str, fields: Mapping[str, Any]) -> str:
    """Replace ``{name}`` by fields, wrap prose, and keep paragraphs marked ``[name]`` if the field is true."""
    paragraphs, formatter = [], _Formatter()
    for paragraph in template.strip().split("\n\n"):
        if marked := re.match(r"\[(not )?([\w.]+)\] ", paragraph):
            if bool(formatter.get_field(marked[2], (), fields)[0]) == bool(marked[1]):
                continue
            paragraph = paragraph[marked.end() :]
        text = formatter.vformat(paragraph, (), fields)
        if text[0] not in "#|-`" or "\n" not in text:
            text = textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)
        paragraphs.append(text)
    return "\n\n".join(paragraphs) + "\n"


def _rate(settings: Mapping[str, Any]) -> str:
    """Return ``0.005, growing to it over the first 100 steps, falling to zero ...``."""
    parts = [_known(settings.get("learning_rate"))]
    if warm_up := settings.get("warm_up"):
        parts.append(f"growing to it over the first {_known(warm_up)} steps")
    if milestones := settings.get("milestones"):
        parts.append(f"times {_known(settings.get('factor'))} from each of these steps on: {_known(milestones)}")
    if tail := settings.get("tail"):
        share = f"{100 * tail:g} % of the" if isinstance(tail, (int, float)) else UNKNOWN
        parts.append(f"falling to zero along a cosine over the last {share} steps")
    return ", ".join(parts if len(parts) > 1 or not settings else [*parts, "constant"])


def as_toml(table: Mapping[str, Any]) -> str:
    """Return a recipe's keys and then its tables as TOML, without values that are None, which TOML cannot express."""
    keys = {name: value for name, value in table.items() if not isinstance(value, Mapping) and value is not None}
    tables = {name: value for name, value in table.items() if isinstance(value, Mapping)}
    return "".join(
        [f"{name} = {_toml(value)}\n" for name, value in keys.items()]
        + [f"\n[{name}]\n{as_toml(value)}" for name, value in tables.items()]
    )


def _toml(value: Any) -> str:
    if isinstance(value, float):
        return repr(value)  # JSON writes Infinity where TOML has inf
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value, ensure_ascii=False)


def _known(value: Any) -> str:
    """Return a value for people to read, or that it is unknown."""
    if value is None:
        return UNKNOWN
    if isinstance(value, (list, tuple)):
        return ", ".join(map(_known, value))
    if isinstance(value, float):
        return f"{value:,.10g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _versions(tools: Mapping[str, str] | None) -> str:
    return ", ".join(f"{tool} {version}" for tool, version in tools.items()) if tools else "unknown tools"


def _codes(names: Iterable[str]) -> str:
    return ", ".join(f"`{name.replace('`', '?')}`" for name in names)


def _table(head: Sequence[str], *rows: Sequence[str]) -> str:
    lines = ("| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |" for row in (head, *rows))
    return "\n".join([next(lines), "| --- " * len(head) + "|", *lines])

"""A training run -> what is published of it: weights, verified artefact and model card, all three or none."""

import hashlib
from dataclasses import dataclass, replace
from pathlib import Path

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import publish
from lkdn_deploy.core.optional import needs
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.export.card import CardFacts, card
from lkdn_deploy.export.history import History, find_terms, read_history
from lkdn_deploy.export.job import ExportReport, ExportSettings, export_onnx, file_name

with needs("train"):
    import torch

    from lkdn_models.checkpoint import Checkpoint, load_checkpoint
    from lkdn_models.nets.lkdn import LKDN
    from lkdn_models.training.runs import RunFolder
    from lkdn_models.zoo import all_entries


@dataclass(frozen=True, slots=True)
class Picked:
    """The weights of a run that are worth publishing.

    Attributes:
        path: of the file in the run folder.
        step: that they are from; None: not known.
        best_on: the validation set that they did best on; None: they are the newest.
        history: of the run.
    """

    path: Path
    step: int | None
    best_on: str | None
    history: History

    def __str__(self) -> str:
        """One line for a report."""
        step = "step unknown" if self.step is None else f"step {self.step:,}"
        return f"{self.path}, {step}, {f'the best on {self.best_on}' if self.best_on else 'the newest'}"


@dataclass(frozen=True, slots=True)
class Release:
    """What was written."""

    weights: Path
    artefact: Path
    card: Path
    report: ExportReport


def pick_weights(folder: Path) -> Picked:
    """The best weights of a run by its first validation set, or the newest if it was not validated.

    Raises:
        InputError: if it is no run folder, or no weights are in it yet.
    """
    run = RunFolder(folder)
    history = read_history(run.read_log())
    path = run.best if run.best.exists() else run.weights
    if not path.exists():
        msg = f"{folder} holds no weights yet"
        raise InputError(msg, "a run writes them with its first saved state")
    step = load_checkpoint(path).step
    measured = list(history.reached(step) or {})
    return Picked(path, step, (measured or ["the first validation set"])[0] if path == run.best else None, history)


def release(picked: Picked, folder: Path, *, overwrite: bool = False) -> Release:
    """Write ``NAME_xS.safetensors``, ``.onnx`` and ``.md`` into a folder.

    Args:
        picked: weights of a run.
        folder: folder to write to; it is created if it does not exist.
        overwrite: whether existing files may be replaced.

    Raises:
        UsageError: if a file exists and must not be replaced.
        VerificationError: if the artefact does not compute what the weights do; nothing is written.
        InputError: if the weights cannot be read, or a file cannot be written.
        MissingError: if a package is missing.
    """
    checkpoint, data = _read(picked.path)
    settings = ExportSettings()
    artefact = folder / file_name(checkpoint, settings)
    weights, text = artefact.with_suffix(".safetensors"), artefact.with_suffix(".md")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{folder} cannot be made: {error.strerror}"
        raise InputError(msg) from error
    for path in (weights, artefact, text):
        if path.is_dir():
            msg = f"{path} is a folder"
            raise UsageError(msg, "give another folder with -o")
        if path.exists() and not overwrite:
            msg = f"{path} already exists"
            raise UsageError(msg, "choose another folder, or allow overwriting with --overwrite")
    with publish(weights) as weights_part, publish(artefact) as artefact_part, publish(text) as text_part:
        weights_part.write_bytes(data)
        report = export_onnx(checkpoint, artefact_part, settings)
        text_part.write_text(card(_facts(picked, checkpoint, report)), encoding="utf-8")
    return Release(weights, artefact, text, replace(report, path=artefact))


def _read(path: Path) -> tuple[Checkpoint, bytes]:
    """The weights, and the file that they were read from."""
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


def _facts(picked: Picked, checkpoint: Checkpoint, report: ExportReport) -> CardFacts:
    spec, name = checkpoint.spec, checkpoint.name
    return CardFacts(
        name=name,
        spec=spec,
        parameters=(_parameters(spec.deployed), _parameters(spec)),
        paper=next((entry.network.paper for entry in all_entries() if entry.name == name), ""),
        sha256=checkpoint.sha256,
        step=picked.step,
        picked=picked.best_on is not None,
        difference=max(comparison.max_abs for comparison in report.comparisons),
        tools=report.metadata.tools,
        history=picked.history,
        terms=find_terms(picked.history),
    )


def _parameters(spec: LkdnSpec) -> int:
    with torch.device("meta"):
        return sum(value.numel() for value in LKDN(spec).parameters())

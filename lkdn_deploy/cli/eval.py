"""``lkdn-eval --data DIR``."""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import astuple, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lkdn_deploy import __version__
from lkdn_deploy.bench.opening import BICUBIC, ENGINES, PRECISIONS, choose_models, open_engine
from lkdn_deploy.cli._progress import progress_bar
from lkdn_deploy.cli._shell import PATH, complain, converting, run, weights_option
from lkdn_deploy.core.errors import ExitCode, InputError, UsageError
from lkdn_deploy.core.files import printable, publish

if TYPE_CHECKING:
    from lkdn_deploy.bench.quality.evaluation import Results, Subject
    from lkdn_deploy.bench.quality.gallery import Gallery
    from lkdn_deploy.imaging.testsets import TestSet

    Sets = Mapping[int, Sequence[TestSet]]


GRAPHICS = "graphics"
"""The value of ``--data`` for the built-in drawings."""


@click.command(context_settings={"max_content_width": 100})
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="Network of `lkdn-zoo list`, an .onnx file of lkdn-export, or bicubic; repeatable.  [default: lkdn-s]",
)
@click.option(
    "--scale",
    "scales",
    multiple=True,
    type=click.IntRange(2, 4),
    help="Scale of the models; repeatable.  [default: 4, or that of the file]",
)
@weights_option
@click.option(
    "--backend", type=click.Choice(ENGINES), default="auto", show_default=True, help="Engine that runs the models."
)
@click.option(
    "--precision",
    type=click.Choice(PRECISIONS),
    default="fp32",
    show_default=True,
    help="Precision of the arithmetic; int16 is fixed point on the native engine.",
)
@click.option(
    "--data",
    multiple=True,
    required=True,
    type=PATH,
    metavar="DIR",
    help="Test set, folder of test sets or of pictures, or `graphics`, the built-in drawings; repeatable.",
)
@click.option(
    "--tile", type=click.IntRange(1), metavar="N", help="Side of a tile in LR pixels.  [default: as memory allows]"
)
@click.option("--threads", type=click.IntRange(1, 256), metavar="N", help="CPU threads.  [default: all cores]")
@click.option(
    "--self-ensemble", "ensemble", is_flag=True, help="Mean over all 8 flips and rotations: 8 times the work."
)
@click.option(
    "--border",
    type=click.IntRange(0),
    metavar="N",
    help="Pixels cropped from each side before comparing.  [default: the scale on Y, 4 on RGB]",
)
@click.option("--make-lr", is_flag=True, help="Make low-resolution pictures even if the set has them.")
@click.option("--json", "json_file", type=PATH, metavar="FILE", help="Write all results as JSON.")
@click.option("--csv", "csv_file", type=PATH, metavar="FILE", help="Write a line per picture as CSV.")
@click.option(
    "-o",
    "--output",
    type=PATH,
    metavar="DIR",
    help="Save DIR/MODEL_xS/SET/IMAGE.png, and IMAGE_diff.png with 4 times the luma difference.",
)
@click.option(
    "--crop",
    "crops",
    multiple=True,
    metavar="IMG:X,Y,W,H",
    help="Draw this part of picture IMG or SET/IMG for every model, into --output or the current folder; repeatable.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.version_option(__version__, prog_name="lkdn-eval")
@click.pass_context
def command(
    context: click.Context,
    models: tuple[str, ...],
    scales: tuple[int, ...],
    weights: tuple[Path, ...],
    backend: str,
    precision: str,
    data: tuple[Path, ...],
    tile: int | None,
    threads: int | None,
    ensemble: bool,
    border: int | None,
    make_lr: bool,
    json_file: Path | None,
    csv_file: Path | None,
    output: Path | None,
    crops: tuple[str, ...],
    overwrite: bool,
) -> None:
    """Measure PSNR and SSIM of models, as an engine runs them, on the test sets in --data.

    Both are measured on luma with a border as wide as the scale, as in the papers, and on RGB with a border of 4, as at
    NTIRE. Each model is measured at each scale. Low-resolution pictures are those of the test set; if it has none, they
    are made by MATLAB's bicubic.

    `--data graphics` measures on built-in drawings of letters, single pixels, stripes and flat colours how far the
    result, averaged down again, is from the input, in levels of 0 to 255.
    """
    from lkdn_deploy.bench.quality.crops import Crop
    from lkdn_deploy.bench.quality.evaluation import Borders, Results, bicubic, of_session, to_csv, to_json
    from lkdn_deploy.bench.quality.gallery import Gallery
    from lkdn_deploy.bench.quality.graphics import measure_graphics
    from lkdn_deploy.imaging.testsets import find_all
    from lkdn_deploy.runtime.bundled import DEFAULT_MODEL

    _check_places([path for path in (json_file, csv_file) if path], overwrite)
    details = [Crop.parse(text) for text in crops]
    chosen = choose_models(models or ([] if weights else [DEFAULT_MODEL]), scales, weights)
    folders = [path for path in data if str(path) != GRAPHICS or path.is_dir()]
    sets_at = cache(lambda scale: find_all(folders, scale, make_lr))
    for one in chosen:  # report missing test sets before converting a checkpoint
        if one.scale and one.file is None:
            sets_at(one.scale)
    subjects: list[Subject] = []
    for one in chosen:
        if one.model == BICUBIC and one.scale:
            subject = bicubic(one.scale)
        else:
            session = open_engine(one, backend, precision, threads, converting)
            found, file = session.metadata, one.file
            name = found.model if file is None else printable(file.stem).removesuffix(f"_x{found.scale}")
            subject = of_session(name, session, tile=tile, self_ensemble=ensemble)
        number, name = 1, subject.name
        while subject.title in {other.title for other in subjects}:  # number those of the same name and scale
            number += 1
            subject = replace(subject, name=f"{name}-{number}")
        subjects.append(subject)
    sets = {subject.scale: sets_at(subject.scale) for subject in subjects}
    gallery = Gallery(sets, subjects, details, save=output, overwrite=overwrite)
    for note in _notes(subjects, sets):
        click.echo(f"note: {note}", err=True)
    results = [Results(subject, Borders.of(subject.scale, border), []) for subject in subjects]
    whole = False
    try:
        _measure(results, sets, gallery)
        for result in results if len(folders) < len(data) else ():
            result.graphics.update(measure_graphics(result.subject.pixels))
        whole = True
    finally:  # keep what was measured, whatever happened
        others = ("json_file", "csv_file", "output", "crops", "overwrite")
        settings = {name: value for name, value in context.params.items() if name not in others}
        _write(json_file, json.dumps(to_json(results, settings, interrupted=not whole), indent=1, default=str) + "\n")
        _write(csv_file, to_csv(results))
        if folders:  # printed last, since the reader of a pipe may close it
            _print(results, border)
        if any(result.graphics for result in results):
            _print_graphics(results)
        failed = _complain_of_failed(results)
        if not whole:
            click.echo("note: stopped before the end; the figures are from the pictures until then", err=True)
    for path in gallery.draw():
        click.echo(f"drawn: {path}", err=True)
    if failed:
        raise click.exceptions.Exit(ExitCode.INPUT_FAILED)


def _notes(subjects: Sequence["Subject"], sets: "Sets") -> list[str]:
    """Return what a reader must know about the figures."""
    from lkdn_models.zoo import entries, names

    notes = []
    for scale, found in sorted(sets.items()):
        for one in found:
            low = one.pictures[0].low
            made = "made from the originals by MATLAB's bicubic" if low is None else f"those in {low.parent}"
            notes.append(f"{one.name} x{scale}: {len(one.pictures)} pictures, low-resolution ones {made}")
    known = set(names())
    for subject in subjects:
        model = subject.metadata and subject.metadata.model
        if model in known and next(entries(model)).input.luma_only:
            why = "its papers measure on rounded luma, so their figures differ"
            notes.append(f"{subject.name} processes luma only; {why}")
    return list(dict.fromkeys(notes))


def _measure(results: Sequence["Results"], sets: "Sets", gallery: "Gallery") -> None:
    """Evaluate each subject, and append its records to its results."""
    from lkdn_deploy.bench.quality.evaluation import evaluate

    pairs = [(result, one) for result in results for one in sets[result.subject.scale]]
    total, done = sum(len(one.pictures) for _, one in pairs), 0
    with progress_bar("measuring") as progress:
        for result, one in pairs:
            for record in evaluate(result.subject, one, result.borders, seen=gallery.watch(result.subject, one)):
                result.records.append(record)
                done += 1
                if progress:
                    progress(done, total)


def _print(results: Sequence["Results"], border: int | None) -> None:
    """Print the table, at most 80 columns wide."""
    from lkdn_deploy.bench.report.table_layout import Column, Table, aligned

    lines = [
        (f"{_short(each.subject.name, 20)} x{each.subject.scale}", one) for each in results for one in each.averages
    ]
    room = 34 - max((len(model) for model, _ in lines), default=0)  # what the figures leave for the set
    rows = []
    for model, one in lines:
        images = f"{one.images}/{one.images + one.failed}" if one.failed else str(one.images)
        scores = "{:.3f} {:.4f} {:.3f} {:.4f}".format(*astuple(one.scores)) if one.scores else "- - - -"
        rows.append((model, _short(one.test_set, room), images, *scores.split()))
    names = Column("model", name=True), Column("set", name=True)
    figures = map(Column, ("images", "PSNR-Y", "SSIM-Y", "PSNR-RGB", "SSIM-RGB"))
    where = "as wide as the scale on Y (papers), 4 on RGB (NTIRE)" if border is None else f"{border} on Y and RGB"
    click.echo(f"PSNR in dB; border {where}")
    for line in aligned(Table("", (*names, *figures), tuple(rows))):
        click.echo(line)


def _print_graphics(results: Sequence["Results"]) -> None:
    """Print the errors on the built-in drawings, a row for each drawing and a column for each subject."""
    titles = [_short(result.subject.title, 12) for result in results]
    click.echo("graphics: mean error in levels of the averaged result; of flat pictures, the largest error of a value")
    click.echo(f"{'picture':<28}" + "".join(f" {title:>12}" for title in titles))
    for name in results[0].graphics:
        click.echo(f"{name:<28}" + "".join(f" {result.graphics[name]:>12.1f}" for result in results))


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 2]}.."


def _complain_of_failed(results: Sequence["Results"]) -> bool:
    """Report each failure once, and return whether there was any."""
    failed = [record for result in results for record in result.records if record.error]
    messages = [(f"{each.test_set}/{each.image}: {each.error}", each.hint or None) for each in failed]
    for message, hint in dict.fromkeys(messages):
        complain(InputError(message, hint))
    for name in dict.fromkeys(record.test_set for record in failed):
        click.echo(f"note: averages of {name} are over the other pictures", err=True)
    return bool(failed)


def _check_places(paths: Sequence[Path], overwrite: bool) -> None:
    """Check before any work that the files can be written after it."""
    if len(set(paths)) < len(paths):
        msg = f"{paths[0]} was given for both --json and --csv"
        raise UsageError(msg, "give each its own file")
    for path in paths:
        if path.is_dir() or not path.parent.is_dir():
            wrong = "is a folder" if path.is_dir() else f"cannot be written: there is no folder {path.parent}"
            msg = f"{path} {wrong}"
            raise UsageError(msg, "give the name of a file in a folder that exists")
        if path.exists() and not overwrite:
            msg = f"{path} exists"
            raise UsageError(msg, "choose another name, or replace the file with --overwrite")
        try:
            with tempfile.TemporaryFile(dir=path.parent):  # permission bits do not show read-only file systems
                pass
        except OSError as error:
            msg = f"{path} cannot be written: {error.strerror or error}"
            raise InputError(msg) from error


def _write(path: Path | None, text: str) -> None:
    if path is not None:
        with publish(path) as part:
            part.write_text(text, encoding="utf-8", newline="")


def main() -> None:
    """Entry point."""
    sys.exit(run(command))

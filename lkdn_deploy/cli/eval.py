"""``lkdn-eval --data DIR``."""

import json
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from lkdn_deploy import __version__
from lkdn_deploy.bench.engines import ENGINES, PRECISIONS, open_engine
from lkdn_deploy.cli._shell import complain, converting, progress_bar, run
from lkdn_deploy.core.errors import ExitCode, InputError, UsageError
from lkdn_deploy.core.files import printable, publish

if TYPE_CHECKING:
    from lkdn_deploy.bench.quality.evaluation import Average, Borders, Record, Results, Subject
    from lkdn_deploy.bench.quality.gallery import Gallery
    from lkdn_deploy.imaging.testsets import TestSet

    Sets = Mapping[int, Sequence[TestSet]]


GRAPHICS = "graphics"
"""What ``--data`` calls the pictures that come with the program."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A model as the user named it; without a scale, its file tells that."""

    model: str | None
    scale: int | None
    weights: Path | None = None

    @property
    def file(self) -> Path | None:
        """Where the model is a file."""
        named = self.model is not None and self.model.lower().endswith(".onnx")
        return Path(self.model or "") if named else self.weights


@click.command(context_settings={"max_content_width": 100})
@click.option(
    "--model",
    "models",
    multiple=True,
    metavar="NAME",
    help="A network of `lkdn-zoo list`, an .onnx file of lkdn-export, or bicubic.  [default: lkdn-s]",
)
@click.option(
    "--scale", "scales", multiple=True, type=click.IntRange(2, 4), help="Of each --model.  [default: 4, or the file's]"
)
@click.option(
    "--weights",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A checkpoint (.pth, .safetensors) beside the --model's. It tells its network and scale.",
)
@click.option("--backend", type=click.Choice(ENGINES), default="auto", show_default=True, help="What runs them.")
@click.option(
    "--precision", type=click.Choice(PRECISIONS), default="fp32", show_default=True, help="Of the arithmetic."
)
@click.option(
    "--data",
    multiple=True,
    required=True,
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="A test set, a folder of test sets, a folder of pictures, or `graphics`: letters, pixels and flat colours.",
)
@click.option(
    "--tile", type=click.IntRange(1), metavar="N", help="Tiles of N pixels a side.  [default: as memory allows]"
)
@click.option("--threads", type=click.IntRange(1, 256), metavar="N", help="CPU threads.  [default: all cores]")
@click.option("--ensemble", is_flag=True, help="Mean of the 8 flips and transposes, as EDSR's; not of bicubic.")
@click.option(
    "--border", type=click.IntRange(0), metavar="N", help="Left out of every side.  [default: the scale on Y, 4 on RGB]"
)
@click.option("--make-lr", is_flag=True, help="Make the low-resolution pictures even where they are given.")
@click.option("--json", "json_file", type=click.Path(path_type=Path), metavar="FILE", help="Write all figures there.")
@click.option("--csv", "csv_file", type=click.Path(path_type=Path), metavar="FILE", help="A line a picture and a set.")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    metavar="DIR",
    help="Write DIR/MODEL_xS/SET/IMAGE.png, and IMAGE_diff.png: 4 times the difference of luma.",
)
@click.option(
    "--crop",
    "crops",
    multiple=True,
    metavar="IMG:X,Y,W,H",
    help="Draw this part of the picture IMG, or SET/IMG, as every model makes it, into --save or here.",
)
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.version_option(__version__, prog_name="lkdn-eval")
def command(
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
    save: Path | None,
    crops: tuple[str, ...],
    overwrite: bool,
) -> None:
    """PSNR and SSIM of models, as an engine runs them, on the test sets in --data.

    On luma with a border as wide as the scale, as in the papers, and on RGB with a border of 4, as at NTIRE. Each model
    at each scale. Low-resolution pictures are those of the set, or made by MATLAB's bicubic where it has none.

    `--data graphics` measures on pictures that come with the program, of letters, single pixels, stripes and flat
    colours: how far the result, averaged down again, is from the input, in levels of 0 to 255.
    """
    from lkdn_deploy.bench.quality.crops import Crop
    from lkdn_deploy.bench.quality.evaluation import Borders, Results, to_csv, to_json
    from lkdn_deploy.bench.quality.gallery import Gallery
    from lkdn_deploy.bench.quality.graphics import measure_graphics

    _check_places([path for path in (json_file, csv_file) if path is not None], overwrite)
    details = [Crop.parse(text) for text in crops]
    asked = _asked(models, scales, weights)
    folders = [path for path in data if not _built_in(path)]
    sets: dict[int, list[TestSet]] = {}
    for one in asked:  # what is known to be missing is said before a checkpoint is converted
        if one.scale and one.file is None:
            sets[one.scale] = sets.get(one.scale) or _find_sets(folders, one.scale, make_lr)
    subjects = _told_apart(
        [_open(one, backend, precision, threads=threads, tile=tile, ensemble=ensemble) for one in asked]
    )
    for subject in subjects:
        sets[subject.scale] = sets.get(subject.scale) or _find_sets(folders, subject.scale, make_lr)
    gallery = Gallery(sets, subjects, details, save=save, overwrite=overwrite)
    for note in _notes(subjects, sets):
        click.echo(f"note: {note}", err=True)
    borders = [Borders.of(subject.scale, border) for subject in subjects]
    measured: list[list[Record]] = [[] for _ in subjects]
    graphics: list[dict[str, float]] = [{} for _ in subjects]
    whole = False
    try:
        _measure(subjects, sets, borders, gallery, measured)
        if len(folders) < len(data):
            graphics = [measure_graphics(subject.upscale) for subject in subjects]
        whole = True
    finally:  # what was measured is worth keeping, whatever happened
        results = [
            Results(subject, width, tuple(records), drawn)
            for subject, width, records, drawn in zip(subjects, borders, measured, graphics, strict=True)
        ]
        settings = {
            "models": models,
            "scales": scales,
            "weights": [str(path) for path in weights],
            "backend": backend,
            "precision": precision,
            "data": [str(path) for path in data],
            "tile": tile,
            "threads": threads,
            "ensemble": ensemble,
            "border": border,
            "make_lr": make_lr,
        }
        _write(json_file, json.dumps(to_json(results, settings, interrupted=not whole), indent=1) + "\n")
        _write(csv_file, to_csv(results))
        if folders:
            _print(results, border)  # last: whoever reads it may have seen enough, and end it
        if any(graphics):
            _print_graphics(results)
        failed = _complain_of_failed(results)
        if not whole:
            click.echo("note: stopped before the end; the figures are of the pictures until then", err=True)
    for path in gallery.draw():
        click.echo(f"drawn: {path}", err=True)
    if failed:
        raise click.exceptions.Exit(ExitCode.INPUT_FAILED)


def _built_in(path: Path) -> bool:
    """Whether ``--data`` names the pictures that come with the program; a folder of that name goes before them."""
    return str(path) == GRAPHICS and not path.is_dir()


def _find_sets(folders: Sequence[Path], scale: int, make_lr: bool) -> list["TestSet"]:
    from lkdn_deploy.imaging.testsets import find_all

    return find_all(folders, scale, make_lr)


def _asked(models: Sequence[str], scales: Sequence[int], weights: Sequence[Path]) -> list[Asked]:
    """Every model at every scale, then the weights, each once."""
    from lkdn_deploy.runtime.bundled import DEFAULT_MODEL, DEFAULT_SCALE

    if scales and weights and not models:
        msg = "--scale is for --model, and only --weights are given"
        raise UsageError(msg, "leave out --scale: the weights tell it")
    if not models and not weights:
        models = [DEFAULT_MODEL]
    asked = []
    for model in models:
        default = None if model.lower().endswith(".onnx") else DEFAULT_SCALE
        asked += [Asked(model, scale) for scale in scales or (default,)]
    asked += [Asked(None, None, path) for path in weights]
    return list(dict.fromkeys(asked))


def _open(
    asked: Asked, backend: str, precision: str, *, threads: int | None, tile: int | None, ensemble: bool
) -> "Subject":
    from lkdn_deploy.bench.quality.evaluation import BICUBIC, bicubic, of_session

    if asked.model == BICUBIC and asked.scale:
        return bicubic(asked.scale)
    session = open_engine(asked.model, asked.scale, asked.weights, backend, precision, threads, converting)
    return of_session(_name(asked, session.metadata.scale), session, tile=tile, self_ensemble=ensemble)


def _name(asked: Asked, scale: int) -> str:
    """What to call it: the network's name as given, else the file's."""
    return asked.model or "" if asked.file is None else printable(asked.file.stem).removesuffix(f"_x{scale}")


def _told_apart(subjects: Sequence["Subject"]) -> list["Subject"]:
    """With a number after the name of the second of one name and scale, and so on."""
    taken: set[str] = set()
    result = []
    for subject in subjects:
        one, number = subject, 1
        while one.title in taken:
            number += 1
            one = replace(subject, name=f"{subject.name}-{number}")
        taken.add(one.title)
        result.append(one)
    return result


def _notes(subjects: Sequence["Subject"], sets: "Sets") -> list[str]:
    """What to know of the figures to come."""
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
            notes.append(
                f"{subject.name} knows luma only: its papers measure on luma that is rounded, and differ from this"
            )
    return list(dict.fromkeys(notes))


def _measure(
    subjects: Sequence["Subject"],
    sets: "Sets",
    borders: Sequence["Borders"],
    gallery: "Gallery",
    measured: Sequence[list["Record"]],
) -> None:
    """Put the records of each subject into its list of ``measured``, as they come."""
    from lkdn_deploy.bench.quality.evaluation import evaluate

    total = sum(len(one.pictures) for subject in subjects for one in sets[subject.scale])
    with progress_bar("measuring") as progress:
        done = 0
        for subject, width, records in zip(subjects, borders, measured, strict=True):
            for one in sets[subject.scale]:
                for record in evaluate(subject, one, width, seen=gallery.watch(subject, one)):
                    records.append(record)
                    done += 1
                    if progress:
                        progress(done, total)


def _print(results: Sequence["Results"], border: int | None) -> None:
    """The table, of 80 columns at most."""
    lines = [(result.subject, one) for result in results for one in result.averages]
    widest = (
        max((len(subject.name) for subject, _ in lines), default=0),
        max((len(one.test_set) for _, one in lines), default=0),
    )
    model = min(max(widest[0], 5), 20)
    name = min(max(widest[1], 3), 34 - model)
    left_out = "as wide as the scale on Y (papers), 4 on RGB (NTIRE)" if border is None else f"{border} on Y and RGB"
    click.echo(f"PSNR in dB; border {left_out}")
    figures = f"{'PSNR-Y':>7} {'SSIM-Y':>7} {'PSNR-RGB':>8} {'SSIM-RGB':>8}"
    click.echo(f"{'model':<{model}} {'':<2} {'set':<{name}} {'images':>7} {figures}")
    for subject, one in lines:
        which = f"{_short(subject.name, model):<{model}} x{subject.scale} {_short(one.test_set, name):<{name}}"
        click.echo(f"{which} {_count(one):>7} {_figures(one)}")


def _print_graphics(results: Sequence["Results"]) -> None:
    """Print the errors on the pictures that come with the program, a row a picture and a column a model."""
    titles = [_short(result.subject.title, 12) for result in results]
    click.echo("graphics: mean error in levels of the averaged result; of flat pictures, the largest of a value")
    click.echo(f"{'picture':<28}" + "".join(f" {title:>12}" for title in titles))
    for name in results[0].graphics:
        click.echo(f"{name:<28}" + "".join(f" {result.graphics[name]:>12.1f}" for result in results))


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: width - 2]}.."


def _count(one: "Average") -> str:
    return f"{one.images}/{one.images + one.failed}" if one.failed else str(one.images)


def _figures(one: "Average") -> str:
    if one.quality is None:
        return f"{'-':>7} {'-':>7} {'-':>8} {'-':>8}"
    found = one.quality
    return f"{found.psnr_y:>7.3f} {found.ssim_y:>7.4f} {found.psnr_rgb:>8.3f} {found.ssim_rgb:>8.4f}"


def _complain_of_failed(results: Sequence["Results"]) -> bool:
    """Say what failed, each once; whether anything did."""
    failed = [record for result in results for record in result.records if record.error]
    for name, image, message, hint in dict.fromkeys(
        (record.test_set, record.image, record.error, record.hint) for record in failed
    ):
        complain(InputError(f"{name}/{image}: {message}", hint or None))
    for name in dict.fromkeys(record.test_set for record in failed):
        click.echo(f"note: averages of {name} are over the other pictures", err=True)
    return bool(failed)


def _check_places(paths: Sequence[Path], overwrite: bool) -> None:
    """Refuse before any work what could not be written after it."""
    if len(set(paths)) < len(paths):
        msg = f"{paths[0]} was given for JSON and for CSV"
        raise UsageError(msg, "give each a file of its own")
    for path in paths:
        if path.is_dir() or not path.parent.is_dir():
            wrong = "is a folder" if path.is_dir() else f"cannot be written: there is no folder {path.parent}"
            msg = f"{path} {wrong}"
            raise UsageError(msg, "give the name of a file in a folder that exists")
        if path.exists() and not overwrite:
            msg = f"{path} exists"
            raise UsageError(msg, "choose another name, or allow overwriting with --overwrite")
        try:
            with tempfile.TemporaryFile(dir=path.parent):  # permission bits do not tell of read-only file systems
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

"""``lkdn-upscale`` of films."""

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lkdn_deploy.cli._outcomes import described_use
from lkdn_deploy.cli._progress import INTERVAL, duration, open_bar
from lkdn_deploy.cli._shell import complain, echo_path
from lkdn_deploy.cli._upscale_options import PIPE
from lkdn_deploy.core.errors import InputError, LkdnError, UsageError
from lkdn_deploy.core.files import printable
from lkdn_deploy.video.containers import MUXERS, is_film, seconds

if TYPE_CHECKING:
    from lkdn_deploy.cli._upscale_options import UpscaleRequest
    from lkdn_deploy.runtime.journal import Journal
    from lkdn_deploy.runtime.upscaler import Upscaler
    from lkdn_deploy.runtime.upscalers import Upscalers
    from lkdn_deploy.video.rendering import BegunFilm, FilmSettings, Rendered

_BAR = "{desc} {percentage:3.0f}% |{bar}| {n_fmt} of {total_fmt} pictures, {rate_noinv_fmt}, {remaining} left"
_OPEN_BAR = "{desc} {n_fmt} pictures, {rate_noinv_fmt}, {elapsed} gone"

FOR_FILMS = ("codec", "crf", "preset", "deinterlace", "start", "end")
_FOR_PICTURES = ("format", "quality", "name", "shard", "recursive", "max_memory")


def are_films(request: "UpscaleRequest") -> bool:
    """Return whether the inputs are films.

    Raises:
        UsageError: if only some are, or if an option does not go with them.
    """
    # Path.is_dir raises an error for names that are too long.
    films = [is_film(path) for path in request.sources if not os.path.isdir(path)]  # noqa: PTH112
    if any(films) and not (all(films) and len(films) == len(request.sources)):
        msg = "films and pictures cannot be upscaled by one command"
        raise UsageError(msg, "give two commands")
    if request.target == PIPE if any(films) else request.sources == (PIPE,) and is_film(request.target):
        msg = "films are read from files and written to files: standard input and output (-) are for pictures"
        raise UsageError(msg, "name a file; --raw upscales frames that other programs decode and encode")
    if any(films):
        request.refuse(_FOR_PICTURES, "is for pictures")
    else:
        request.refuse(FOR_FILMS, "is for films")
    return any(films)


def upscale_films(request: "UpscaleRequest", upscalers: "Upscalers") -> None:
    """Upscale the films of a request, and print the outcome of each.

    Args:
        request: what the command line asks for.
        upscalers: open the network at the scales that are needed.

    Raises:
        LkdnError: if the only film fails.
        InputError: if one of several does.
    """
    from lkdn_deploy.video.rendering import FilmSettings

    settings = FilmSettings(
        codec=request.codec,
        crf=request.crf,
        preset=request.preset,
        output=request.settings,
        deinterlace=request.deinterlace,
        start=None if request.start is None else seconds(request.start),
        end=None if request.end is None else seconds(request.end),
        resume=request.resume,
        overwrite=request.overwrite,
    )
    jobs = _jobs(request)
    failed = 0
    for source, target in jobs:
        try:
            _upscale(request, source, target, settings, upscalers)
        except LkdnError as error:
            if request.as_json:
                _echo_json(source, target, "failed", {"error": error.message, "hint": error.hint})
            if len(jobs) == 1:
                raise
            failed += 1
            complain(error)
    if failed:
        msg = f"{failed} of {len(jobs)} films could not be upscaled"
        raise InputError(msg)


def _jobs(request: "UpscaleRequest") -> list[tuple[Path, Path]]:
    """Return the films and their results: one by name, or several under their names in a folder, which is created.

    Raises:
        UsageError: if two would become one, or the folder is a file.
        InputError: if the folder cannot be created.
    """
    if not request.into_folder:
        return [(request.sources[0], request.target)]
    jobs: dict[Path, Path] = {}
    for source in request.sources:
        target = request.target / (source.name if source.suffix.lower() in MUXERS else f"{source.stem}.mkv")
        if jobs.setdefault(target, source) != source:
            msg = f"{jobs[target]} and {source} would both become {target}"
            raise UsageError(msg, "upscale them into different folders")
    try:
        request.target.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        msg = f"{request.target} is a file, and no folder to write to"
        raise UsageError(msg, "name a folder as the last argument") from error
    except OSError as error:
        msg = f"the folder {request.target} cannot be created: {error.strerror}"
        raise InputError(msg) from error
    return [(source, target) for target, source in jobs.items()]


def _upscale(
    request: "UpscaleRequest",
    source: Path,
    target: Path,
    settings: "FilmSettings",
    upscalers: "Upscalers",
) -> None:
    from lkdn_deploy.core.files import remove_stale_parts
    from lkdn_deploy.video.rendering import begin_film, has_segments, render

    if request.skip_existing and os.path.lexists(target):
        _tell_skipped(request, source, target, "its output exists")
        return
    journal = _journal(request, target, upscalers) if request.resume or request.into_folder else None
    begun = begin_film(source, target, settings, journal)
    if begun.finished:
        _tell_skipped(request, source, target, "its output is finished")
        return
    remove_stale_parts(target.parent)
    notes: list[str] = []

    def note(text: str) -> None:
        notes.append(text)
        if not request.quiet:
            click.echo(f"note: {printable(text)}", err=True)

    for text in begun.notes:
        note(text)
    with _progress(source.name, shown=not request.quiet) as progress:
        try:
            upscaler = upscalers.for_size(begun.film.height, begun.film.width)
            done = render(upscaler, begun, progress=progress, note=note)
        except BaseException:
            if has_segments(target) and not request.quiet:
                progress.close()
                click.echo("note: what is finished was kept: give the same command with --resume to go on", err=True)
            raise
    for text in done.notes:
        note(text)
    _tell(request, begun, done, upscaler, notes)


def _journal(request: "UpscaleRequest", target: Path, upscalers: "Upscalers") -> "Journal":
    """Return the journal beside a film, which knows whether it is finished."""
    from lkdn_deploy.runtime.journal import Journal

    journal = Journal(target.parent, upscalers.work(request.backend, request.precision, request.tile))
    if request.resume:
        journal.load([target])
    return journal


class _Progress:
    """Shows how many pictures are done, how many per second, and the time left: a bar, or lines in a log."""

    def __init__(self, name: str, *, shown: bool) -> None:
        import sys

        self._name, self._shown = printable(name), shown
        self._terminal = shown and sys.stderr is not None and sys.stderr.isatty()
        self._bar: Any = None
        self._first: int | None = None
        self._start = self._next = time.monotonic()

    def __call__(self, done: int, total: int | None) -> None:
        """Show that so many pictures are done."""
        now = time.monotonic()
        if self._first is None:
            self._first, self._start, self._next = done, now, now + INTERVAL
            if self._terminal:
                form = _OPEN_BAR if total is None else _BAR
                self._bar = open_bar(self._name, bar_format=form, total=total, initial=done, unit="", position=0)
            elif done and self._shown:
                click.echo(f"progress: {done} pictures are of an earlier run", err=True)
        if self._bar is not None:
            self._bar.total = total if total is None else max(total, done)
            self._bar.update(done - self._bar.n)
        elif self._shown and now >= self._next:
            self._next = now + INTERVAL
            rate = (done - self._first) / (now - self._start)
            parts = [f"{done} pictures" if total is None else f"{done} of {total} pictures", f"{rate:.3g} per second"]
            if total is not None and rate and total > done:
                parts.append(f"{duration((total - done) / rate)} left")
            click.echo(f"progress: {', '.join(parts)}", err=True)

    def close(self) -> None:
        """Take the bar away."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


@contextmanager
def _progress(name: str, *, shown: bool) -> Iterator[_Progress]:
    progress = _Progress(name, shown=shown)
    try:
        yield progress
    finally:
        progress.close()


def _tell(
    request: "UpscaleRequest", begun: "BegunFilm", done: "Rendered", upscaler: "Upscaler", notes: list[str]
) -> None:
    film, encoding, session = begun.film, done.encoding, upscaler.session
    if request.as_json:
        facts = {
            "width": encoding.width,
            "height": encoding.height,
            "pictures": done.frames,
            "computed": done.computed,
            "codec": encoding.codec,
            "pixel_format": encoding.pixel_format,
            "model": session.metadata.model,
            "scale": upscaler.scale,
            "backend": session.backend,
            "exact": done.exact,
            "seconds": round(done.seconds, 4),
            "notes": notes,
        }
        if done.range_use is not None:
            facts["fixed_point"] = asdict(done.range_use)
        _echo_json(film.path, done.target, "done", facts)
    else:
        echo_path(done.target)
    if not request.quiet:
        sizes = f"{film.width}x{film.height} -> {encoding.width}x{encoding.height}"
        rate = f", {done.computed / done.seconds:.3g} per second" if done.computed else ""
        engine = f"{session.metadata.model} x{upscaler.scale} on {session.backend}"
        click.echo(f"{sizes}, {done.frames} pictures with {engine}{rate}, {encoding.codec}", err=True)
    if request.verbose and done.range_use is not None:
        click.echo(f"fixed point: {described_use(done.range_use)}", err=True)


def _tell_skipped(request: "UpscaleRequest", source: Path, target: Path, reason: str) -> None:
    if request.as_json:
        _echo_json(source, target, "skipped", {"reason": reason})
    if not request.quiet:
        click.echo(f"skipped {printable(source)}: {reason}", err=True)


def _echo_json(source: Path, target: Path, status: str, facts: dict[str, object]) -> None:
    click.echo(json.dumps({"input": str(source), "output": str(target), "status": status, **facts}))

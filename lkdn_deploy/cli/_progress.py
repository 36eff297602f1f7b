"""Progress on stderr: bars on a terminal, and a line every few seconds elsewhere. Short work shows none."""

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lkdn_deploy.core.files import printable

if TYPE_CHECKING:
    from tqdm.std import tqdm

_PATIENCE = 0.5  # seconds until bars appear
INTERVAL = 5.0  # seconds between lines
_LABEL = 24  # columns of a file's name
_ALL = "{desc} {percentage:3.0f}% |{bar}| {n:.0f}/{total} {unit}, {elapsed} gone, {remaining} left{postfix}"
_ONE = "{desc} {percentage:3.0f}% |{bar}| {remaining} left"


class ProgressDisplay:
    """The progress of files, and of the parts of the current one.

    Args:
        total: number of files.
        shown: whether anything is shown.
        unit: the files, as they are called in the plural.
    """

    def __init__(self, total: int, *, shown: bool = True, unit: str = "images") -> None:
        self._total, self._unit = total, unit
        self._terminal = shown and sys.stderr is not None and sys.stderr.isatty()
        self._lines = shown and not self._terminal
        self._done = self._skipped = self._failed = 0
        self._fractions: dict[Path, float] = {}  # of the files that are computed or being written
        self._start = time.monotonic()
        self._next_line = self._start + INTERVAL
        self._bars: dict[str, tqdm[Any]] = {}

    def advance(self, path: Path, done: int, total: int) -> None:
        """Show that so many parts of a file are done; none at its start."""
        self._fractions[path] = done / total if total else 0.0
        if self._terminal and time.monotonic() - self._start > _PATIENCE:
            if done == 0:
                self._drop("one")
            if self._total > 1:
                self._move_all()
            self._move_one(path, done, total)
        self._say(path)

    def finish(self, path: Path, *, skipped: bool = False, failed: bool = False) -> None:
        """Show that a file is done, or was skipped or failed."""
        self._fractions.pop(path, None)
        self._done += 1
        self._skipped += skipped
        self._failed += failed
        if "all" in self._bars:
            self._move_all()
        self._say()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Take the bars away while something else is printed."""
        for bar in self._bars.values():
            bar.clear()
        yield
        if self._bars and sys.stdout is not None:
            sys.stdout.flush()
        for bar in self._bars.values():
            bar.refresh()

    def close(self) -> None:
        """Take the bars away."""
        for name in reversed(list(self._bars)):  # the last to go leaves the cursor at the start of its line
            self._drop(name)

    @property
    def _worked(self) -> float:
        """Number of files, in parts, that took work."""
        return self._done - self._skipped + sum(self._fractions.values())

    def _move_all(self) -> None:
        # What was skipped took no time, and would make the rest look as quick.
        total = self._total - self._skipped
        bar = self._bars.get("all") or self._open("all", "all", _ALL, total, self._worked)
        bar.total = total
        counts = {"skipped": self._skipped, "failed": self._failed}
        bar.set_postfix_str(", ".join(f"{count} {what}" for what, count in counts.items() if count), refresh=False)
        bar.update(self._worked - bar.n)

    def _move_one(self, path: Path, done: int, total: int) -> None:
        bar = self._bars.get("one") or self._open("one", _fitted(path.name), _ONE, total, done)
        bar.total = total
        bar.update(done - bar.n)

    def _open(self, which: str, label: str, form: str, total: int, reached: float) -> "tqdm[Any]":
        line = 1 if which == "one" and self._total > 1 else 0
        self._bars[which] = open_bar(
            label, bar_format=form, total=total, initial=reached, unit=self._unit, position=line
        )
        return self._bars[which]

    def _drop(self, which: str) -> None:
        if (bar := self._bars.pop(which, None)) is not None:
            bar.close()

    def _say(self, path: Path | None = None) -> None:
        """Print a line, if it is time for one."""
        now = time.monotonic()
        if not self._lines or now < self._next_line:
            return
        self._next_line = now + INTERVAL
        worked, total = self._worked, self._total - self._skipped
        parts = [f"{worked / total if total else 1:.0%}"]
        if self._total > 1:
            parts.insert(0, f"{self._done} of {self._total} {self._unit}")
            parts += [f"{n} {what}" for n, what in ((self._skipped, "skipped"), (self._failed, "failed")) if n]
        if 0 < worked < total:
            parts.append(f"{duration((now - self._start) * (total - worked) / worked)} left")
        if path is not None:
            parts.append(f"at {printable(path.name)}")
        click.echo(f"progress: {', '.join(parts)}", err=True)


@contextmanager
def progress_bar(label: str) -> Iterator[Callable[[int, int], None] | None]:
    """Give a callback (done, total) that draws a bar on stderr, or ``None`` where stderr is not a terminal."""
    if sys.stderr is None or not sys.stderr.isatty():
        yield None
        return
    bar = open_bar(printable(label), bar_format=_ONE, total=1, position=0)

    def advance(done: int, total: int) -> None:
        bar.total = total
        bar.update(done - bar.n)

    try:
        yield advance
    finally:
        bar.close()


def duration(seconds: float) -> str:
    """Return a time as people say it, such as ``1 h 20 min``."""
    if seconds < 60:
        return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def open_bar(label: str, **settings: Any) -> "tqdm[Any]":
    """Return a bar on stderr."""
    from tqdm.std import tqdm  # only where a bar is drawn

    tqdm.monitor_interval = 0  # no thread that looks after bars
    return tqdm(desc=label, file=sys.stderr, leave=False, dynamic_ncols=True, mininterval=0.1, miniters=0, **settings)


def _fitted(name: str) -> str:
    """Return a name that is as wide as others."""
    from tqdm.utils import disp_len, disp_trim

    name = printable(name)
    short: str = name if disp_len(name) <= _LABEL else disp_trim(name, _LABEL - 1) + "…"
    return short + " " * (_LABEL - int(disp_len(short)))

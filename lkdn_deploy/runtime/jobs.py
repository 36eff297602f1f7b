"""Plans the work on many inputs: the names of the outputs, what must be refused beforehand, and shares of the work.

Nothing here reads or writes a file; paths are resolved, since links can make two names one file.
"""

import hashlib
import os
import re
import string
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.files import printable
from lkdn_deploy.imaging.files.formats import BY_SUFFIX
from lkdn_deploy.runtime.inputs import Inputs, SourceFile
from lkdn_deploy.runtime.outcomes import Job
from lkdn_deploy.runtime.settings import OutputSettings

_SHOWN = 5
"""Most cases of the same fault that a message names."""


@dataclass(frozen=True, slots=True)
class NameTemplate:
    """The names of outputs, such as ``{stem}_x{scale}{ext}``.

    Fields are ``stem``, the input's name without its suffix; ``name``, with it; ``ext``, the output's suffix with its
    dot; ``scale``; and ``model``.

    Raises:
        UsageError: for any other field, for formatting, and for a text that leads to another folder or a hidden file.
    """

    text: str = "{stem}{ext}"

    def __post_init__(self) -> None:
        expected = f"expected a name made of {', '.join(f'{{{field}}}' for field in _FIELDS)} and text"
        hint = 'for example: --name "{stem}_x{scale}{ext}"'
        try:
            pieces = list(string.Formatter().parse(self.text))
        except ValueError as error:
            msg = f"{expected}, got {self.text!r}: {error}"
            raise UsageError(msg, hint) from error
        for literal, field, style, conversion in pieces:
            if field is not None and (field not in _FIELDS or style or conversion):
                written = field + (f"!{conversion}" if conversion else "") + (f":{style}" if style else "")
                msg = f"{expected}, got {self.text!r} with {{{written}}}"
                raise UsageError(msg, hint)
            if _SEPARATORS.search(literal):
                msg = f"{expected}, got {self.text!r}, which would lead to another folder"
                raise UsageError(msg, "the last argument is the folder; --recursive keeps those of the inputs")
        if self.text.startswith(".") or not self.text.strip():
            msg = f"{expected}, got {self.text!r}, which would be no visible file"
            raise UsageError(msg, hint)

    @property
    def fields(self) -> frozenset[str]:
        """The fields that occur."""
        return frozenset(field for _, field, _, _ in string.Formatter().parse(self.text) if field is not None)

    def name(self, values: Mapping[str, str]) -> str:
        """Return the name for the values of the fields.

        Raises:
            UsageError: if a value would lead to another folder.
        """
        name = self.text.format_map(values)
        if _SEPARATORS.search(name):
            msg = f"the name {name!r} of an output would lead to another folder"
            raise UsageError(msg, "choose another name with --name")
        return name


_FIELDS = ("stem", "name", "ext", "scale", "model")
_SEPARATORS = re.compile(r"[/\\\0]")


@dataclass(frozen=True, slots=True)
class Shard:
    """A share of the inputs: the ``index``-th of ``count``, from 1.

    Which share an input belongs to depends on its path below its input folder alone, so all processes agree on it
    without talking to each other, and files that are added change nothing for the others.
    """

    index: int
    count: int

    @classmethod
    def parse(cls, text: str) -> "Shard":
        """Read ``3/16``.

        Raises:
            UsageError: if it is no share.
        """
        match = re.fullmatch(r"(\d{1,6})/(\d{1,6})", text, re.ASCII)
        if match is None or not 1 <= int(match[1]) <= int(match[2]):
            msg = f"expected a share such as 3/16, with a number from 1 to 16 before the slash, got {text!r}"
            raise UsageError(msg)
        return cls(int(match[1]), int(match[2]))

    def takes(self, relative: PurePath) -> bool:
        """Return whether an input of this relative path belongs to the share."""
        digest = hashlib.sha256(os.fsencode(relative.as_posix())).digest()
        return int.from_bytes(digest[:8], "big") % self.count == self.index - 1

    def __str__(self) -> str:
        return f"{self.index}/{self.count}"


def plan_jobs(
    inputs: Inputs,
    target: Path,
    settings: OutputSettings,
    *,
    template: NameTemplate | None = None,
    facts: Callable[[], Mapping[str, str]] = dict,
    shard: Shard | None = None,
    recursive: bool = False,
    overwrite: bool = False,
) -> list[Job]:
    """Return a job for each input, in their order, whose output is in ``target`` below the same folders.

    Everything is checked before shares are taken, so that all processes refuse the same.

    Args:
        inputs: what to upscale.
        target: the folder of the outputs.
        settings: what decides the bytes of the outputs.
        template: names of the outputs; default: those of the inputs.
        facts: returns the fields ``scale`` and ``model`` of the template; called only if one of them occurs.
        shard: the share to take; default: all.
        recursive: whether the folders were searched with those inside of them.
        overwrite: whether existing outputs may be replaced.

    Raises:
        UsageError: if ``target`` is one of the input folders, or in one that is searched; if two inputs would become
            one file, or an output would replace an input; or if a name is not possible.
    """
    template = template or NameTemplate()
    _check_folders(inputs.folders, target, recursive=recursive)
    values = dict(facts()) if template.fields & {"scale", "model"} else {}
    jobs = []
    for file in inputs.files:
        place = target / file.relative.parent / _output_name(file, template, settings, values)
        jobs.append(Job(file.path, place, settings.for_target(place, many=True), overwrite))
    _check_places(jobs, target)
    if shard is None:
        return jobs
    return [job for job, file in zip(jobs, inputs.files, strict=True) if shard.takes(file.relative)]


def _output_name(file: SourceFile, template: NameTemplate, settings: OutputSettings, values: Mapping[str, str]) -> str:
    path = file.relative
    suffix = path.suffix if path.suffix.lower() in BY_SUFFIX else ".png"
    if settings.format is not None:
        suffix = f".{settings.format}"
    name = template.name({**values, "stem": path.stem, "name": path.name, "ext": suffix})
    if PurePath(name).suffix.lower() not in BY_SUFFIX:
        msg = f"the name {printable(name)!r} of an output has no suffix of a format that can be written"
        raise UsageError(msg, "end the --name with {ext}")
    if settings.format is not None and BY_SUFFIX[PurePath(name).suffix.lower()] is not BY_SUFFIX[suffix]:
        msg = f"the name {printable(name)!r} of an output contradicts the format {settings.format!r}"
        raise UsageError(msg, "end the --name with {ext}")
    return name


def _check_folders(folders: Sequence[Path], target: Path, *, recursive: bool) -> None:
    place = _resolved(target)
    for folder in folders:
        top = _resolved(folder)
        if place == top:
            msg = f"{target} is the folder of the inputs, and the next run would take the outputs for inputs"
            raise UsageError(msg, "name another folder as the last argument")
        if recursive and top in place.parents:
            msg = f"{target} is inside of {folder}, and the next run would take the outputs for inputs"
            raise UsageError(msg, "name a folder outside of it, or leave --recursive out")


def _check_places(jobs: Sequence[Job], target: Path) -> None:
    """Refuse outputs that are one file, outputs that are inputs, and outputs in whose place there must be a folder."""
    parents: dict[str, str] = {}

    def place_of(path: Path) -> str:
        if os.path.islink(path):  # noqa: PTH114 - Path.is_symlink raises an error for names that are too long
            return _comparable(_resolved(path))
        folder, name = os.path.split(path)  # text, as there may be a million of them
        if folder not in parents:
            parents[folder] = os.fspath(_resolved(Path(folder)))
        return _comparable(os.path.join(parents[folder], name))  # noqa: PTH118

    places: dict[str, Job] = {}
    faults = []
    for job in jobs:
        first = places.setdefault(place_of(job.target), job)
        if first is not job:
            faults.append(f"{first.source} and {job.source} would both become {job.target}")
    if faults:
        hint = 'give the outputs other names, such as --name "{name}{ext}", or other folders'
        raise UsageError(_listed(faults), hint)
    folders = {_comparable(folder) for parent in map(Path, parents.values()) for folder in (parent, *parent.parents)}
    for job in jobs:
        if (replacing := places.get(place_of(job.source))) is not None:
            what = "itself" if replacing is job else f"the input {job.source}"
            linked = os.path.islink(replacing.target)  # noqa: PTH114
            why = f"{replacing.target} is a link to it" if linked else f"{target} is its own folder"
            faults.append(f"{replacing.source} would replace {what}: {why}")
    if faults:
        raise UsageError(_listed(faults), "name another folder, or give the outputs other names with --name")
    faults = [f"{job.target} would be a file and a folder" for place, job in places.items() if place in folders]
    if faults:
        raise UsageError(_listed(faults), "give the outputs other names with --name")


def _listed(faults: Sequence[str]) -> str:
    more = [f"and {len(faults) - _SHOWN} more"] if len(faults) > _SHOWN else []
    return "; ".join([*faults[:_SHOWN], *more])


def _resolved(path: Path) -> Path:
    return Path(os.path.realpath(path))  # Path.resolve raises an error for links that lead round in circles


def _comparable(path: Path | str) -> str:
    """Return a path as a text that is equal for equal files, where file systems usually ignore case."""
    text = os.fspath(path)
    return text.casefold() if sys.platform in ("win32", "darwin") else text


def folders_of(jobs: Iterable[Job]) -> list[Path]:
    """Return the folders of the outputs, each once."""
    return list(dict.fromkeys(job.target.parent for job in jobs))

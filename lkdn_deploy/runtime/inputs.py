"""Finds the pictures among the files and folders that a user names, and says of all else why it was not taken."""

import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePath

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import printable
from lkdn_deploy.imaging.files.formats import RAW_SUFFIXES, READABLE


@dataclass(frozen=True, slots=True)
class SourceFile:
    """A file to upscale.

    Attributes:
        path: the file.
        relative: its path below the folder that was named, or its name if it was named itself.
    """

    path: Path
    relative: PurePath


@dataclass(frozen=True, slots=True)
class NotTaken:
    """An entry of a folder that is no input.

    Attributes:
        path: the entry.
        reason: what it is, such as ``.txt`` or ``hidden``.
        error: whether it may hold inputs that could not be found.
    """

    path: Path
    reason: str
    error: bool = False


@dataclass(frozen=True, slots=True)
class Inputs:
    """The files that were found.

    Attributes:
        files: the files to upscale, each once, in the order of their naming and of their paths.
        not_taken: all other entries of the folders.
        folders: the folders that were named.
    """

    files: tuple[SourceFile, ...]
    not_taken: tuple[NotTaken, ...]
    folders: tuple[Path, ...]


Listing = Callable[[bool], tuple[list[SourceFile], list[NotTaken]]]
"""Lists a folder that is elsewhere, with those inside of it or without: its inputs, and its other entries."""


def find_inputs(sources: Iterable[Path], *, recursive: bool, elsewhere: Mapping[Path, Listing] | None = None) -> Inputs:
    """Find the pictures among files and folders.

    Files are taken as they are named. Of a folder, the files with the suffix of a format that can be read are taken,
    but for hidden ones, among which are the temporary files of programs that were killed. Links to files are followed,
    and links to folders are not: so no folder is searched twice, and no search goes round in circles.

    Args:
        sources: files and folders.
        recursive: whether the folders inside of folders are searched, too.
        elsewhere: lists folders among the sources that are not on a file system here.

    Raises:
        InputError: if a folder that was named cannot be read or holds no picture.
    """
    files: dict[str, SourceFile] = {}
    not_taken: list[NotTaken] = []
    folders = []
    for source in sources:
        listing = (elsewhere or {}).get(source)
        if listing is None and not is_folder(source):
            files.setdefault(os.path.abspath(source), SourceFile(source, PurePath(source.name)))  # noqa: PTH100
            continue
        folders.append(source)
        found, others = listing(recursive) if listing else _search(source, recursive=recursive)
        if not found:
            shown = described(others)
            msg = f"{source} holds no image" + (f", but {shown}" if shown else "")
            raise InputError(msg, "give a folder of photographs: " + ", ".join(sorted(READABLE)))
        for file in found:
            files.setdefault(os.path.abspath(file.path), file)  # noqa: PTH100 - Path.absolute keeps dots
        not_taken += others
    return Inputs(tuple(files.values()), tuple(not_taken), tuple(folders))


def described(entries: Iterable[NotTaken]) -> str:
    """Return how many entries were not taken for which reason, or an empty text if there are none."""
    counts = Counter(entry.reason for entry in entries)
    return ", ".join(f"{count} {reason}" for reason, count in sorted(counts.items()))


def is_folder(path: Path) -> bool:
    """Return whether ``path`` is a folder or a link to one; one that cannot exist, as its name is too long, is none."""
    return os.path.isdir(path)  # noqa: PTH112 - Path.is_dir raises an error for names that are too long


def _search(top: Path, *, recursive: bool) -> tuple[list[SourceFile], list[NotTaken]]:
    """Search a folder: files by name first, then the folders inside of it."""
    files: list[SourceFile] = []
    not_taken: list[NotTaken] = []
    waiting = [(top, PurePath())]
    while waiting:
        folder, relative = waiting.pop()
        try:
            with os.scandir(folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if folder == top:
                msg = f"{folder} cannot be read: {error.strerror}"
                raise InputError(msg, "give a folder of photographs") from error
            not_taken.append(NotTaken(folder, f"cannot be read ({error.strerror})", error=True))
            continue
        inner = []
        for entry in found:
            path = folder / entry.name
            kind = _kind(entry)
            if kind is None:
                files.append(SourceFile(path, relative / entry.name))
            elif kind == FOLDER and recursive:
                inner.append((path, relative / entry.name))
            else:
                not_taken.append(NotTaken(path, kind))
        waiting += reversed(inner)
    return files, not_taken


FOLDER = "folder (searched with --recursive)"
"""The reason for which a folder in another one is not taken."""


def _kind(entry: os.DirEntry[str]) -> str | None:
    """Return why an entry of a folder is not taken as a picture; ``None`` if it is."""
    if not entry.name.startswith("."):
        try:
            if entry.is_dir(follow_symlinks=False):
                return FOLDER
            if entry.is_dir():
                return "link to a folder (not followed: name it as an input of its own)"
        except OSError:  # a link that leads to itself: reading it will say so
            pass
    return kind_of_file(entry.name)


def kind_of_file(name: str) -> str | None:
    """Return why a file of a folder is not taken as a picture, by its name; ``None`` if it is."""
    suffix = PurePath(name).suffix.lower()
    if name.startswith("."):
        return "hidden"
    if suffix in READABLE:
        return None
    if suffix in RAW_SUFFIXES:
        return f"{suffix} (camera raw)"
    return printable(suffix) or "without suffix"

"""Packs in the user's cache: photographs are decoded and shrunk once, not by every process at every start.

A pack's name is made of what it was made from, so that it is not found any more when a file changes, comes or goes.
The folder's size is bounded: packs that were used longest ago make room.
"""

import hashlib
import json
import os
import shutil
import time
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import platformdirs

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import publish
from lkdn_deploy.imaging.files.read import read_rgb
from lkdn_models.data.folders import Source
from lkdn_models.data.pack import VERSION, Pack, PackWriter, open_pack
from lkdn_models.data.plan import Photographs, Plan, read_pairs, warn_of

S = TypeVar("S")
T = TypeVar("T")

LIMIT = 48 << 30
"""Bytes that packs take on the disk unless told otherwise: DIV2K and Flickr2K together need about 29 GiB at x4."""
ABANDONED = 3600
"""Seconds after which an unfinished pack that does not grow is nobody's: its process was killed."""
THREADS = 4
"""That decode. Pillow and numpy let go of the interpreter's lock meanwhile."""
AT_ONCE = 1 << 25
"""Pixels of the images decoded at once; each takes up to 64 bytes on the way."""

Progress = Callable[[int, int], object]
"""Is told how many of how many photographs are done."""


@dataclass(frozen=True, slots=True)
class PackId:
    """What a pack is made from.

    Attributes:
        folders: hash of the folders and settings.
        key: hash of these and of the files.
    """

    folders: str
    key: str

    @property
    def file(self) -> str:
        """The pack's file name."""
        return f"{self.folders}-{self.key}.pack"


def default_folder() -> Path:
    """Where packs are unless another folder is given."""
    return platformdirs.user_cache_path("lkdn-deploy") / "training"


def identify(
    folders: Sequence[str | os.PathLike[str]], sources: Sequence[Source], scale: int, sides: Sequence[int]
) -> PackId:
    """The identity of a pack: files count with their paths, sizes and times of change, in no particular order."""
    settings = [VERSION, scale, sorted(set(sides))]
    files = sorted(_stamp(path) for source in sources for path in source.files)
    places = sorted({os.path.realpath(folder) for folder in folders})
    return PackId(_digest([settings, places])[:16], _digest([settings, files]))


def find_pack(folder: Path, wanted: PackId, sources: Sequence[Source], scale: int) -> Pack | None:
    """The pack, if it is there, whole, and all that it left out is still unreadable, which is said in warnings."""
    path = folder / wanted.file
    pack = open_pack(path, wanted.key, scale)
    if pack is None:
        return None
    with suppress(OSError):  # a cache of somebody else
        os.utime(path)
    known = {source.file: source for source in sources}
    errors = [_unreadable(known[name]) if name in known else None for name in pack.left_out]
    if None in errors:
        return None
    for error in filter(None, errors):
        warn_of(error)
    return pack


def build_pack(
    folder: Path,
    wanted: PackId,
    plan: Plan,
    scale: int,
    sides: Sequence[int],
    limit: int = LIMIT,
    progress: Progress | None = None,
) -> Pack:
    """Decode and shrink what is planned; an image that cannot be read is named in a warning and left out.

    Packs of the same folders and settings are deleted, and as many others as the limit and the disk ask for.

    Raises:
        InputError: if the pack would be larger than the limit or the free space, or cannot be written, or no image can
            be read.
    """
    path = folder / wanted.file
    with _saying_where(folder):
        folder.mkdir(parents=True, exist_ok=True)
        _make_room(folder, wanted, plan.entries[-1].end(scale), limit)
    with publish(path) as part, _saying_where(folder):
        _write(part, wanted.key, plan, scale, sides, progress or _silent)
    pack = open_pack(path, wanted.key, scale)
    if pack is None:
        msg = f"{path} was changed by another program before it could be opened"
        raise InputError(msg, "start again")
    return pack


def _write(part: Path, key: str, plan: Plan, scale: int, sides: Sequence[int], progress: Progress) -> None:
    def read(source: Source) -> tuple[Source, Photographs | InputError]:
        try:
            return source, read_pairs(source, scale, sides)
        except InputError as error:
            return source, error

    largest = max(entry.full_width * entry.full_height for entry in plan.entries)
    threads = max(1, min(THREADS, os.cpu_count() or 1, AT_ONCE // largest))
    left_out = list(plan.left_out)
    with part.open("wb") as file, closing(_in_threads(read, plan.sources, threads)) as results:
        writer = PackWriter(file, key, scale)
        for done, (source, result) in enumerate(results, 1):
            if isinstance(result, InputError):
                warn_of(result)
                left_out.append(source.file)
            else:
                for factor, pair in result.pairs:
                    writer.add(source.high, result.size, factor, pair)
            progress(done, len(plan.sources))
        if not writer.entries:
            msg = f"none of the {len(left_out)} images can be read"
            raise InputError(msg, "give a folder of photographs")
        writer.finish(left_out)


def _in_threads(function: Callable[[S], T], items: Sequence[S], threads: int) -> Generator[T, None, None]:
    """The results in order, at most as many ahead as there are threads."""
    running: deque[Future[T]] = deque()
    with ThreadPoolExecutor(threads) as pool:
        try:
            for item in items:
                running.append(pool.submit(function, item))
                if len(running) > threads:
                    yield running.popleft().result()
            while running:
                yield running.popleft().result()
        finally:
            for future in running:
                future.cancel()


def _make_room(folder: Path, wanted: PackId, need: int, limit: int) -> None:
    """Delete what is out of date, then packs used longest ago, until ``need`` bytes fit.

    Raises:
        InputError: if they would not fit into an empty cache, or the disk is too full.
    """
    if need > limit:
        msg = f"the decoded photographs take {_gib(need)}, more than the {_gib(limit)} that the cache may take"
        raise InputError(msg, "train on fewer photographs, or lower max_sides in the recipe")
    for part in folder.glob(".*.part.pack"):
        with suppress(OSError):
            if time.time() - part.stat().st_mtime > ABANDONED:
                part.unlink()
    for old in folder.glob(f"{wanted.folders}-*.pack"):
        with suppress(OSError):  # where a file in use cannot be deleted, it goes next time
            old.unlink()
    packs = []
    for path in folder.glob("[!.]*.pack"):
        with suppress(OSError):
            facts = path.stat()
            packs.append((facts.st_mtime, facts.st_size, path))
    packs.sort(reverse=True)
    if need > (possible := shutil.disk_usage(folder).free + sum(size for _, size, _ in packs)):
        msg = f"the decoded photographs take {_gib(need)}, but {folder} has room for {_gib(possible)} only"
        raise InputError(msg, "free some space, or choose another folder for the cache")
    while packs and (need + sum(size for _, size, _ in packs) > limit or need > shutil.disk_usage(folder).free):
        with suppress(OSError):
            packs.pop()[2].unlink()


@contextmanager
def _saying_where(folder: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        msg = f"the cache in {folder} cannot be written: {error.strerror or error}"
        raise InputError(msg, "free some space, or choose another folder for the cache") from error


def _unreadable(source: Source) -> InputError | None:
    try:
        for path in source.files:
            read_rgb(path)
    except InputError as error:
        return error
    return None


def _stamp(path: Path) -> tuple[str, int, int, int]:
    """The time of the last change of status, too, since programs set that of the contents back, as `cp -p` does."""
    real = os.path.realpath(path)
    try:
        facts = os.stat(real)  # noqa: PTH116
    except OSError:  # a link that leads nowhere; who reads it will say so
        return real, -1, -1, -1
    return real, facts.st_size, facts.st_mtime_ns, facts.st_ctime_ns


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value).encode()).hexdigest()


def _gib(size: int) -> str:
    return f"{size / (1 << 30):.3g} GiB"


def _silent(done: int, total: int) -> None:
    """Tell nobody."""

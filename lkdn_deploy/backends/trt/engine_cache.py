"""Engines that were built, kept in the user's cache and found again only for what they were built from and for.

Of each there are three files of one name: ``.engine``, ``.log`` (all that the builder said) and ``.json`` (the
side-car), written in this order, so that no side-car speaks of an engine that is not there.
"""

import hashlib
import json
import logging
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import platformdirs

from lkdn_deploy.backends.trt.record import Kind, Profile, SideCar
from lkdn_deploy.backends.trt.runtimes import RUNTIMES
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import publish
from lkdn_deploy.core.optional import needs

log = logging.getLogger(__name__)

_DAY = 24 * 3600


@dataclass(frozen=True, slots=True)
class Key:
    """All that an engine depends on: if any of it changes, so does the digest."""

    artefact_sha256: str
    """Of the ``.onnx`` file's bytes."""
    runtime: Kind
    runtime_version: str
    """In full."""
    targets: tuple[str, ...]
    """Compute capabilities."""
    gpu: str
    """Name; empty of an engine that is built for targets on any machine. So is the next."""
    driver: str
    system: str
    """Operating system and architecture."""
    profile: Profile
    precision: str
    """``metadata.precision``; it is in the artefact's bytes too, but what an engine is for should be said."""
    io: str
    options: Mapping[str, str]
    """Of the builder."""

    @property
    def digest(self) -> str:
        """SHA-256 over the fields as JSON."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Found:
    """An engine in the cache that is what its side-car says."""

    path: Path
    engine: bytes
    sidecar: SideCar


@dataclass(frozen=True, slots=True)
class Made:
    """An engine that is to be kept."""

    engine: bytes
    sidecar: SideCar
    log: str


@dataclass(frozen=True, slots=True)
class Kept:
    """An engine that is in the cache now."""

    found: Found
    reason: str
    """Why it was built; empty if it was there."""


@dataclass(frozen=True, slots=True)
class Entry:
    """What the cache has under one name."""

    path: Path
    """Of the engine, whether it is there or not."""
    sidecar: SideCar | None
    """``None``: it has none, or a damaged one."""
    size: int
    """Bytes of all its files."""
    written: float
    """Seconds since the epoch, of its newest file."""


def folder() -> Path:
    """Where engines are kept; ``XDG_CACHE_HOME`` moves it."""
    return platformdirs.user_cache_path("lkdn-deploy") / "engines"


def engine_path(key: Key) -> Path:
    """Of the engine, for saving and for loading."""
    return folder() / f"{key.digest}.engine"


def sidecar_path(engine: Path) -> Path:
    """Beside an engine, here or elsewhere."""
    return engine.with_suffix(".json")


def log_path(engine: Path) -> Path:
    """Beside an engine, here or elsewhere."""
    return engine.with_suffix(".log")


def load(key: Key) -> Found | str:
    """The engine of ``key``, or the reason why it must be built."""
    path = engine_path(key)
    found = read_engine(path)
    if isinstance(found, str):
        there = path.exists() or sidecar_path(path).exists()
        return found if there else "there is none yet for this artefact, version, target and size"
    if found.sidecar.key != key.digest:
        return f"the side-car of {path.name} is of another key"
    return found


def read_engine(path: Path) -> Found | str:
    """An engine with its side-car, here or elsewhere, or why they cannot be used: files are not trusted."""
    try:
        sidecar = SideCar.from_json(sidecar_path(path).read_bytes())
        engine = path.read_bytes()
    except FileNotFoundError as error:
        return f"there is no {Path(error.filename).name}"
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    except InputError as error:
        return f"{sidecar_path(path).name}: {error.message}"
    if hashlib.sha256(engine).hexdigest() != sidecar.engine_sha256:
        return f"{path.name} is not the engine that its side-car describes: cut short, or another one"
    return Found(path, engine, sidecar)


def find_engine(key: Key) -> Found | None:
    """The engine of ``key``, else the newest one that serves its targets among others and is the same in all else.

    So what was built ahead for several GPUs is found by each of them.
    """
    exact = load(key)
    if isinstance(exact, Found):
        return exact
    for entry in entries():
        if entry.sidecar is None or not set(key.targets) <= set(entry.sidecar.targets):
            continue
        wider = load(replace(key, targets=entry.sidecar.targets))
        if isinstance(wider, Found):
            return wider
        if entry.sidecar.key == replace(key, targets=entry.sidecar.targets).digest:
            log.warning("an engine in the cache is not used: %s", wider)
    return None


def keep(key: Key, make: Callable[[str], Made]) -> Kept:
    """The engine of ``key``; made and written if it is not there. Two processes at once make it once.

    Args:
        make: is called with the reason why it must be made.

    Raises:
        InputError: if the cache cannot be written to.
        MissingError: without the package filelock.
        LkdnError: as ``make`` does; then nothing is written.
    """
    found = load(key)
    if isinstance(found, Found):
        return Kept(found, "")
    with _locked(key):
        reason = load(key)
        if isinstance(reason, Found):  # by the process that had the lock
            return Kept(reason, "")
        log.info("building an engine: %s", reason)
        path = write_engine(engine_path(key), make(reason))
    written = load(key)
    if isinstance(written, str):
        msg = f"{path} was written, but cannot be used: {written}"
        raise InputError(msg)
    return Kept(written, reason)


def write_engine(path: Path, made: Made) -> Path:
    """Write the three files; the side-car last.

    Raises:
        InputError: if they cannot be written.
    """
    for target, data in (
        (path, made.engine),
        (log_path(path), made.log.encode(errors="replace")),
        (sidecar_path(path), made.sidecar.to_json().encode()),
    ):
        with publish(target) as part:
            part.write_bytes(data)
    return path


def entries() -> list[Entry]:
    """What the cache holds, the newest first."""
    names: dict[str, list[Path]] = {}
    for path in _files():
        if path.suffix in (".engine", ".json", ".log") and not path.name.startswith("."):
            names.setdefault(path.stem, []).append(path)
    found = [_entry(folder() / f"{stem}.engine", files) for stem, files in names.items()]
    return sorted(found, key=lambda entry: (-entry.written, entry.path))


def prune(*, newest: int = 0, days: float = 0.0) -> list[Entry]:
    """Remove engines, and return them.

    Also removed are the remains of builds that were killed, after a day.

    Args:
        newest: how many of the newest stay.
        days: those stay that are no older.

    Raises:
        InputError: if they cannot be removed.
    """
    now = time.time()
    gone = [entry for entry in entries()[newest:] if now - entry.written >= days * _DAY]
    names = {entry.path.stem for entry in gone}
    try:
        for path in _files():  # a side-car before the engine that it speaks of
            hidden = path.name.startswith(".")
            if path.stem in names or (hidden and now - path.stat().st_mtime > _DAY):
                path.unlink(missing_ok=True)
    except OSError as error:
        msg = f"{folder()} cannot be cleared: {error.strerror}"
        raise InputError(msg) from error
    return gone


def timing_path(key: Key) -> Path:
    """Where a runtime that measures in a build keeps it for the next: of one GPU, whatever the artefact."""
    parts = (key.runtime, key.runtime_version, *key.targets, key.gpu, key.driver, key.system)
    return folder() / f"{hashlib.sha256(json.dumps(parts).encode()).hexdigest()}.timing"


def _files() -> list[Path]:
    """In the order .json, .lock, .log, then the engine."""
    try:
        return sorted(folder().iterdir(), key=lambda path: (path.suffix == ".engine", path.suffix, path.name))
    except OSError:
        return []


def _entry(path: Path, files: list[Path]) -> Entry:
    sidecar, size, written = None, 0, 0.0
    with suppress(OSError, InputError):
        sidecar = SideCar.from_json(sidecar_path(path).read_bytes())
    for file in files:
        with suppress(OSError):
            size += file.stat().st_size
            written = max(written, file.stat().st_mtime)
    return Entry(path, sidecar, size, written)


@contextmanager
def _locked(key: Key) -> Iterator[None]:
    """Alone with ``key``. A process that is killed gives the lock back."""
    with needs(RUNTIMES[key.runtime].extra):
        import filelock
    path = engine_path(key).with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = filelock.FileLock(path)
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            log.info("another process builds this engine, waiting for it")
            lock.acquire()
    except OSError as error:
        msg = f"the cache folder {path.parent} cannot be written to: {error.strerror or error}"
        raise InputError(msg, "set XDG_CACHE_HOME to a folder that can") from error
    try:
        yield
    finally:
        lock.release()

"""Built engines in the user's cache, each found again only for what it was built from and for.

An engine has three files of one name: ``.engine``, ``.log`` (everything that the builder logged) and ``.json`` (its
record). They are written in this order, so that no record describes a missing engine.
"""

import hashlib
import json
import logging
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from lkdn_deploy.backends.trt.engine_spec import EngineSpec
from lkdn_deploy.backends.trt.record import MAX_SIDECAR, EngineRecord
from lkdn_deploy.backends.trt.runtimes import RUNTIMES
from lkdn_deploy.core import cache
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import read_bounded
from lkdn_deploy.core.optional import needs

log = logging.getLogger(__name__)

MOST = 64
"""Engines to keep; the least recently used ones are removed."""

KERNELS = cache.Store("engine-kernels", most=MOST)
"""Kernels that TensorRT for RTX compiled on this machine, by the SHA-256 of the engine."""

TIMINGS = cache.Store("engine-timings")
"""Kernel timings that TensorRT measured in builds, by ``timing_name``."""

_DAY = 24 * 3600


@dataclass(frozen=True, slots=True)
class StoredEngine:
    """An engine on disk with the record that describes it."""

    path: Path
    data: bytes
    record: EngineRecord
    reason: str = ""
    """Reason for building it just now; empty if it was there."""


@dataclass(frozen=True, slots=True)
class EngineEntry:
    """The files of one name in the cache."""

    path: Path
    """Path of the engine, which may be missing."""
    record: EngineRecord | None
    """``None`` if it is missing or damaged."""
    size: int
    """Bytes of all files."""
    used: float
    """Time of the last use, in seconds since the epoch."""


def folder() -> Path:
    """Return the folder of cached engines, which need not exist."""
    return cache.folder("engines")


def engine_path(spec: EngineSpec) -> Path:
    """Return the path of the engine in the cache."""
    return folder() / f"{spec.digest}.engine"


def sidecar_path(engine: Path) -> Path:
    """Return the path of the record beside an engine, in the cache or elsewhere."""
    return engine.with_suffix(".json")


def log_path(engine: Path) -> Path:
    """Return the path of the builder's log beside an engine, in the cache or elsewhere."""
    return engine.with_suffix(".log")


def load(spec: EngineSpec) -> StoredEngine | str:
    """Return the cached engine, or the reason why it must be built: files are not trusted."""
    path = engine_path(spec)
    beside = sidecar_path(path)
    if not path.exists() and not beside.exists():
        return "there is none yet for this artefact, version, target and size"
    try:
        described, data = cache.read_private(beside), cache.read_private(path)
        if described is None or data is None:
            return f"other users could have written {path}"
        record = EngineRecord.from_json(described)
    except FileNotFoundError as error:
        return f"there is no {Path(error.filename).name}"
    except OSError as error:
        return f"{error.filename} cannot be read: {error.strerror}"
    except InputError as error:
        return f"{beside.name}: {error.message}"
    if record.spec != spec:
        return f"the side-car of {path.name} is for another specification"
    if hashlib.sha256(data).hexdigest() != record.engine_sha256:
        return f"{path.name} is not the engine that its side-car describes: it was cut short or replaced"
    with suppress(OSError):
        os.utime(path)
    return StoredEngine(path, data, record)


def find_engine(spec: EngineSpec) -> StoredEngine | None:
    """Return the cached engine, else the latest that differs only in serving more targets.

    So an engine that was built ahead for several GPUs is found on each of them.
    """
    found = load(spec)
    if isinstance(found, StoredEngine):
        return found
    for entry in entries():
        wider = entry.record and entry.record.spec
        if not wider or not set(spec.targets) < set(wider.targets) or replace(wider, targets=spec.targets) != spec:
            continue
        found = load(wider)
        if isinstance(found, StoredEngine):
            return found
        log.warning("an engine in the cache is not used: %s", found)
    return None


def keep(spec: EngineSpec, make: Callable[[str], tuple[bytes, EngineRecord, str]]) -> StoredEngine:
    """Return the cached engine, after building it if necessary. Two processes at once build it once.

    Args:
        spec: what it is built from and for.
        make: called with the reason; returns the engine, its record and the builder's log.

    Raises:
        InputError: if the cache cannot be written.
        MissingError: if the package filelock is missing.
        LkdnError: as ``make`` does; then nothing is written.
    """
    found = load(spec)
    if isinstance(found, StoredEngine):
        return found
    with _locked(spec):
        reason = load(spec)
        if isinstance(reason, StoredEngine):  # built by the process that had the lock
            return reason
        log.info("building an engine: %s", reason)
        data, record, text = make(reason)
        path = engine_path(spec)
        for target, content in (
            (path, data),
            (log_path(path), text.encode(errors="replace")),
            (sidecar_path(path), record.to_json().encode()),
        ):
            cache.write_private(target, content)
    prune(newest=MOST)
    return StoredEngine(path, data, record, reason)


def entries() -> list[EngineEntry]:
    """Return what the cache holds, the most recently used engine first."""
    names: dict[str, list[Path]] = {}
    for path in _files():
        if path.suffix in (".engine", ".json", ".log") and not path.name.startswith("."):
            names.setdefault(path.stem, []).append(path)
    found = [_entry(folder() / f"{stem}.engine", files) for stem, files in names.items()]
    return sorted(found, key=lambda entry: (-entry.used, entry.path))


def prune(*, newest: int = 0, days: float = 0.0) -> list[EngineEntry]:
    """Remove engines with what belongs to them, and return them.

    The remains of killed builds are removed too, after a day.

    Args:
        newest: number of the most recently used engines to keep.
        days: keep engines that were used within so many days.

    Raises:
        InputError: if they cannot be removed.
    """
    now = time.time()
    gone = [entry for entry in entries()[newest:] if now - entry.used >= days * _DAY]
    names = {entry.path.stem for entry in gone}
    try:
        for path in _files():  # a record before its engine
            hidden = path.name.startswith(".")
            if path.stem in names or (hidden and now - path.stat().st_mtime > _DAY):
                path.unlink(missing_ok=True)
        for entry in gone:
            if entry.record and (kernels := KERNELS.find(entry.record.engine_sha256)):
                kernels.unlink(missing_ok=True)
    except OSError as error:
        msg = f"{folder()} cannot be cleared: {error.strerror}"
        raise InputError(msg) from error
    return gone


def timing_name(spec: EngineSpec) -> str:
    """Return the name in ``TIMINGS`` for builds on one GPU, whatever the artefact."""
    parts = (spec.runtime, spec.runtime_version, *spec.targets, spec.gpu, spec.driver, spec.system)
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _files() -> list[Path]:
    """Return all files in the order .json, .lock, .log, .engine."""
    try:
        return sorted(folder().iterdir(), key=lambda path: (path.suffix == ".engine", path.suffix, path.name))
    except OSError:
        return []


def _entry(path: Path, files: list[Path]) -> EngineEntry:
    record, size, used = None, 0, 0.0
    with suppress(OSError, InputError):
        record = EngineRecord.from_json(read_bounded(sidecar_path(path), MAX_SIDECAR))
    for file in files:
        with suppress(OSError):
            size += file.stat().st_size
            used = max(used, file.stat().st_mtime)
    return EngineEntry(path, record, size, used)


@contextmanager
def _locked(spec: EngineSpec) -> Iterator[None]:
    """Hold the lock on an engine; the operating system releases it if the process is killed."""
    with needs(RUNTIMES[spec.runtime].extra):
        import filelock
    path = cache.make_folder(folder()) / f"{spec.digest}.lock"
    lock = filelock.FileLock(path)
    try:
        try:
            lock.acquire(timeout=0)
        except filelock.Timeout:
            log.info("waiting for another process, which is building this engine")
            lock.acquire()
    except OSError as error:
        msg = f"the cache folder {path.parent} cannot be written to: {error.strerror or error}"
        raise InputError(msg, "set XDG_CACHE_HOME to a folder that can be written") from error
    try:
        yield
    finally:
        lock.release()

"""The folder: the page and the package with their networks, complete or not there at all."""

import hashlib
import json
import shutil
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from lkdn_deploy import __version__
from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import publish, read_bounded, remove_stale_parts
from lkdn_deploy.web.catalogue import catalogue_files
from lkdn_deploy.web.naming import HASHED, named_by_content, reachable

STATIC = Path(__file__).with_name("static")

PACKAGE = "lkdn-web"
_ENTRY = "lkdn.mjs"
_TYPES = "lkdn.d.mts"
_WORKER = "service-worker.js"
_LICENCE = "LICENSE.txt"
_NOT_OFFLINE = {_WORKER, _LICENCE, _TYPES, "package.json"}
_LARGEST_PACKAGE = 1 << 20


def write_folder(
    artifacts: Sequence[Artifact], folder: Path, *, overwrite: bool = False, notices: Sequence[str] = ()
) -> Path:
    """Write networks, page and package into a folder for a static host.

    A new folder appears complete or not at all. In one that exists, which may be the current one of a shell, no file is
    replaced by a half-written one, and ``index.html`` comes last, so that visitors get the old version, or nothing,
    until the new one is there. Files of the old one, but nobody else's, are removed then.

    Args:
        artifacts: the networks, the default one first.
        folder: the folder; it is created. If it exists, it must be empty or of this function, unless ``overwrite``.
        overwrite: whether to write into any folder.
        notices: paragraphs on the origin of the networks, to be added to the licence.

    Returns:
        ``folder``.

    Raises:
        UsageError: if the folder holds something else, or two networks have the same name.
        InputError: if a network cannot run in a browser, or the folder cannot be written.
    """
    old = _files_before(folder, overwrite)
    files = _content(artifacts, notices)
    if old is None:
        _write_new(folder, files)
        return folder
    remove_stale_parts(folder)
    for name in sorted(files, key=lambda name: (name == "index.html", name == _WORKER, not HASHED.fullmatch(name))):
        with publish(folder / name) as path:
            path.write_bytes(files[name])
    for name in old - files.keys():
        with suppress(OSError):
            (folder / name).unlink()
    return folder


def _content(artifacts: Sequence[Artifact], notices: Sequence[str]) -> dict[str, bytes]:
    """Return all files by name."""
    static = {path.name: path.read_bytes() for path in STATIC.iterdir() if path.is_file()}
    licence = "\n".join([static.pop(_LICENCE).decode(), *(f"{it}\n" for it in notices)]).encode()
    worker = static.pop(_WORKER, None)
    named = named_by_content(static | catalogue_files(artifacts))
    entry, _ = named[_ENTRY]
    files = dict(named.values())
    engine = reachable(files, entry)
    files |= {_ENTRY: f'export * from "./{entry}";\n'.encode(), _LICENCE: licence}
    if worker is not None:
        files[_WORKER] = _with_list(worker.decode(), files).encode()
    files["package.json"] = _package([*sorted(engine), _ENTRY, _TYPES, _LICENCE], [*files, "package.json"])
    return files


def _with_list(worker: str, files: Mapping[str, bytes]) -> str:
    """Fill in what a service worker keeps, and a version that changes with any of it."""
    kept = sorted(files.keys() - _NOT_OFFLINE - {_ENTRY})
    version = hashlib.sha256(b"".join(hashlib.sha256(files[name]).digest() for name in kept)).hexdigest()[:16]
    listed = json.dumps(["./", *(f"./{name}" for name in kept)])
    for line, filled in (
        ('const VERSION = "";', f'const VERSION = "{version}";'),
        ("const FILES = [];", f"const FILES = {listed};"),
    ):
        if worker.count(line) != 1:
            msg = f"{_WORKER} has to have the line {line} once"
            raise ValueError(msg)
        worker = worker.replace(line, filled)
    return worker


def _package(packed: Sequence[str], written: Sequence[str]) -> bytes:
    """Return the description for npm: the package without the page. It also lists what was written."""
    content = {
        "name": PACKAGE,
        "version": __version__,
        "description": "Image super-resolution in WebAssembly, for pages, workers and Node.",
        "license": "MIT",
        "type": "module",
        "exports": {".": {"types": f"./{_TYPES}", "default": f"./{_ENTRY}"}},
        "engines": {"node": ">=20"},
        "files": list(packed),
        "lkdnFiles": sorted(written),
    }
    return json.dumps(content, indent=2).encode() + b"\n"


def _files_before(folder: Path, overwrite: bool) -> set[str] | None:
    """Return the files of an earlier call that may be removed, or ``None`` if there is no folder.

    Raises:
        UsageError: if the folder holds something else.
        InputError: if it cannot be read.
    """
    try:
        if not folder.exists():
            return None
        if not folder.is_dir():
            msg = f"{folder} is not a folder"
            raise UsageError(msg, "choose another name")
        if not any(folder.iterdir()):
            return set()
    except OSError as error:
        msg = f"{folder} cannot be read: {error.strerror or error}"
        raise InputError(msg) from error
    try:
        package = json.loads(read_bounded(folder / "package.json", _LARGEST_PACKAGE))
        listed = package["lkdnFiles"]
        # Names of this form only: nobody else's file can be removed by what stands in a file.
        return {name for name in listed if isinstance(name, str) and HASHED.fullmatch(name)}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        pass
    if overwrite:
        return set()
    msg = f"{folder} is not empty, and holds no earlier export"
    raise UsageError(msg, "choose another folder, or allow overwriting with --overwrite")


def _write_new(folder: Path, files: Mapping[str, bytes]) -> None:
    try:
        target = folder.resolve()
        target.parent.mkdir(parents=True, exist_ok=True)
        part = target.with_name(f".{uuid.uuid4().hex[:12]}.part")
        try:
            part.mkdir()
            for name, content in files.items():
                (part / name).write_bytes(content)
            part.rename(target)
        finally:
            shutil.rmtree(part, ignore_errors=True)
    except OSError as error:
        msg = f"{folder} cannot be written: {error.strerror or error}"
        raise InputError(msg) from error

"""What engines have compiled, in the user's cache: files that are whole or not taken.

What is found is run. So, as Python does with its own compiled files, it is trusted as far as its folder is: file and
folder must belong to the user and be writable by nobody else. Where that is not so, or where nothing can be written,
the caller compiles each time, and the log says why.
"""

import hashlib
import logging
import os
import stat
import sys
from contextlib import suppress
from pathlib import Path

import platformdirs

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import publish

log = logging.getLogger(__name__)

MOST = 32
"""Files of each kind that are kept, those used last."""

_DIGEST = hashlib.sha256().digest_size


def folder(kind: str) -> Path:
    """Where those of a kind are; ``XDG_CACHE_HOME`` moves it."""
    return platformdirs.user_cache_path("lkdn-deploy") / kind


def find(kind: str, name: str) -> bytes | None:
    """What ``keep`` wrote by this name, if it is there, whole, and the user's own."""
    path = folder(kind) / name
    try:
        if not (_is_own(path.parent) and _is_own(path)):
            log.info("%s is not used: others could have written it", path)
            return None
        data = path.read_bytes()
    except OSError:
        return None
    digest, content = data[:_DIGEST], data[_DIGEST:]
    if hashlib.sha256(content).digest() != digest:
        log.info("%s is damaged", path)
        return None
    with suppress(OSError):
        os.utime(path)
    return content


def keep(kind: str, name: str, content: bytes) -> None:
    """Write it after its SHA-256, and remove what was not used for longest."""
    path = folder(kind) / name
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with publish(path) as part:
            part.write_bytes(hashlib.sha256(content).digest() + content)
    except (InputError, OSError) as error:
        log.info("what was compiled is not kept: %s", error)
    with suppress(OSError):  # another process may remove the same
        files = sorted(path.parent.iterdir(), key=lambda file: file.stat().st_mtime, reverse=True)
        for file in files[MOST:]:
            file.unlink()


def _is_own(path: Path) -> bool:
    """Whether only this user, and the system's, can have written it."""
    if sys.platform == "win32":  # the cache is under the user's profile, whose rights say so
        return True
    found = path.stat()
    return found.st_uid == os.geteuid() and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)

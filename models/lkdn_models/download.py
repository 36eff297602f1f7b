"""Published checkpoints in the user's cache, and of these only files with the SHA-256 that the zoo has.

Importing this needs neither torch nor pooch; finding what is there needs no network.
"""

import hashlib
import logging
import re
import shlex
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import platformdirs

from lkdn_deploy.core.errors import InputError, MissingError
from lkdn_deploy.core.optional import needs
from lkdn_models.zoo.facts import Weights, ZooEntry

if TYPE_CHECKING:
    from requests import Response

TIMEOUT = 30.0
"""Seconds without a sign from the server until it counts as gone."""

_CHUNK = 1 << 16
_NAME = re.compile(r"(?!\.+$)[\w.-]+", re.ASCII)  # one folder or file: no separator, no drive, not "..", no "."

log = logging.getLogger(__name__)


def local(weights: Weights) -> Path:
    """Where a checkpoint is once it is downloaded, in the user's cache.

    Raises:
        ValueError: if its repository, commit or file have names that could lead out of there.
    """
    parts = (weights.repository.replace("/", "-"), weights.commit[:7], weights.file_name)
    for part in parts:
        if not _NAME.fullmatch(part):
            msg = f"expected a name of letters, digits, dots, dashes and underscores, got {part!r}"
            raise ValueError(msg)
    return platformdirs.user_cache_path("lkdn-deploy").joinpath("weights", *parts)


def download(weights: Weights, *, progress: bool = False) -> Path:
    """Have a checkpoint in the cache; nothing is fetched if it is there already.

    A file in its place that has another SHA-256 is replaced. What did not come whole, or is not what it must be, is
    not kept.

    Args:
        weights: Which one.
        progress: Whether to draw a bar on stderr.

    Returns:
        ``local(weights)``.

    Raises:
        MissingError: if the server cannot be reached or does not give the file, or pooch is not installed.
        InputError: if what came has another SHA-256, or the cache cannot be read or written.
    """
    path = local(weights)
    found = _digest(path)
    if found == weights.sha256:
        return path
    with needs("train"):
        import pooch
        from requests import RequestException  # what pooch lets through when the network fails
    if found is not None:
        log.warning("%s is damaged, it is downloaded again", path)
    try:
        with _quiet(pooch.get_logger()), ExitStack() as connection:

            def close_in_the_end(response: "Response", **_: object) -> None:
                connection.callback(response.close)  # pooch leaves it open when something fails

            downloader = pooch.HTTPDownloader(
                progressbar=progress,
                chunk_size=_CHUNK,
                timeout=TIMEOUT,
                headers={"Accept-Encoding": "identity"},  # compressed, it would have another length than is announced
                hooks={"response": close_in_the_end},
            )
            # To a temporary name, then checked, then moved; the temporary file is removed whatever happens.
            pooch.retrieve(weights.url, f"sha256:{weights.sha256}", path.name, path.parent, downloader=downloader)
    except RequestException as error:  # an OSError and sometimes a ValueError, so it is the first
        msg = f"{weights.url} cannot be downloaded: {_reason(error)}"
        raise MissingError(msg, f"download {weights.page} by hand and put it at {path}") from error
    except OSError as error:
        raise _unusable(path, error) from error
    except ValueError as error:
        msg = f"{weights.url} did not give the file that was published: {error}"
        raise InputError(msg, f"nothing was kept; try again, or see in a browser what is at {weights.page}") from error
    return path


def usable(entry: ZooEntry) -> Path:
    """The published weights of a network as ``load_checkpoint`` reads them, from the cache.

    Args:
        entry: The network and scale.

    Returns:
        The downloaded file, or of a format that needs converting the safetensors file beside it.

    Raises:
        MissingError: if none were published, they are not downloaded, or not converted yet; its hint says what to do.
        InputError: if the cache cannot be read.
    """
    name, weights = f"{entry.name} x{entry.scale}", entry.weights
    if weights is None:
        msg = f"no weights of {name} were published, or none where they can be fetched"
        raise MissingError(msg, "train them, then name the file with --weights")
    path = local(weights)
    converted = path.with_suffix(".safetensors")
    if weights.converter and converted.is_file():
        return converted
    found = _digest(path)
    if found != weights.sha256:
        state = "not downloaded" if found is None else f"damaged ({path})"
        msg = f"the weights of {name} are {state}"
        raise MissingError(msg, f"download them: lkdn-zoo get {entry.name} --scale {entry.scale}")
    if weights.converter:
        command = shlex.join(["python", weights.converter, str(path), str(converted)])
        msg = f"the weights of {name} are downloaded, but not converted"
        raise MissingError(msg, f"in a checkout of this project's repository, run: {command}")
    return path


def _digest(path: Path) -> str | None:
    """The SHA-256 of a file; ``None`` if there is none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> InputError:
    msg = f"{path} in the cache cannot be read or written: {error.strerror or error}"
    return InputError(msg, "set XDG_CACHE_HOME to a folder that can be written and has room")


def _reason(error: Exception) -> str:
    """What failed, without the layers of wrapping that each repeat the address."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} {response.reason}"
    root: BaseException = error
    while cause := root.__cause__ or root.__context__:
        root = cause
    return getattr(root, "strerror", None) or str(root)


@contextmanager
def _quiet(logger: logging.Logger) -> Iterator[None]:
    """Without pooch's report of each download; the commands make their own."""
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        yield
    finally:
        logger.setLevel(level)

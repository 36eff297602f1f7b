"""Published checkpoints, downloaded into the user's cache and checked against the SHA-256 of the zoo.

Importing this needs neither torch nor pooch; finding a downloaded file needs no network.
"""

import hashlib
import logging
import shlex
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from lkdn_deploy.core.cache import folder
from lkdn_deploy.core.errors import InputError, MissingError
from lkdn_deploy.core.optional import needs
from lkdn_models.zoo.facts import Weights, ZooEntry

if TYPE_CHECKING:
    from requests import Response

TIMEOUT = 30.0
"""Seconds without an answer from the server after which the download is given up."""

_CHUNK = 1 << 16

log = logging.getLogger(__name__)


def local(weights: Weights) -> Path:
    """Return the place of a downloaded checkpoint in the user's cache."""
    return folder("weights") / weights.repository.replace("/", "-") / weights.commit[:7] / weights.file_name


def download(weights: Weights, *, progress: bool = False) -> Path:
    """Download a checkpoint into the cache unless it is there already, and return ``local(weights)``.

    A file in its place with another SHA-256 is replaced. A download that is incomplete or wrong is not kept. A progress
    bar is drawn on stderr if asked for.

    Raises:
        MissingError: if the server cannot be reached or does not send the file, or pooch is not installed.
        InputError: if the downloaded file has another SHA-256, or the cache cannot be read or written.
    """
    path = local(weights)
    found = _digest(path)
    if found == weights.sha256:
        return path
    with needs("train"):
        import pooch
        from requests import RequestException  # pooch passes it on when the network fails
    if found is not None:
        log.warning("%s is damaged and will be downloaded again", path)
    try:
        with ExitStack() as connection:
            logger = pooch.get_logger()  # it reports each download, and so do the commands
            connection.callback(logger.setLevel, logger.level)
            logger.setLevel(logging.WARNING)

            def close_at_the_end(response: "Response", **_: object) -> None:
                connection.callback(response.close)  # pooch leaves it open after a failure

            downloader = pooch.HTTPDownloader(
                progressbar=progress,
                chunk_size=_CHUNK,
                timeout=TIMEOUT,
                headers={"Accept-Encoding": "identity"},  # compressed, its length would not be the announced one
                hooks={"response": close_at_the_end},
            )
            # pooch downloads to a temporary name, checks the hash, then renames; it always removes the temporary file.
            pooch.retrieve(weights.url, f"sha256:{weights.sha256}", path.name, path.parent, downloader=downloader)
    except RequestException as error:  # first, since it is an OSError and sometimes a ValueError
        msg = f"{weights.url} cannot be downloaded: {_reason(error)}"
        raise MissingError(msg, f"download {weights.page} by hand and put it at {path}") from error
    except OSError as error:
        raise _unusable(path, error) from error
    except ValueError as error:
        msg = f"{weights.url} is not the published file: {error}"
        raise InputError(msg, f"nothing was kept; try again, or open {weights.page} in a browser") from error
    return path


def usable(entry: ZooEntry) -> Path:
    """Return a network's published weights in the cache, in a format that ``load_checkpoint`` reads.

    That is the downloaded file, or the converted safetensors file beside it.

    Raises:
        MissingError: if none were published, or they are not downloaded or not converted; the hint names the command.
        InputError: if the cache cannot be read.
    """
    name, weights = f"{entry.name} x{entry.scale}", entry.weights
    if weights is None:
        msg = f"no weights of {name} were published where they can be downloaded"
        raise MissingError(msg, "train the network, then give its weights with --weights")
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
        raise MissingError(msg, f"run in a checkout of this project's repository: {command}")
    return path


def _digest(path: Path) -> str | None:
    """Return the SHA-256 of a file; ``None`` if it does not exist."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise _unusable(path, error) from error


def _unusable(path: Path, error: OSError) -> InputError:
    msg = f"{path} in the cache cannot be read or written: {error.strerror or error}"
    return InputError(msg, "set XDG_CACHE_HOME to a writable folder with enough space")


def _reason(error: Exception) -> str:
    """Return the reason of a failure without the wrapping errors that each repeat the address."""
    response = getattr(error, "response", None)
    if response is not None:
        return f"the server answered {response.status_code} {response.reason}"
    root: BaseException = error
    while cause := root.__cause__ or root.__context__:
        root = cause
    return getattr(root, "strerror", None) or str(root)

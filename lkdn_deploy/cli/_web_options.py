"""The option --web of ``lkdn-export``: networks, a page and a JavaScript package in a folder for a static host."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import click
from click.core import ParameterSource

from lkdn_deploy.cli._shell import converting, echo_path
from lkdn_deploy.core.errors import UsageError

if TYPE_CHECKING:
    from lkdn_deploy.backends.onnx_bytes import Artifact

T = TypeVar("T")

_OF_WEB = {"web", "models", "scales", "weights", "overwrite"}


def refuse_others(context: click.Context) -> None:
    """Refuse the options that have no effect beside --web.

    Raises:
        UsageError: if one is given.
    """
    given = [name for name in context.params if context.get_parameter_source(name) is ParameterSource.COMMANDLINE]
    others = ", ".join(f"--{name.replace('_', '-')}" for name in given if name not in _OF_WEB)
    if others:
        msg = f"{others} cannot be given with --web"
        raise UsageError(msg, "it takes --model, --scale, --weights and --overwrite; write other files separately")


def only(values: Sequence[T], option: str) -> T | None:
    """Return the value of an option that only --web takes repeatedly.

    Raises:
        UsageError: if there are several.
    """
    if len(values) > 1:
        msg = f"--{option} was given {len(values)} times"
        raise UsageError(msg, "give it once, or add --web DIR for several networks in one folder")
    return values[0] if values else None


def write_web(
    folder: Path, models: Sequence[str], scales: Sequence[int], weights: Path | None, *, overwrite: bool
) -> None:
    """Write networks for the browser into a folder, and print its path.

    Args:
        folder: the folder.
        models: networks of the zoo; default lkdn-s, or that of ``weights``.
        scales: scales of each network; default 4, or that of ``weights``.
        weights: a checkpoint or an ``.onnx`` file.
        overwrite: whether to write into a folder that holds something else.

    Raises:
        LkdnError: as ``find_artifact`` and ``write_folder`` do.
    """
    from lkdn_deploy.hub.artifacts import find_artifact
    from lkdn_deploy.web.folder import write_folder

    each_model: Sequence[str | None] = models or [None]
    each_scale: Sequence[int | None] = scales or [None]
    asked = product(each_model, each_scale)
    artifacts = [find_artifact(model, scale, weights, converting=converting) for model, scale in asked]
    notices = [_notice(it) for it in artifacts]
    echo_path(write_folder(artifacts, folder, overwrite=overwrite, notices=[it for it in notices if it]))
    click.echo(f"web      to try it: python -m lkdn_deploy.web {folder}", err=True)


def _notice(artifact: "Artifact") -> str | None:
    """Return a paragraph on the origin of a network's weights, unless they are bundled."""
    from lkdn_deploy.runtime.bundled import FOLDER
    from lkdn_models.zoo import all_entries

    if artifact.path.parent == FOLDER:
        return None
    metadata = artifact.metadata
    digest = metadata.weights_sha256
    label = f"The weights of {metadata.model} x{metadata.scale} (SHA-256 {digest or 'unknown'})"
    for published in (entry.weights for entry in all_entries()):
        if published is not None and published.sha256 == digest:
            return f"{label} are published at {published.page} under this licence: {published.licence}."
    return f"{label} were given as a file; their licence is not known."

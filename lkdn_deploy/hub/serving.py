"""Networks that serve a size: the result of a larger scale is reduced to it."""

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from lkdn_deploy.backends.onnx_bytes import Artifact
from lkdn_deploy.core.errors import InputError, LkdnError, MissingError, UsageError
from lkdn_deploy.hub.artifacts import NO_HINTS, Converting, Telling, find_artifact
from lkdn_deploy.hub.foreign import Hints
from lkdn_deploy.imaging.resize import MAX_SCALE


def find_serving(
    model: str | os.PathLike[str] | None = None,
    least: int | None = None,
    weights: Path | None = None,
    *,
    precision: str | None = None,
    converting: Converting = lambda _: None,
    hints: Hints = NO_HINTS,
    told: Telling = lambda _: None,
) -> Artifact:
    """Return the artefact of a network at the smallest of its scales that is at least ``least``.

    Of a network of the zoo, those scales count that are bundled or downloaded. A file has its own scale; if its weights
    serve every scale, ``least`` is taken.

    Args:
        model, weights, precision, converting, hints, told: as ``find_artifact`` takes them.
        least: smallest scale that serves; default 4, or that of the file.

    Raises:
        UsageError: if no scale of the network is large enough, or as ``find_artifact`` does.
        LkdnError: as ``find_artifact`` does.
    """
    find = partial(find_artifact, precision=precision, converting=converting)
    find_file = partial(find, weights=weights, hints=hints, told=told)
    if least is None:
        return find_file(model, None)
    if weights is None and not Path(model or "").suffix:
        return _first_at_hand(model, least, find)
    try:
        own = find_file(model, None)
    except InputError:  # among others, if nothing in the file tells its scale
        return find_file(model, least)
    facts = own.metadata
    if facts.scale < least:
        msg = f"x{least} or more is needed, but {weights or model} is {facts.model} x{facts.scale}"
        raise UsageError(msg, "choose a smaller size, or a network of a larger scale")
    given = Path(weights or model or "")
    if facts.scale == least or given.suffix.lower() == ".onnx" or not _serves_every_scale(facts.model):
        return own
    return find_file(model, least)


def _first_at_hand(
    model: str | os.PathLike[str] | None, least: int, find: Callable[[str | os.PathLike[str] | None, int], Artifact]
) -> Artifact:
    """Return the first artefact of a network of the zoo from a scale on.

    Raises:
        LkdnError: of the first scale that is tried, if none is at hand.
    """
    first: LkdnError | None = None
    for scale in range(least, MAX_SCALE + 1):
        try:
            return find(model, scale)
        except (UsageError, MissingError) as error:
            first = first or error
    if first is None:
        msg = f"a scale of at most {MAX_SCALE} is expected, got {least}"
        raise UsageError(msg)
    raise first


def _serves_every_scale(model: str) -> bool:
    from lkdn_models.zoo import all_entries

    return any(entry.name == model and entry.network.shared_weights for entry in all_entries())

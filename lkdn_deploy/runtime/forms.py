"""The form of an artefact that a backend runs fastest: shipped beside it, in the user's cache, or made now.

An artefact stays one file. Its form for an engine on the CPU takes a second and a half to make, most of it importing
the packages that do it, and 0.6 MB to keep; so bundled artefacts come with theirs, and those of others are made once.
"""

import hashlib
import importlib.util
import logging
from pathlib import Path

import platformdirs

from lkdn_deploy import __version__
from lkdn_deploy.backends.onnx_bytes import properties, read_artefact
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.files import publish
from lkdn_deploy.runtime.bundled import FOLDER

log = logging.getLogger(__name__)

TARGETS = {"ort-cpu": "ort-cpu", "openvino": "openvino"}
"""By backend. Other engines rewrite graphs by themselves."""

_ROWS, _COLUMNS = 61, 83


def form_for(artefact: Path, backend: str) -> Path:
    """The file to open on ``backend`` for ``artefact``: another form of a plain one in float32, else the file itself.

    Where the form cannot be made (onnx-ir is not installed, the folder cannot be written, the numbers differ) the log
    says so, and the artefact runs as it is.
    """
    target = TARGETS.get(backend)
    if target is None:
        return artefact
    shipped = artefact.with_name(f"{artefact.stem}_{target}.onnx")
    if artefact.parent == FOLDER and shipped.exists():
        return shipped
    try:
        data = read_artefact(artefact, backend)
        metadata = ArtifactMetadata.from_props(properties(data))
    except InputError:
        return artefact  # whoever opens it says what is wrong
    if (metadata.target, metadata.precision) != ("plain", "fp32"):
        return artefact
    digest = hashlib.sha256(data).hexdigest()
    path = platformdirs.user_cache_path("lkdn-deploy") / "forms" / f"{digest}-{target}-{__version__}.onnx"
    if _is_form(path, target, metadata):
        return path
    if importlib.util.find_spec("onnx_ir") is None:
        log.info("%s runs as it is: with the package onnx-ir it would be rewritten for %s", artefact, target)
        return artefact
    try:
        _make(data, target, path, backend)
    except (LkdnError, OSError) as error:
        log.warning("%s runs as it is, not rewritten for %s: %s", artefact, target, error)
        return artefact
    return path


def _is_form(path: Path, target: str, metadata: ArtifactMetadata) -> bool:
    """Whether the file says that it is this form of this artefact: anyone may have written to the cache."""
    try:
        found = ArtifactMetadata.from_props(properties(read_artefact(path, target)))
    except InputError:
        return False
    return (found.target, found.model, found.weights_sha256) == (target, metadata.model, metadata.weights_sha256)


def _make(data: bytes, target: str, path: Path, backend: str) -> None:
    """Write the form, if it computes the same."""
    import numpy as np
    import onnx

    from lkdn_deploy.graph.target import rewrite_for
    from lkdn_deploy.imaging.pixels import to_batch
    from lkdn_deploy.samples import sample_pixels
    from lkdn_deploy.verify.comparison import verify

    plain = onnx.load_model_from_string(data)
    photograph = to_batch(sample_pixels())[:, :, :_ROWS, :_COLUMNS]
    path.parent.mkdir(parents=True, exist_ok=True)
    with publish(path) as part:
        part.write_bytes(data)
        reference = open_session(part, backend).run
        part.write_bytes(rewrite_for(plain, target).model.SerializeToString())
        verify({"photograph": np.ascontiguousarray(photograph)}, open_session(part, backend).run, reference)

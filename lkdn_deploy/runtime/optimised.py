"""The form of an artefact that an engine runs fastest: shipped beside it, found in the user's cache, or made now.

An artefact stays one file. Making its form for a CPU engine takes a second and a half, most of it for importing the
packages that rewrite graphs, and 0.6 MB of disk. So bundled artefacts ship with their forms, and those of other
artefacts are made once.
"""

import hashlib
import importlib.util
import logging
from dataclasses import replace

from lkdn_deploy import __version__
from lkdn_deploy.backends.onnx_bytes import Artifact, parse_artifact, read_artifact, reading
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.cache import Store
from lkdn_deploy.core.errors import LkdnError
from lkdn_deploy.runtime.bundled import FOLDER

log = logging.getLogger(__name__)

TARGETS = {"ort-cpu": "ort-cpu", "openvino": "openvino"}
"""Targets of ``graph`` by backend. The other engines rewrite graphs themselves."""

STORE = Store("forms", ".onnx")
_ROWS, _COLUMNS = 61, 83


def optimised_for(artifact: Artifact, backend: str) -> Artifact:
    """Return the form of ``artifact`` to open on ``backend``: a plain float32 artefact has one for each CPU engine.

    Where the form cannot be made (onnx-ir is not installed, the cache cannot be written, the numbers differ), the log
    says why, and the artefact itself is returned.
    """
    target = TARGETS.get(backend)
    if target is None or (artifact.metadata.target, artifact.metadata.precision) != ("plain", "fp32"):
        return artifact
    shipped = artifact.path.with_name(f"{artifact.path.stem}_{target}.onnx")
    if artifact.path.parent == FOLDER and shipped.exists():
        return read_artifact(shipped)
    name = f"{hashlib.sha256(artifact.data).hexdigest()}-{target}-{__version__}"
    try:
        if (found := STORE.load(name)) is not None:
            return parse_artifact(*found)
        if importlib.util.find_spec("onnx_ir") is None:
            log.info("%s runs as it is: with the package onnx-ir it would be rewritten for %s", artifact.path, target)
            return artifact
        with reading(artifact.path):
            form = _rewritten(artifact, target, backend)
        return parse_artifact(STORE.write(name, form), form)
    except LkdnError as error:
        log.warning("%s runs as it is, not rewritten for %s: %s", artifact.path, target, error)
        return artifact


def _rewritten(artifact: Artifact, target: str, backend: str) -> bytes:
    """Return the form as the content of a file.

    Raises:
        VerificationError: if its results differ.
    """
    import numpy as np
    import onnx

    from lkdn_deploy.graph.pipeline import rewrite_for, serialize
    from lkdn_deploy.imaging.pixels import to_batch
    from lkdn_deploy.samples import sample_pixels
    from lkdn_deploy.verify.comparison import verify

    model = onnx.load_model_from_string(artifact.data)
    # The passes do so, too, and print a traceback where it fails.
    onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
    multiple = artifact.metadata.size_multiple
    rewritten = rewrite_for(model, artifact.metadata, target)
    form = serialize(rewritten.model, rewritten.metadata)
    rows, columns = (-(-side // multiple) * multiple for side in (_ROWS, _COLUMNS))
    photograph = to_batch(sample_pixels())[:, :, :rows, :columns]
    verify(
        {"photograph": np.ascontiguousarray(photograph)},
        open_session(replace(artifact, data=form), backend).run,
        open_session(artifact, backend).run,
    )
    return form

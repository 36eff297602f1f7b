"""The form of an artefact's graph that engines are built from: rewritten for fewer kernels, in the same precision.

This is the only place that decides it, for engines that are built ahead and for those that are built on opening.
"""

import logging
from typing import NamedTuple

from lkdn_deploy.backends.onnx_bytes import Artifact, reading
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import LkdnError, MissingError
from lkdn_deploy.core.optional import needs
from lkdn_deploy.graph.targets import TARGETS

log = logging.getLogger(__name__)

_TIED_TO_RANGES = ("range", "faint")
"""Reasons of operations in FP32 that depend on values, which a rewritten graph has others of."""


class Form(NamedTuple):
    """A graph to build from, and the rewrites that had an effect on it."""

    data: bytes
    rewrites: tuple[str, ...]


def rewrites_for(metadata: ArtifactMetadata) -> tuple[str, ...]:
    """Return the rewrites to apply to an artefact before a build; none if it is rewritten already."""
    if metadata.target != "plain" or any(metadata.islands.get(reason) for reason in _TIED_TO_RANGES):
        return ()
    return TARGETS["tensorrt"]


def form_of(artifact: Artifact, rewrites: tuple[str, ...], extra: str) -> Form:
    """Return the graph to build an engine from.

    Where a graph cannot be rewritten, the log says why, and it is returned as it is.

    Args:
        artifact: the artefact; its file is not changed.
        rewrites: passes to apply.
        extra: the extra that installs what rewrites graphs.

    Raises:
        MissingError: if a package is missing.
    """
    if not rewrites:
        return Form(artifact.data, ())
    with needs(extra):
        import onnx
        import onnx_ir  # noqa: F401
    try:
        with reading(artifact.path):
            from lkdn_deploy.graph.fp16.cast import cast_to_fp16
            from lkdn_deploy.graph.fp16.widen import widen
            from lkdn_deploy.graph.pipeline import rewrite

            facts = artifact.metadata
            half = facts.precision == "fp16"
            model = onnx.load_model_from_string(artifact.data)
            # The passes do so, too, and print a traceback where it fails.
            onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True, data_prop=True)
            rewritten = rewrite(widen(model) if half else model, rewrites)
            result = cast_to_fp16(rewritten.model, facts.io).model if half else rewritten.model
            applied = tuple(name for name in rewrites if rewritten.outcomes[name].applied)
            return Form(result.SerializeToString(), applied)
    except MissingError:
        raise
    except LkdnError as error:
        log.warning("the engine is built from %s as it is, not rewritten: %s", artifact.path.name, error.message)
        return Form(artifact.data, ())

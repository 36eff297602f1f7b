"""An artefact's graph in the form that an engine likes, with what the artefact then says of itself."""

from collections.abc import Collection
from dataclasses import dataclass, replace

import onnx

from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.graph.ir_utils import Outcome
from lkdn_deploy.graph.liveness import live_channels
from lkdn_deploy.graph.pipeline import TARGETS, rewrite
from lkdn_deploy.graph.radius import receptive_radius


@dataclass(frozen=True, slots=True)
class ForTarget:
    """A graph that computes the same."""

    model: onnx.ModelProto
    metadata: ArtifactMetadata
    outcomes: dict[str, Outcome]
    """By rewrite."""


def rewrite_for(model: onnx.ModelProto, target: str, skip: Collection[str] = ()) -> ForTarget:
    """Apply a target's rewrites, and set the tile halo and the memory to what the graph then has, where it tells.

    Args:
        model: a plain artefact in float32, with its metadata; it is not changed.
        target: of ``TARGETS``.
        skip: rewrites to leave out.

    Raises:
        InputError: if the metadata is missing or damaged.
    """
    metadata = ArtifactMetadata.from_props({prop.key: prop.value for prop in model.metadata_props})
    if target == "plain":
        result, outcomes = onnx.ModelProto(), dict[str, Outcome]()
        result.CopyFrom(model)
    else:
        rewritten = rewrite(model, [name for name in TARGETS[target] if name not in skip])
        result, outcomes = rewritten.model, rewritten.outcomes
        metadata = replace(metadata, live_channels=live_channels(result) or metadata.live_channels)
    found = receptive_radius(result).pixels
    if (
        found is not None
    ):  # else the whole picture counts, or the graph does not tell: mirrored borders are put together
        metadata = replace(metadata, receptive_radius=found)
    metadata = replace(metadata, target=target)
    onnx.helper.set_model_props(result, metadata.to_props())
    return ForTarget(result, metadata, outcomes)

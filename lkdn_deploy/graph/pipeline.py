"""The passes in their order, and the rewriting of whole artefacts for the targets."""

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import NamedTuple

import onnx
import onnx_ir as ir
from onnx import version_converter
from onnx_ir.passes.common import ShapeInferencePass

from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.graph.ir_utils import Outcome
from lkdn_deploy.graph.liveness import live_channels
from lkdn_deploy.graph.passes.approximate_gelu import approximate_gelu
from lkdn_deploy.graph.passes.clean_up import clean_up
from lkdn_deploy.graph.passes.fold_replicated_input import fold_replicated_input
from lkdn_deploy.graph.passes.fold_shift import fold_shift
from lkdn_deploy.graph.passes.lower_layer_norm import (
    RMS_OPSET,
    layer_norm_to_conv,
    layer_norm_to_rms,
    layer_norm_to_sum,
)
from lkdn_deploy.graph.passes.merge_parallel_conv import merge_parallel_conv
from lkdn_deploy.graph.passes.merge_separable_conv import merge_separable_conv, merge_wide_separable_conv
from lkdn_deploy.graph.passes.pad_channels import pad_channels
from lkdn_deploy.graph.passes.split_concat_conv import split_concat_conv
from lkdn_deploy.graph.radius import receptive_radius
from lkdn_deploy.graph.targets import TARGETS

PASSES: dict[str, Callable[[ir.Graph], Outcome]] = {
    "approximate-gelu": approximate_gelu,
    "fold-replicated-input": fold_replicated_input,
    "merge-separable-conv": merge_separable_conv,
    "merge-wide-separable-conv": merge_wide_separable_conv,
    "layer-norm-to-conv": layer_norm_to_conv,
    "layer-norm-to-rms": layer_norm_to_rms,
    "layer-norm-to-sum": layer_norm_to_sum,
    "merge-parallel-conv": merge_parallel_conv,
    "split-concat-conv": split_concat_conv,
    "fold-shift": fold_shift,
    "pad-channels": pad_channels,
}
"""The passes in the order in which they are applied: each works on what those before it leave."""


class Rewritten(NamedTuple):
    """A graph that computes the same as the original, and the outcome of each pass."""

    model: onnx.ModelProto
    outcomes: dict[str, Outcome]


def rewrite(model: onnx.ModelProto, names: Collection[str]) -> Rewritten:
    """Apply passes to a float32 graph in the order of ``PASSES``, and clean up after each.

    The model is not changed. ``layer-norm-to-rms`` raises the opset of the result to 23.

    Raises:
        KeyError: if there is no such pass.
    """
    wanted = {name: PASSES[name] for name in names}
    if "layer-norm-to-rms" in wanted and model.opset_import[0].version < RMS_OPSET:
        model = version_converter.convert_version(model, RMS_OPSET)
    result = ir.from_proto(model)
    outcomes = {"clean-up": clean_up(result)}
    for name, apply in PASSES.items():
        if name in wanted:
            ShapeInferencePass()(result)
            outcomes[name] = apply(result.graph)
            clean_up(result)
    proto = ir.to_proto(result)
    del proto.graph.value_info[:]
    return Rewritten(proto, outcomes)


class RewrittenArtifact(NamedTuple):
    """An artefact's graph for a target, its metadata, and the outcome of each pass."""

    model: onnx.ModelProto
    metadata: ArtifactMetadata
    outcomes: dict[str, Outcome]


def rewrite_for(
    model: onnx.ModelProto,
    metadata: ArtifactMetadata,
    target: str,
    skip: Collection[str] = (),
    also: Collection[str] = (),
) -> RewrittenArtifact:
    """Apply a target's passes, and measure the tile halo and the memory of the resulting graph.

    Args:
        model: a plain float32 graph; it is not changed.
        metadata: its metadata. The radius and the live channels stay where the graph does not show its own.
        target: a key of ``TARGETS``.
        skip: passes of the target to leave out.
        also: passes of ``OPTIONAL`` to apply as well.
    """
    result, outcomes = onnx.ModelProto(), dict[str, Outcome]()
    result.CopyFrom(model)
    if target != "plain":
        result, outcomes = rewrite(model, [*(name for name in TARGETS[target] if name not in skip), *also])
        metadata = replace(metadata, target=target, live_channels=live_channels(result) or metadata.live_channels)
    radius = receptive_radius(result, metadata.size_multiple).pixels
    if radius is not None:  # otherwise global, or with borders written in a way that hides that it is not
        metadata = replace(metadata, receptive_radius=radius)
    return RewrittenArtifact(result, metadata, outcomes)


def serialize(model: onnx.ModelProto, metadata: ArtifactMetadata) -> bytes:
    """Return the bytes of an artefact, after writing the metadata into ``model``."""
    onnx.helper.set_model_props(model, metadata.to_props())
    return bytes(model.SerializeToString())

"""The passes in their order, and which of them a target takes."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import onnx
import onnx_ir as ir
from onnx import version_converter
from onnx_ir.passes.common import ShapeInferencePass

from lkdn_deploy.graph.ir_utils import Outcome
from lkdn_deploy.graph.passes.clean_up import clean
from lkdn_deploy.graph.passes.fold_replicated_input import fold_replicated_input
from lkdn_deploy.graph.passes.fold_shift import fold_shift
from lkdn_deploy.graph.passes.lower_layer_norm import as_convolutions, as_operator
from lkdn_deploy.graph.passes.merge_separable_conv import merge_separable_conv
from lkdn_deploy.graph.passes.pad_channels import pad_channels
from lkdn_deploy.graph.passes.split_concat_conv import split_concat_conv

PASSES: dict[str, Callable[[ir.Graph], Outcome]] = {
    "fold-replicated-input": fold_replicated_input,
    "merge-separable-conv": merge_separable_conv,
    "layer-norm-to-conv": as_convolutions,
    "layer-norm-to-rms": as_operator,
    "split-concat-conv": split_concat_conv,
    "fold-shift": fold_shift,
    "pad-channels": pad_channels,
}
"""In the order in which they are applied: each finds what those before it leave."""


TARGETS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "tensorrt": ("fold-replicated-input",),
    "ort-cpu": tuple(name for name in PASSES if name != "layer-norm-to-rms"),
    "openvino": tuple(name for name in PASSES if name != "layer-norm-to-conv"),
}
"""What each engine likes. TensorRT fuses norms and chooses layouts by itself, and is left to it."""

_RMS_OPSET = 23


@dataclass(frozen=True, slots=True)
class Rewritten:
    """A graph that computes the same, and what was done to it."""

    model: onnx.ModelProto
    outcomes: dict[str, Outcome]


def rewrite(model: onnx.ModelProto, names: Collection[str]) -> Rewritten:
    """Apply the passes of these names, in the order of ``PASSES``, and clean up.

    Args:
        model: float32; it is not changed.
        names: of ``PASSES``. ``layer-norm-to-rms`` takes the graph to opset 23.

    Raises:
        KeyError: if there is no such pass.
    """
    wanted = {name: PASSES[name] for name in names}
    if "layer-norm-to-rms" in wanted and model.opset_import[0].version < _RMS_OPSET:
        model = version_converter.convert_version(model, _RMS_OPSET)
    result = ir.from_proto(model)
    outcomes = {"clean": clean(result)}
    for name, apply in PASSES.items():
        if name in wanted:
            ShapeInferencePass()(result)
            outcomes[name] = apply(result.graph)
            clean(result)
    proto = ir.to_proto(result)
    del proto.graph.value_info[:]
    return Rewritten(proto, outcomes)

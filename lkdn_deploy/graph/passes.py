"""The passes in their order, and which of them a target takes."""

from collections.abc import Callable, Collection
from dataclasses import dataclass

import onnx
import onnx_ir as ir
from onnx import version_converter
from onnx_ir.passes.common import ShapeInferencePass

from lkdn_deploy.graph.carried_shift import carried_shift
from lkdn_deploy.graph.clean import clean
from lkdn_deploy.graph.dense_head import dense_head
from lkdn_deploy.graph.editing import Outcome
from lkdn_deploy.graph.padded_channels import padded_channels
from lkdn_deploy.graph.replicated_input import replicated_input
from lkdn_deploy.graph.rms_norm import as_convolutions, as_operator
from lkdn_deploy.graph.sum_of_convolutions import sum_of_convolutions

PASSES: dict[str, Callable[[ir.Graph], Outcome]] = {
    "replicated-input": replicated_input,
    "dense-head": dense_head,
    "rms-norm": as_convolutions,
    "rms-operator": as_operator,
    "sum-of-convolutions": sum_of_convolutions,
    "carried-shift": carried_shift,
    "padded-channels": padded_channels,
}
"""In the order in which they are applied: each finds what those before it leave."""


TARGETS: dict[str, tuple[str, ...]] = {
    "plain": (),
    "tensorrt": ("replicated-input",),
    "ort-cpu": tuple(name for name in PASSES if name != "rms-operator"),
    "openvino": tuple(name for name in PASSES if name != "rms-norm"),
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
        names: of ``PASSES``. ``rms-operator`` takes the graph to opset 23.

    Raises:
        KeyError: if there is no such pass.
    """
    wanted = {name: PASSES[name] for name in names}
    if "rms-operator" in wanted and model.opset_import[0].version < _RMS_OPSET:
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

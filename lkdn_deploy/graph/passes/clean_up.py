"""What other passes leave over and what exporters put in for nothing, taken out by ``onnx_ir``'s own passes."""

import onnx_ir as ir
from onnx_ir.passes import Sequential
from onnx_ir.passes.common import (
    CommonSubexpressionEliminationPass,
    DeduplicateInitializersPass,
    IdentityEliminationPass,
    LiftConstantsToInitializersPass,
    RemoveUnusedNodesPass,
    TopologicalSortPass,
)

from lkdn_deploy.graph.ir_utils import Outcome


def clean(model: ir.Model) -> Outcome:
    """Drop nodes and weights of no use, identities, and what is computed or kept twice; constants become weights."""
    before = len(model.graph) + len(model.graph.initializers)
    Sequential(
        IdentityEliminationPass(),
        LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0),
        CommonSubexpressionEliminationPass(),
        RemoveUnusedNodesPass(),
        DeduplicateInitializersPass(),
        TopologicalSortPass(),
    )(model)
    return Outcome(before - len(model.graph) - len(model.graph.initializers))

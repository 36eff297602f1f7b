"""Remove what passes leave over and what exporters write without need, with ``onnx_ir``'s own passes."""

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


def clean_up(model: ir.Model) -> Outcome:
    """Remove unused nodes and weights, identities and duplicates, and turn constant nodes into initializers."""
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

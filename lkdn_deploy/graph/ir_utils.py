"""The small steps that passes share, over ``onnx_ir``'s graphs: read weights, put nodes in, take a place over."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

Array = NDArray[np.float64]
"""Weights while they are worked on: rounded once, when they are put into the graph."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a pass did."""

    applied: int = 0
    """How many times."""
    refused: tuple[str, ...] = ()
    """Why not, a line for each place where the pattern was met but its condition did not hold."""


def weights(value: ir.Value | None) -> Array | None:
    """The numbers of a float32 initializer, or ``None``."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    found = value.const_value.numpy()
    return found.astype(np.float64) if found.dtype == np.float32 else None


def only_user(value: ir.Value) -> ir.Node | None:
    """The node that takes ``value``, if nothing else does and it is no output of the graph."""
    users = list(value.uses())
    return users[0].node if len(users) == 1 and not value.is_graph_output() else None


def channels(value: ir.Value) -> int | None:
    """The size of axis 1, as far as shapes were inferred."""
    if value.shape is None or len(value.shape) != 4:
        return None
    size = value.shape[1]
    return size if isinstance(size, int) else None


def integers(node: ir.Node, name: str, default: Sequence[int]) -> tuple[int, ...]:
    """An attribute of integers."""
    found = node.attributes.get(name)
    return tuple(found.as_ints()) if found is not None else tuple(default)


def integer(node: ir.Node, name: str, default: int) -> int:
    """An attribute of one integer."""
    found = node.attributes.get(name)
    return found.as_int() if found is not None else default


def put_weights(graph: ir.Graph, name: str, values: Array) -> ir.Value:
    """``values`` as a new float32 initializer, by a name that is free."""
    free, number = name, 1
    while free in graph.initializers:
        number += 1
        free = f"{name}_{number}"
    value = ir.val(free, const_value=ir.tensor(np.ascontiguousarray(values, np.float32), name=free))
    graph.register_initializer(value)
    return value


def put(
    before: ir.Node,
    kind: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, int | float | str | Sequence[int]] | None = None,
) -> ir.Value:
    """What a new node before another gives."""
    node = ir.node(kind, inputs, attributes)
    before.prepend(node)
    return node.outputs[0]


def replace(old: ir.Value, new: ir.Value) -> None:
    """``new`` where ``old`` was; what then is of no use stays until the graph is cleaned."""
    output = old.is_graph_output()
    if output:
        name, old.name = old.name, None
        new.name, new.type, new.shape = name, old.type, old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=output)

"""Operations on ``onnx_ir`` graphs that the passes share: read constants, find consumers, insert and replace nodes."""

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

import numpy as np
import onnx_ir as ir
from numpy.typing import DTypeLike, NDArray

Array = NDArray[np.float64]
"""Weights while passes work on them; they are rounded once, when they enter the graph as float32."""

Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The effect of a pass."""

    applied: int = 0
    """Number of places that were rewritten."""
    refused: tuple[str, ...] = ()
    """A line for each place that has the pattern but not its condition, with the reason."""


def rewrite_nodes(graph: ir.Graph, step: Callable[[ir.Node], bool | str]) -> Outcome:
    """Apply ``step`` to every node that the graph has now.

    It rewrites the pattern that starts at a node and returns whether it did, or the reason why it must not.
    """
    applied, refused = 0, []
    for node in list(graph):
        done = step(node)
        if isinstance(done, str):
            refused.append(f"{node.name}: {done}")
        else:
            applied += done
    return Outcome(applied, tuple(refused))


def constant(value: ir.Value | None) -> Array | None:
    """Return the numbers of a float32 initializer in float64, or ``None``."""
    if value is None or not value.is_initializer() or value.const_value is None:
        return None
    numbers = value.const_value.numpy()
    return numbers.astype(np.float64) if numbers.dtype == np.float32 else None


def weight_and_bias(node: ir.Node) -> tuple[Array, Array | None] | None:
    """Return a node's second input and its third, if it has one; ``None`` if they are not constant float32."""
    values = [value for value in node.inputs[1:3] if value is not None]
    found = [constant(value) for value in values]
    if not found or node.inputs[1] is None or found[0] is None or found[-1] is None:
        return None
    return found[0], found[1] if len(found) > 1 else None


def integer_input(node: ir.Node, position: int) -> tuple[int, ...]:
    """Return the constant whole numbers that a node takes as an input; none if it has no such input."""
    value = node.inputs[position] if len(node.inputs) > position else None
    if value is None or value.const_value is None:
        return ()
    return tuple(int(number) for number in value.const_value.numpy().reshape(-1))


def sole_consumer(value: ir.Value) -> ir.Node | None:
    """Return the only node that takes ``value``; ``None`` if there are more, or if the graph gives it as output."""
    uses = list(value.uses())
    return uses[0].node if len(uses) == 1 and not value.is_graph_output() else None


def channel_count(value: ir.Value) -> int | None:
    """Return the size of axis 1 of an (N, C, H, W) tensor, or ``None`` if shape inference did not find it."""
    size = value.shape[1] if value.shape is not None and len(value.shape) == 4 else None
    return size if isinstance(size, int) else None


def concatenates_channels(node: ir.Node) -> bool:
    """Return whether a node is a ``Concat`` of two or more tensors over axis 1."""
    return node.op_type == "Concat" and len(node.inputs) > 1 and node.attributes.get_int("axis", 0) == 1


def add_initializer(
    graph: ir.Graph, name: str, values: Array | NDArray[np.int64], dtype: DTypeLike = np.float32
) -> ir.Value:
    """Add ``values`` to the graph as an initializer, under ``name`` or, if it is taken, a numbered one.

    Args:
        graph: the graph, which is changed.
        name: preferred name.
        values: of any shape.
        dtype: the type in the graph.
    """
    free, number = name, 1
    while free in graph.initializers:
        number += 1
        free = f"{name}_{number}"
    value = ir.val(free, const_value=ir.tensor(np.asarray(values, dtype, order="C"), name=free))
    graph.register_initializer(value)
    return value


def insert_before(
    node: ir.Node,
    op_type: str,
    inputs: Sequence[ir.Value | None],
    attributes: Mapping[str, int | float | str | Sequence[int]] | None = None,
) -> ir.Value:
    """Insert an operator before ``node`` and return its result.

    Args:
        node: the operator that comes after the new one.
        op_type: ONNX's name of the new operator.
        inputs: its inputs; ``None`` for an optional one that is left out.
        attributes: its attributes.
    """
    new = ir.node(op_type, inputs, attributes)
    node.prepend(new)
    return new.outputs[0]


def replace_value(old: ir.Value, new: ir.Value) -> None:
    """Let everything that takes ``old`` take ``new``; nodes without use stay until ``clean_up``."""
    output = old.is_graph_output()
    if output:
        name, old.name = old.name, None
        new.name, new.type, new.shape = name, old.type, old.shape
    old.replace_all_uses_with(new, replace_graph_outputs=output)


class DisjointSets(Generic[Item]):
    """Items in sets that can be joined (union-find)."""

    def __init__(self) -> None:
        self._parents: dict[Item, Item] = {}

    def root(self, item: Item) -> Item:
        """Return the item that stands for the set of ``item``, which becomes a set of its own if it is new."""
        parent = self._parents.setdefault(item, item)
        if parent != item:
            parent = self._parents[item] = self.root(parent)
        return parent

    def join(self, one: Item, other: Item) -> None:
        """Make one set of the sets of two items; ``other``'s root stands for it."""
        self._parents[self.root(one)] = self.root(other)

    def __iter__(self) -> Iterator[list[Item]]:
        """Yield the members of each set."""
        sets: dict[Item, list[Item]] = {}
        for item in self._parents:
            sets.setdefault(self.root(item), []).append(item)
        return iter(sets.values())

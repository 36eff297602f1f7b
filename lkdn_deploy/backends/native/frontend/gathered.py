"""Windows over the rows of a map that a graph gathers by their numbers: those of the cells of a picture.

A graph takes the largest numbers of all windows of adjacent rows, and then few of these. Only they are computed.
"""

from collections.abc import Mapping
from typing import Any

from lkdn_deploy.backends.native.frontend.tensors import ProgramBuilder, RowWindows
from lkdn_deploy.backends.native.ir import RowPooling, require

Attributes = Mapping[str, Any]


def export_windows(builder: ProgramBuilder, node: Any, _: list[str], attributes: Attributes) -> None:
    """Note windows over the rows of a map, of which nothing is computed before some of them are gathered.

    Args:
        builder: the program under construction.
        node: a ``MaxPool``.
        attributes: its attributes.
    """
    builder.windows[node.output[0]] = RowWindows(node, int(attributes["kernel_shape"][0]))


def check_gathered(builder: ProgramBuilder, inputs: list[str], attributes: Attributes) -> None:
    """Check that a node gathers some of the windows over the rows of a map.

    Args:
        builder: the maps and constants that were imported so far.
        inputs: names of the node's inputs.
        attributes: its attributes.

    Raises:
        UnsupportedError: if it does not.
    """
    over_rows = inputs[0] in builder.windows and inputs[0] not in builder.partition.depths
    require(over_rows and attributes.get("axis", 0) in (2, -2), "numbered parts of a tensor")
    windows = builder.windows[inputs[0]]
    numbers = builder.partition.numbers(inputs[1])
    listed = numbers is not None and builder.partition.at_most_rows(numbers)
    require(listed, "rows whose numbers are not a list, or more than there are rows")
    depth = max(builder.depths[value] for value in builder.maps[windows.node.input[0]].values)
    require(builder.partition.depths[numbers or ""] <= depth, "rows whose numbers depend on the picture")


def export_gathered(builder: ProgramBuilder, node: Any, inputs: list[str], _: Attributes) -> None:
    """Export a map for the windows over its rows that a node gathers.

    Args:
        builder: the program under construction.
        node: a ``Gather``.
        inputs: names of its inputs.
    """
    windows, numbers = builder.windows[inputs[0]], builder.partition.numbers(inputs[1])
    value = builder.export_rows(windows.node.input[0])
    builder.add_pooling(value, RowPooling(node.output[0], windows.side, (numbers or "",)))


def check_larger(builder: ProgramBuilder, inputs: list[str], _: Attributes) -> None:
    """Check that a maximum is one of windows over the rows of one map.

    Args:
        builder: the maps and constants that were imported so far.
        inputs: names of the node's inputs.

    Raises:
        UnsupportedError: if it is not.
    """
    found = [builder.poolings[name] for name in inputs if name in builder.poolings]
    alike = len({(value, pooling.side) for value, pooling in found}) == 1
    require(len(found) == len(inputs) and alike, "a maximum of other tensors")


def export_larger(builder: ProgramBuilder, node: Any, inputs: list[str], _: Attributes) -> None:
    """Export a maximum of windows over the rows of one map as that of larger windows.

    Args:
        builder: the program under construction.
        node: a ``Max``.
        inputs: names of its inputs.
    """
    value, first = builder.poolings[inputs[0]]
    starts = dict.fromkeys(start for name in inputs for start in builder.poolings[name][1].starts)
    builder.add_pooling(value, RowPooling(node.output[0], first.side, tuple(starts)))

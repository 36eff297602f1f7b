"""Evaluation of operators on constants: a short list of them, with a bound on the bytes of their results.

Exporters compute weights and sizes so. A file of a few bytes may ask for gigabytes, or for a loop without end.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_BYTES = 64 << 20
"""Limit of all results of one graph."""

_LONGEST = 8
"""Bytes of the longest number."""

_Shapes = Sequence[tuple[int, ...]]


def _joined(shapes: _Shapes) -> int:
    return sum(map(math.prod, shapes))


def _broadcast(shapes: _Shapes) -> int:
    return math.prod(np.broadcast_shapes(*shapes))


_MOST: dict[str, Callable[[_Shapes], int]] = {
    **dict.fromkeys(("Add", "And", "Div", "Equal", "Greater", "Less", "Mod", "Mul", "Sub"), _broadcast),
    **dict.fromkeys(("Cast", "Ceil", "Concat", "Constant", "Floor", "Identity", "Neg"), _joined),
    **dict.fromkeys(("Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"), _joined),
    "Gather": lambda shapes: math.prod(map(math.prod, shapes)),
}
"""A bound on the numbers in the result, from the operands' shapes, for each operator that is evaluated."""


class FoldingError(Exception):
    """A node that is not evaluated; the text is a noun phrase that says why."""


class Folding:
    """Evaluates nodes of one graph, until their results take ``MAX_BYTES``."""

    def __init__(self) -> None:
        self._bytes = 0

    def evaluate(self, node: Any, arguments: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Return the outputs of a node, a ``NodeProto``.

        Raises:
            FoldingError: if it is not one of the operators, its outputs would be too large, or it fails.
        """
        from onnx.reference import ReferenceEvaluator

        if node.op_type not in _MOST or node.domain:
            msg = f"the operator {node.op_type} on constants"
            raise FoldingError(msg)
        try:
            self._bytes += _LONGEST * _MOST[node.op_type]([it.shape for it in arguments.values()])
            if self._bytes <= MAX_BYTES:
                with np.errstate(all="ignore"):
                    return [np.asarray(it) for it in ReferenceEvaluator(node).run(None, dict(arguments))]
        except Exception as error:  # the evaluator's exceptions have no common base
            msg = f"the operator {node.op_type} on such constants"
            raise FoldingError(msg) from error
        msg = f"computed constants of {self._bytes >> 20} MiB, more than {MAX_BYTES >> 20}"
        raise FoldingError(msg)

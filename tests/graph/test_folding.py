"""The evaluation of operators on constants."""

import numpy as np
import onnx
import pytest
from onnx import helper

from lkdn_deploy.graph.folding import MAX_BYTES, Folding, FoldingError


def test_a_node_is_evaluated() -> None:
    node = helper.make_node("Concat", ["a", "b"], ["c"], axis=0)
    (found,) = Folding().evaluate(node, {"a": np.array([1]), "b": np.array([2, 3])})
    assert found.tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("kind", "arguments", "reason"),
    [
        ("Expand", [np.ones(1), np.array([1 << 30])], "the operator Expand"),
        ("Add", [np.ones((100_000, 1)), np.ones((1, 100_000))], "more than 64"),
        ("Gather", [np.ones(100_000), np.zeros(100_000, np.int64)], "more than 64"),
        ("Reshape", [np.ones(4), np.array([3])], "the operator Reshape on such constants"),
        ("Add", [np.ones(4), np.ones(3)], "the operator Add on such constants"),
    ],
)
def test_what_is_too_large_or_fails_is_refused(kind: str, arguments: list[np.ndarray], reason: str) -> None:
    node = helper.make_node(kind, ["a", "b"], ["c"])
    with pytest.raises(FoldingError, match=reason):
        Folding().evaluate(node, dict(zip("ab", arguments, strict=True)))


def test_the_results_of_one_graph_are_bounded_together() -> None:
    folding, half = Folding(), np.ones(MAX_BYTES // 20)
    node = helper.make_node("Neg", ["a"], ["b"])
    folding.evaluate(node, {"a": half})
    folding.evaluate(node, {"a": half})
    with pytest.raises(FoldingError, match="more than 64"):
        folding.evaluate(node, {"a": half})


def test_an_operator_of_another_domain_is_not_taken_for_one_of_onnx() -> None:
    node = onnx.NodeProto(op_type="Neg", domain="elsewhere", input=["a"], output=["b"])
    with pytest.raises(FoldingError):
        Folding().evaluate(node, {"a": np.ones(2)})

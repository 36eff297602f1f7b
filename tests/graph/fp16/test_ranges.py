"""The values that tensors take."""

from typing import Any

import numpy as np
import pytest

from lkdn_deploy.export.to_fp16 import measure_ranges
from lkdn_deploy.graph.fp16.ranges import Range, find_peak, gather_ranges


def test_ranges_are_those_of_all_inputs_and_of_the_least(graph: Any) -> None:
    model = graph("a = Mul(lr, by)\nshape = Shape(lr)\nsr = Relu(a)", by=-3.0)
    before = model.SerializeToString()
    inputs = [np.full((1, 3, 4, 5), value, np.float32) for value in (0.25, 1, 0)]
    assert measure_ranges(model, inputs) == {"lr": Range(1, 0.25), "a": Range(3, 0.75), "sr": Range(0, 0)}
    assert model.SerializeToString() == before


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_counts_as_infinite(value: float) -> None:
    assert gather_ranges(["a"], [[1.0], [value]]) == {"a": Range(float("inf"), 1.0)}


def test_the_peak_is_of_those_that_are_asked_for() -> None:
    ranges = {"a": Range(10, 1), "b": Range(655.04, 1), "c": Range(1e9, 1)}
    found = find_peak({"a", "b", "other"}, ranges)
    assert found is not None
    assert (found.tensor, found.value) == ("b", 655.04)
    assert found.margin == pytest.approx(100)
    assert find_peak({"other"}, ranges) is None

"""The rules by which operations stay in FP32."""

from typing import Any

import numpy as np
import onnx
import pytest

from lkdn_deploy.graph.fp16.keep_fp32 import MAX_VALUE, MIN_PEAK, Reason, find_kept_nodes
from lkdn_deploy.graph.fp16.ranges import Range, Ranges
from lkdn_deploy.graph.fp16.types import float_names

EYE = np.eye(3, dtype=np.float32)[:, :, None, None]
DEVIATION = """
    x = Relu(lr)
    mean = ReduceMean(x, axes)
    off = Sub(x, mean)
    square = Pow(off, two)
    variance = ReduceMean(square, axes)
    deviation = Sqrt(variance)
    both = Add(deviation, mean)
    gate = Conv(both, w)
    sr = Mul(x, gate)
"""


def islands(model: onnx.ModelProto, ranges: Ranges | None = None) -> dict[str, Reason]:
    found = find_kept_nodes(model, float_names(model), ranges or {})
    return {model.graph.node[place].output[0]: reason for place, reason in found.items()}


def test_a_standard_deviation_is_in_fp32_from_the_deviations_to_the_root(graph: Any) -> None:
    model = graph(f"axes = Constant<value_ints=[2, 3]>()\n{DEVIATION}", two=2.0, w=EYE)
    names = ("mean", "off", "square", "variance", "deviation", "both")
    assert islands(model) == dict.fromkeys(names, Reason.STATISTICS)


def test_what_a_mean_is_taken_of_stays_in_half_if_it_is_no_deviation(graph: Any) -> None:
    model = graph("x = Conv(lr, w)\nmean = GlobalAveragePool(x)\ngate = Sigmoid(mean)\nsr = Mul(x, gate)", w=EYE)
    assert islands(model) == {"mean": Reason.STATISTICS}


@pytest.mark.parametrize(
    ("body", "value", "found"),
    [
        ("sr = Conv(lr, w)", 65504.0, False),
        ("sr = Conv(lr, w)", 65600.0, True),
        ("sr = Conv(lr, w)", 1e-3, False),
        ("sr = Conv(lr, w)", 1e-6, True),
        ("sr = Mul(lr, w)", 1.2345e-6, True),
        ("sr = Add(lr, w)", 1.2345e-6, False),
        ("sr = Add(lr, w)", 1e6, True),
        ("sr = Div(lr, w)", 255.0, False),
    ],
)
def test_weights_beyond_half_or_too_small_for_it(graph: Any, body: str, value: float, found: bool) -> None:
    weight = EYE * 1.0001
    weight[1] *= value / weight[1].max()
    weight = weight if "Conv" in body else np.float32(value)
    assert bool(islands(graph(body, w=weight))) == found


def test_one_small_weight_among_large_ones_does_not_matter(graph: Any) -> None:
    weight = EYE.copy()
    weight[0, 1] = 1e-7
    assert islands(graph("sr = Conv(lr, w)", w=weight)) == {}


@pytest.mark.parametrize(
    ("largest", "reason"),
    [(MAX_VALUE, None), (MAX_VALUE * 1.01, Reason.RANGE), (MIN_PEAK, None), (MIN_PEAK / 2, Reason.FAINT), (0.0, None)],
)
def test_values_too_large_or_too_small_keep_maker_and_takers_in_fp32(
    graph: Any, largest: float, reason: Reason | None
) -> None:
    model = graph("a = Relu(lr)\nb = Relu(a)\nc = Relu(b)\nsr = Relu(c)")
    found = islands(model, {"b": Range(largest, largest)})
    assert found == ({"b": reason, "c": reason} if reason else {})

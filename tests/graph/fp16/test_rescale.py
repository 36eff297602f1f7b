"""Powers of two in weights: the same result, smaller values."""

from typing import Any

import numpy as np
import pytest

from lkdn_deploy.export.to_fp16 import measure_ranges
from lkdn_deploy.graph.fp16.cast import cast_to_fp16
from lkdn_deploy.graph.fp16.keep_fp32 import MAX_VALUE
from lkdn_deploy.graph.fp16.ranges import Range, find_peak
from lkdn_deploy.graph.fp16.rescale import TARGET_PEAK, rescale
from lkdn_deploy.graph.pipeline import rewrite

RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "w1": RANDOM.normal(size=(6, 3, 1, 1)) * 1e4,
    "b1": RANDOM.normal(size=6) * 100,
    "w2": RANDOM.normal(size=(6, 1, 3, 3)) * 30,
    "w3": RANDOM.normal(size=(3, 6, 1, 1)),
    "b3": RANDOM.normal(size=3),
    "gain": [1, 1, 1],
}
ATTENTION = """
    x = Sigmoid(lr)
    a = Conv(x, w1, b1)
    b = Conv<group=6, pads=[1, 1, 1, 1]>(a, w2)
    six = Concat<axis=1>(x, x)
    c = Mul(six, b)
    d = Conv(c, w3, b3)
    last = Transpose<perm=[0, 2, 3, 1]>(d)
    n = LayerNormalization<axis=-1>(last, gain)
    sr = Transpose<perm=[0, 3, 1, 2]>(n)
"""


def test_what_a_norm_divides_by_is_brought_into_range_and_the_result_is_the_same_bit_by_bit(
    graph: Any, run: Any, noise: Any
) -> None:
    model = graph(ATTENTION, **WEIGHTS)
    before = model.SerializeToString()
    ranges = measure_ranges(model, [noise])
    assert ranges["d"].largest > 65504
    result = rescale(model, ranges)
    assert model.SerializeToString() == before
    assert result.exponents.keys() == {"a", "b", "c", "d", "last"}
    assert result.exponents["b"] == result.exponents["c"]
    assert len(result.model.graph.node) == len(model.graph.node)
    # Kernels may sum in another order; by how much, any float32 run shows.
    assert np.abs(run(result.model, noise) - run(model, noise)).max() < 1e-5
    measured = measure_ranges(result.model, [noise])
    for name, item in result.ranges.items():
        assert measured[name].largest == pytest.approx(item.largest, rel=1e-4)
        assert item.largest <= max(TARGET_PEAK, ranges["x"].largest)


def test_a_norm_that_is_written_out_is_brought_into_range_as_well(graph: Any, run: Any, noise: Any) -> None:
    """Both norms take their epsilon from the same tensor, and only the first has a factor."""
    body = """
        a = Conv(lr, w1, b1)
        b = Mul(a, a)
        c = ReduceSum(b, axis)
        d = Add(c, epsilon)
        e = Sqrt(d)
        f = Div(a, e)
        s = Mul(f, f)
        t = ReduceSum(s, axis)
        u = Add(t, epsilon)
        v = Sqrt(u)
        w = Div(f, v)
        sr = Conv(w, w3, b3)
    """
    model = graph("axis = Constant<value_ints=[1]>()\n" + body, **WEIGHTS, epsilon=[1e8])
    model = rewrite(model, []).model
    result = rescale(model, measure_ranges(model, [noise]))
    k = result.exponents["a"]
    assert k > 0
    assert result.exponents == {"a": k, "b": 2 * k, "c": 2 * k, "d": 2 * k, "e": k}
    assert np.abs(run(result.model, noise) - run(model, noise)).max() < 1e-5
    half = cast_to_fp16(result.model, "fp32", result.ranges)
    assert half.reasons == {"statistics": 10}
    assert np.abs(run(half.model, noise) - run(model, noise)).max() < 0.02


def test_it_fits_into_half_where_it_did_not(graph: Any, run: Any, noise: Any) -> None:
    model = graph(ATTENTION, **WEIGHTS)
    naive = run(cast_to_fp16(model).model, noise)
    assert not np.isfinite(naive).all()
    result = rescale(model, measure_ranges(model, [noise]))
    half = cast_to_fp16(result.model, "fp32", result.ranges)
    assert half.reasons == {"statistics": 1}
    assert np.abs(run(half.model, noise) - run(model, noise)).max() < 0.02
    largest = find_peak(half.held, result.ranges)
    assert largest is not None
    assert largest.value <= TARGET_PEAK


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("a = Conv(lr, w)\nb = Sigmoid(a)\nsr = Conv(b, v)", "a sigmoid is not homogeneous"),
        ("a = Conv(lr, w)\nb = Add(a, lr)\nsr = Conv(b, v)", "the input has no factor"),
        ("sr = Conv(lr, w)", "the output has none either"),
        ("a = Conv(lr, w)\nb = Conv(a, w)\nsr = Conv(b, v)", "both use the weights"),
    ],
)
def test_a_tensor_that_may_not_be_divided_is_left_alone(graph: Any, body: str, why: str) -> None:
    model = graph(body, w=np.full((3, 3, 1, 1), 1e5), v=np.full((3, 3, 1, 1), 1e-5))
    ranges = {name: Range(10 * MAX_VALUE, 10 * MAX_VALUE) for name in ("a", "b", "sr")} | {"lr": Range(1, 1)}
    result = rescale(model, ranges)
    assert result.exponents == {}, why
    assert result.model.graph == model.graph


def test_a_tensor_that_is_small_on_some_inputs_is_left_alone(graph: Any) -> None:
    model = graph("a = Conv(lr, w)\nsr = Conv(a, v)", w=np.ones((3, 3, 1, 1)), v=np.ones((3, 3, 1, 1)))
    others = {"lr": Range(1, 1), "sr": Range(1, 1)}
    assert rescale(model, {"a": Range(1e6, 1e5), **others}).exponents == {"a": 13}
    assert rescale(model, {"a": Range(1e20, 60.0), **others}).exponents == {}
    assert rescale(model, {"a": Range(float("inf"), 60.0), **others}).exponents == {}

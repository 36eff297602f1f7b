"""Weights as integers: no sum leaves 32 bits in any order, and as many bits are kept as that allows."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("llvmlite")

from lkdn_deploy.backends.native.fixed.integers import (
    MAX_SHIFT,
    MOST,
    Reach,
    extreme_sums,
    scaled_integers,
    shifted_integers,
    sums_fit,
)

LOWEST, HIGHEST = -(1 << 31), (1 << 31) - 1

ENDS = ((-32768, 32767), (0, 32767), (-1300, 32767), (-32768, 0), (0, 0))
"""Ranges that values have: all, after ReLU, after GELU, and others."""


@st.composite
def convolutions(draw: st.DrawFn) -> tuple[NDArray[np.float64], NDArray[np.float64], Reach]:
    """Weights (out, in, taps) of any spread and sign, biases, and the ranges of the inputs."""
    outs, ins, taps = draw(st.integers(1, 4)), draw(st.integers(1, 40)), draw(st.sampled_from([1, 3, 9, 25]))
    random = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    kind = draw(st.sampled_from(["normal", "alike", "one sign", "one large", "zero"]))
    weight = random.standard_normal((outs, ins, taps))
    if kind == "alike":
        weight = np.sign(weight)
    elif kind == "one sign":
        weight = np.abs(weight)
    elif kind == "one large":
        weight[:, 0, 0] *= 1e4
    elif kind == "zero":
        weight[0] = 0
    weight *= 10.0 ** draw(st.floats(-6, 0)) / (ins * taps)
    bias = random.standard_normal(outs) * 10.0 ** draw(st.floats(-3, 4))
    reach = np.array([ENDS[it] for it in random.integers(0, len(ENDS), ins)]).T
    return weight, bias, (reach[0], reach[1])


def check_orders(weight: NDArray[Any], bias: NDArray[Any], reach: Reach, seed: int) -> None:
    """Add products of inputs at the ends of their ranges, in several orders, pairwise and alone."""
    random = np.random.default_rng(seed)
    whole, offset = weight.astype(np.int64), bias.astype(np.int64)
    low, high = (np.broadcast_to(it[:, None], whole.shape[1:]) for it in reach)
    for row, start in zip(whole, offset, strict=True):
        worst = np.where(row > 0, high, low), np.where(row > 0, low, high)
        drawn = np.where(random.integers(0, 2, row.shape), low, high)
        for inputs in (*worst, drawn):
            products = (row * inputs).ravel()
            by_sign = np.argsort(products)
            for order in (by_sign, by_sign[::-1], random.permutation(len(products))):
                ordered = products[order]
                pairs = ordered[: len(ordered) // 2 * 2].reshape(-1, 2).sum(axis=1)
                for partial in (ordered, np.cumsum(ordered), start + np.cumsum(ordered), pairs, np.cumsum(pairs)):
                    assert partial.size == 0 or (partial.min() >= LOWEST and partial.max() <= HIGHEST)


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.integers(0, 2**32 - 1))
def test_sums_to_integers_stay_in_32_bits_in_any_order(
    drawn: tuple[NDArray[np.float64], NDArray[np.float64], Reach], seed: int
) -> None:
    weight, bias, reach = drawn
    whole, offset, shift = shifted_integers(weight, bias, reach)
    assert sums_fit(whole, offset, reach)
    check_orders(whole, offset, reach, seed)
    power = np.exp2(shift.astype(float))
    assert np.abs(whole / power[:, None, None] - weight).max() <= 0.5 / power.min()
    # The rounding is in the bias: a sum shifted right is the nearest integer.
    np.testing.assert_allclose(offset / power - np.where(shift > 0, 0.5, 0), bias, atol=0.5 / power.min())
    # One bit more does not fit.
    twice, doubled = np.rint(weight * 2 * power[:, None, None]), np.rint(bias * 2 * power) + power
    more = (extreme_sums(twice, doubled, reach) > MOST) | (np.abs(twice).max(axis=(1, 2)) > 32767)
    assert (more | (shift == MAX_SHIFT)).all()


@settings(max_examples=60, deadline=None)
@given(convolutions(), st.integers(0, 2**32 - 1))
def test_sums_to_float32_stay_in_32_bits_in_any_order(
    drawn: tuple[NDArray[np.float64], NDArray[np.float64], Reach], seed: int
) -> None:
    weight, bias, reach = drawn
    whole, offset, unit = scaled_integers(weight, bias, reach)
    assert sums_fit(whole, offset, reach)
    check_orders(whole, offset, reach, seed)
    assert (np.abs(whole * unit[:, None, None] - weight) <= 0.5001 * unit[:, None, None]).all()
    assert (np.abs(offset * unit - bias) <= 0.5001 * unit).all()


def test_one_unit_more_in_a_weight_is_seen() -> None:
    reach = np.array([-32768]), np.array([32767])
    assert sums_fit(np.full((1, 1, 2), 32767, np.int16), np.zeros(1, np.int32), reach)
    # The pair of instructions that multiply and add: 2 * 32768 * 32768 is 2^31.
    assert not sums_fit(np.full((1, 1, 2), -32768, np.int16), np.zeros(1, np.int32), reach)
    # 65535 * 32768 leaves room for a bias of 32767.
    weight = np.array([[[32767, 32767, 1]]], np.int16)
    assert sums_fit(weight, np.array([-32767], np.int32), reach)
    assert not sums_fit(weight, np.array([-32769], np.int32), reach)

"""Each rewrite: how often it applied, what the graph became, the numbers, and near misses that are left alone."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator

from lkdn_deploy.graph.pipeline import PASSES, rewrite
from lkdn_deploy.graph.targets import TARGETS

RANDOM = np.random.default_rng(0)
NORM = """t = Transpose<perm=[0, 2, 3, 1]>({0})
l = LayerNormalization<axis=-1>(t, g, h)
{1} = Transpose<perm=[0, 3, 1, 2]>(l)"""


def normal(*shape: int) -> NDArray[np.float32]:
    return RANDOM.normal(size=shape).astype(np.float32)


WEIGHTS = {
    "first": normal(6, 3, 1, 1),
    "four": normal(6, 12, 3, 3),
    "own": normal(6, 1, 3, 3),
    "b": normal(6),
    "c": normal(6),
    "to3": normal(3, 6, 1, 1),
    "wide": normal(3, 18, 1, 1),
    "b3": normal(3),
    "g": normal(6),
    "h": normal(6),
    "shift": normal(1, 6, 1, 1),
    "head": normal(21, 3, 1, 1),
    "deep": normal(21, 1, 3, 3),
    "b21": normal(21),
    "tail": normal(3, 42, 1, 1),
    "three": normal(6, 6, 3, 3),
    "six": normal(6, 6, 1, 1),
    "each": normal(1, 21, 1, 1),
}


def used(body: str) -> dict[str, NDArray[np.float32]]:
    words = body.replace("(", " ").replace(")", " ").replace(",", " ").split()
    return {name: value for name, value in WEIGHTS.items() if name in words}


def kinds(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


APPLIES = [
    (
        "fold-replicated-input",
        "a = Concat<axis=1>(lr, lr, lr, lr)\nd = Conv<pads=[1, 1, 1, 1]>(a, four, b)\nsr = Conv(d, to3)",
        1,
        ["Conv", "Conv"],
    ),
    (
        "merge-separable-conv",
        "a = Conv(lr, first)\nd = Conv<group=6, pads=[1, 1, 1, 1]>(a, own, b)\nsr = Conv(d, to3)",
        1,
        ["Conv", "Conv"],
    ),
    (  # a bias does not matter where nothing is padded
        "merge-separable-conv",
        "a = Conv(lr, first, b)\nd = Conv<group=6>(a, own, c)\nsr = Conv(d, to3)",
        1,
        ["Conv", "Conv"],
    ),
    (
        "layer-norm-to-conv",
        "a = Conv(lr, first, b)\n" + NORM.format("a", "n") + "\nsr = Conv(n, to3)",
        1,
        ["Conv", "Mul", "Conv", "Sqrt", "Reciprocal", "Conv", "Mul", "Add", "Conv"],
    ),
    (  # nothing before it takes the mean in
        "layer-norm-to-conv",
        "a = Conv(lr, first, b)\ns = Sigmoid(a)\n" + NORM.format("s", "n") + "\nsr = Conv(n, to3)",
        1,
        ["Conv", "Sigmoid", "Conv", "Mul", "Conv", "Sqrt", "Reciprocal", "Conv", "Mul", "Add", "Conv"],
    ),
    (  # something else takes what the convolution gives: it must stay as it is
        "layer-norm-to-conv",
        "a = Conv(lr, first, b)\n" + NORM.format("a", "n") + "\nm = Add(a, n)\nsr = Conv(m, to3)",
        1,
        ["Conv", "Conv", "Mul", "Conv", "Sqrt", "Reciprocal", "Conv", "Mul", "Add", "Add", "Conv"],
    ),
    (
        "layer-norm-to-sum",
        "a = Conv(lr, first, b)\n" + NORM.format("a", "n") + "\nsr = Conv(n, to3)",
        1,
        ["Conv", "Mul", "ReduceSum", "Add", "Sqrt", "Div", "Mul", "Add", "Conv"],
    ),
    (
        "merge-wide-separable-conv",
        "a = Conv(lr, first, b)\nd = Conv(a, six)\ne = Conv<group=6, pads=[1, 1, 1, 1]>(d, own, b)\nsr = Conv(e, to3)",
        1,
        ["Conv", "Conv", "Conv"],
    ),
    (  # the last operand is not activated in the same way, and stays
        "merge-parallel-conv",
        "a = Conv(lr, first)\nd = Relu(a)\ni = Conv(a, six, b)\nj = Gelu(i)\nk = Conv(d, six)\nl = Gelu(k)\n"
        "m = Concat<axis=1>(j, l, d)\nsr = Conv(m, wide, b3)",
        1,
        ["Conv", "Relu", "Concat", "Conv", "Gelu", "Concat", "Conv"],
    ),
    (
        "split-concat-conv",
        "a = Conv(lr, first)\nd = Sigmoid(a)\ne = Relu(d)\nf = Concat<axis=1>(a, d, e)\nsr = Conv(f, wide, b3)",
        1,
        ["Conv", "Conv", "Sigmoid", "Conv", "Add", "Relu", "Conv", "Add"],
    ),
    (
        "fold-shift",
        "a = Conv(lr, first)\nd = Add(a, shift)\ne = Sigmoid(a)\nf = Add(d, e)\ni = Conv(f, to3, b3)\n"
        "j = Conv(d, to3)\nsr = Add(i, j)",
        1,
        ["Conv", "Sigmoid", "Add", "Conv", "Conv", "Add"],
    ),
    (
        "pad-channels",
        "a = Conv(lr, head, b21)\nd = Conv<group=21, pads=[1, 1, 1, 1]>(a, deep)\ne = Gelu(d)\nf = Mul(e, a)\n"
        "i = Conv(lr, head)\nj = Concat<axis=1>(i, f)\nsr = Conv(j, tail)",
        2,
        ["Conv", "Conv", "Gelu", "Mul", "Conv", "Concat", "Conv"],
    ),
    (  # constants of each channel are padded, too
        "pad-channels",
        "a = Conv(lr, head, b21)\nd = Add(a, each)\ne = Mul(each, d)\ni = Conv(lr, head)\nj = Concat<axis=1>(e, i)\n"
        "sr = Conv(j, tail)",
        2,
        ["Conv", "Add", "Mul", "Conv", "Concat", "Conv"],
    ),
]


@pytest.mark.parametrize(("name", "body", "times", "after"), APPLIES)
def test_it_applies_and_the_numbers_stay(
    name: str, body: str, times: int, after: list[str], graph: Any, run: Any, noise: Any
) -> None:
    model = graph(body, **used(body))
    before = model.SerializeToString()
    result = rewrite(model, [name])
    assert model.SerializeToString() == before
    assert result.outcomes[name].applied == times
    assert kinds(result.model) == after
    onnx.checker.check_model(result.model, full_check=True)
    small = np.ascontiguousarray(noise[:, :, :3, :4])  # all border
    for batch in (noise, small, np.zeros_like(noise)):
        assert run(result.model, batch) == pytest.approx(run(model, batch), rel=1e-5, abs=2e-5)


NEAR_MISSES = [
    (
        "fold-replicated-input",
        "a = Concat<axis=1>(lr, lr, lr, lr)\nd = Conv<pads=[1, 1, 1, 1]>(a, four, b)\n"
        "e = Conv<pads=[1, 1, 1, 1]>(a, four)\nf = Add(d, e)\nsr = Conv(f, to3)",
        "not for one ungrouped convolution alone",
    ),
    (
        "fold-replicated-input",
        "r = Relu(lr)\na = Concat<axis=1>(lr, lr, r, lr)\nd = Conv<pads=[1, 1, 1, 1]>(a, four, b)\nsr = Conv(d, to3)",
        "",
    ),
    (
        "merge-separable-conv",
        "a = Conv(lr, first, b)\nd = Conv<group=6, pads=[1, 1, 1, 1]>(a, own, c)\nsr = Conv(d, to3)",
        "its bias would reach past the border",
    ),
    (
        "merge-separable-conv",
        "a = Conv(lr, first)\nd = Conv<group=6, pads=[1, 1, 1, 1]>(a, own)\ne = Add(a, d)\nsr = Conv(e, to3)",
        "",
    ),
    (
        "merge-separable-conv",
        "a = Conv(lr, first)\nd = Conv<group=6, pads=[2, 2, 2, 2], dilations=[2, 2]>(a, own)\nsr = Conv(d, to3)",
        "strides or dilations",
    ),
    (
        "layer-norm-to-conv",
        "a = Conv(lr, first)\nt = Transpose<perm=[0, 3, 2, 1]>(a)\nl = LayerNormalization<axis=-1>(t, g, h)\n"
        "n = Transpose<perm=[0, 3, 2, 1]>(l)\nsr = Conv(n, to3)",
        "not over the channels",
    ),
    (
        "split-concat-conv",
        "a = Conv(lr, first)\nd = Relu(a)\nf = Concat<axis=1>(a, d, d)\ne = Sigmoid(f)\nsr = Conv(e, wide, b3)",
        "not for one pointwise convolution alone",
    ),
    (
        "fold-shift",
        "a = Conv(lr, first)\nd = Add(a, shift)\ne = Conv<pads=[1, 1, 1, 1]>(d, three)\nsr = Conv(e, to3)",
        "Conv",
    ),
    (
        "fold-shift",
        "a = Conv(lr, first)\nd = Add(a, shift)\ne = Gelu(d)\nf = Add(d, e)\nsr = Conv(f, to3)",
        "Gelu",
    ),
    (
        "pad-channels",
        "a = Conv(lr, head)\nt = Transpose<perm=[0, 2, 3, 1]>(a)\nu = Transpose<perm=[0, 3, 1, 2]>(t)\n"
        "f = Concat<axis=1>(u, u)\nsr = Conv(f, tail)",
        "Transpose takes or gives it",
    ),
    ("pad-channels", "a = Conv(lr, first)\nd = Relu(a)\nsr = Conv(d, to3)", ""),
    (  # no convolution makes what the second one takes, so it would be copied
        "merge-parallel-conv",
        "a = Conv(lr, first)\nd = Mul(a, a)\ni = Conv(a, six)\nj = Gelu(i)\nk = Conv(d, six)\nl = Gelu(k)\n"
        "m = Concat<axis=1>(j, l, d)\nsr = Conv(m, wide, b3)",
        "",
    ),
    (  # something else takes what one gives
        "merge-parallel-conv",
        "a = Conv(lr, first)\nd = Relu(a)\ni = Conv(a, six)\nj = Gelu(i)\nk = Conv(d, six)\nl = Gelu(k)\n"
        "m = Concat<axis=1>(j, l, j)\nsr = Conv(m, wide, b3)",
        "",
    ),
]


@pytest.mark.parametrize(("name", "body", "reason"), NEAR_MISSES)
def test_a_near_miss_is_left_alone_and_said(name: str, body: str, reason: str, graph: Any) -> None:
    model = graph(body, **used(body))
    result = rewrite(model, [name])
    assert result.outcomes[name].applied == 0
    assert bool(result.outcomes[name].refused) == bool(reason)
    assert all(reason in line for line in result.outcomes[name].refused)
    assert kinds(result.model) == kinds(model)


def test_fewer_channels_than_would_be_mostly_padding_stay(graph: Any) -> None:
    body = "a = Conv(lr, w)\nd = Relu(a)\nsr = Conv(d, v)"
    result = rewrite(graph(body, w=normal(9, 3, 1, 1), v=normal(3, 9, 1, 1)), ["pad-channels"])
    assert result.outcomes["pad-channels"].refused == ("a: 9 channels would become 16",)


def test_padded_channels_hold_no_more_than_zeros_make(graph: Any, run: Any, noise: Any) -> None:
    """A sigmoid of zero is not zero: what takes it must not see it."""
    body = "a = Conv(lr, w)\nd = Sigmoid(a)\ne = ReduceMean<keepdims=1>(d, axes)\nf = Mul(d, e)\nsr = Conv(f, v)"
    model = graph(body.replace(", axes", ""), w=normal(21, 3, 1, 1), v=normal(3, 21, 1, 1))
    assert rewrite(model, ["pad-channels"]).outcomes["pad-channels"].applied == 0  # of all axes
    weights = {"w": normal(21, 3, 1, 1), "v": normal(3, 21, 1, 1)}
    head = "axes = Constant<value_ints=[2, 3]>()\n"
    model = graph(head + body, **weights)
    result = rewrite(model, ["pad-channels"])
    assert result.outcomes["pad-channels"].applied == 1
    shapes = {tensor.name: tuple(tensor.dims) for tensor in result.model.graph.initializer}
    assert (32, 3, 1, 1) in shapes.values()
    assert (3, 32, 1, 1) in shapes.values()
    assert run(result.model, noise) == pytest.approx(run(model, noise), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize("between", ["Relu(a)", "Sigmoid(a)"])
def test_a_sum_over_channels_sees_zeros_only_in_those_that_are_padded(
    between: str, graph: Any, run: Any, noise: Any
) -> None:
    """A sigmoid of zero is not zero: what is summed keeps its channels."""
    axis = "axis = Constant<value_ints=[1]>()\n"
    body = (
        f"{axis}a = Conv(lr, w)\nd = {between}\ne = Mul(d, d)\nf = ReduceSum(e, axis)\ni = Div(d, f)\nsr = Conv(i, v)"
    )
    model = graph(body, w=np.abs(normal(21, 3, 1, 1)), v=normal(3, 21, 1, 1))
    result = rewrite(model, ["pad-channels"])
    assert result.outcomes["pad-channels"].applied == (between == "Relu(a)")
    assert run(result.model, noise) == pytest.approx(run(model, noise), rel=1e-5, abs=1e-5)


def test_an_approximate_gelu_is_near(graph: Any, run: Any, noise: Any) -> None:
    model = graph("a = Mul(lr, eight)\nb = Sub(a, four)\nsr = Gelu(b)", eight=[8.0], four=[4.0])
    result = rewrite(model, ["approximate-gelu"])
    difference = np.abs(run(result.model, noise) - run(model, noise)).max()
    assert 0 < difference < 5e-4
    assert rewrite(result.model, ["approximate-gelu"]).outcomes["approximate-gelu"].applied == 0


def test_passes_go_in_their_order_whatever_order_they_are_named_in(graph: Any) -> None:
    body = "a = Conv(lr, first)\nd = Conv<group=6, pads=[1, 1, 1, 1]>(a, own, b)\nsr = Conv(d, to3)"
    model = graph(body, **used(body))
    names = [*reversed(PASSES)]
    names.remove("layer-norm-to-rms")
    assert list(rewrite(model, names).outcomes) == ["clean-up", *(name for name in PASSES if name in names)]
    with pytest.raises(KeyError):
        rewrite(model, ["no such pass"])


def test_what_is_of_no_use_goes(graph: Any) -> None:
    body = "a = Conv(lr, first)\nx = Identity(a)\nu = Relu(x)\nd = Relu(x)\ny = Sigmoid(x)\ne = Add(u, d)\n"
    body += "sr = Conv(e, to3)"
    result = rewrite(graph(body, **used(body)), [])
    assert kinds(result.model) == ["Conv", "Relu", "Add", "Conv"]


@settings(max_examples=25)
@given(widths=st.lists(st.integers(8, 40), min_size=2, max_size=4), depthwise=st.booleans(), seed=st.integers(0, 1000))
def test_chains_of_any_widths_keep_their_numbers(graph: Any, widths: list[int], depthwise: bool, seed: int) -> None:
    """Pointwise, depthwise, norm, concatenation of all before: everything at once, on made-up networks."""
    random = np.random.default_rng(seed)
    lines, weights = [], {}
    before, depth = "lr", 3
    for i, width in enumerate(widths):
        weights |= {f"w{i}": random.normal(size=(width, depth, 1, 1)) / depth**0.5, f"b{i}": random.normal(size=width)}
        weights |= {f"g{i}": random.normal(size=width), f"h{i}": random.normal(size=width)}
        lines.append(f"a{i} = Conv({before}, w{i}, b{i})")
        if depthwise:
            weights[f"d{i}"] = random.normal(size=(width, 1, 3, 3)) / 3
            lines.append(f"e{i} = Conv<group={width}, pads=[1, 1, 1, 1]>(a{i}, d{i})")
        lines += [
            f"t{i} = Transpose<perm=[0, 2, 3, 1]>({'e' if depthwise else 'a'}{i})",
            f"l{i} = LayerNormalization<axis=-1>(t{i}, g{i}, h{i})",
            f"n{i} = Transpose<perm=[0, 3, 1, 2]>(l{i})",
        ]
        before, depth = f"n{i}", width
    weights["last"] = random.normal(size=(3, sum(widths), 1, 1)) / sum(widths) ** 0.5
    lines += [f"all = Concat<axis=1>({', '.join(f'n{i}' for i in range(len(widths)))})", "sr = Conv(all, last)"]
    model = graph("\n".join(lines), **weights)
    batch = random.random((2, 3, 5, 4)).astype(np.float32)
    reference = ReferenceEvaluator(model).run(None, {"lr": batch})[0]
    for target, norm in (("ort-cpu", "layer-norm-to-conv"), ("tensorrt", "layer-norm-to-sum")):
        result = rewrite(model, TARGETS[target])
        assert result.outcomes[norm].applied == len(widths)
        assert not {"LayerNormalization", "Transpose"}.intersection(kinds(result.model))
        if target == "ort-cpu":
            assert result.outcomes["fold-shift"].applied == len(widths)
            assert "Concat" not in kinds(result.model)
        onnx.checker.check_model(result.model, full_check=True)
        found = ReferenceEvaluator(result.model).run(None, {"lr": batch})[0]
        assert found == pytest.approx(reference, rel=1e-3, abs=1e-3)

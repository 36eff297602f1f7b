"""The receptive radius of graphs, against what changes when one input pixel does."""

from typing import Any

import numpy as np
import onnx
import pytest

from lkdn_deploy.graph.pipeline import PASSES, rewrite
from lkdn_deploy.graph.radius import Radius, receptive_radius
from lkdn_deploy.runtime.bundled import bundled

RANDOM = np.random.default_rng(0)
WEIGHTS = {
    "w33": RANDOM.normal(size=(3, 3, 3, 3)),
    "w35": RANDOM.normal(size=(3, 3, 3, 5)),
    "up": RANDOM.normal(size=(12, 3, 1, 1)),
    "t44": RANDOM.normal(size=(3, 3, 4, 4)),
    "t66": RANDOM.normal(size=(3, 3, 6, 6)),
    "s66": RANDOM.normal(size=(3, 3, 6, 6)),
    "six": RANDOM.normal(size=(3, 6, 3, 3)),
    "g": [1, 2, 3],
    "sizes": [1, 1, 2, 2],
    "three": [1, 1, 3, 3],
    "half": [1, 1, 1.5, 1.5],
}


def distance(model: onnx.ModelProto, run: Any) -> int:
    """Return how far the change of an input pixel is seen, in input pixels, wherever in an enlarged one it lies."""
    size = 41
    batch = RANDOM.random((1, 3, size, size)).astype(np.float32)
    before = run(model, batch)
    batch[0, :, size // 2, size // 2] += 1
    changed = np.any(run(model, batch) != before, axis=(0, 1))
    scale = changed.shape[0] // size
    rows, columns = (np.flatnonzero(changed.any(axis=axis)) // scale for axis in (1, 0))
    return int(max(np.abs(rows - size // 2).max(), np.abs(columns - size // 2).max()))


GRAPHS = {
    "nothing": ("sr = Relu(lr)", 0),
    "convolution": ("sr = Conv<pads=[1, 1, 1, 1]>(lr, w33)", 1),
    "wider": ("sr = Conv<pads=[1, 2, 1, 2]>(lr, w35)", 2),
    "dilated": ("a = Conv<pads=[3, 3, 3, 3], dilations=[3, 3]>(lr, w33)\nsr = Conv<pads=[1, 1, 1, 1]>(a, w33)", 4),
    "the farther branch": (
        "a = Conv<pads=[1, 1, 1, 1]>(lr, w33)\nb = Conv<pads=[1, 1, 1, 1]>(a, w33)\nsr = Add(a, b)",
        2,
    ),
    "concatenated": (
        "a = Conv<pads=[1, 2, 1, 2]>(lr, w35)\nb = Concat<axis=1>(lr, a)\nsr = Conv<pads=[1,1,1,1]>(b, six)",
        3,
    ),
    "on one side": ("sr = Conv<pads=[2, 2, 0, 0]>(lr, w33)", 2),
    "pool": ("sr = MaxPool<kernel_shape=[5, 5], pads=[2, 2, 2, 2]>(lr)", 2),
    "behind pixel shuffle": (
        "a = Conv(lr, up)\nb = DepthToSpace<blocksize=2>(a)\nsr = Conv<pads=[1, 1, 1, 1]>(b, w33)",
        1,
    ),
    "twice behind pixel shuffle": (
        "a = Conv(lr, up)\nb = DepthToSpace<blocksize=2>(a)\nc = Conv<pads=[1, 1, 1, 1]>(b, w33)\n"
        "sr = Conv<pads=[1, 2, 1, 2]>(c, w35)",
        2,
    ),
    "transposed": ("sr = ConvTranspose<strides=[2, 2], pads=[1, 1, 1, 1]>(lr, t44)", 1),
    "transposed, wider": ("sr = ConvTranspose<strides=[2, 2], pads=[2, 2, 2, 2]>(lr, t66)", 1),
    "up and down": (
        "a = ConvTranspose<strides=[2, 2], pads=[2, 2, 2, 2]>(lr, t66)\n"
        "sr = Conv<strides=[2, 2], pads=[2, 2, 2, 2]>(a, s66)",
        2,
    ),
    "nearest": (
        'a = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">(lr, , sizes)\n'
        "sr = Conv<pads=[1, 1, 1, 1]>(a, w33)",
        1,
    ),
    "linear": ('sr = Resize<mode="linear", coordinate_transformation_mode="half_pixel">(lr, , sizes)', 1),
    "linear, three times": ('sr = Resize<mode="linear", coordinate_transformation_mode="half_pixel">(lr, , three)', 1),
    "cubic": ('sr = Resize<mode="cubic", coordinate_transformation_mode="half_pixel">(lr, , sizes)', 2),
    "cubic, three times": ('sr = Resize<mode="cubic", coordinate_transformation_mode="half_pixel">(lr, , three)', 2),
    "reflected": (
        "p = Constant<value_ints=[0, 0, 2, 2, 0, 0, 2, 2]>()\n"
        'a = Pad<mode="reflect">(lr, p)\nsr = Conv<dilations=[2, 2]>(a, w33)',
        2,
    ),
    "norm": (
        "a = Conv<pads=[1, 1, 1, 1]>(lr, w33)\nt = Transpose<perm=[0, 2, 3, 1]>(a)\n"
        "n = LayerNormalization<axis=-1>(t, g)\nsr = Transpose<perm=[0, 3, 1, 2]>(n)",
        1,
    ),
    "mean of channels": ("i = Constant<value_ints=[1]>()\nm = ReduceMean(lr, i)\nsr = Mul(lr, m)", 0),
    "a part of the channels": (
        "s = Constant<value_ints=[0]>()\ne = Constant<value_ints=[2]>()\ni = Constant<value_ints=[1]>()\n"
        "a = Conv<pads=[1, 1, 1, 1]>(lr, w33)\nb = Slice(a, s, e, i)\nc = ReduceSum(b, i)\nsr = Add(lr, c)",
        1,
    ),
}


@pytest.mark.parametrize("name", GRAPHS)
def test_it_is_the_distance_at_which_a_change_is_seen(name: str, graph: Any, run: Any) -> None:
    body, pixels = GRAPHS[name]
    model = graph(body, **{key: value for key, value in WEIGHTS.items() if key in body})
    assert receptive_radius(model) == Radius(pixels)
    assert distance(model, run) == pixels


GLOBAL = {
    "m = GlobalAveragePool(lr)\nsr = Mul(lr, m)": "GlobalAveragePool",
    "i = Constant<value_ints=[2, 3]>()\nm = ReduceMean(lr, i)\nsr = Mul(lr, m)": "the whole picture",
    "sr = Conv<strides=[2, 2], pads=[1, 1, 1, 1]>(lr, w33)": "where the picture begins",
    "t = Transpose<perm=[0, 1, 3, 2]>(lr)\nsr = Relu(t)": "rows and columns",
    'sr = Resize<mode="linear">(lr, , half)': "no whole number",
    'sr = Resize<mode="linear", coordinate_transformation_mode="align_corners">(lr, , sizes)': "align_corners",
    "s = Shape(lr)\na = MaxPool<kernel_shape=[3, 3], strides=[3, 3]>(lr)\nsr = Resize(a, , , s)": "the picture's size",
    "sr = Softmax<axis=3>(lr)": "the whole picture",
    "m = ReduceMean<keepdims=1>(lr)\nsr = Mul(lr, m)": "all axes",
    "a = Concat<axis=2>(lr, lr)\nsr = Relu(a)": "the whole picture",
}


@pytest.mark.parametrize("body", GLOBAL)
def test_what_sees_the_whole_picture_has_none_and_says_why(body: str, graph: Any) -> None:
    found = receptive_radius(graph(body, **{key: value for key, value in WEIGHTS.items() if key in body}))
    assert found.pixels is None
    assert GLOBAL[body] in found.reason


def test_what_the_output_does_not_hang_on_does_not_count(graph: Any) -> None:
    body = "m = GlobalAveragePool(lr)\nn = Relu(m)\nsr = Conv<pads=[1, 1, 1, 1]>(lr, w33)"
    assert receptive_radius(graph(body, w33=WEIGHTS["w33"])) == Radius(1)


@pytest.mark.parametrize("names", [(), tuple(name for name in PASSES if name != "layer-norm-to-rms")])
def test_of_the_bundled_network_it_is_the_papers_before_and_after_all_passes(names: tuple[str, ...]) -> None:
    """12 pixels a block and 3 for the head and the end."""
    model = rewrite(onnx.load(bundled()["lkdn-s", 4]), names).model
    assert receptive_radius(model) == Radius(5 * 12 + 3)

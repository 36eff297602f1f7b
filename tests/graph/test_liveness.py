"""The memory of a graph's activations, against figures counted by hand."""

from typing import Any

import numpy as np
import onnx
import pytest

from lkdn_deploy.graph.liveness import live_channels
from lkdn_deploy.runtime.bundled import bundled

WEIGHTS = {"wide": np.zeros((8, 3, 3, 3)), "back": np.zeros((3, 8, 3, 3)), "up": np.zeros((12, 3, 1, 1))}
PADS = "<pads=[1, 1, 1, 1]>"


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("sr = Relu(lr)", 3 + 3),
        (f"a = Conv{PADS}(lr, wide)\nb = Relu(a)\nsr = Conv{PADS}(b, back)", 8 + 8),
        (f"a = Conv{PADS}(lr, wide)\nb = Conv{PADS}(a, back)\nsr = Add(b, lr)", 3 + 8 + 3),  # the input is kept
        ("a = Exp(lr)\nb = Sin(a)\nsr = Add(a, b)", 3 + 3 + 3),
        ("a = Conv(lr, up)\nsr = DepthToSpace<blocksize=2>(a)", 12 + 12),
        ("a = GlobalAveragePool(lr)\nsr = Mul(lr, a)", 3 + 3 + 1),  # rounded up
        (  # half the height, computed from the picture's, through what ONNX's own inference does not follow
            "s = Shape<start=2, end=3>(lr)\nn = Squeeze(s)\ntwo = Constant<value_int=2>()\nh = Div(n, two)\n"
            "one = Constant<value_ints=[1]>()\ne = Reshape(h, one)\nzero = Constant<value_ints=[0]>()\n"
            "axis = Constant<value_ints=[2]>()\na = Slice(lr, zero, e, axis)\nb = Concat<axis=2>(a, a, a)\n"
            "sr = Relu(b)",
            4.5 + 4.5,
        ),
    ],
)
def test_it_is_what_is_counted_by_hand(body: str, expected: float, graph: Any) -> None:
    model = graph(body, **{name: value for name, value in WEIGHTS.items() if name in body})
    before = model.SerializeToString()
    assert live_channels(model) == int(np.ceil(expected))
    assert model.SerializeToString() == before


def test_a_size_that_is_fixed_gives_the_same(graph: Any) -> None:
    model = graph(f"a = Conv{PADS}(lr, wide)\nsr = Conv{PADS}(a, back)", wide=WEIGHTS["wide"], back=WEIGHTS["back"])
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, 17, 31), strict=True):
        dim.dim_value = size
    assert live_channels(model) == 3 + 8


def test_shapes_that_depend_on_values_are_not_guessed(graph: Any) -> None:
    body = "a = NonZero(lr)\nb = Cast<to=1>(a)\nsizes = Constant<value_ints=[1, 3, -1, 1]>()\nsr = Reshape(b, sizes)"
    assert live_channels(graph(body)) is None


def test_a_bundled_artefact_has_the_figure_of_its_own_graph() -> None:
    for path in bundled().values():
        model = onnx.load(path)
        (stated,) = (int(prop.value) for prop in model.metadata_props if prop.key == "lkdn.live_channels")
        assert live_channels(model) == stated

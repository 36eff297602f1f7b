"""Graphs of other programs: their interface is read, and a graph like ours computes the same."""

from itertools import product

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.graph.interface import adapted, read_interface, smallest_side
from lkdn_deploy.graph.radius import receptive_radius

WEIGHT = np.random.default_rng(0).normal(size=(12, 3, 3, 3)) / 5


def foreign(
    *, last: bool = False, half: bool = False, sides: tuple[int | str, int | str, int | str] = ("n", "h", "w")
) -> onnx.ModelProto:
    """A 3x3 convolution and pixel shuffle, x2, with the names of values that ours have."""
    kind = TensorProto.FLOAT16 if half else TensorProto.FLOAT
    batch, height, width = sides
    shape = [batch, height, width, 3] if last else [batch, 3, height, width]
    nodes = [
        helper.make_node(
            "Transpose" if last else "Identity", ["lr"], ["x"], **({"perm": (0, 3, 1, 2)} if last else {})
        ),
        helper.make_node("Conv", ["x", "mix"], ["y"], pads=(1, 1, 1, 1)),
        helper.make_node("DepthToSpace", ["y"], ["z"], blocksize=2, mode="CRD"),
        helper.make_node(
            "Transpose" if last else "Identity", ["z"], ["out"], **({"perm": (0, 2, 3, 1)} if last else {})
        ),
    ]
    weight = numpy_helper.from_array(WEIGHT.astype(np.float16 if half else np.float32), "mix")
    inputs = [
        helper.make_tensor_value_info("lr", kind, shape),
        helper.make_tensor_value_info("mix", kind, WEIGHT.shape),
    ]
    outputs = [helper.make_tensor_value_info("out", kind, [None] * 4)]
    return helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs, [weight]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )


def run(model: onnx.ModelProto, x: NDArray[np.float32]) -> NDArray[np.float32]:
    session = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})[0]  # type: ignore[no-any-return]


@pytest.mark.parametrize(("last", "half"), list(product([False, True], repeat=2)))
@pytest.mark.parametrize(("peak", "bgr"), [(1.0, False), (255.0, True)])
def test_a_graph_of_another_interface_is_one_of_rgb_in_0_to_1(last: bool, half: bool, peak: float, bgr: bool) -> None:
    model = foreign(last=last, half=half)
    before = model.SerializeToString()
    interface = read_interface(model)
    assert str(interface) == f"({'N, H, W, 3' if last else 'N, 3, H, W'}) of float{16 if half else 32}"
    ours = adapted(model, interface, peak=peak, bgr=bgr)
    onnx.checker.check_model(ours, full_check=True)
    assert model.SerializeToString() == before
    x = np.random.default_rng(1).random((2, 3, 5, 6), np.float32)
    plain = run(foreign(), x[:, ::-1] if bgr else x)
    expected = plain[:, ::-1] if bgr else plain
    got = run(ours, x)
    assert got.dtype == np.float32
    assert np.allclose(got, expected, rtol=0, atol=5e-3 if half else 1e-5)
    assert receptive_radius(ours).pixels == 1


def test_fixed_sides_are_told() -> None:
    interface = read_interface(foreign(sides=(4, 64, "w"), last=True))
    assert (interface.batch, interface.height, interface.width) == (4, 64, None)
    assert str(interface) == "(4, 64, W, 3) of float32"


def changed(**sides: int) -> onnx.ModelProto:
    model = foreign()
    for place, side in sides.items():
        model.graph.input[0].type.tensor_type.shape.dim[int(place[1:])].dim_value = side
    return model


def with_second(kind: str) -> onnx.ModelProto:
    model = foreign()
    getattr(model.graph, kind).append(helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, "h", "w"]))
    return model


def of_integers() -> onnx.ModelProto:
    model = foreign()
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    return model


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (changed(d1=4), r"\(\?, 4, \?, \?\) has no axis of 3 channels"),
        (changed(d3=3), "two axes of 3"),
        (with_second("input"), r"2 inputs \(lr, x\)"),
        (with_second("output"), r"2 outputs \(out, x\)"),
        (of_integers(), "is of int64"),
    ],
)
def test_an_interface_of_other_things_than_pictures_is_refused(model: onnx.ModelProto, said: str) -> None:
    with pytest.raises(InputError, match=said):
        read_interface(model)


@pytest.mark.parametrize(("window", "least"), [(7, 7), (9, 9)])
def test_the_least_side_is_that_of_the_largest_window(window: int, least: int) -> None:
    nodes = [
        helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=(window, window), strides=(3, 3)),
        helper.make_node("GlobalAveragePool", ["y"], ["z"]),
        helper.make_node("Add", ["x", "z"], ["out"]),
    ]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, None, None]) for name in ("x", "out")]
    assert smallest_side(helper.make_model(helper.make_graph(nodes, "g", values[:1], values[1:]))) == least
    assert smallest_side(foreign()) == 1

"""Typed FP16 graphs: types, casts, what comes in and goes out."""

from typing import Any

import numpy as np
import onnx
import pytest

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.graph.fp16.cast import cast_to_fp16
from lkdn_deploy.graph.fp16.keep_fp32 import Reason

FLOAT, HALF, UINT8 = onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16, onnx.TensorProto.UINT8
WEIGHT = np.random.default_rng(1).normal(size=(3, 3, 1, 1)).astype(np.float32)
NORM = """
    x = Conv(lr, w)
    last = Transpose<perm=[0, 2, 3, 1]>(x)
    n = LayerNormalization<axis=-1>(last, gain, shift)
    first = Transpose<perm=[0, 3, 1, 2]>(n)
    sr = Add(first, x)
"""
GAIN, SHIFT = np.array([1, 2, 3], np.float32), np.array([0.1, 0.2, 0.3], np.float32)


def operators(model: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in model.graph.node]


def types(model: onnx.ModelProto) -> dict[str, int]:
    inferred = onnx.shape_inference.infer_shapes(model, check_type=True, strict_mode=True).graph
    values = {v.name: v.type.tensor_type.elem_type for v in (*inferred.input, *inferred.output, *inferred.value_info)}
    return values | {tensor.name: tensor.data_type for tensor in inferred.initializer}


def test_one_cast_behind_the_input_and_one_before_the_output(graph: Any) -> None:
    model = graph("a = Conv(lr, w)\nb = Relu(a)\nc = Conv(lr, w)\nsr = Add(b, c)", w=WEIGHT)
    before = model.SerializeToString()
    result = cast_to_fp16(model)
    assert model.SerializeToString() == before
    assert operators(result.model) == ["Cast", "Conv", "Relu", "Conv", "Add", "Cast"]
    onnx.checker.check_model(result.model, full_check=True)
    kinds = types(result.model)
    assert (kinds["lr"], kinds["sr"], kinds["w"], kinds["b"]) == (FLOAT, FLOAT, HALF, HALF)
    assert result.held == {"lr", "a", "b", "c", "sr"}
    assert result.kept == {}
    assert result.model.opset_import == model.opset_import


@pytest.mark.parametrize(("io", "kind", "casts"), [("fp32", FLOAT, 2), ("fp16", HALF, 0), ("uint8", UINT8, 4)])
def test_input_and_output_are_of_the_type_that_was_asked_for(
    graph: Any, run: Any, noise: Any, io: Any, kind: int, casts: int
) -> None:
    model = graph("a = Conv(lr, w)\nsr = Relu(a)", w=np.eye(3)[:, :, None, None] * 0.9)
    half = cast_to_fp16(model, io).model
    onnx.checker.check_model(half, full_check=True)
    assert (types(half)["lr"], types(half)["sr"]) == (kind, kind)
    assert operators(half).count("Cast") == casts
    batch = {"fp32": noise, "fp16": noise.astype(np.float16), "uint8": np.rint(noise * 255).astype(np.uint8)}[io]
    whole = 255 if io == "uint8" else 1
    expected = run(model, batch.astype(np.float32) / np.float32(whole))
    assert np.abs(run(half, batch) / np.float32(whole) - expected).max() < 0.001 + (whole > 1) / 500


def test_a_uint8_input_is_cast_before_all_else_and_the_output_is_rounded_to_even_and_clipped(
    graph: Any, run: Any
) -> None:
    model = graph("sr = Mul(lr, by)", by=np.float32(0.5))
    half = cast_to_fp16(model, "uint8").model
    assert [node.op_type for node in half.graph.node if "lr" in node.input] == ["Cast"]
    levels = np.arange(256, dtype=np.uint8).reshape(1, 1, 16, 16).repeat(3, 1)
    assert np.abs(run(half, levels) - levels / 2).max() <= 0.5
    assert run(half, levels)[0, 0, 0, 10] == 5
    identity = cast_to_fp16(graph("sr = Identity(lr)"), "uint8").model
    assert np.array_equal(run(identity, levels), levels)
    bright = cast_to_fp16(graph("a = Mul(lr, by)\nsr = Sub(a, less)", by=4.0, less=1.0), "uint8").model
    assert (run(bright, levels).min(), run(bright, levels).max()) == (0, 255)


def test_a_norm_is_in_fp32_with_its_weights_and_the_rest_is_not(graph: Any) -> None:
    result = cast_to_fp16(graph(NORM, w=WEIGHT, gain=GAIN, shift=SHIFT))
    assert result.kept == {2: Reason.STATISTICS}
    assert operators(result.model) == [
        "Cast", "Conv", "Transpose", "Cast", "LayerNormalization", "Cast", "Transpose", "Add", "Cast",
    ]  # fmt: skip
    kinds = types(result.model)
    assert (kinds["gain"], kinds["shift"], kinds["n"], kinds["w"]) == (FLOAT, FLOAT, FLOAT, HALF)
    assert result.reasons == {"statistics": 1}


def test_between_neighbours_in_fp32_nothing_is_cast(graph: Any) -> None:
    result = cast_to_fp16(graph("a = Softmax<axis=1>(lr)\nb = Softmax<axis=1>(a)\nsr = Relu(b)"))
    assert operators(result.model) == ["Softmax", "Softmax", "Cast", "Relu", "Cast"]


def test_an_output_in_fp32_needs_no_cast_and_keeps_its_name(graph: Any, run: Any, noise: Any) -> None:
    model = graph("a = Relu(lr)\nsr = Softmax<axis=1>(a)")
    half = cast_to_fp16(model).model
    assert operators(half) == ["Cast", "Relu", "Cast", "Softmax"]
    assert np.abs(run(half, noise) - run(model, noise)).max() < 1e-3


def test_weights_that_both_kinds_use_are_there_in_both(graph: Any) -> None:
    body = "a = Mul(lr, s)\nb = Softmax<axis=1>(a)\nc = LayerNormalization<axis=-1>(b, s)\nsr = Mul(c, s)"
    model = graph(body, s=[2])
    half = cast_to_fp16(model).model
    assert {tensor.name: tensor.data_type for tensor in half.graph.initializer} == {"s": HALF, "s_fp32": FLOAT}
    onnx.checker.check_model(half, full_check=True)


def test_sizes_and_the_scales_of_a_resize_stay(graph: Any, run: Any, noise: Any) -> None:
    body = 'big = Resize<mode="linear">(lr, , scales)\nshape = Shape(lr)\nsr = Resize<mode="linear">(big, , , shape)'
    model = graph(body, scales=[1, 1, 2, 2])
    half = cast_to_fp16(model).model
    assert types(half)["scales"] == FLOAT
    assert np.abs(run(half, noise) - run(model, noise)).max() < 1e-3


@pytest.mark.parametrize(
    "body",
    [
        "a = Shape(lr)\nb = ConstantOfShape(a)\nsr = Add(lr, b)",
        "sr = Cast<to=1>(lr)",
    ],
)
def test_a_graph_of_another_making_is_refused(graph: Any, body: str) -> None:
    with pytest.raises(InputError, match="no FP16 form is known of"):
        cast_to_fp16(graph(body))


def test_a_graph_that_is_fp16_already_is_refused(graph: Any) -> None:
    with pytest.raises(InputError, match="only a float32 graph"):
        cast_to_fp16(cast_to_fp16(graph("sr = Relu(lr)"), "fp16").model)

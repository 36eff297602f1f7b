"""Convolutions put back to FP32, checked on ONNX Runtime."""

from typing import Any

import numpy as np
import onnx
import pytest

from lkdn_deploy.graph.fp16.cast import cast_to_fp16
from lkdn_deploy.graph.fp16.restore_fp32 import restore_fp32
from lkdn_deploy.runtime.bundled import bundled


@pytest.fixture(scope="module")
def half() -> onnx.ModelProto:
    """LKDN-S in FP16."""
    return cast_to_fp16(onnx.load(bundled()["lkdn-s", 4])).model


def grouped(model: onnx.ModelProto) -> list[str]:
    return [node.name for node in model.graph.node for item in node.attribute if item.name == "group" and item.i > 1]


def in_fp32(model: onnx.ModelProto) -> list[str]:
    kinds = {tensor.name: tensor.data_type for tensor in model.graph.initializer}
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and kinds[node.input[1]] == onnx.TensorProto.FLOAT
    ]


def test_all_grouped_convolutions_are_put_back(half: onnx.ModelProto, run: Any, noise: Any) -> None:
    before = half.SerializeToString()
    result, changed = restore_fp32(half)
    assert half.SerializeToString() == before
    assert list(changed) == grouped(half) == in_fp32(result)
    assert len(changed) > 30
    onnx.checker.check_model(result, full_check=True)
    assert np.abs(run(result, noise) - run(half, noise)).max() < 5e-3


def test_one_convolution_is_put_back_by_name(half: onnx.ModelProto, run: Any, noise: Any) -> None:
    name = grouped(half)[3]
    result, changed = restore_fp32(half, [name])
    assert list(changed) == [name] == in_fp32(result)
    assert sum(node.op_type == "Cast" for node in result.graph.node) == 2 + sum(
        node.op_type == "Cast" for node in half.graph.node
    )
    onnx.checker.check_model(result, full_check=True)
    run(result, noise)


def test_what_is_no_convolution_in_fp16_stays(half: onnx.ModelProto) -> None:
    gelu = next(node.name for node in half.graph.node if node.op_type == "Gelu")
    assert restore_fp32(half, [gelu, "nothing"]) == (half, ())
    once, _ = restore_fp32(half)
    assert restore_fp32(once) == (once, ())
    single = onnx.load(bundled()["lkdn-s", 4])
    assert restore_fp32(single) == (single, ())


def test_what_the_convolution_computes_is_exact_in_fp32(half: onnx.ModelProto) -> None:
    """Its weights and inputs are rounded as before, so only its own sums are better."""
    kernels = {tensor.name: tensor for tensor in half.graph.initializer}
    result, changed = restore_fp32(half, grouped(half)[:1])
    node = next(node for node in result.graph.node if node.name == changed[0])
    old = next(node for node in half.graph.node if node.name == changed[0])
    new = {tensor.name: tensor for tensor in result.graph.initializer}
    for ours, theirs in zip(node.input[1:], old.input[1:], strict=True):
        values = onnx.numpy_helper.to_array(new[ours])
        assert values.dtype == np.float32
        assert (values == onnx.numpy_helper.to_array(kernels[theirs]).astype(np.float32)).all()
        assert theirs not in new

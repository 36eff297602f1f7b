"""Attention to the whole picture: what the native engine leaves to ONNX Runtime, and what comes back."""

import numpy as np
import onnx
import pytest

pytest.importorskip("llvmlite")

from native_graphs import HERE, PROCESSORS, WITH_DETOURS, Graph, Runs, native, noise, reference

from lkdn_deploy.backends.native.compile import Engine
from lkdn_deploy.backends.native.frontend.importer import read_program
from lkdn_deploy.core.errors import InputError, MissingError


@pytest.mark.parametrize("target", PROCESSORS)
@pytest.mark.parametrize("size", [(11, 11), (12, 70), (65, 13), (40, 97), (13, 300)])
def test_attention_to_the_whole_picture_in_all_sizes(size: tuple[int, int], target: str) -> None:
    planes = noise(*size)
    expected = reference(WITH_DETOURS, planes)
    result = native(WITH_DETOURS, planes, PROCESSORS[target], threads=2)
    np.testing.assert_allclose(result, expected, rtol=0, atol=2e-5)
    # What the next picture is given is not what this one left.
    with Runs(Engine(read_program(WITH_DETOURS), PROCESSORS[target]), *size, 2) as run:
        for picture in (planes, 1 - planes, planes):
            last = run(picture)
    assert np.array_equal(last, result)


def test_attention_is_one_part_of_the_graph_for_each_time_that_all_must_be_known() -> None:
    program = read_program(WITH_DETOURS)
    kinds = [[node.op_type for node in onnx.load_model_from_string(it.model).graph.node] for it in program.detours]
    assert kinds == [
        ["Shape"],
        # Only along rows: the sizes are those that were asked for, but for one.
        ["Conv", "MaxPool", "Conv", "Shape", "Concat", "Shape", "Gather", "Concat", "Resize"],
        ["Sqrt", "Add", "Conv", "Sigmoid"],
        ["Conv", "Relu"],
    ]
    assert [it.depth for it in program.detours] == [0, 1, 3, 4]


def test_what_onnx_runtime_does_for_it_may_fail_or_be_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    engine = Engine(read_program(WITH_DETOURS), HERE)
    for size in ((4, 30), (30, 4), (1, 1)):  # windows are larger; the other threads are let go
        with Runs(engine, *size, threads=3) as run, pytest.raises(InputError, match="ONNX Runtime, which does a part"):
            run(noise(*size))
    with Runs(engine, 20, 30, threads=3) as run:
        assert np.isfinite(run(noise(20, 30))).all()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingError) as caught:
        Engine(read_program(WITH_DETOURS), HERE)
    assert "lkdn-deploy[cpu]" in (caught.value.hint or "")


def test_a_map_of_no_rows_is_not_stretched() -> None:
    graph = Graph()
    wide = graph.convolution(graph.convolution("lr", 40, (3, 3)), 40, (3, 3))
    small = graph.put("MaxPool", graph.convolution(wide, 40), kernel_shape=[9, 9], strides=[3, 3])
    ends = graph.put("Shape", small, end=2), graph.put("Shape", "lr", start=2)
    large = graph.put("Resize", small, "", "", graph.put("Concat", *ends, channels=0, axis=0), mode="linear")
    model = graph.model(graph.convolution(graph.put("Mul", wide, large), 3))
    np.testing.assert_allclose(native(model, noise(12, 30)), reference(model, noise(12, 30)), rtol=0, atol=2e-5)
    with pytest.raises(InputError, match="takes larger windows than 30x4"):
        native(model, noise(4, 30))


def test_values_of_all_sizes_pass_through_the_logistic_function() -> None:
    graph = Graph()
    model = graph.model(graph.put("Sigmoid", "lr"))
    planes = np.linspace(-120, 120, 3 * 50 * 61, dtype=np.float32).reshape(3, 50, 61)
    planes[0, 0, :5] = [np.nan, np.inf, -np.inf, 0, -0.0]
    result = native(model, planes)
    assert np.isnan(result[0, 0, 0])
    np.testing.assert_allclose(result[0, 0, 1:5], [1, 0, 0.5, 0.5], rtol=0, atol=1e-37)
    exact = 1 / (1 + np.exp(-planes.reshape(-1)[5:].astype(np.float64)))
    np.testing.assert_allclose(result.reshape(-1)[5:], exact, rtol=0, atol=1.2e-7)

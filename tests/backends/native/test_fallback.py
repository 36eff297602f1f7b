"""Attention over the whole image: the parts of a network that the native engine leaves to ONNX Runtime."""

import sys
import weakref

import numpy as np
import onnx
import pytest

pytest.importorskip("llvmlite")

from native_graphs import PROCESSORS, WITH_SUBGRAPHS, Graph, Run, check, compiled, native, noise

from lkdn_deploy.backends.native.fallback import Fallback
from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.core.errors import InputError, MissingError


@pytest.mark.parametrize("target", PROCESSORS)
@pytest.mark.parametrize("size", [(11, 11), (12, 70), (65, 13), (40, 97), (13, 300)])
def test_attention_in_all_sizes_and_vector_widths(size: tuple[int, int], target: str) -> None:
    image = noise(*size)
    expected = check(WITH_SUBGRAPHS, image, PROCESSORS[target], threads=2)
    run = Run(compiled(WITH_SUBGRAPHS, PROCESSORS[target]), *size, 2)
    for other in (image, 1 - image, image):  # nothing is left from the image before
        last = run(other)
    assert np.array_equal(last, expected)


def test_a_subgraph_for_each_barrier_has_only_what_has_no_kernel() -> None:
    subgraphs = import_program(WITH_SUBGRAPHS).subgraphs
    assert [[node.op_type for node in onnx.load_model_from_string(it.model).graph.node] for it in subgraphs] == [
        ["Shape"],
        # The Resize works along rows only, with another width than before.
        ["Conv", "MaxPool", "Conv", "Shape", "Concat", "Shape", "Gather", "Concat", "Resize"],
        ["Sqrt", "Add", "Conv", "Sigmoid"],
        ["Conv", "Relu"],
    ]
    assert [it.depth for it in subgraphs] == [0, 1, 3, 4]


def test_a_failure_of_onnx_runtime_ends_the_run_only(monkeypatch: pytest.MonkeyPatch) -> None:
    network = compiled(WITH_SUBGRAPHS)
    for size in ((4, 30), (30, 4), (1, 1)):  # smaller than the windows; the other threads must return
        run = Run(network, *size, threads=3)
        with pytest.raises(InputError, match="ONNX Runtime failed on a part"):
            run(noise(*size))
    run = Run(network, 20, 30, threads=3)
    assert np.isfinite(run(noise(20, 30))).all()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingError) as caught:
        compiled(WITH_SUBGRAPHS)
    assert ".[cpu]" in (caught.value.hint or "")


def test_an_image_too_small_for_the_attention_is_refused() -> None:
    graph = Graph()
    wide = graph.convolution(graph.convolution("lr", 40, (3, 3)), 40, (3, 3))
    small = graph.op("MaxPool", graph.convolution(wide, 40), kernel_shape=[9, 9], strides=[3, 3])
    ends = graph.op("Shape", small, end=2), graph.op("Shape", "lr", start=2)
    large = graph.op("Resize", small, "", "", graph.op("Concat", *ends, channels=0, axis=0), mode="linear")
    model = graph.model(graph.convolution(graph.op("Mul", wide, large), 3))
    check(model, noise(12, 30))
    with pytest.raises(InputError, match="does not accept images as small as 30x4"):
        native(model, noise(4, 30))


def test_its_sessions_are_closed_too() -> None:
    fallback = Fallback(import_program(WITH_SUBGRAPHS).subgraphs)
    references = [weakref.ref(session) for _, session in fallback._sessions.values()]
    assert references
    fallback.close()
    fallback.close()
    assert not any(reference() for reference in references)

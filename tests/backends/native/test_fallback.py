"""Attention over the whole image: the parts of a network that the native engine leaves to ONNX Runtime."""

import sys
import weakref

import numpy as np
import onnx
import pytest

pytest.importorskip("llvmlite")

from native_graphs import PROCESSORS, WITH_SUBGRAPHS, Graph, Run, attentive, check, compiled, native, noise

from lkdn_deploy.backends.native.fallback import Fallback
from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.backends.native.ir import UnsupportedError
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
        ["Conv", "Shape", "Concat", "Shape", "Gather", "Concat", "Resize"],
        ["Sqrt", "Add", "Conv", "Sigmoid"],
        ["Conv", "Relu"],
    ]
    assert [it.depth for it in subgraphs] == [0, 1, 3, 4]


def test_a_failure_of_onnx_runtime_ends_the_run_only(monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph()
    network = compiled(graph.model(attentive(graph, stride=3)))
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
    model = graph.model(graph.convolution(graph.op("Mul", wide, graph.stretched(small)), 3))
    check(model, noise(12, 30))
    for refused in (model, WITH_SUBGRAPHS):
        with pytest.raises(InputError, match="does not accept images as small as 30x4"):
            native(refused, noise(4, 30))


@pytest.mark.parametrize(
    ("window", "pads", "groups", "target"),
    [
        ((3, 3), 0, 1, "this"),
        ((3, 3), 0, 6, "8 lanes"),
        ((3, 3), 1, 1, "8 lanes"),
        ((5, 5), 2, 1, "4 lanes"),
        ((1, 1), 0, 6, "this"),
        ((3, 3), 0, 2, "4 lanes"),
    ],
)
def test_a_convolution_of_every_second_row_and_column(
    window: tuple[int, int], pads: int, groups: int, target: str
) -> None:
    """A maximum with a border and another without it follow, and are computed of its result only."""
    graph = Graph()
    head = graph.op("Relu", graph.convolution(graph.convolution("lr", 48, (3, 3)), 48, (3, 3)))
    both = graph.op("Concat", graph.convolution(head, 2), graph.convolution(head, 4), channels=6, axis=1)
    weight, bias = graph.numbers(12, 6 // groups, *window, spread=0.3), graph.numbers(12)
    small = graph.op("Conv", both, weight, bias, channels=12, strides=[2, 2], pads=[pads] * 4, group=groups)
    plain = graph.op("MaxPool", small, kernel_shape=[3, 3], strides=[2, 2])
    bordered = graph.op("MaxPool", small, kernel_shape=[3, 3], strides=[2, 2], pads=[1] * 4)
    maps = [graph.stretched(it) for it in (small, plain, bordered)]
    joined = graph.op("Concat", *maps, head, channels=84, axis=1)
    model = graph.model(graph.convolution(joined, 3))
    nodes = onnx.load_model_from_string(import_program(model).subgraphs[-1].model).graph.node
    assert [it.op_type for it in nodes].count("Conv") == 0
    assert [it.op_type for it in nodes].count("MaxPool") == 1
    network = compiled(model, PROCESSORS[target])
    for size in ((7, 7), (8, 9), (30, 65), (13, 302)):
        image = noise(*size)
        expected = check(model, image, PROCESSORS[target])
        for threads in (2, 3):
            assert np.array_equal(Run(network, *size, threads)(image), expected)


def test_a_depthwise_one_whose_weights_would_be_too_many_is_left_to_onnx_runtime() -> None:
    """For every second row and column its weights are spread out, with zeros between them."""
    graph = Graph()
    head = graph.convolution(graph.convolution("lr", 48, (3, 3)), 1024)
    weight = graph.numbers(1024, 1, 9, 9, spread=0.3)
    small = graph.op("Conv", head, weight, strides=[2, 2], pads=[4] * 4, group=1024)
    model = graph.model(graph.convolution(graph.op("Mul", head, graph.stretched(small)), 3))
    with pytest.raises(UnsupportedError, match="weights would take 324 MiB"):
        import_program(model)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("kernel_shape", []),
        ("kernel_shape", [3]),
        ("strides", []),
        ("strides", [0, 0]),
        ("pads", [0]),
        ("dilations", [1]),
    ],
)
def test_a_maximum_of_as_many_dimensions_as_onnx_does_not_have_is_refused(name: str, values: list[int]) -> None:
    model = onnx.load_model_from_string(WITH_SUBGRAPHS)
    (node,) = (it for it in model.graph.node if it.op_type == "MaxPool")
    kept = [it for it in node.attribute if it.name != name]
    del node.attribute[:]
    new = onnx.AttributeProto(name=name, type=onnx.AttributeProto.INTS, ints=values)
    node.attribute.extend([*kept, new])
    with pytest.raises((InputError, UnsupportedError)):
        import_program(model.SerializeToString())


def test_its_sessions_are_closed_too() -> None:
    fallback = Fallback(import_program(WITH_SUBGRAPHS).subgraphs)
    references = [weakref.ref(session) for _, session in fallback._sessions.values()]
    assert references
    fallback.close()
    fallback.close()
    assert not any(reference() for reference in references)

"""The native engine against ONNX Runtime: every operator, any size, this processor and vectors of other widths."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("llvmlite")

from native_graphs import (
    MODEL,
    PROCESSORS,
    WITH_SUBGRAPHS,
    Graph,
    Run,
    check,
    compiled,
    dense,
    native,
    noise,
    reference,
)
from random_networks import RANDOM_OPS, random_model

from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.backends.native.ir import UnsupportedError
from lkdn_deploy.core.errors import NonFiniteError, UsageError
from lkdn_deploy.imaging.pixels import store_batch

SIZES = [(1, 1), (2, 3), (1, 70), (65, 1), (12, 31), (13, 32), (14, 33), (40, 97), (9, 300)]


@pytest.mark.parametrize("target", PROCESSORS)
@pytest.mark.parametrize("size", SIZES)
def test_every_operator_in_all_sizes_and_vector_widths(size: tuple[int, int], target: str) -> None:
    assert check(MODEL, noise(*size), PROCESSORS[target]).shape == (3, 4 * size[0], 4 * size[1])


@pytest.mark.parametrize("target", PROCESSORS)
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (3, 40), (14, 33)])
def test_any_part_is_written_as_float32_and_as_uint8_and_nothing_beside_it(size: tuple[int, int], target: str) -> None:
    height, width = (4 * side for side in size)
    image = 8 * noise(*size) - np.float32(4)  # so that some of the result is below black and above white
    run = Run(compiled(MODEL, PROCESSORS[target]), *size, threads=2)
    whole = run(image)
    assert (whole < 0).any()
    assert (whole > 1).any()
    for part in (np.s_[:height, :width], np.s_[:1, :1], np.s_[1:height, 2 : width - 1], np.s_[2:3, 2:4]):
        values = np.full((3, height + 2, width + 1), np.nan, np.float32)
        pixels = np.full((height + 2, width + 1, 3), 77, np.uint8)
        expected, expected_pixels = values.copy(), pixels.copy()
        place = tuple(slice(1, 1 + it.stop - (it.start or 0)) for it in part)
        expected[:, *place] = whole[:, *part]
        store_batch(whole[None, :, *part], expected_pixels[place])
        run.write(image, part, values[:, *place])
        run.write(image, part, pixels[place])
        assert np.array_equal(values, expected, equal_nan=True)
        assert np.array_equal(pixels, expected_pixels)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(
    ("model", "scale"), [(MODEL, 4), (WITH_SUBGRAPHS, 2), (dense(8), 2)], ids=["local", "subgraphs", "dense"]
)
def test_the_rows_that_a_part_depends_on_are_computed_and_few_others(model: bytes, scale: int, threads: int) -> None:
    """Reading a row that was not computed would make the result NaN."""
    height, width = 90, 33
    image = noise(height, width)
    run = Run(compiled(model), height, width, threads)
    whole, memory, written = run(image), run.working_memory(), {}
    for top, bottom in ((0, 1), (0, 40), (1, 3), (40, 50), (41, 42), (60, 90), (89, 90), (0, 90)):
        values = np.empty((3, scale * (bottom - top), scale * width), np.float32)
        memory[:] = np.nan
        run.write(image, np.s_[scale * top : scale * bottom, :], values)
        assert np.array_equal(values, whole[:, scale * top : scale * bottom])
        written[top, bottom] = np.isfinite(memory).sum()
    if model is MODEL:  # attention needs the whole image, and few rows of the other are stored
        assert written[0, 1] < written[41, 42] < written[40, 50] < written[0, 90]


@pytest.mark.parametrize(
    "target",
    [
        np.empty((12, 16, 4), np.uint8)[..., :3],
        np.empty((12, 15, 3), np.uint8),
        np.empty((12, 32, 3), np.uint8)[:, ::2],
        np.empty((3, 11, 16), np.float32),
        np.empty((3, 12, 32), np.float32)[..., ::2],
    ],
)
def test_a_target_of_another_shape_is_refused(target: NDArray[Any]) -> None:
    run = Run(compiled(MODEL), 3, 4)
    with pytest.raises(UsageError, match="was expected, got"):
        run.write(noise(3, 4), np.s_[:, :], target)


@pytest.mark.parametrize("place", [(0, 0), (7, 31), (7, 32), (12, 39)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_non_finite_values_are_an_error_only_where_they_are_written_as_uint8(
    value: float, place: tuple[int, int]
) -> None:
    graph = Graph()
    model = graph.model(graph.convolution("lr", 3))
    image = noise(13, 40)
    image[1, *place] = value
    pixels = np.empty((13, 40, 3), np.uint8)
    y, x = place
    run = Run(compiled(model), 13, 40, 2)
    for part in (np.s_[:13, :40], np.s_[y : y + 1, x : x + 1]):
        with pytest.raises(NonFiniteError):
            run.write(image, part, pixels[part])
    others = np.s_[y + 1 :, :] if y < 12 else np.s_[:y, :]
    run.write(image, others, pixels[others])


@pytest.mark.parametrize(
    ("model", "size"),
    [
        *((MODEL, size) for size in ((1, 5), (3, 40), (37, 33), (64, 20))),
        *((WITH_SUBGRAPHS, size) for size in ((37, 33), (11, 40))),
        *((dense(9), size) for size in ((1, 5), (8, 40), (37, 33))),
    ],
)
def test_the_result_does_not_depend_on_the_number_of_threads(model: bytes, size: tuple[int, int]) -> None:
    image = noise(*size)
    expected = native(model, image)
    network = compiled(model)
    for threads in (2, 3, 5):
        run = Run(network, *size, threads)
        for _ in range(20):  # races show rarely
            assert np.array_equal(run(image), expected)


def test_a_row_that_two_threads_compute_is_never_read_unfinished() -> None:
    """One of them may have finished it, and read it, while the other computes it for its own rows."""
    graph = Graph()
    shared = graph.op("Relu", graph.op("Gelu", graph.convolution("lr", 64)))
    near = graph.op("Relu", graph.depthwise(graph.op("Relu", graph.depthwise(shared, (5, 5))), (5, 5)))
    body = graph.op("Add", graph.convolution(near, 64), shared)
    total = graph.op("Mul", shared, graph.op("GlobalAveragePool", body))  # so all rows of it are stored
    model = graph.model(graph.convolution(graph.op("Add", body, total), 3))
    image = noise(24, 48)
    expected = check(model, image, atol=3e-5)
    run = Run(compiled(model), 24, 48, 6)
    for _ in range(300):
        assert np.array_equal(run(image), expected)


@pytest.mark.parametrize("target", PROCESSORS)
def test_gelu_is_exact_in_float32_and_keeps_nan(target: str) -> None:
    graph = Graph()
    model = graph.model(graph.op("Gelu", "lr"))
    steps = np.linspace(-12, 12, 30_000).astype(np.float32)
    large = np.array([-1e30, -1e4, -100, -0.0, 0.0, 100, 1e4, 1e30, np.inf, -np.inf, np.nan], np.float32)
    values = np.resize(np.concatenate([steps, large]), 3 * 20 * 501)
    exact = np.array([0 if x == -np.inf else x * math.erfc(-x / math.sqrt(2)) / 2 for x in values.tolist()])
    result = native(model, values.reshape(3, 20, 501), PROCESSORS[target]).reshape(-1)
    np.testing.assert_allclose(result, exact, rtol=1e-7, atol=3e-7)


def test_sigmoid_is_exact_in_float32_and_keeps_nan() -> None:
    graph = Graph()
    model = graph.model(graph.op("Sigmoid", "lr"))
    image = np.linspace(-120, 120, 3 * 50 * 61, dtype=np.float32).reshape(3, 50, 61)
    image[0, 0, :5] = [np.nan, np.inf, -np.inf, 0, -0.0]
    result = native(model, image)
    assert np.isnan(result[0, 0, 0])
    np.testing.assert_allclose(result[0, 0, 1:5], [1, 0, 0.5, 0.5], rtol=0, atol=1e-37)
    exact = 1 / (1 + np.exp(-image.reshape(-1)[5:].astype(np.float64)))
    np.testing.assert_allclose(result.reshape(-1)[5:], exact, rtol=0, atol=1.2e-7)


@pytest.mark.parametrize("kind", ["Tanh", "silu"])
def test_tanh_and_silu_are_exact_in_float32_and_keep_nan(kind: str) -> None:
    graph = Graph()
    model = graph.model(graph.silu("lr") if kind == "silu" else graph.op("Tanh", "lr"))
    small = np.logspace(-30, 2, 40 * 61).astype(np.float32)
    special = np.array([np.nan, np.inf, -1e38, 1e38, -0.0], np.float32)
    image = np.resize(np.concatenate([special, small, -small]), 3 * 60 * 61).reshape(3, 60, 61)
    x = image.astype(np.float64)
    with np.errstate(over="ignore"):
        exact = np.tanh(x) if kind == "Tanh" else x / (1 + np.exp(-x))
    np.testing.assert_allclose(native(model, image), exact, rtol=1e-6, atol=1e-30)


def test_a_sum_of_convolutions_is_one_and_an_attention_one_kernel() -> None:
    """Such are the pictures that networks add before a pixel shuffle; with dilations that differ they remain two."""
    graph = Graph()
    head = graph.convolution("lr", 12, (3, 3))
    attended = graph.attention(graph.convolution(head, 12, (3, 3)), head)
    last = graph.op("Add", graph.convolution(attended, 12, (3, 3)), graph.convolution("lr", 12))
    model = graph.model(graph.larger(last, 2))
    program = import_program(model)
    assert [type(op).__name__ for op in program.ops].count("ConvOp") == 3
    kernels = [type(op.op).__name__ for segment in compiled(model).plan.segments for op in segment.ops]
    kernels = [it for it in kernels if it != "FactorsOp"]
    assert kernels == ["Elementwise", *["ConvOp"] * 3, "Elementwise"]  # the first and the last are copies
    check(model, noise(20, 30), atol=1e-5)
    far = graph.op("Add", graph.convolution("lr", 3, (3, 3), 2), graph.convolution("lr", 3, (3, 3)))
    model = graph.model(far)
    assert [type(op).__name__ for op in import_program(model).ops].count("ConvOp") == 2
    check(model, noise(20, 30), atol=1e-5)


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("size", [(20, 100), (3, 5)])
def test_depthwise_convolutions_between_others_of_the_same_stage(size: tuple[int, int], threads: int) -> None:
    """They are computed for whole rows, the others by blocks."""
    graph = Graph()
    head = graph.convolution("lr", 6, (3, 3))
    first = graph.op("Gelu", graph.convolution(head, 6))
    left = graph.depthwise(head)
    product = graph.op("Mul", left, graph.convolution(left, 6))  # of what the same block has just computed
    scaled = graph.op("Add", graph.depthwise(first, (1, 1)), first)
    joined = graph.op("Concat", product, scaled, first, channels=18, axis=1)
    model = graph.model(graph.op("Relu", graph.op("Add", graph.depthwise(graph.convolution(joined, 3)), "lr")))
    check(model, noise(*size), threads=threads, rtol=1e-7)


def test_channels_that_are_stored_in_another_order_than_the_tensor_s() -> None:
    """Several depthwise convolutions of a map give one value each, whose channels alternate in the tensor."""
    graph = Graph()
    twice = graph.op("Gelu", graph.convolution(graph.convolution("lr", 4), 8, (3, 3), groups=4))
    pooled = graph.op("Mul", twice, graph.op("GlobalAveragePool", twice))
    more = graph.convolution(twice, 16, (3, 3), groups=8)
    followers = [graph.depthwise(twice), graph.norm(twice), graph.unit(twice), graph.op("Gelu", more), pooled]
    joined = graph.op("Concat", *followers, channels=48, axis=1)
    check(graph.model(graph.larger(graph.convolution(joined, 12), 2)), noise(9, 21), rtol=1e-5)


@settings(max_examples=15)
@given(
    st.lists(st.tuples(st.sampled_from(list(RANDOM_OPS)), st.integers(0, 1000)), min_size=1, max_size=14),
    st.integers(1, 40),
    st.integers(1, 80),
    st.sampled_from(list(PROCESSORS)),
    st.integers(1, 3),
)
def test_random_networks(choices: list[tuple[str, int]], height: int, width: int, target: str, threads: int) -> None:
    model, image = random_model(choices, height), noise(height, width)
    # Products of products grow, and so do their rounding errors.
    scale = max(1, float(np.abs(reference(model, image)).max()))
    check(model, image, PROCESSORS[target], threads, atol=3e-5 * scale, rtol=2e-5)


def test_operations_that_the_result_does_not_depend_on_are_dropped() -> None:
    graph = Graph()
    result = graph.convolution("lr", 3, (3, 3))
    without = import_program(graph.model(result)).ops
    graph.convolution(result, 8, (5, 5))
    model = graph.model(result)
    assert len(import_program(model).ops) == len(without)
    check(model, noise(20, 30), atol=1e-5)


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (lambda g: g.op("Elu", "lr"), "the operator Elu"),
        (lambda g: g.op("Sub", g.op("ReduceSum", "lr", g.constant(np.array([1]))), "lr"), "different sizes"),
        (lambda g: g.op("ReduceSum", "lr", g.constant(np.array([2]))), "a sum over axes other than channels"),
        (lambda g: g.op("ReduceL2", "lr"), "a sum over axes other than channels"),
        (lambda g: g.op("Slice", "lr", *[g.constant(np.array([it])) for it in (0, 2, 2)]), "other than adjacent"),
        (lambda g: g.op("Mul", "lr", g.op("ReduceMean", "lr")), "a mean over axes other than height and width"),
        (lambda g: g.op("Mul", "lr", g.op("ReduceMean", "lr", g.constant(np.array([1])))), "a mean over axes other"),
        (lambda g: g.op("Mul", g.convolution("lr", 3), g.op("Elu", "lr")), "the operator Elu"),
        (lambda g: g.op("Gelu", "lr", approximate="tanh"), "GELU with the tanh approximation"),
        (lambda g: g.op("Conv", "lr", g.numbers(3, 3, 3, 3)), "changes the size"),
        (lambda g: g.op("Conv", "lr", g.numbers(3, 3, 1, 1), strides=[3, 3]), "changes the size"),
        (lambda g: g.op("Conv", "lr", g.numbers(3, 3, 1, 1), strides=[2, 2]), "does not have the input's size"),
        (lambda g: g.op("MaxPool", "lr", kernel_shape=[3, 3]), "a maximum over windows of other than a convolution"),
        (lambda g: g.op("Conv", "lr", g.numbers(3, 3, 2, 2), pads=[1, 1, 0, 0]), "changes the size"),
        (lambda g: g.op("Conv", "lr", g.numbers(3, 3, 3, 3), auto_pad="SAME_UPPER"), "automatic padding"),
        (lambda g: g.op("Add", "lr", g.numbers(1, 3, 4, 4)), "differs between pixels"),
        (lambda g: g.op("Concat", "lr", "lr", axis=2), "a concatenation of other than channels"),
        (lambda g: g.op("Transpose", "lr", perm=[0, 1, 3, 2]), "a transposition other than"),
        (lambda g: g.convolution("lr", 4), "an output of 4 channels"),
        (lambda g: g.op("Sub", g.numbers(3, 1, 1), "lr", channels=3), "a constant minus a tensor"),
        (
            lambda g: g.op("Relu", g.op("Concat", *[g.convolution("lr", 600)] * 2, channels=1200, axis=1)),
            "on 1200 concatenated channels",
        ),
        (lambda g: g.op("Identity", "lr"), "the input itself"),
        (lambda g: g.depthwise("lr"), "from a depthwise convolution"),
        (lambda g: g.op("LayerNormalization", "lr", g.numbers(5), axis=-1), "a normalisation over other axes"),
    ],
)
def test_an_unsupported_graph_is_refused_with_the_reason(build: Callable[[Graph], str], reason: str) -> None:
    graph = Graph()
    model = graph.model(build(graph))
    with pytest.raises(UnsupportedError, match=reason):
        import_program(model)

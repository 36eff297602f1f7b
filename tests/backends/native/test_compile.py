"""The native engine against ONNX Runtime: graphs of all it knows, in all sizes, on this processor and as on others."""

import math
from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

pytest.importorskip("llvmlite")

from native_graphs import HERE, MODEL, PROCESSORS, WITH_DETOURS, Graph, Runs, native, noise, reference

from lkdn_deploy.backends.native.compile import Engine
from lkdn_deploy.backends.native.frontend.importer import read_program
from lkdn_deploy.backends.native.ir import Convolution, Pointwise, UnsupportedError
from lkdn_deploy.core.errors import NonFiniteError, UsageError
from lkdn_deploy.imaging.pixels import store_batch

SIZES = [(1, 1), (2, 3), (1, 70), (65, 1), (12, 31), (13, 32), (14, 33), (40, 97), (9, 300)]


@pytest.mark.parametrize("target", PROCESSORS)
@pytest.mark.parametrize("size", SIZES)
def test_all_operations_in_all_sizes_on_all_widths_of_vectors(size: tuple[int, int], target: str) -> None:
    planes = noise(*size)
    expected = reference(MODEL, planes)
    result = native(MODEL, planes, PROCESSORS[target])
    assert result.shape == expected.shape == (3, 4 * size[0], 4 * size[1])
    np.testing.assert_allclose(result, expected, rtol=0, atol=2e-5)


@pytest.mark.parametrize("target", PROCESSORS)
@pytest.mark.parametrize("size", [(1, 1), (5, 3), (3, 40), (14, 33)])
def test_any_part_of_a_result_is_given_as_values_and_as_pixels(size: tuple[int, int], target: str) -> None:
    """To rows of a larger picture, beside which nothing is touched."""
    height, width = (4 * side for side in size)
    planes = 8 * noise(*size) - np.float32(4)  # so that some of the result is below black and above white
    threads = 2
    with Runs(Engine(read_program(MODEL), PROCESSORS[target]), *size, threads) as run:
        whole = run(planes)
        assert (whole < 0).any()
        assert (whole > 1).any()
        for rows, columns in (
            ((0, height), (0, width)),
            ((0, 1), (0, 1)),
            ((1, height), (2, width - 1)),
            ((2, 3), (2, 4)),
        ):
            kept = slice(*rows), slice(*columns)
            values = np.full((3, height + 2, width + 1), np.nan, np.float32)
            pixels = np.full((height + 2, width + 1, 3), 77, np.uint8)
            expected, expected_pixels = values.copy(), pixels.copy()
            place = slice(1, 1 + rows[1] - rows[0]), slice(1, 1 + columns[1] - columns[0])
            expected[:, *place] = whole[:, *kept]
            store_batch(whole[None, :, *kept], expected_pixels[place])
            run.give(planes, kept, values[:, *place])
            run.give(planes, kept, pixels[place])
            assert np.array_equal(values, expected, equal_nan=True)
            assert np.array_equal(pixels, expected_pixels)


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize(("model", "scale"), [(MODEL, 4), (WITH_DETOURS, 2)], ids=["local", "detours"])
def test_rows_that_what_is_wanted_needs_are_enough(model: bytes, scale: int, threads: int) -> None:
    """The others hold what is no number, which all that takes one of them would be."""
    height, width = 90, 33
    planes = noise(height, width)
    with Runs(Engine(read_program(model), HERE), height, width, threads) as run:
        whole = run(planes)
        for top, bottom in ((0, 1), (0, 40), (1, 3), (40, 50), (41, 42), (60, 90), (89, 90), (0, 90)):
            kept = slice(scale * top, scale * bottom), slice(0, scale * width)
            values = np.empty((3, scale * (bottom - top), scale * width), np.float32)
            run.forget()
            run.give(planes, kept, values)
            assert np.array_equal(values, whole[:, *kept])


def test_only_rows_that_what_is_wanted_needs_are_computed() -> None:
    """Fewer from pass to pass, but for those that must know the whole picture."""
    around = [one.around for one in Engine(read_program(MODEL), HERE).plan.passes]
    assert len(around) > 2
    assert all(first > second for first, second in pairwise(it for it in around if it is not None))
    assert around[-1] == 0
    assert None not in around
    detours = [(one.depth, one.around) for one in Engine(read_program(WITH_DETOURS), HERE).plan.passes]
    assert all(rows is None for depth, rows in detours if depth < detours[-1][0])
    assert detours[-1][1] == 0


@pytest.mark.parametrize(
    "place",
    [
        np.empty((12, 16, 4), np.uint8)[..., :3],
        np.empty((12, 15, 3), np.uint8),
        np.empty((12, 32, 3), np.uint8)[:, ::2],
        np.empty((3, 11, 16), np.float32),
        np.empty((3, 12, 32), np.float32)[..., ::2],
    ],
)
def test_memory_that_does_not_fit_is_not_written_to(place: NDArray[Any]) -> None:
    with Runs(Engine(read_program(MODEL), HERE), 3, 4) as run, pytest.raises(UsageError, match="was expected, got"):
        run.give(noise(3, 4), np.s_[:, :], place)


@pytest.mark.parametrize("place", [(0, 0), (7, 31), (7, 32), (12, 39)])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_pixels_of_what_is_no_number_are_refused_where_they_are_wanted(value: float, place: tuple[int, int]) -> None:
    graph = Graph()
    model = graph.model(graph.convolution("lr", 3))
    planes = noise(13, 40)
    planes[1, *place] = value
    pixels = np.empty((13, 40, 3), np.uint8)
    y, x = place
    with Runs(Engine(read_program(model), HERE), 13, 40, 2) as run:
        with pytest.raises(NonFiniteError):
            run.give(planes, np.s_[:13, :40], pixels)
        with pytest.raises(NonFiniteError):
            run.give(planes, np.s_[y : y + 1, x : x + 1], pixels[:1, :1])
        others = np.s_[y + 1 :, :] if y < 12 else np.s_[:y, :]
        run.give(planes, others, pixels[others])


@pytest.mark.parametrize(
    ("model", "size"),
    [
        *((MODEL, size) for size in ((1, 5), (3, 40), (37, 33), (64, 20))),
        (WITH_DETOURS, (37, 33)),
        (WITH_DETOURS, (11, 40)),
    ],
)
def test_threads_change_nothing_at_all(model: bytes, size: tuple[int, int]) -> None:
    planes = noise(*size)
    alone = native(model, planes)
    engine = Engine(read_program(model), HERE)
    for threads in (2, 3, 5):
        with Runs(engine, *size, threads) as run:
            for _ in range(20):  # what threads do to each other they seldom do
                assert np.array_equal(run(planes), alone)


def test_a_row_that_two_threads_compute_is_never_seen_unfinished() -> None:
    """One of them may be done with it, and use it, while the other computes it for its own rows."""
    graph = Graph()
    shared = graph.put("Relu", graph.put("Gelu", graph.convolution("lr", 64)))
    near = graph.put("Relu", graph.depthwise(graph.put("Relu", graph.depthwise(shared, (5, 5))), (5, 5)))
    body = graph.put("Add", graph.convolution(near, 64), shared)
    total = graph.put("Mul", shared, graph.put("GlobalAveragePool", body))  # so all rows of it are kept
    model = graph.model(graph.convolution(graph.put("Add", body, total), 3))
    planes = noise(24, 48)
    alone = native(model, planes)
    np.testing.assert_allclose(alone, reference(model, planes), rtol=0, atol=3e-5)
    with Runs(Engine(read_program(model), HERE), 24, 48, 6) as run:
        for _ in range(300):
            assert np.array_equal(run(planes), alone)


@pytest.mark.parametrize("target", PROCESSORS)
def test_gelu_is_as_exact_as_float32_and_leaves_what_is_no_number(target: str) -> None:
    graph = Graph()
    model = graph.model(graph.put("Gelu", "lr"))
    steps = np.linspace(-12, 12, 30_000).astype(np.float32)
    large = np.array([-1e30, -1e4, -100, -0.0, 0.0, 100, 1e4, 1e30, np.inf, -np.inf, np.nan], np.float32)
    values = np.resize(np.concatenate([steps, large]), 3 * 20 * 501)
    exact = np.array([0 if x == -np.inf else x * math.erfc(-x / math.sqrt(2)) / 2 for x in values.tolist()])
    result = native(model, values.reshape(3, 20, 501), PROCESSORS[target]).reshape(-1)
    np.testing.assert_allclose(result, exact, rtol=1e-7, atol=3e-7)


def grown(choices: Sequence[tuple[str, int]], seed: int) -> bytes:
    """A graph of operations that were drawn, ending in a picture of twice the size."""
    graph = Graph(seed)
    values = [graph.convolution("lr", 4 + choices[0][1] % 9)]
    for kind, number in choices:
        value = values[number % len(values)]
        alike = [it for it in values if graph.channels[it] == graph.channels[value]]
        values.append(put(graph, kind, number, value, alike[number // 7 % len(alike)]))
    joined = graph.put("Concat", *values[-3:], channels=sum(graph.channels[it] for it in values[-3:]), axis=1)
    return graph.model(graph.larger(graph.convolution(joined, 12, (3, 3)), 2))


def test_blocks_and_rows_are_not_mixed_up() -> None:
    """Depthwise convolutions between others of the same stage, which they and others take."""
    graph = Graph()
    head = graph.convolution("lr", 6, (3, 3))
    first = graph.put("Gelu", graph.convolution(head, 6))
    left = graph.depthwise(head)
    product = graph.put("Mul", left, graph.convolution(left, 6))  # of what the same block just gave
    scaled = graph.put("Add", graph.depthwise(first, (1, 1)), first)
    joined = graph.put("Concat", product, scaled, first, channels=18, axis=1)
    model = graph.model(graph.put("Relu", graph.put("Add", graph.depthwise(graph.convolution(joined, 3)), "lr")))
    for size in ((20, 100), (3, 5)):
        planes = noise(*size)
        for threads in (1, 2):
            np.testing.assert_allclose(native(model, planes, threads=threads), reference(model, planes), atol=2e-5)


def put(graph: Graph, kind: str, number: int, value: str, other: str) -> str:
    match kind:
        case "pointwise":
            return graph.convolution(value, 1 + number % 31)
        case "dense":
            return graph.convolution(value, 1 + number % 15, (3, 3), 1 + number % 2)
        case "depthwise":
            return graph.depthwise(value, ((3, 3), (5, 5), (1, 3), (5, 1), (1, 1))[number % 5], 1 + number % 3)
        case "norm":
            return graph.norm(value)
        case "Concat":
            return graph.convolution(graph.put(kind, value, other, channels=2 * graph.channels[value], axis=1), 6)
        case "Mul":
            return graph.put(kind, value, graph.put("Gelu", other))
        case "Add" | "Sub":
            return graph.put(kind, value, other)
        case _:
            return graph.put(kind, value)


KINDS = ["pointwise", "dense", "depthwise", "norm", "Gelu", "LeakyRelu", "Add", "Mul", "Sub", "Concat"]


@settings(max_examples=25)
@given(
    st.lists(st.tuples(st.sampled_from(KINDS), st.integers(0, 1000)), min_size=1, max_size=14),
    st.integers(1, 40),
    st.integers(1, 80),
    st.sampled_from(list(PROCESSORS)),
    st.integers(1, 3),
)
def test_whatever_the_graph_it_computes_what_onnx_runtime_does(
    choices: list[tuple[str, int]], height: int, width: int, target: str, threads: int
) -> None:
    model, planes = grown(choices, height), noise(height, width)
    expected = reference(model, planes)
    result = native(model, planes, PROCESSORS[target], threads)
    # Products of products grow, and so does what rounding is worth.
    np.testing.assert_allclose(result, expected, rtol=2e-5, atol=3e-5 * max(1, float(np.abs(expected).max())))


def test_what_nothing_needs_is_not_computed() -> None:
    graph = Graph()
    result = graph.convolution("lr", 3, (3, 3))
    graph.convolution(result, 8, (5, 5))
    model = graph.model(result)
    assert [type(it) for it in read_program(model).operations] == [
        Pointwise,
        Convolution,
    ]  # the first takes the input in
    planes = noise(20, 30)
    np.testing.assert_allclose(native(model, planes), reference(model, planes), rtol=0, atol=1e-5)


# what it has nothing for


def refused(change: Callable[[Graph], str]) -> str:
    graph = Graph()
    model = graph.model(change(graph))
    with pytest.raises(UnsupportedError) as caught:
        read_program(model)
    return str(caught.value)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda g: g.put("Tanh", "lr"), "the operation Tanh"),
        (lambda g: g.put("Mul", "lr", g.put("ReduceMean", "lr")), "a mean over other than rows and columns"),
        (lambda g: g.put("Mul", "lr", g.put("ReduceMean", "lr", g.constant(np.array([1])))), "a mean over other than"),
        (lambda g: g.put("Mul", g.convolution("lr", 3), g.put("Tanh", "lr")), "the operation Tanh"),
        (lambda g: g.put("Gelu", "lr", approximate="tanh"), "GELU that is approximated"),
        (lambda g: g.put("Conv", "lr", g.numbers(3, 3, 3, 3)), "changes the size"),
        (lambda g: g.put("Conv", "lr", g.numbers(3, 3, 1, 1), strides=[2, 2]), "changes the size"),
        (lambda g: g.put("Conv", "lr", g.numbers(3, 3, 2, 2), pads=[1, 1, 0, 0]), "changes the size"),
        (lambda g: g.put("Conv", "lr", g.numbers(3, 3, 3, 3), auto_pad="SAME_UPPER"), "pads by itself"),
        (lambda g: g.put("Add", "lr", g.numbers(1, 3, 4, 4)), "not the same for all pixels"),
        (lambda g: g.put("Concat", "lr", "lr", axis=2), "joining other than channels"),
        (lambda g: g.put("Transpose", "lr", perm=[0, 1, 3, 2]), "change places"),
        (lambda g: g.convolution("lr", 4), "a result of 4 channels"),
        (lambda g: g.put("Sub", g.numbers(3, 1, 1), "lr", channels=3), "a constant less a map"),
        (lambda g: g.put("Relu", g.put("Concat", "lr", "lr", channels=6, axis=1)), "joined channels"),
        (lambda g: g.put("Identity", "lr"), "no more than the input"),
        (lambda g: g.depthwise("lr"), "a depthwise convolution's"),
        (lambda g: g.put("LayerNormalization", "lr", g.numbers(5), axis=-1), "a norm over other"),
    ],
)
def test_a_graph_that_it_cannot_run_is_refused_with_the_reason(change: Callable[[Graph], str], said: str) -> None:
    try:
        found = refused(change)
    except onnx.checker.ValidationError:
        pytest.fail("the test's own graph is wrong")
    assert said in found

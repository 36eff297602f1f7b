"""The cells of a picture: rows and columns that a graph gathers by numbers, which it computes of the picture's size."""

import numpy as np
import onnx
import pytest

pytest.importorskip("llvmlite")

from native_graphs import PROCESSORS, Graph, Run, check, compiled, native, noise

from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.backends.native.ir import BoundaryKind, Program
from lkdn_deploy.core.errors import InputError

SIDE = 4


def axis_cells(graph: Graph, axis: int) -> list[str]:
    """Return the first pixels of the cells along an axis, those of the last pixels, and the cell of each pixel."""
    number = graph.constant(np.array([SIDE]))
    places, zero, one = (graph.constant(np.array(it)) for it in (range(512), [0], [1]))
    size = graph.op("Shape", "lr", start=axis, end=axis + 1)
    cells = graph.op("Div", size, number)
    each = graph.op("Slice", places, zero, cells)
    first = graph.op("Div", graph.op("Mul", each, size), cells)
    behind = graph.op("Sub", graph.op("Mul", graph.op("Add", each, one), size), one)
    last = graph.op("Sub", graph.op("Add", graph.op("Div", behind, cells), one), number)
    return [first, last, graph.op("Div", graph.op("Mul", graph.op("Slice", places, zero, size), cells), size)]


def pixels_of_one(graph: Graph) -> str:
    """Return the cell of each row of pixels where the whole picture is one."""
    size = graph.op("Shape", "lr", start=2, end=3)
    return graph.op("Slice", graph.constant(np.zeros(512, np.int64)), graph.constant(np.array([0])), size)


def largest(graph: Graph, value: str, axis: int, first: str, last: str) -> str:
    window = [SIDE, 1] if axis == 2 else [1, SIDE]
    runs = graph.op("MaxPool", value, kernel_shape=window)
    return graph.op("Max", graph.op("Gather", runs, first, axis=axis), graph.op("Gather", runs, last, axis=axis))


def modulated(graph: Graph, *, columns_first: bool = False) -> str:
    """A network in which half of the channels is weighed by its largest numbers in cells, and by its variance."""
    head = graph.convolution("lr", 40, (3, 3))
    local, other = graph.split(graph.convolution(head, 24))
    rows, columns = axis_cells(graph, 2), axis_cells(graph, 3)
    coarse = largest(graph, largest(graph, other, 2, *rows[:2]), 3, *columns[:2])
    axes = graph.constant(np.array([2, 3]))
    away = graph.op("Sub", other, graph.op("ReduceMean", other, axes))
    total = graph.op("ReduceSum", graph.op("Mul", away, away), axes)
    coarse = graph.convolution(
        graph.op("Add", coarse, graph.op("Mul", total, graph.numbers(1, 12, 1, 1, spread=1e-3))), 12
    )
    for axis, numbers in ((3, columns[2]), (2, rows[2])) if columns_first else ((2, rows[2]), (3, columns[2])):
        coarse = graph.op("Gather", coarse, numbers, axis=axis)
    product = graph.op("Mul", other, coarse)
    body = graph.op("Concat", graph.depthwise(local), product, channels=24, axis=1)
    return graph.larger(graph.convolution(graph.op("Add", graph.convolution(body, 40), head), 12, (3, 3)), 2)


def model_of(*, columns_first: bool = False, sides: tuple[object, object] = ("h", "w")) -> bytes:
    graph = Graph()
    return graph.model(modulated(graph, columns_first=columns_first), sides)


def whole_maps(program: Program) -> int:
    return sum(it.kind is BoundaryKind.NCHW for it in program.boundaries.values()) - 1


@pytest.mark.parametrize(
    ("target", "columns_first"), [("this", False), ("this", True), ("8 lanes", False), ("4 lanes", True)]
)
def test_cells_in_all_sizes_and_vector_widths(target: str, *, columns_first: bool) -> None:
    model = model_of(columns_first=columns_first)
    network = compiled(model, PROCESSORS[target])
    assert whole_maps(network.program) == 0
    for size in ((4, 4), (5, 7), (11, 70), (65, 12), (13, 300)):
        image = noise(*size)
        expected = check(model, image, PROCESSORS[target])
        for threads in (2, 3):
            run = Run(network, *size, threads)
            for other in (image, 1 - image, image):
                last = run(other)
            assert np.array_equal(last, expected)


def test_only_small_maps_are_left_to_onnx_runtime() -> None:
    subgraphs = import_program(model_of()).subgraphs
    kinds = [[node.op_type for node in onnx.load_model_from_string(it.model).graph.node] for it in subgraphs]
    assert kinds[1:] == [["MaxPool", "Gather", "Gather", "Max"], ["Mul", "Add", "Conv", "Gather"]]
    assert {it for each in kinds[:1] for it in each} <= {"Add", "Cast", "Div", "Mul", "Shape", "Slice", "Sub"}


@pytest.mark.parametrize("size", [(4, 4), (9, 21), (16, 32)])
def test_a_file_of_a_fixed_size(size: tuple[int, int]) -> None:
    model = model_of(sides=size)
    assert whole_maps(import_program(model)) == 0
    check(model, noise(*size))


@pytest.mark.parametrize("lengths", [(), (1, 9), (3, 2, 5)])
def test_parts_of_channels(lengths: tuple[int, ...]) -> None:
    graph = Graph()
    first, *others = graph.split(graph.convolution(graph.convolution("lr", 7, (3, 3)), 10), *lengths)
    channels = graph.channels[first] + graph.channels[others[-1]]
    joined = graph.op("Concat", graph.op("Relu", others[-1]), first, channels=channels, axis=1)
    model = graph.model(graph.convolution(joined, 3, (3, 3)))
    assert not import_program(model).subgraphs
    check(model, noise(12, 30))


def constant_numbers(kind: str, *numbers: int) -> bytes:
    """A network with a map whose rows are copies of those of a smaller one, by numbers of either kind."""
    graph = Graph()
    head = graph.convolution(graph.convolution("lr", 48, (3, 3)), 48, (3, 3))
    few = graph.convolution(head, 4)
    wanted = graph.constant(np.array(numbers))
    if kind == "windows":
        small = graph.op("Gather", graph.op("MaxPool", few, kernel_shape=[3, 1]), wanted, axis=2)
        spread = graph.op("Gather", small, graph.constant(np.zeros(20, np.int32)), axis=2)
    else:
        small = graph.op("Gather", graph.op("MaxPool", few, kernel_shape=[3, 1]), graph.constant(np.arange(5)), axis=2)
        spread = graph.op("Gather", small, wanted, axis=2)
    return graph.model(graph.convolution(graph.op("Mul", few, spread), 3), (20, 30))


@pytest.mark.parametrize("kind", ["windows", "copies"])
def test_numbers_from_the_end_on_and_in_any_order(kind: str) -> None:
    check(constant_numbers(kind, *([3, -1, 0, -5, 2] * 4)), noise(20, 30))


@pytest.mark.parametrize(
    ("kind", "numbers"),
    [
        ("windows", [0, 18]),
        ("windows", [-19]),
        ("windows", [1 << 62]),
        ("copies", [5] * 20),
        ("copies", [0] * 19 + [-6]),
        ("copies", [-(1 << 63)] * 20),
    ],
)
def test_numbers_of_rows_that_do_not_exist_are_refused(kind: str, numbers: list[int]) -> None:
    model = constant_numbers(kind, *numbers)
    with pytest.raises(InputError):
        native(model, noise(20, 30))


def test_an_image_smaller_than_a_window_is_refused() -> None:
    graph = Graph()
    few = graph.convolution(graph.convolution(graph.convolution("lr", 48, (3, 3)), 48, (3, 3)), 4)
    small = graph.op("Gather", graph.op("MaxPool", few, kernel_shape=[7, 1]), graph.constant(np.arange(1)), axis=2)
    spread = graph.op("Gather", small, pixels_of_one(graph), axis=2)
    model = graph.model(graph.convolution(graph.op("Mul", few, spread), 3))
    assert whole_maps(import_program(model)) == 0
    check(model, noise(8, 30))
    with pytest.raises(InputError, match="does not accept images as small as 30x6"):
        native(model, noise(6, 30))


def test_what_does_not_fit_is_left_to_onnx_runtime() -> None:
    """Windows that something else reads too; numbers that depend on the picture; a maximum of two maps' windows."""
    graph = Graph()
    head = graph.convolution(graph.convolution("lr", 48, (3, 3)), 48, (3, 3))
    first, second = (graph.convolution(head, 2) for _ in range(2))
    runs, other = (graph.op("MaxPool", it, kernel_shape=[SIDE, 1]) for it in (first, second))
    rows = axis_cells(graph, 2)
    both = [graph.op("Gather", it, rows[0], axis=2) for it in (runs, other)]
    larger = graph.op("Max", *both)
    mean = graph.op("ReduceMean", first, graph.constant(np.array([1, 2, 3])), keepdims=0)
    zero = graph.op("Cast", graph.op("Mul", mean, graph.constant(np.float32(0))), to=onnx.TensorProto.INT64)
    top = graph.op("Gather", runs, zero, axis=2)
    small = graph.op("Add", graph.op("Add", larger, top), graph.op("ReduceMax", runs, graph.constant(np.array([2]))))
    spread = graph.op("Gather", small, rows[2], axis=2)
    model = graph.model(graph.convolution(graph.op("Mul", first, spread), 3))
    for size in ((4, 9), (13, 40)):
        check(model, noise(*size), threads=2)

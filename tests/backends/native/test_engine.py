"""The native engine against ONNX Runtime: graphs of all it knows, in all sizes, on this processor and as on others."""

import itertools
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper

pytest.importorskip("llvmlite")

from lkdn_deploy.backends import kept
from lkdn_deploy.backends.native import engine as engines
from lkdn_deploy.backends.native.engine import Engine
from lkdn_deploy.backends.native.machine import Processor, processor
from lkdn_deploy.backends.native.program import Convolution, Pointwise, UnsupportedError
from lkdn_deploy.backends.native.reading import read_program
from lkdn_deploy.backends.native.workspace import Workspace
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.runtime.bundled import bundled, find

Batch = NDArray[np.float32]
HERE = processor()
PROCESSORS = {"this": HERE, "of 8 lanes": replace(HERE, lanes=8, results=5), "of 4": replace(HERE, lanes=4, results=4)}


class Graph:
    """An ONNX graph that grows; names of values are what its methods give."""

    def __init__(self, seed: int = 0) -> None:
        self.random = np.random.default_rng(seed)
        self.nodes: list[NodeProto] = []
        self.constants: list[TensorProto] = []
        self.channels = {"lr": 3, "": 0}

    def constant(self, values: NDArray[Any]) -> str:
        name = f"c{len(self.constants)}"
        self.constants.append(onnx.numpy_helper.from_array(np.array(values), name))
        self.channels[name] = len(values) if values.ndim else 1
        return name

    def numbers(self, *shape: int, spread: float = 1) -> str:
        return self.constant((self.random.standard_normal(shape) * spread).astype(np.float32))

    def put(self, kind: str, *inputs: str, channels: int | None = None, **attributes: Any) -> str:
        name = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        self.channels[name] = self.channels[inputs[0]] if channels is None else channels
        return name

    def convolution(
        self,
        value: str,
        count: int,
        size: tuple[int, int] = (1, 1),
        dilation: int = 1,
        groups: int = 1,
        bias: bool = True,
    ) -> str:
        each = self.channels[value] // groups
        weight = self.numbers(count, each, *size, spread=(each * size[0] * size[1]) ** -0.5)
        pads = [side // 2 * dilation for side in size] * 2
        inputs = [value, weight, *([self.numbers(count, spread=0.3)] if bias else [])]
        return self.put("Conv", *inputs, channels=count, pads=pads, dilations=[dilation] * 2, group=groups)

    def depthwise(self, value: str, size: tuple[int, int] = (3, 3), dilation: int = 1) -> str:
        return self.convolution(value, self.channels[value], size, dilation, groups=self.channels[value])

    def norm(self, value: str) -> str:
        count = self.channels[value]
        last = self.put("Transpose", value, perm=[0, 2, 3, 1])
        weights = self.constant(1 + self.random.random(count).astype(np.float32)), self.numbers(count, spread=0.3)
        normed = self.put("LayerNormalization", last, *weights, axis=-1, epsilon=1e-5)
        return self.put("Transpose", normed, perm=[0, 3, 1, 2])

    def larger(self, value: str, times: int, mode: str = "CRD") -> str:
        return self.put("DepthToSpace", value, channels=self.channels[value] // times**2, blocksize=times, mode=mode)

    def model(self, output: str, sides: Sequence[Any] = ("h", "w")) -> bytes:
        nodes = [*self.nodes, helper.make_node("Identity", [output], ["sr"])]
        inputs = [helper.make_tensor_value_info("lr", TensorProto.FLOAT, ["n", 3, *sides])]
        outputs = [helper.make_tensor_value_info("sr", TensorProto.FLOAT, [None] * 4)]
        graph = helper.make_graph(nodes, "g", inputs, outputs, self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
        onnx.checker.check_model(model, full_check=True)
        return bytes(model.SerializeToString())


def noise(height: int, width: int) -> Batch:
    return np.random.default_rng(height * 1000 + width).random((3, height, width), np.float32)


def clouds(height: int, width: int) -> Batch:
    """Smooth, as pictures are: networks that were trained on these give white noise no values in 0..1."""
    from PIL import Image

    small = np.random.default_rng(height).integers(0, 256, (height // 6 + 2, width // 6 + 2, 3), np.uint8)
    image = Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(image, np.float32).transpose(2, 0, 1) / 255


class Runs:
    """A workspace with its threads."""

    def __init__(self, engine: Engine, height: int, width: int, threads: int = 1) -> None:
        self._workspace = Workspace(engine, height, width, threads)
        self._pool = ThreadPoolExecutor(max(threads - 1, 1))
        self._width = width * engine.scale

    def __enter__(self) -> "Runs":
        return self

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown()

    def __call__(self, planes: Batch) -> Batch:
        wide = np.full(self._workspace.wide, np.nan, np.float32)
        self._workspace.run(planes, wide, self._pool)
        return wide[:, :, : self._width]


def native(model: bytes, planes: Batch, target: Processor = HERE, threads: int = 1) -> Batch:
    with Runs(Engine(read_program(model), target), *planes.shape[1:], threads) as run:
        return run(planes)


def reference(model: bytes, planes: Batch) -> Batch:
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return np.asarray(session.run(None, {"lr": planes[None]})[0][0])


def everything(graph: Graph) -> str:
    """A network with one of each thing that the engine knows."""
    head = graph.convolution("lr", 7, (3, 3))
    distilled = graph.put("Gelu", graph.convolution(head, 5))
    refined = graph.put("Gelu", graph.depthwise(graph.convolution(head, 6, bias=False)))
    joined = graph.put("Concat", distilled, refined, channels=11, axis=1)
    wide = graph.convolution(joined, 29)
    attention = graph.depthwise(graph.depthwise(graph.convolution(wide, 29), (5, 5)), (5, 5), 3)
    normed = graph.norm(graph.convolution(graph.put("Mul", wide, attention), 7))
    body = graph.put("Add", normed, head)
    flat = graph.depthwise(graph.put("LeakyRelu", body, alpha=0.1), (1, 7))
    tall = graph.put("Relu", graph.convolution(flat, 8, (3, 1), groups=1))
    grouped = graph.put("PRelu", graph.convolution(tall, 8, (3, 3), 2, groups=4), graph.numbers(8, 1, 1))
    scaled = graph.put(
        "Sub", graph.put("Mul", grouped, graph.numbers(1, 8, 1, 1)), graph.constant(np.float32([[[0.1]]]))
    )
    first = graph.larger(graph.convolution(scaled, 24, (3, 3)), 2)
    second = graph.larger(graph.convolution(graph.put("LeakyRelu", first, alpha=0.2), 12, (3, 3)), 2, "DCR")
    return graph.put("Add", second, graph.numbers(3, 1, 1))


def attentive(graph: Graph) -> str:
    """A network that weighs its channels and places by the whole picture, as ESA and CCA do."""
    head = graph.convolution("lr", 40, (3, 3))
    wide = graph.put("Relu", graph.convolution(head, 40, (3, 3)))
    few = graph.convolution(wide, 5)
    small = graph.put("Conv", few, graph.numbers(5, 5, 3, 3, spread=0.2), graph.numbers(5), strides=[2, 2])
    pooled = graph.convolution(graph.put("MaxPool", small, kernel_shape=[5, 5], strides=[3, 3]), 5, (3, 3))
    sizes = graph.put(
        "Concat", graph.put("Shape", pooled, end=2), graph.put("Shape", "lr", start=2), channels=0, axis=0
    )
    places = graph.put("Resize", pooled, "", "", sizes, mode="linear")
    weighed = graph.put("Sigmoid", graph.convolution(graph.put("Add", places, graph.convolution(few, 5)), 40))
    product = graph.put("Mul", wide, weighed)
    axes = graph.constant(np.array([2, 3]))
    mean = graph.put("ReduceMean", product, axes)
    away = graph.put("Pow", graph.put("Sub", product, mean), graph.constant(np.array(2, np.float32)))
    contrast = graph.put("Add", graph.put("Sqrt", graph.put("ReduceMean", away, axes)), mean)
    channels = graph.put("Sigmoid", graph.convolution(contrast, 40))
    body = graph.put("Add", graph.put("Mul", channels, product), head)
    pooled_channels = graph.put("Relu", graph.convolution(graph.put("GlobalAveragePool", body), 40))
    shifted = graph.put("Add", body, pooled_channels)
    flat = graph.constant((graph.random.standard_normal((12, 40)) / 6).astype(np.float32))
    weight = graph.put("Unsqueeze", flat, graph.constant(np.array([2, 3])), channels=12)
    last = graph.put("Div", graph.put("Conv", shifted, weight, channels=12), graph.constant(np.float32([[[1.7]]])))
    return graph.larger(last, 2)


GRAPH, ATTENTIVE = Graph(), Graph()
MODEL = GRAPH.model(everything(GRAPH))
WITH_DETOURS = ATTENTIVE.model(attentive(ATTENTIVE))
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
    with pytest.raises(InputError, match="takes larger windows than 4x30"):
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


@pytest.mark.parametrize(
    "name",
    [
        "LKDN/LKDN-S_x4.pth",
        "LKDN/LKDN_x2.pth",
        "LKDN/LKDN_x3.pth",
        "VapSR/VapSR_X4.pth",
        "BSRN/net_g_BSRN_x4.pth",
    ],
)
def test_published_networks_are_computed_as_by_onnx_runtime(name: str, data: Path, tmp_path: Path) -> None:
    from lkdn_deploy.export.job import ExportSettings, export_onnx
    from lkdn_models.checkpoint import load_checkpoint

    path = export_onnx(load_checkpoint(data / "weights" / name), tmp_path / "a.onnx", ExportSettings()).path
    session, other = open_session(path, "native"), open_session(path, "ort-cpu")
    least = session.metadata.smallest
    for size in ((61, 83), (max(least, 9), max(least, 11)), (least, least)):
        batch = clouds(*size)[None]
        result = session.run(batch)
        assert session.backend == "native-cpu"
        np.testing.assert_allclose(result, other.run(batch), rtol=0, atol=4e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bundled_artefacts_run_batches_as_well_as_single_pictures(scale: int) -> None:
    session = open_session(find("lkdn-s", scale), "native", threads=2)
    batch = np.stack([noise(20, 30), noise(20, 30)[::-1]])
    both = session.run(batch)
    assert both.shape == (2, 3, 20 * scale, 30 * scale)
    for one, planes in zip(both, batch, strict=True):
        assert np.array_equal(session.run(planes[None])[0], one)


def test_a_session_serves_several_threads_at_once() -> None:
    session = open_session(find("lkdn-s", 2), "native", threads=2)
    batches = [noise(20 + it % 3, 40)[None] for it in range(9)]
    expected = [session.run(batch) for batch in batches]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(session.run, batches))
    assert all(np.array_equal(one, other) for one, other in zip(results, expected, strict=True))


def test_results_of_single_runs_stay_as_they_are() -> None:
    session = open_session(find("lkdn-s", 2), "native", threads=2)
    batches = [np.stack([noise(20 + it % 2, 30)] * (1 + it // 2)) * np.float32(it / 4) for it in range(4)]
    results = [session.run(batch) for batch in batches]
    copies = [result.copy() for result in results]
    for one, many in zip(copies, session.run_many(iter(batches)), strict=True):
        assert np.array_equal(one, many)
    assert all(np.array_equal(one, other) for one, other in zip(results, copies, strict=True))
    assert not any(np.shares_memory(one, other) for one, other in itertools.combinations(results, 2))


def test_results_of_many_runs_share_memory_while_the_size_stays() -> None:
    session = open_session(find("lkdn-s", 2), "native", threads=2)
    first, second, other = session.run_many([noise(20, 30)[None], noise(20, 30)[None], noise(21, 30)[None]])
    assert np.shares_memory(first, second)
    assert not np.shares_memory(first, other)


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


def test_what_is_no_number_stays_none_and_does_not_spread_beyond_the_radius() -> None:
    session = open_session(find("lkdn-s", 2), "native")
    batch = noise(140, 150)[None]
    batch[0, 1, 5, 7] = np.nan
    result = session.run(batch)
    assert np.isnan(result[0, :, 10:12, 14:16]).all()
    radius = session.metadata.receptive_radius or 0
    assert np.isfinite(result[..., 2 * (5 + radius + 1) :, :]).all()
    assert np.isfinite(result[..., 2 * (7 + radius + 1) :]).all()


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


def test_a_network_that_it_cannot_run_is_an_error_with_a_way_out_and_auto_takes_another(tmp_path: Path) -> None:
    model = onnx.load(find("lkdn-s", 2))
    model.graph.node.append(helper.make_node("Abs", [model.graph.output[0].name], ["positive"]))
    model.graph.output[0].name = "positive"
    path = tmp_path / "a.onnx"
    onnx.save(model, path)
    with pytest.raises(InputError, match="the native engine has nothing for the operation Abs") as caught:
        open_session(path, "native")
    assert "--backend ort-cpu" in (caught.value.hint or "")
    assert open_session(path).backend == "ort-cpu"
    assert open_session(find("lkdn-s", 2)).backend == "native-cpu"


def test_other_files_are_refused_as_by_other_backends(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        open_session(tmp_path / "gone.onnx", "native")
    (tmp_path / "a.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match="cannot be opened by the native engine"):
        open_session(tmp_path / "a.onnx", "native")
    (tmp_path / "a.onnx").write_bytes(MODEL)
    with pytest.raises(InputError, match="it was not made by lkdn-export"):
        open_session(tmp_path / "a.onnx", "native")


def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [it for it in sys.modules if it.startswith(("llvmlite", "lkdn_deploy.backends.native"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    with pytest.raises(MissingError) as caught:
        open_session(find("lkdn-s", 2), "native")
    assert "lkdn-deploy[native]" in (caught.value.hint or "")
    assert open_session(find("lkdn-s", 2)).backend == "ort-cpu"


def test_a_fixed_size_is_the_only_one_that_runs(tmp_path: Path) -> None:
    model = onnx.load(find("lkdn-s", 2))
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, 12, 9), strict=True):
        dim.dim_value = size
    path = tmp_path / "a.onnx"
    onnx.save(model, path)
    session = open_session(path, "native")
    assert session.fixed_size == (12, 9)
    assert session.run(noise(12, 9)[None]).shape == (1, 3, 24, 18)
    with pytest.raises(UsageError, match="takes 12x9 pixels only, got 9x12"):
        session.run(noise(9, 12)[None])


# what it keeps


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return kept.folder("native")


def test_code_is_compiled_once_and_made_again_when_it_is_damaged(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    compile_ = engines.compiled

    def counted(*args: Any) -> bytes:
        made.append(args)
        return compile_(*args)

    monkeypatch.setattr(engines, "compiled", counted)
    batch = noise(9, 20)[None]
    first = open_session(find("lkdn-s", 2), "native").run(batch)
    (file,) = cache.iterdir()
    assert np.array_equal(open_session(find("lkdn-s", 2), "native").run(batch), first)
    assert len(made) == 1
    file.write_bytes(file.read_bytes()[:-100])
    assert np.array_equal(open_session(find("lkdn-s", 2), "native").run(batch), first)
    assert len(made) == 2
    open_session(find("lkdn-s", 2), "native")
    assert len(made) == 2


def test_weights_are_no_part_of_the_code(cache: Path) -> None:
    for name in ("a", "b"):
        graph = Graph(len(name) + ord(name))
        Engine(read_program(graph.model(everything(graph))), HERE)
    assert len(list(cache.iterdir())) == 1


def test_code_is_for_one_processor(cache: Path) -> None:
    for target in PROCESSORS.values():
        Engine(read_program(MODEL), target)
    assert len(list(cache.iterdir())) == len(PROCESSORS)


def test_memory_is_as_much_as_it_says() -> None:
    import tracemalloc

    for artefact, side in itertools.product((find("lkdn-s", 4), find("lkdn-s", 2)), (300, 500)):
        session = open_session(artefact, "native", threads=2)
        batch = noise(side, side)[None]
        tracemalloc.start()
        session.run(batch)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert 0.6 < peak / (session.bytes_per_pixel() * side**2) <= 1


def test_every_bundled_artefact_is_one_for_it() -> None:
    for path in bundled().values():
        assert read_program(path.read_bytes()).operations

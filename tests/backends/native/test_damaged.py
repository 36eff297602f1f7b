"""Graphs whose lengths, signs or sizes do not fit: each is refused by the file's name, and none is run."""

import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

pytest.importorskip("llvmlite")

from native_graphs import Graph, check, native, noise

from lkdn_deploy.backends.native import bounds
from lkdn_deploy.backends.native.compile import CompiledNetwork
from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.backends.native.ir import UnsupportedError
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.jit.compiler import processor

METADATA = ArtifactMetadata(model="damaged", scale=2, receptive_radius=9, live_channels=40, fused=True)


def network() -> ModelProto:
    graph = Graph()
    head = graph.convolution("lr", 8, (3, 3))
    deep = graph.depthwise(graph.convolution(head, 8), (3, 3), 2)
    body = graph.op("Add", graph.norm(deep), head)
    graph.larger(graph.convolution(body, 12), 2)
    model = onnx.load_model_from_string(graph.model(f"v{len(graph.nodes) - 1}"))
    helper.set_model_props(model, METADATA.to_props())
    return model


def nodes(model: ModelProto, kind: str) -> list[NodeProto]:
    return [node for node in model.graph.node if node.op_type == kind]


def change_weights(model: ModelProto, name: str, change: Callable[[Any], Any]) -> None:
    tensor = next(it for it in model.graph.initializer if it.name == name)
    values = np.ascontiguousarray(change(numpy_helper.to_array(tensor)))
    tensor.CopyFrom(numpy_helper.from_array(values, name))


def norm(*changes: Callable[[Any], Any]) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        for name, each in zip(nodes(model, "LayerNormalization")[0].input[1:], changes, strict=False):
            change_weights(model, name, each)

    return change


def conv(number: int, place: int, change: Callable[[Any], Any], **attributes: Any) -> Callable[[ModelProto], None]:
    """Change weights (place 1) or bias (2) of a convolution, and attributes."""

    def apply(model: ModelProto) -> None:
        node = nodes(model, "Conv")[number]
        change_weights(model, node.input[place], change)
        set_attributes(node, **attributes)

    return apply


def set_attributes(node: NodeProto, **attributes: Any) -> None:
    for name, value in attributes.items():
        for item in [it for it in node.attribute if it.name == name]:
            node.attribute.remove(item)
        node.attribute.append(helper.make_attribute(name, value))


def attributes(kind: str, **values: Any) -> Callable[[ModelProto], None]:
    return lambda model: set_attributes(nodes(model, kind)[0], **values)


def sides(**values: int) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        for name, value in values.items():
            model.graph.input[0].type.tensor_type.shape.dim["nchw".index(name)].dim_value = value

    return change


def declared(*shape: int) -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        model.graph.output[0].CopyFrom(helper.make_tensor_value_info("sr", TensorProto.FLOAT, shape))

    return change


def behind_the_image(*kinds: str) -> Callable[[ModelProto], None]:
    """Put operators between the image and the network."""

    def change(model: ModelProto) -> None:
        last, new = "lr", []
        for number, kind in enumerate(kinds):
            new.append(helper.make_node(kind, [last], [f"new{number}"]))
            last = f"new{number}"
        nodes(model, "Conv")[0].input[0] = last
        old = list(model.graph.node)
        del model.graph.node[:]
        model.graph.node.extend([*new, *old])

    return change


def default_for_the_input(model: ModelProto) -> None:
    model.graph.initializer.append(numpy_helper.from_array(np.zeros((1, 3, 4, 4), np.float32), "lr"))


def opset(version: int, domain: str = "") -> Callable[[ModelProto], None]:
    def change(model: ModelProto) -> None:
        model.opset_import[0].version, model.opset_import[0].domain = version, domain

    return change


def as_it_is(values: Any) -> Any:
    return values


CASES: dict[str, tuple[Callable[[ModelProto], None], str]] = {
    "norm too long": (norm(*[lambda it: np.tile(it, 4096)] * 2), "a normalisation of 8 channels by weights"),
    "norm too short": (norm(*[lambda it: it[:4]] * 2), "a normalisation of 8 channels by weights"),
    "shift too short": (norm(as_it_is, lambda it: it[:1]), "a normalisation of 8 channels by weights"),
    "norm of another shape": (norm(lambda it: it.reshape(1, 8)), "a normalisation of 8 channels by weights"),
    "norm of other values": (norm(lambda it: it.astype(np.float64)), r"not in float32|valid ONNX|ONNX cannot infer"),
    "negative epsilon": (attributes("LayerNormalization", epsilon=-1.0), "negative epsilon"),
    "bias too short": (conv(1, 2, lambda it: it[:1]), "a bias of another length"),
    "bias too long": (conv(1, 2, lambda it: np.tile(it, 1000)), "a bias of another length"),
    "bias in rows": (conv(1, 2, lambda it: it[None]), "a bias of another length"),
    "depthwise bias too long": (conv(2, 2, lambda it: np.tile(it, 9)), "a bias of another length"),
    "one input channel": (conv(1, 1, lambda it: it[:, :1]), "weights .* for 8 channels"),
    "two input channels": (conv(2, 1, lambda it: np.tile(it, (1, 2, 1, 1))), "weights .* for 8 channels"),
    "no output channels": (conv(1, 1, lambda it: it[:0]), "weights .* for 8 channels"),
    "half the depthwise channels": (conv(2, 1, lambda it: it[:4]), "weights .* in 8 groups for 8 channels"),
    "other depthwise groups": (conv(2, 1, as_it_is, group=2), "weights .* for 8 channels"),
    "no group": (conv(1, 1, as_it_is, group=0), "weights .* in 0 groups"),
    "negative groups": (conv(2, 1, as_it_is, group=-8), "weights .* in -8 groups"),
    "dilation of none": (conv(2, 1, as_it_is, dilations=[0, 0], pads=[0] * 4), "dilations of"),
    "negative dilation": (conv(2, 1, as_it_is, dilations=[-1, -1], pads=[-1] * 4), "dilations of"),
    "huge dilation": (conv(2, 1, as_it_is, dilations=[2**30] * 2, pads=[2**30] * 4), "reaches 1073741824 pixels"),
    "one dilation": (conv(2, 1, as_it_is, dilations=[2]), "dilations of"),
    "large window": (
        conv(2, 1, lambda it: np.resize(it, (8, 1, 301, 301)), dilations=[1, 1], pads=[150] * 4),
        "a window of 301x301",
    ),
    "long window": (
        conv(2, 1, lambda it: np.resize(it, (8, 1, 901, 1)), dilations=[1, 1], pads=[450, 0, 450, 0]),
        "reaches 450 pixels",
    ),
    "no window": (conv(1, 1, lambda it: it[:, :, :0]), "a window of 0x1"),
    "another window": (conv(1, 1, as_it_is, kernel_shape=[3, 3]), "do not fit their window"),
    "negative padding": (conv(1, 1, as_it_is, pads=[-1] * 4), "changes the size"),
    "negative strides": (conv(1, 1, as_it_is, strides=[-1, -1]), "changes the size"),
    "enlarged by three": (attributes("DepthToSpace", blocksize=3), "an enlargement of 12 channels by 3"),
    "enlarged by less than none": (attributes("DepthToSpace", blocksize=-2), "an enlargement of 12 channels by -2"),
    "enlarged by none": (attributes("DepthToSpace", blocksize=0), "an enlargement of 12 channels by 0"),
    "enlarged otherwise": (attributes("DepthToSpace", mode="CDR"), "of another mode"),
    "groups as a number with a point": (attributes("Conv", group=1.0), "not a valid ONNX model"),
    "no size to enlarge by": (lambda it: nodes(it, "DepthToSpace")[0].ClearField("attribute"), "not a valid ONNX"),
    "one channel of the image": (sides(c=1), "three channels"),
    "two images": (sides(n=2), "a batch of any size"),
    "one side fixed": (sides(h=20), "one side is fixed"),
    "negative sides": (sides(h=-5, w=-5), "one side is fixed, or too large"),
    "huge sides": (sides(h=2**40, w=2**40), "one side is fixed, or too large"),
    "another output": (declared(1, 3, 7, 7), "an output of another size"),
    "default for the input": (default_for_the_input, "an input with a default value"),
    "old operators": (opset(9), "not a valid ONNX model"),
    "operators to come": (opset(1000), "operator sets other than"),
    "too many nodes": (behind_the_image(*["Relu"] * 5000), "it has 50"),
    "another transposition": (attributes("Transpose", perm=[0, 1, 2, 3]), "a transposition other than"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_does_not_fit_is_refused_by_the_files_name(name: str, tmp_path: Path) -> None:
    change, reason = CASES[name]
    model = network()
    change(model)
    path = tmp_path / "damaged.onnx"
    path.write_bytes(model.SerializeToString())
    with pytest.raises(InputError, match=rf"damaged\.onnx: .*{reason}"):
        open_session(path, "native")


def test_the_network_itself_is_taken(tmp_path: Path) -> None:
    check(network().SerializeToString(), noise(20, 30))
    many = network()
    behind_the_image(*["Relu", "Sigmoid"] * 40)(many)
    check(many.SerializeToString(), noise(9, 9))


@pytest.mark.parametrize(
    ("build", "reason"),
    [
        (
            lambda g: g.op("DepthToSpace", g.op("Transpose", g.convolution("lr", 12), perm=[0, 2, 3, 1]), blocksize=2),
            "NHWC",
        ),
        (lambda g: g.op("Div", "lr", g.constant(np.float32([[[0]]]))), "a division by zero"),
        (lambda g: g.op("Pow", "lr", g.constant(np.full((1,) * 5, 2, np.float32))), "a power other than"),
        (
            lambda g: g.op("Mul", "lr", g.op("Expand", g.numbers(1, 1, 1), g.constant(np.array([3, 1, 1])))),
            "Expand on constants",
        ),
    ],
)
def test_what_onnx_allows_and_no_kernel_computes_is_refused(build: Callable[[Graph], str], reason: str) -> None:
    graph = Graph()
    output = build(graph)
    graph.nodes.append(helper.make_node("Identity", [output], ["sr"]))
    inputs = [helper.make_tensor_value_info("lr", TensorProto.FLOAT, ["n", 3, "h", "w"])]
    outputs = [helper.make_tensor_value_info("sr", TensorProto.FLOAT, [None] * 4)]
    parts = helper.make_graph(graph.nodes, "g", inputs, outputs, graph.constants)
    model = helper.make_model(parts, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    with pytest.raises(UnsupportedError, match=reason):
        import_program(model.SerializeToString())


def bomb(kind: str) -> Callable[[ModelProto], None]:
    """A constant of a few bytes from which gigabytes, or endless loops, follow."""

    def change(model: ModelProto) -> None:
        values = {"one": np.ones(1, np.float32), "many": np.array([1 << 30]), "yes": np.array(True)}
        values |= {"first": np.array(0), "end": np.array(2**31), "step": np.array(1)}
        for name, value in values.items():
            model.graph.initializer.append(numpy_helper.from_array(value, name))
        info = helper.make_tensor_value_info
        body = helper.make_graph(
            [helper.make_node("Identity", ["c"], ["c2"]), helper.make_node("Identity", ["v"], ["v2"])],
            "body",
            [info("i", TensorProto.INT64, []), *(info(it, TensorProto.BOOL, []) for it in ("c", "v"))],
            [info(it, TensorProto.BOOL, []) for it in ("c2", "v2")],
        )
        node = {
            "Expand": helper.make_node("Expand", ["one", "many"], ["bomb"]),
            "Tile": helper.make_node("Tile", ["one", "many"], ["bomb"]),
            "Range": helper.make_node("Range", ["first", "end", "step"], ["bomb"]),
            "Loop": helper.make_node("Loop", ["end", "yes", "yes"], ["bomb"], body=body),
        }[kind]
        model.graph.node.insert(0, node)

    return change


@pytest.mark.parametrize("kind", ["Expand", "Tile", "Range", "Loop"])
@pytest.mark.parametrize("used", [False, True])
def test_a_constant_that_would_take_all_memory_or_time_is_not_computed(kind: str, used: bool, tmp_path: Path) -> None:
    model = network()
    bomb(kind)(model)
    if used:
        model.graph.node.append(helper.make_node("Cast", ["bomb"], ["float"], to=TensorProto.FLOAT))
        model.graph.node.append(helper.make_node("Add", ["sr", "float"], ["result"]))
        model.graph.output[0].name = "result"
    path = tmp_path / "bomb.onnx"
    path.write_bytes(model.SerializeToString())
    for backend in ("native", "ort-cpu"):
        with pytest.raises(InputError, match=rf"bomb\.onnx: it has the operator {kind}, which no exported network has"):
            open_session(path, backend)
    began = time.monotonic()
    tracemalloc.start()
    if used or kind == "Loop":
        with pytest.raises((InputError, UnsupportedError)):
            import_program(path.read_bytes())
    else:
        assert import_program(path.read_bytes()).ops
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert time.monotonic() - began < 20
    assert peak < 50 << 20


def test_constants_that_grow_with_every_node_are_not_computed() -> None:
    graph = Graph()
    weight = graph.numbers(3, 3, 1, 1)
    for _ in range(40):
        weight = graph.op("Concat", weight, weight, axis=0)
    graph.op("Conv", "lr", weight)
    model = network()
    text = helper.make_model(
        helper.make_graph(
            [*graph.nodes, helper.make_node("Identity", [graph.nodes[-1].output[0]], ["sr"])],
            "g",
            model.graph.input,
            model.graph.output,
            graph.constants,
        ),
        opset_imports=model.opset_import,
        ir_version=9,
    ).SerializeToString()
    with pytest.raises(UnsupportedError, match=r"computed constants of \d+ MiB, more than 64"):
        import_program(text)


def test_programs_that_do_not_fit_are_not_compiled() -> None:
    """Whatever the import did: generated code relies on it."""
    program = import_program(network().SerializeToString())
    for op in program.ops:
        for name in ("weight", "bias", "scale", "shift"):
            values = getattr(op, name, None)
            if values is not None:
                object.__setattr__(op, name, values[:-1])
                with pytest.raises(UnsupportedError, match="do not fit"):
                    CompiledNetwork(program, processor())
                object.__setattr__(op, name, values)
    CompiledNetwork(program, processor())


def test_code_that_would_take_minutes_to_compile_is_refused() -> None:
    graph = Graph()
    value = graph.convolution("lr", 4)
    for number in range(30):
        value = graph.depthwise(graph.convolution(value, 4 + number), (31, 31))
    began = time.monotonic()
    program = import_program(graph.model(graph.convolution(value, 3)))
    with pytest.raises(UnsupportedError, match=r"code of \d+ instructions"):
        CompiledNetwork(program, processor())
    assert time.monotonic() - began < 20


def test_debug_mode_finds_what_is_written_beside_an_array(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounds, "DEBUG", True)
    model = network().SerializeToString()
    check(model, noise(12, 40), threads=2)
    sizes = CompiledNetwork.band_floats
    monkeypatch.setattr(CompiledNetwork, "band_floats", lambda *them: (sizes(*them)[0], sizes(*them)[1] - 400))
    with pytest.raises(AssertionError):
        native(model, noise(12, 40))

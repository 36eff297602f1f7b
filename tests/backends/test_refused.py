"""Files that no engine is to open: what is no artefact, or a damaged one, or keeps its weights in other files."""

import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper
from onnx.onnx_ml_pb2 import FunctionProto, TrainingInfoProto
from small_artefacts import METADATA, graph, noise, repeated, saved

from lkdn_deploy.backends.onnx_bytes import read_artifact, read_properties
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.runtime.bundled import bundled

BOTH = ("ort-cpu", "openvino")


@pytest.mark.parametrize("backend", BOTH)
def test_a_shape_that_a_static_artefact_does_not_take_is_refused(tmp_path: Path, backend: str) -> None:
    session = open_session(saved(tmp_path / "a.onnx", graph((1, 3, 4, 6))), backend)
    assert session.fixed_size == (4, 6)
    batch = noise(1, 3, 4, 6)
    assert np.array_equal(session.run(batch), repeated(batch))
    with pytest.raises(UsageError, match="takes 6x4 pixels only, got 4x6") as error:
        session.run(noise(1, 3, 6, 4))
    assert error.value.hint == "export it without --static"


@pytest.mark.parametrize("backend", BOTH)
def test_an_artefact_that_upscales_otherwise_than_it_says_is_refused(tmp_path: Path, backend: str) -> None:
    model = graph()
    helper.set_model_props(model, dataclasses.replace(METADATA, scale=3).to_props())
    session = open_session(saved(tmp_path / "a.onnx", model), backend)
    with pytest.raises(InputError, match=r"upscale x3, but it turned \(1, 3, 2, 2\) into \(1, 3, 4, 4\)") as error:
        session.run(noise(1, 3, 2, 2))
    assert error.value.hint == "export the checkpoint again"


@pytest.mark.parametrize(
    "content", [b"", b"not onnx", b"\x08\x0a", b"<?xml version='1.0'?><net name='a' version='11'></net>", b"\xff" * 40]
)
def test_what_is_no_model_is_refused_by_name_and_nothing_is_printed(
    tmp_path: Path, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.onnx(: .*not made by lkdn-export| is not an ONNX model: )") as error:
        read_artifact(tmp_path / "a.onnx")
    assert "lkdn-export" in str(error.value.hint)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    "error", [KeyError("x"), ValueError(), RecursionError(), MemoryError(), onnx.shape_inference.InferenceError("x")]
)
def test_whatever_an_opener_raises_becomes_an_error_that_names_the_file(
    error: Exception, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise error

    monkeypatch.setattr("lkdn_deploy.backends.ort.open_cpu", fail)
    with pytest.raises(InputError, match=rf"a\.onnx cannot be used: {type(error).__name__}"):
        open_session(saved(tmp_path / "a.onnx"), "ort-cpu")


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.999])
def test_a_file_that_ends_too_early_is_refused(tmp_path: Path, cut: float) -> None:
    content = bundled()["lkdn-s", 4].read_bytes()
    (tmp_path / "a.onnx").write_bytes(content[: int(cut * len(content))])
    with pytest.raises(InputError, match=r"a\.onnx"):
        open_session(tmp_path / "a.onnx")


def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.onnx cannot be read: No such file"):
        read_artifact(tmp_path / "gone.onnx")
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        read_artifact(tmp_path)


def test_a_model_of_another_tool_is_refused_by_name(tmp_path: Path) -> None:
    model = graph()
    del model.metadata_props[:]
    with pytest.raises(InputError, match=r"a\.onnx: .*not made by lkdn-export") as error:
        read_artifact(saved(tmp_path / "a.onnx", model))
    assert "lkdn-export --fuse --onnx" in str(error.value.hint)


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("lkdn.model", "{", "metadata is damaged"),
        ("lkdn.scale", '"2"', "scale must be between 1 and 8"),
        ("lkdn.format", "99", "format '99' is not known"),
    ],
)
def test_damaged_metadata_are_refused_by_the_files_name(tmp_path: Path, key: str, value: str, said: str) -> None:
    model = graph()
    helper.set_model_props(model, METADATA.to_props() | {key: value})
    with pytest.raises(InputError, match=rf"a\.onnx: .*{said}"):
        read_artifact(saved(tmp_path / "a.onnx", model))


def two_inputs(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["n", 3, "h", "w"]))
    model.graph.node[1].input[3] = "other"


def two_outputs(model: ModelProto) -> None:
    model.graph.output.append(helper.make_tensor_value_info("four", TensorProto.FLOAT, [None] * 4))


def levels_out(model: ModelProto) -> None:
    """Floats go in, and 8-bit levels come out."""
    model.graph.node.append(helper.make_node("Cast", ["sr"], ["levels"], to=TensorProto.UINT8))
    model.graph.output[0].CopyFrom(helper.make_tensor_value_info("levels", TensorProto.UINT8, [None] * 4))


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("change", [two_inputs, two_outputs, levels_out])
def test_a_model_with_more_or_other_values_is_refused(
    tmp_path: Path, backend: str, change: Callable[[ModelProto], None]
) -> None:
    model = graph()
    change(model)
    with pytest.raises(InputError, match=r"a\.onnx: expected one input \(N, 3, H, W\) and one output") as error:
        open_session(saved(tmp_path / "a.onnx", model), backend)
    assert error.value.hint == "export the checkpoint with lkdn-export"


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("shape", [("n", 1, "h", "w"), ("n", "c", "h", "w")])
def test_a_model_of_other_channels_is_refused(tmp_path: Path, backend: str, shape: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match=r"a\.onnx: expected one input \(N, 3, H, W\)") as error:
        open_session(saved(tmp_path / "a.onnx", graph(shape)), backend)
    assert error.value.hint == "export the checkpoint with lkdn-export"


@pytest.mark.parametrize("backend", BOTH)
def test_a_model_of_doubles_is_refused(tmp_path: Path, backend: str) -> None:
    with pytest.raises(
        InputError, match=r"a\.onnx: expected one input .*both float32, float16 or uint8; got .*(double|f64)"
    ):
        open_session(saved(tmp_path / "a.onnx", graph(kind=TensorProto.DOUBLE)), backend)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((4, 3, "h", "w"), r"a\.onnx takes batches of 4 images only"),
        ((1, 3, "h", 64), r"a\.onnx takes a width of 64 only"),
        ((1, 3, 64, "w"), r"a\.onnx takes a height of 64 only"),
    ],
)
def test_onnx_runtime_refuses_what_is_fixed_in_part_and_does_not_blame_memory(
    tmp_path: Path, shape: tuple[Any, ...], said: str
) -> None:
    with pytest.raises(InputError, match=said) as error:
        open_session(saved(tmp_path / "a.onnx", graph(shape)), "ort-cpu")
    assert "memory" not in str(error.value)


def test_a_batch_that_is_fixed_to_one_is_no_lack_of_memory(tmp_path: Path) -> None:
    session = open_session(saved(tmp_path / "a.onnx", graph((1, 3, "h", "w"))), "ort-cpu")
    assert session.run(noise(1, 3, 4, 6)).shape == (1, 3, 8, 12)
    with pytest.raises(UsageError, match="one image at a time, got a batch of 2"):
        session.run(noise(2, 3, 4, 6))


def outside(location: str) -> TensorProto:
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[1, 3, 1, 1], data_location=TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value=location)
    return tensor


def by_initializer(model: ModelProto, tensor: TensorProto) -> None:
    model.graph.initializer.append(tensor)


def by_constant(model: ModelProto, tensor: TensorProto) -> None:
    model.graph.node.insert(0, helper.make_node("Constant", [], ["w"], value=tensor))


def by_branch(model: ModelProto, tensor: TensorProto) -> None:
    """In a graph inside a node, which a condition chooses."""
    constant = helper.make_node("Constant", [], ["inner"], value=tensor)
    output = helper.make_tensor_value_info("inner", TensorProto.FLOAT, [1, 3, 1, 1])
    branch = helper.make_graph([constant], "branch", [], [output])
    model.graph.initializer.append(helper.make_tensor("yes", TensorProto.BOOL, [], [True]))
    model.graph.node.insert(0, helper.make_node("If", ["yes"], ["w"], then_branch=branch, else_branch=branch))


def with_weights(put: Callable[[ModelProto, TensorProto], None], location: str) -> ModelProto:
    """The first copy of the picture is multiplied by what is in a file."""
    model = graph()
    put(model, outside(location))
    place = next(index for index, node in enumerate(model.graph.node) if node.op_type == "Concat")
    model.graph.node[place].input[0] = "scaled"
    model.graph.node.insert(place, helper.make_node("Mul", ["lr", "w"], ["scaled"]))
    return model


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("put", [by_initializer, by_constant, by_branch])
def test_weights_in_another_file_are_not_followed(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    backend: str,
    absolute: bool,
    put: Callable[[ModelProto, TensorProto], None],
) -> None:
    """A model may name any file of the machine as its weights."""
    monkeypatch.chdir(tmp_path)
    secret = tmp_path / "secret.bin"
    secret.write_bytes(np.full(3, 7, np.float32).tobytes())
    path = saved(tmp_path / "a.onnx", with_weights(put, str(secret) if absolute else secret.name))
    with pytest.raises(InputError, match=r"a\.onnx keeps weights in other files, which are not read") as error:
        open_session(path, backend)
    assert error.value.hint == "export the checkpoint with lkdn-export"


@pytest.mark.parametrize("put", [by_initializer, by_constant, by_branch])
def test_an_engine_itself_would_follow_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, put: Callable[[ModelProto, TensorProto], None]
) -> None:
    """So the test above can fail, and what keeps it from doing so is still needed."""
    import onnxruntime
    import openvino

    monkeypatch.chdir(tmp_path)
    (tmp_path / "secret.bin").write_bytes(np.full(3, 7, np.float32).tobytes())
    data = with_weights(put, "secret.bin").SerializeToString()
    ones = np.ones((1, 3, 1, 1), np.float32)
    core = openvino.Core()
    if put is by_branch:
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        assert session.run(None, {"lr": ones})[0].max() == 7
    else:
        result = core.compile_model(core.read_model(data), "CPU")({0: ones})
        assert next(iter(result.values())).max() == 7


def places() -> dict[str, ModelProto]:
    """A model for every place of ONNX that a tensor can be at, with one that is kept in another file."""
    tensor, models = outside("elsewhere.bin"), {}

    def add(name: str, **fields: Any) -> None:
        models[name] = ModelProto(**fields)

    sparse = onnx.SparseTensorProto(values=tensor), onnx.SparseTensorProto(indices=tensor)
    attributes = {
        "tensor": onnx.AttributeProto(t=tensor),
        "tensors": onnx.AttributeProto(tensors=[TensorProto(), tensor]),
        "graph": onnx.AttributeProto(g=GraphProto(initializer=[tensor])),
        "graphs": onnx.AttributeProto(graphs=[GraphProto(), GraphProto(initializer=[tensor])]),
        "sparse": onnx.AttributeProto(sparse_tensor=sparse[0]),
        "sparse tensors": onnx.AttributeProto(sparse_tensors=sparse),
    }
    for name, attribute in attributes.items():
        node = NodeProto(attribute=[attribute])
        add(f"{name} of a node", graph=GraphProto(node=[NodeProto(), node]))
        add(f"{name} of a function", functions=[FunctionProto(node=[node])])
        add(f"{name} of a function's attribute", functions=[FunctionProto(attribute_proto=[attribute])])
    add("initializer", graph=GraphProto(initializer=[TensorProto(), tensor]))
    add("sparse values", graph=GraphProto(sparse_initializer=[sparse[0]]))
    add("sparse indices", graph=GraphProto(sparse_initializer=[sparse[1]]))
    add("training", training_info=[TrainingInfoProto(initialization=GraphProto(initializer=[tensor]))])
    add("training step", training_info=[TrainingInfoProto(algorithm=GraphProto(initializer=[tensor]))])
    return models


@pytest.mark.parametrize("place", places())
def test_weights_in_another_file_are_found_wherever_they_are_named(place: str) -> None:
    assert read_properties(places()[place].SerializeToString()) is None


def test_every_field_of_onnx_that_leads_to_a_tensor_is_looked_at() -> None:
    """By what the package onnx knows of the format, so that a new version's fields are noticed."""
    reached: set[tuple[str, str]] = set()

    def leads(message: Any, above: tuple[str, ...] = ()) -> bool:
        if message.name == "TensorProto":
            return True
        if message.name in above:
            return False
        inner = {
            field.name: leads(field.message_type, (*above, message.name))
            for field in message.fields
            if field.message_type is not None
        }
        reached.update((message.name, name) for name, does in inner.items() if does)
        return any(inner.values())

    assert leads(ModelProto.DESCRIPTOR)
    expected = {
        "ModelProto": "graph training_info functions",
        "TrainingInfoProto": "initialization algorithm",
        "FunctionProto": "node attribute_proto",
        "GraphProto": "node initializer sparse_initializer",
        "NodeProto": "attribute",
        "AttributeProto": "t tensors g graphs sparse_tensor sparse_tensors",
        "SparseTensorProto": "values indices",
    }
    assert reached == {(message, name) for message, names in expected.items() for name in names.split()}


def test_one_sign_of_another_file_is_enough() -> None:
    location = TensorProto(data_location=TensorProto.EXTERNAL)
    named = TensorProto()
    named.external_data.add(key="location", value="elsewhere.bin")
    for tensor in (location, named):
        assert read_properties(ModelProto(graph=GraphProto(initializer=[tensor])).SerializeToString()) is None
    inside = TensorProto(name="w", data_location=TensorProto.DEFAULT, raw_data=b"\x70\x01" * 9)
    assert read_properties(ModelProto(graph=GraphProto(initializer=[inside])).SerializeToString()) == {}


def test_a_field_that_comes_twice_is_looked_at_twice() -> None:
    """Protocol Buffers joins them: bytes of one model after those of another are one model of both."""
    harmless = graph().SerializeToString()
    other = ModelProto(graph=GraphProto(initializer=[outside("elsewhere.bin")])).SerializeToString()
    assert read_properties(harmless + other) is None
    assert read_properties(other + harmless) is None


def test_a_number_may_be_longer_than_need_be() -> None:
    """Parsers keep the low bits: tag 14 and value 1 in more bytes than they take, and with bits that are cut off."""

    def framed(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    for location in (b"\x70\x01", b"\xf0\x00\x01", b"\xf0\x80\x80\x80\x00\x81\x80\x00", b"\xf0\x80\x80\x80\x70\x01"):
        assert read_properties(framed(7, framed(5, location))) is None


@pytest.mark.parametrize("model", [*bundled().values()], ids=lambda path: path.stem)
def test_the_bundled_models_hold_all_their_weights(model: Path) -> None:
    assert read_properties(model.read_bytes())

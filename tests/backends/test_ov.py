"""OpenVINO for real on the CPU, and what it must refuse as ONNX Runtime does."""

import dataclasses
import hashlib
import logging
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper
from onnx.onnx_ml_pb2 import FunctionProto, TrainingInfoProto

from lkdn_deploy.backends import ov
from lkdn_deploy.backends.onnx_bytes import names_other_files
from lkdn_deploy.backends.ov import AT_ONCE, KEPT, OpenVinoSession, open_openvino
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.jit import kept as store
from lkdn_deploy.runtime.bundled import bundled, find
from lkdn_deploy.runtime.upscaler import Upscaler
from lkdn_deploy.samples import sample_pixels

METADATA = ArtifactMetadata(model="twice", scale=2, receptive_radius=0, live_channels=3, fused=True)
BOTH = ("ort-cpu", "openvino")

random = np.random.default_rng(0)


def graph(shape: tuple[Any, ...] = ("n", 3, "h", "w"), kind: int = TensorProto.FLOAT) -> ModelProto:
    """A network that repeats each pixel."""
    nodes = [
        helper.make_node("Concat", ["lr"] * 4, ["four"], axis=1),
        helper.make_node("DepthToSpace", ["four"], ["sr"], blocksize=2, mode="DCR"),
    ]
    inputs = [helper.make_tensor_value_info("lr", kind, shape)]
    outputs = [helper.make_tensor_value_info("sr", kind, [None] * 4)]
    model = helper.make_model(
        helper.make_graph(nodes, "g", inputs, outputs), opset_imports=[helper.make_opsetid("", 20)], ir_version=9
    )
    helper.set_model_props(model, METADATA.to_props())
    return model


def saved(path: Path, model: ModelProto | None = None) -> Path:
    path.write_bytes((model or graph()).SerializeToString())
    return path


def noise(*shape: int) -> NDArray[np.float32]:
    return random.random(shape, np.float32)


def repeated(batch: NDArray[np.float32]) -> NDArray[np.float32]:
    return batch.repeat(2, axis=2).repeat(2, axis=3)


def opened(artefact: Path, threads: int | None = 1) -> OpenVinoSession:
    session = open_session(artefact, "openvino", threads=threads)
    assert isinstance(session, OpenVinoSession)
    return session


@pytest.mark.parametrize("scale", [scale for _, scale in bundled()])
def test_the_bundled_models_give_what_onnx_runtime_gives(scale: int) -> None:
    session, reference = opened(find("lkdn-s", scale)), open_session(find("lkdn-s", scale), "ort-cpu", threads=1)
    assert session.backend == "openvino-cpu"
    assert session.metadata == reference.metadata
    assert session.fixed_size is None
    for batch in (noise(1, 3, 37, 23), noise(2, 3, 8, 11), noise(1, 3, 1, 1)):
        assert np.abs(session.run(batch) - reference.run(batch)).max() <= 1e-4


def test_tiles_give_the_whole_image() -> None:
    session = opened(find("lkdn-s", 2))
    halo, tile = session.metadata.receptive_radius, 24
    assert halo is not None
    levels = np.tile(sample_pixels(), (2, 1, 1))[: tile + 2 * halo + 1, :29]
    pixels = levels.astype(np.float32) / np.float32(255)
    whole, tiled = Upscaler(session), Upscaler(session, tile=tile)
    assert (len(whole.plan(*levels.shape[:2])), len(tiled.plan(*levels.shape[:2]))) == (1, 2)
    assert np.abs(tiled(pixels) - whole(pixels)).max() <= 1e-4
    assert np.abs(tiled(levels).astype(int) - whole(levels)).max() <= 1
    assert np.abs(Upscaler(open_session(find("lkdn-s", 2), "ort-cpu"))(pixels) - whole(pixels)).max() <= 1e-4


def test_so_many_sizes_are_kept_compiled_and_the_longest_unused_goes(tmp_path: Path) -> None:
    session = opened(saved(tmp_path / "a.onnx"))
    shapes = [(1, 3, 4 + place, 5) for place in range(KEPT)]
    kept = [session.requests(shape) for shape in shapes]
    assert all(session.requests(shape) is request for shape, request in zip(shapes, kept, strict=True))
    session.requests(shapes[0])  # so the second is now the one that was not used for longest
    session.requests((2, 3, 9, 9))
    assert session.requests(shapes[0]) is kept[0]
    assert session.requests(shapes[2]) is kept[2]
    assert session.requests(shapes[1]) is not kept[1]


def test_results_are_right_whatever_was_compiled_before_and_stay_so() -> None:
    session, reference = opened(find("lkdn-s", 2)), open_session(find("lkdn-s", 2), "ort-cpu", threads=1)
    batches = [noise(1, 3, 6 + place, 9) for place in range(KEPT + 1)]
    batches = [*batches, batches[0], batches[-1]]  # the first was dropped, the last was kept
    results = [session.run(batch) for batch in batches]
    for batch, result in zip(batches, results, strict=True):
        assert np.abs(result - reference.run(batch)).max() <= 1e-4


def test_a_batch_is_read_as_it_is_and_left_so(tmp_path: Path) -> None:
    session = opened(saved(tmp_path / "a.onnx"))
    turned = noise(2, 3, 5, 4).transpose(0, 1, 3, 2)  # not in the order of memory
    before = turned.copy()
    first = session.run(turned)
    second = session.run(np.ones_like(before))
    assert np.array_equal(first, repeated(before))
    assert np.array_equal(turned, before)
    assert (second == 1).all()
    assert first.dtype == np.float32


def test_memory_of_other_sizes_is_given_back() -> None:
    """Four sizes of tiles would hold four times the budget."""
    import psutil

    process = psutil.Process()
    session = opened(find("lkdn-s", 4))
    session.run(noise(1, 3, 160, 160))
    before = process.memory_info().rss
    for width in (161, 162, 163):
        session.run(noise(1, 3, 160, width))
    # Compiling takes some of it, and results lie there.
    assert process.memory_info().rss - before < 2 * 160**2 * session.bytes_per_pixel()


@pytest.mark.usefixtures("empty_cache")
def test_threads_and_full_precision_are_passed_on() -> None:
    for _ in ("compiled", "from the cache"):
        compiled = opened(find("lkdn-s", 4), threads=1).requests((1, 3, 8, 8))[0].get_compiled_model()
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
        assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


# what is kept compiled in the user's cache


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return store.folder("openvino")


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_what_was_compiled_is_kept_and_read_by_the_next(empty_cache: Path) -> None:
    batch = noise(1, 3, 12, 9)
    result = opened(find("lkdn-s", 4)).run(batch)
    (kept,) = files(empty_cache)
    written = kept.stat().st_ino
    assert np.array_equal(opened(find("lkdn-s", 4)).run(batch), result)
    assert np.array_equal(opened(find("lkdn-s", 4), threads=2).run(batch), result)
    assert np.array_equal(open_openvino(find("lkdn-s", 4), hint="throughput").run(batch), result)
    assert files(empty_cache) == [kept]
    assert kept.stat().st_ino == written  # nothing new, nothing written
    opened(find("lkdn-s", 4)).run(noise(1, 3, 9, 12))
    assert len(files(empty_cache)) == 2


def scaled_by(factor: float) -> ModelProto:
    model = graph()
    model.graph.initializer.append(helper.make_tensor("w", TensorProto.FLOAT, [1, 3, 1, 1], [factor] * 3))
    model.graph.node.insert(0, helper.make_node("Mul", ["lr", "w"], ["scaled"]))
    model.graph.node[1].input[:] = ["scaled"] * 4
    return model


@pytest.mark.usefixtures("empty_cache")
def test_networks_that_differ_in_a_weight_are_not_taken_for_each_other(tmp_path: Path) -> None:
    batch = noise(1, 3, 4, 5)
    half, quarter = (saved(tmp_path / f"{factor}.onnx", scaled_by(factor)) for factor in (0.5, 0.25))
    for _ in ("compiled", "from the cache"):
        assert np.array_equal(opened(half).run(batch), repeated(batch) / 2)
        assert np.array_equal(opened(quarter).run(batch), repeated(batch) / 4)


def flipped(data: bytes, place: int) -> bytes:
    return data[:place] + bytes([data[place] ^ 0x40]) + data[place + 1 :]


def sealed(blob: bytes) -> bytes:
    """Whole, as far as the file itself can tell."""
    return hashlib.sha256(blob).digest() + blob


@pytest.mark.parametrize(
    "damage",
    [
        lambda _: b"",
        lambda data: data[:20],
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: data + b"more",
        lambda data: flipped(data, 0),
        # In the weights: OpenVINO would take it, and give other results.
        lambda data: flipped(data, len(data) // 4),
        lambda data: flipped(data, len(data) // 2),
        lambda _: sealed(b""),
        lambda _: sealed(b"of another kind" * 1000),
        lambda data: sealed(data[32 : len(data) // 2]),
    ],
)
def test_what_was_damaged_is_compiled_again(empty_cache: Path, damage: Callable[[bytes], bytes]) -> None:
    batch = noise(1, 3, 7, 8)
    result = opened(find("lkdn-s", 2)).run(batch)
    (kept,) = files(empty_cache)
    damaged = damage(kept.read_bytes())
    kept.write_bytes(damaged)
    assert np.array_equal(opened(find("lkdn-s", 2)).run(batch), result)
    assert files(empty_cache) == [kept]
    assert (written := kept.read_bytes()) != damaged
    assert written == sealed(written[32:])


def test_without_a_folder_to_write_to_it_runs_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lkdn_deploy")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    batch = noise(1, 3, 4, 5)
    assert np.array_equal(opened(saved(tmp_path / "a.onnx")).run(batch), repeated(batch))
    assert "what was compiled is not kept: " in caplog.text


def test_a_file_that_cannot_be_replaced_does_no_harm(tmp_path: Path, empty_cache: Path) -> None:
    batch = noise(1, 3, 4, 5)
    opened(saved(tmp_path / "a.onnx")).run(batch)
    (kept,) = files(empty_cache)
    kept.unlink()
    (kept / "inside").mkdir(parents=True)
    assert np.array_equal(opened(tmp_path / "a.onnx").run(batch), repeated(batch))
    assert files(empty_cache) == [kept]


def test_so_many_files_are_kept_and_the_longest_unused_go(
    tmp_path: Path, empty_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "MOST", 3)
    session = opened(saved(tmp_path / "a.onnx"))
    made: list[Path] = []
    for height in (4, 5, 6):
        session.run(noise(1, 3, height, 5))
        (new,) = set(files(empty_cache)) - set(made)
        made.append(new)
        os.utime(new, (height, height))
    opened(tmp_path / "a.onnx").run(noise(1, 3, 4, 5))  # so the second is now the one that was not used for longest
    session.run(noise(1, 3, 7, 5))
    left = files(empty_cache)
    assert len(left) == 3
    assert set(made) - set(left) == {made[1]}


# for throughput: several windows at once


def for_throughput(artefact: Path, threads: int | None = None) -> OpenVinoSession:
    return open_openvino(artefact, threads=threads, hint="throughput")


def test_throughput_gives_the_results_of_latency_in_order() -> None:
    session, reference = for_throughput(find("lkdn-s", 4)), opened(find("lkdn-s", 4), None)
    compiled = session.requests((1, 3, 9, 8))[0].get_compiled_model()
    assert str(compiled.get_property("PERFORMANCE_HINT")).endswith("THROUGHPUT")
    batches = [noise(1, 3, 9, 8) for _ in range(2 * AT_ONCE + 1)]
    batches += [noise(2, 3, 9, 8), noise(1, 3, 10, 8), noise(1, 3, 10, 8), noise(1, 3, 9, 8)]
    results = list(session.run_many(iter(batches)))
    assert len(results) == len(batches)
    for batch, result in zip(batches, results, strict=True):  # buffers are used again, results must not be
        assert np.array_equal(result, reference.run(batch))
        assert np.array_equal(result, session.run(batch))


def test_memory_is_counted_for_all_that_run_at_once() -> None:
    session, alone = for_throughput(find("lkdn-s", 4)), opened(find("lkdn-s", 4))
    number = len(session.requests((1, 3, 8, 8)))
    assert 1 <= number <= AT_ONCE
    assert abs(session.bytes_per_pixel() - number * alone.bytes_per_pixel()) <= number
    assert len(for_throughput(find("lkdn-s", 4), 1).requests((1, 3, 8, 8))) == 1
    assert len(alone.requests((1, 3, 8, 8))) == 1


@pytest.mark.parametrize("hint", ["latency", "throughput"])
def test_runs_can_be_ended_early_and_do_not_mix(tmp_path: Path, hint: ov.Hint) -> None:
    session = open_openvino(saved(tmp_path / "a.onnx"), hint=hint)
    batches = [noise(1, 3, 64, 64) for _ in range(AT_ONCE + 2)]
    results = session.run_many(batches)
    assert np.array_equal(next(results), repeated(batches[0]))
    with pytest.raises(UsageError, match="in the middle of another run"):
        session.run(batches[1])
    results.close()
    assert np.array_equal(session.run(batches[1]), repeated(batches[1]))

    def failing() -> Any:
        yield from batches[:2]
        msg = "the disk is gone"
        raise OSError(msg)

    with pytest.raises(OSError, match="the disk is gone"):
        list(session.run_many(failing()))
    assert np.array_equal(session.run(batches[2]), repeated(batches[2]))


@pytest.mark.parametrize("hint", ["latency", "throughput"])
def test_a_window_that_fails_does_so_in_its_turn(tmp_path: Path, hint: ov.Hint) -> None:
    session = open_openvino(saved(tmp_path / "a.onnx", even_heights_only()), hint=hint)
    results = session.run_many([noise(1, 3, height, 4) for height in (6, 6, 7, 6)])
    assert [next(results).shape, next(results).shape] == [(1, 3, 12, 8)] * 2
    with pytest.raises(InputError, match="openvino-cpu failed on a window of 7x4 pixels"):
        next(results)
    assert session.run(noise(1, 3, 6, 4)).shape == (1, 3, 12, 8)


def test_an_unknown_hint_is_refused() -> None:
    with pytest.raises(UsageError, match="no such hint: fast") as error:
        open_openvino(find("lkdn-s", 4), hint="fast")  # type: ignore[arg-type]
    assert error.value.hint == "known are latency, throughput"


def test_the_memory_of_a_run_follows_what_is_alive(tmp_path: Path) -> None:
    small, large = opened(saved(tmp_path / "a.onnx")), opened(find("lkdn-s", 4))
    assert small.bytes_per_pixel() >= 4 * small.metadata.live_channels
    assert large.bytes_per_pixel() >= 4 * large.metadata.live_channels
    assert large.bytes_per_pixel() > 100 * small.bytes_per_pixel()


@pytest.mark.parametrize("backend", BOTH)
def test_a_shape_that_a_static_artefact_does_not_take_is_refused(tmp_path: Path, backend: str) -> None:
    session = open_session(saved(tmp_path / "a.onnx", graph((1, 3, 4, 6))), backend)
    assert session.fixed_size == (4, 6)
    batch = noise(1, 3, 4, 6)
    assert np.array_equal(session.run(batch), repeated(batch))
    with pytest.raises(UsageError, match="takes 4x6 pixels only, got 6x4") as error:
        session.run(noise(1, 3, 6, 4))
    assert error.value.hint == "export it without --static"


@pytest.mark.parametrize("backend", BOTH)
def test_an_artefact_that_upscales_otherwise_than_it_says_is_refused(tmp_path: Path, backend: str) -> None:
    model = graph()
    helper.set_model_props(model, dataclasses.replace(METADATA, scale=3).to_props())
    session = open_session(saved(tmp_path / "a.onnx", model), backend)
    with pytest.raises(InputError, match=r"says it upscales x3, but made \(1, 3, 4, 4\)") as error:
        session.run(noise(1, 3, 2, 2))
    assert error.value.hint == "export the checkpoint again"


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize(
    "content", [b"", b"not onnx", b"\x08\x0a", b"<?xml version='1.0'?><net name='a' version='11'></net>", b"\xff" * 40]
)
def test_what_is_no_model_is_refused_by_name_and_nothing_is_printed(
    tmp_path: Path, backend: str, content: bytes, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.onnx").write_bytes(content)
    engine = {"ort-cpu": "ONNX Runtime", "openvino": "OpenVINO"}[backend]
    with pytest.raises(InputError, match=rf"a\.onnx cannot be opened by {engine} as a model") as error:
        open_session(tmp_path / "a.onnx", backend)
    assert error.value.hint
    assert "Exception from" not in error.value.hint
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.999])
def test_a_file_that_ends_too_early_is_refused(tmp_path: Path, cut: float) -> None:
    content = find("lkdn-s", 4).read_bytes()
    (tmp_path / "a.onnx").write_bytes(content[: int(cut * len(content))])
    with pytest.raises(InputError, match=r"a\.onnx cannot be opened by OpenVINO as a model"):
        opened(tmp_path / "a.onnx")


@pytest.mark.parametrize("backend", BOTH)
def test_a_file_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path, backend: str) -> None:
    with pytest.raises(InputError, match=r"gone\.onnx cannot be read: No such file"):
        open_session(tmp_path / "gone.onnx", backend)
    with pytest.raises(InputError, match="cannot be read: Is a directory"):
        open_session(tmp_path, backend)


@pytest.mark.parametrize("backend", BOTH)
def test_a_model_of_another_tool_is_refused_by_name(tmp_path: Path, backend: str) -> None:
    model = graph()
    del model.metadata_props[:]
    with pytest.raises(InputError, match=r"a\.onnx: .*not made by lkdn-export") as error:
        open_session(saved(tmp_path / "a.onnx", model), backend)
    assert "lkdn-export --fuse --onnx" in str(error.value.hint)


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("lkdn.model", "{", "metadata is damaged"),
        ("lkdn.scale", '"2"', "scale must be between 1 and 8"),
        ("lkdn.format", "99", "format '99' is not known"),
    ],
)
def test_damaged_metadata_are_refused_by_the_files_name(
    tmp_path: Path, backend: str, key: str, value: str, said: str
) -> None:
    model = graph()
    helper.set_model_props(model, METADATA.to_props() | {key: value})
    with pytest.raises(InputError, match=rf"a\.onnx: .*{said}"):
        open_session(saved(tmp_path / "a.onnx", model), backend)


def two_inputs(model: ModelProto) -> None:
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, ["n", 3, "h", "w"]))
    model.graph.node[0].input[3] = "other"


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
    with pytest.raises(InputError, match=r"a\.onnx: expected one float32 input \(N, 3, H, W\) and one output") as error:
        open_session(saved(tmp_path / "a.onnx", model), backend)
    assert error.value.hint == "export the checkpoint with lkdn-export"


@pytest.mark.parametrize("backend", BOTH)
@pytest.mark.parametrize("shape", [("n", 1, "h", "w"), ("n", "c", "h", "w")])
def test_a_model_of_other_channels_is_refused(tmp_path: Path, backend: str, shape: tuple[Any, ...]) -> None:
    with pytest.raises(InputError, match=r"a\.onnx: expected one float32 input") as error:
        open_session(saved(tmp_path / "a.onnx", graph(shape)), backend)
    assert error.value.hint == "export the checkpoint with lkdn-export"


@pytest.mark.parametrize("kind", [TensorProto.UINT8, TensorProto.DOUBLE])
def test_a_model_of_other_values_than_float32_is_refused(tmp_path: Path, kind: int) -> None:
    with pytest.raises(InputError, match=r"a\.onnx: expected one float32 input"):
        opened(saved(tmp_path / "a.onnx", graph(kind=kind)))


def even_heights_only() -> ModelProto:
    """Two halves of the picture are added, which are alike at even heights only."""
    model = graph()
    model.graph.node.insert(0, helper.make_node("Split", ["lr"], ["up", "down"], axis=2, num_outputs=2))
    model.graph.node.insert(1, helper.make_node("Add", ["up", "down"], ["sum"]))
    model.graph.node.insert(2, helper.make_node("Concat", ["sum", "sum"], ["whole"], axis=2))
    model.graph.node[3].input[0] = "whole"
    return model


def test_what_the_engine_says_when_it_fails_is_passed_on(tmp_path: Path) -> None:
    session = opened(saved(tmp_path / "a.onnx", even_heights_only()))
    with pytest.raises(InputError, match="openvino-cpu failed on a window of 7x4 pixels") as error:
        session.run(noise(1, 3, 7, 4))
    assert "use smaller tiles; it said: " in str(error.value.hint)
    assert "Exception from" not in str(error.value.hint)


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
    assert names_other_files(places()[place].SerializeToString())


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
    assert reached == {
        ("ModelProto", "graph"),
        ("ModelProto", "training_info"),
        ("ModelProto", "functions"),
        ("TrainingInfoProto", "initialization"),
        ("TrainingInfoProto", "algorithm"),
        ("FunctionProto", "node"),
        ("FunctionProto", "attribute_proto"),
        ("GraphProto", "node"),
        ("GraphProto", "initializer"),
        ("GraphProto", "sparse_initializer"),
        ("NodeProto", "attribute"),
        ("AttributeProto", "t"),
        ("AttributeProto", "tensors"),
        ("AttributeProto", "g"),
        ("AttributeProto", "graphs"),
        ("AttributeProto", "sparse_tensor"),
        ("AttributeProto", "sparse_tensors"),
        ("SparseTensorProto", "values"),
        ("SparseTensorProto", "indices"),
    }


def test_one_sign_of_another_file_is_enough() -> None:
    location = TensorProto(data_location=TensorProto.EXTERNAL)
    named = TensorProto()
    named.external_data.add(key="location", value="elsewhere.bin")
    for tensor in (location, named):
        assert names_other_files(ModelProto(graph=GraphProto(initializer=[tensor])).SerializeToString())
    inside = TensorProto(name="w", data_location=TensorProto.DEFAULT, raw_data=b"\x70\x01" * 9)
    assert not names_other_files(ModelProto(graph=GraphProto(initializer=[inside])).SerializeToString())


def test_a_field_that_comes_twice_is_looked_at_twice() -> None:
    """Protocol Buffers joins them: bytes of one model after those of another are one model of both."""
    harmless = graph().SerializeToString()
    other = ModelProto(graph=GraphProto(initializer=[outside("elsewhere.bin")])).SerializeToString()
    assert names_other_files(harmless + other)
    assert names_other_files(other + harmless)


def test_a_number_may_be_longer_than_need_be() -> None:
    """Parsers keep the low bits: tag 14 and value 1 in more bytes than they take, and with bits that are cut off."""

    def framed(number: int, content: bytes) -> bytes:
        return bytes([number << 3 | 2, len(content)]) + content

    for location in (b"\x70\x01", b"\xf0\x00\x01", b"\xf0\x80\x80\x80\x00\x81\x80\x00", b"\xf0\x80\x80\x80\x70\x01"):
        assert names_other_files(framed(7, framed(5, location)))


@pytest.mark.parametrize("model", [*bundled().values()], ids=lambda path: path.stem)
def test_the_bundled_models_hold_all_their_weights(model: Path) -> None:
    assert not names_other_files(model.read_bytes())


def test_a_missing_openvino_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingError, match="cannot be imported") as error:
        open_session(saved(tmp_path / "a.onnx"), "openvino")
    assert "lkdn-deploy[openvino]" in str(error.value.hint)
    assert error.value.exit_code == 3

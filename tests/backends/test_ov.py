"""OpenVINO for real on the CPU: results, what it keeps compiled, several windows at once."""

import logging
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper
from small_artefacts import graph, noise, repeated, saved

from lkdn_deploy.backends import ov
from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.backends.ov import AT_ONCE, KEPT, OpenVinoSession, open_openvino
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.cache import Store
from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.runtime.upscaler import Upscaler
from lkdn_deploy.samples import sample_pixels


def opened(artefact: Path, threads: int | None = 1) -> OpenVinoSession:
    session = open_session(artefact, "openvino", threads=threads)
    assert isinstance(session, OpenVinoSession)
    return session


@pytest.mark.parametrize("scale", [scale for _, scale in bundled()])
def test_the_bundled_models_give_what_onnx_runtime_gives(scale: int) -> None:
    session, reference = (
        opened(bundled()["lkdn-s", scale]),
        open_session(bundled()["lkdn-s", scale], "ort-cpu", threads=1),
    )
    assert session.backend == "openvino-cpu"
    assert session.metadata == reference.metadata
    assert session.fixed_size is None
    for batch in (noise(1, 3, 37, 23), noise(2, 3, 8, 11), noise(1, 3, 1, 1)):
        assert np.abs(session.run(batch) - reference.run(batch)).max() <= 1e-4


def test_tiles_give_the_whole_image() -> None:
    session = opened(bundled()["lkdn-s", 2])
    halo, tile = session.metadata.receptive_radius, 24
    assert halo is not None
    levels = np.tile(sample_pixels(), (2, 1, 1))[: tile + 2 * halo + 1, :29]
    pixels = levels.astype(np.float32) / np.float32(255)
    whole, tiled = Upscaler(session), Upscaler(session, tile=tile)
    assert (len(whole.plan(*levels.shape[:2])), len(tiled.plan(*levels.shape[:2]))) == (1, 2)
    assert np.abs(tiled(pixels) - whole(pixels)).max() <= 1e-4
    assert np.abs(tiled(levels).astype(int) - whole(levels)).max() <= 1
    assert np.abs(Upscaler(open_session(bundled()["lkdn-s", 2], "ort-cpu"))(pixels) - whole(pixels)).max() <= 1e-4


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
    session, reference = opened(bundled()["lkdn-s", 2]), open_session(bundled()["lkdn-s", 2], "ort-cpu", threads=1)
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
    session = opened(bundled()["lkdn-s", 4])
    session.run(noise(1, 3, 160, 160))
    before = process.memory_info().rss
    for width in (161, 162, 163):
        session.run(noise(1, 3, 160, width))
    # Compiling takes some of it, and results lie there.
    assert process.memory_info().rss - before < 2 * 160**2 * session.bytes_per_pixel()


@pytest.mark.usefixtures("empty_cache")
def test_threads_and_full_precision_are_passed_on() -> None:
    for _ in ("compiled", "from the cache"):
        compiled = opened(bundled()["lkdn-s", 4], threads=1).requests((1, 3, 8, 8))[0].get_compiled_model()
        assert compiled.get_property("INFERENCE_NUM_THREADS") == 1
        assert compiled.get_property("INFERENCE_PRECISION_HINT").to_string() == "f32"


# what is kept compiled in the user's cache


@pytest.fixture
def empty_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Store("openvino").folder


def files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir())


def test_what_was_compiled_is_kept_and_read_by_the_next(empty_cache: Path) -> None:
    batch = noise(1, 3, 12, 9)
    result = opened(bundled()["lkdn-s", 4]).run(batch)
    (kept,) = files(empty_cache)
    written = kept.stat().st_ino
    assert np.array_equal(opened(bundled()["lkdn-s", 4]).run(batch), result)
    assert np.array_equal(opened(bundled()["lkdn-s", 4], threads=2).run(batch), result)
    assert np.array_equal(open_openvino(read_artifact(bundled()["lkdn-s", 4]), hint="throughput").run(batch), result)
    assert files(empty_cache) == [kept]
    assert kept.stat().st_ino == written  # nothing new, nothing written
    opened(bundled()["lkdn-s", 4]).run(noise(1, 3, 9, 12))
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
    ],
)
def test_what_was_damaged_is_compiled_again(empty_cache: Path, damage: Callable[[bytes], bytes]) -> None:
    batch = noise(1, 3, 7, 8)
    result = opened(bundled()["lkdn-s", 2]).run(batch)
    (kept,) = files(empty_cache)
    kept.write_bytes(damage(kept.read_bytes()))
    assert np.array_equal(opened(bundled()["lkdn-s", 2]).run(batch), result)
    (anew,) = files(empty_cache)
    assert Store("openvino").find(anew.name.partition(".")[0]) == anew


@pytest.mark.parametrize("content", [b"", b"of another kind" * 1000])
@pytest.mark.usefixtures("empty_cache")
def test_what_openvino_refuses_is_compiled_again(content: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    batch = noise(1, 3, 7, 8)
    result = opened(bundled()["lkdn-s", 2]).run(batch)
    monkeypatch.setattr(Store, "read", lambda *_: content)
    assert np.array_equal(opened(bundled()["lkdn-s", 2]).run(batch), result)


def test_without_a_folder_to_write_to_it_runs_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "lkdn_deploy")
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    batch = noise(1, 3, 4, 5)
    assert np.array_equal(opened(saved(tmp_path / "a.onnx")).run(batch), repeated(batch))
    assert "the result is not cached: " in caplog.text


# for throughput: several windows at once


def for_throughput(artefact: Path, threads: int | None = None) -> OpenVinoSession:
    return open_openvino(read_artifact(artefact), threads=threads, hint="throughput")


def test_throughput_gives_the_results_of_latency_in_order() -> None:
    session, reference = for_throughput(bundled()["lkdn-s", 4]), opened(bundled()["lkdn-s", 4], None)
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
    session, alone = for_throughput(bundled()["lkdn-s", 4]), opened(bundled()["lkdn-s", 4])
    number = len(session.requests((1, 3, 8, 8)))
    assert 1 <= number <= AT_ONCE
    assert abs(session.bytes_per_pixel() - number * alone.bytes_per_pixel()) <= number
    assert len(for_throughput(bundled()["lkdn-s", 4], 1).requests((1, 3, 8, 8))) == 1
    assert len(alone.requests((1, 3, 8, 8))) == 1


@pytest.mark.parametrize("hint", ["latency", "throughput"])
def test_runs_can_be_ended_early_and_do_not_mix(tmp_path: Path, hint: ov.Hint) -> None:
    session = open_openvino(read_artifact(saved(tmp_path / "a.onnx")), hint=hint)
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


def even_heights_only() -> ModelProto:
    """Two halves of the picture are added, which are alike at even heights only."""
    model = graph()
    model.graph.node.insert(0, helper.make_node("Split", ["lr"], ["up", "down"], axis=2, num_outputs=2))
    model.graph.node.insert(1, helper.make_node("Add", ["up", "down"], ["sum"]))
    model.graph.node.insert(2, helper.make_node("Concat", ["sum", "sum"], ["whole"], axis=2))
    model.graph.node[3].input[0] = "whole"
    return model


@pytest.mark.parametrize("hint", ["latency", "throughput"])
def test_a_window_that_fails_does_so_in_its_turn(tmp_path: Path, hint: ov.Hint) -> None:
    session = open_openvino(read_artifact(saved(tmp_path / "a.onnx", even_heights_only())), hint=hint)
    results = session.run_many([noise(1, 3, height, 4) for height in (6, 6, 7, 6)])
    assert [next(results).shape, next(results).shape] == [(1, 3, 12, 8)] * 2
    with pytest.raises(InputError, match="openvino-cpu failed on a window of 4x7 pixels") as error:
        next(results)
    assert "use smaller tiles; it said: " in str(error.value.hint)
    assert "Exception from" not in str(error.value.hint)
    assert session.run(noise(1, 3, 6, 4)).shape == (1, 3, 12, 8)


def test_an_unknown_hint_is_refused() -> None:
    with pytest.raises(UsageError, match="no such hint: fast") as error:
        open_openvino(read_artifact(bundled()["lkdn-s", 4]), hint="fast")  # type: ignore[arg-type]
    assert error.value.hint == "known are latency, throughput"


def test_the_memory_of_a_run_follows_what_is_alive(tmp_path: Path) -> None:
    small, large = opened(saved(tmp_path / "a.onnx")), opened(bundled()["lkdn-s", 4])
    assert small.bytes_per_pixel() >= 4 * small.metadata.live_channels
    assert large.bytes_per_pixel() >= 4 * large.metadata.live_channels
    assert large.bytes_per_pixel() > 100 * small.bytes_per_pixel()


def test_a_missing_openvino_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingError, match="cannot be imported") as error:
        open_session(saved(tmp_path / "a.onnx"), "openvino")
    assert ".[openvino]" in str(error.value.hint)
    assert error.value.exit_code == 3

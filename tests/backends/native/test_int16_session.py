"""The native engine in fixed point: near its float32, which computes what fixed point cannot."""

import json
from contextlib import closing
from pathlib import Path

import numpy as np
import onnx
import pytest

pytest.importorskip("llvmlite")

from native_graphs import Graph, clouds
from PIL import Image

from lkdn_deploy import load
from lkdn_deploy.backends.native.session import NativeSession
from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.cli._outcomes import described_use
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.upscale import command
from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.runtime.ensemble import EnsembleSession
from lkdn_deploy.samples import sample_pixels

Batch = np.ndarray


@pytest.fixture(scope="module")
def int16() -> NativeSession:
    return NativeSession(read_artifact(bundled()["lkdn-s", 2]), 1, fixed_point=True)


@pytest.fixture(scope="module")
def fp32() -> NativeSession:
    return NativeSession(read_artifact(bundled()["lkdn-s", 2]), 1)


def photograph(height: int, width: int) -> Batch:
    part = sample_pixels()[40 : 40 + height, 60 : 60 + width]
    return np.ascontiguousarray(part.transpose(2, 0, 1)[None].astype(np.float32) / np.float32(255))


def random_pixels(height: int, width: int) -> Batch:
    return np.random.default_rng(1).integers(0, 2, (1, 3, height, width)).astype(np.float32)


def filled(session: NativeSession, batch: Batch) -> np.ndarray:
    place = np.zeros((2 * batch.shape[2], 2 * batch.shape[3], 3), np.uint8)
    session.fill(batch, np.s_[:, :], place)
    return place


def test_a_photograph_is_computed_in_fixed_point_and_near(int16: NativeSession, fp32: NativeSession) -> None:
    int16.range_use()
    batch = photograph(70, 90)
    pixels, exact = filled(int16, batch), filled(fp32, batch)
    assert np.abs(pixels.astype(int) - exact).max() <= 1
    assert 0 < (pixels != exact).mean() < 0.2
    found, values = int16.run(batch), fp32.run(batch)
    assert 0 < np.abs(found - values).max() < 1.5 / 255
    use = int16.range_use()
    assert use is not None
    assert (use.windows, use.again) == (2, 0)
    assert len(use.used) > 50
    assert 0.05 < max(use.used.values()) < 1
    assert all(0 <= it < 1 for it in use.used.values())
    assert int16.metadata.precision == "int16"
    assert fp32.range_use() is None
    assert described_use(int16.range_use() or use) == "no window was computed"


def test_results_have_memory_of_their_own_until_they_are_dropped(fp32: NativeSession) -> None:
    batch = photograph(20, 30)
    first = fp32.run(batch)
    part = first[0, 0]
    copy, address = part.copy(), first.ctypes.data
    second = fp32.run(1 - batch)
    assert not np.shares_memory(first, second)
    del first
    third = fp32.run(batch)
    assert np.array_equal(part, copy)
    assert third.ctypes.data not in (address, second.ctypes.data)
    address = third.ctypes.data
    del third
    assert fp32.run(batch).ctypes.data == address


def test_threads_and_parts_give_the_same(int16: NativeSession) -> None:
    batch = photograph(40, 50)
    whole = filled(int16, batch)
    with closing(open_session(bundled()["lkdn-s", 2], "native", precision="int16", threads=2)) as session:
        assert np.array_equal(filled(session, batch), whole)
        part = np.zeros((20, 30, 3), np.uint8)
        session.fill(batch, np.s_[10:30, 5:35], part)
        assert np.array_equal(part, whole[10:30, 5:35])


def test_what_leaves_its_range_is_computed_in_float32(int16: NativeSession, fp32: NativeSession) -> None:
    int16.range_use()
    for batch in (random_pixels(60, 60), 2 * photograph(20, 20), photograph(20, 20) * np.nan):
        np.testing.assert_array_equal(int16.run(batch), fp32.run(batch))
    assert np.array_equal(filled(int16, random_pixels(60, 60)), filled(fp32, random_pixels(60, 60)))
    use = int16.range_use()
    assert use is not None
    assert (use.windows, use.again) == (4, 4)
    assert max(use.used.values()) == 1
    again = int16.range_use()
    assert again is not None
    assert (again.windows, again.again, max(again.used.values())) == (0, 0, 0)


def test_a_batch_and_many_batches_are_computed_one_by_one(int16: NativeSession) -> None:
    batch = np.concatenate([photograph(30, 30), random_pixels(30, 30)])
    both = int16.run(batch)
    for result, image in zip(both, batch, strict=True):
        assert np.array_equal(int16.run(image[None])[0], result)
    for found, result in zip(int16.run_many(image[None] for image in batch), both, strict=True):
        assert np.array_equal(found[0], result)
    assert EnsembleSession(int16).range_use() is not None


def test_memory_is_that_of_the_larger_program(int16: NativeSession, fp32: NativeSession) -> None:
    assert int16.window_bytes(200, 300) >= fp32.window_bytes(200, 300)


def test_the_door_takes_the_precision() -> None:
    with load("lkdn-s", 2, precision="int16", threads=1) as upscaler:
        assert upscaler.session.metadata.precision == "int16"
        assert upscaler(sample_pixels()[:20, :30]).shape == (40, 60, 3)
    with pytest.raises(UsageError, match="int16 is a precision of the native engine, not of ort-cpu"):
        load("lkdn-s", 2, precision="int16", backend="ort-cpu")
    with pytest.raises(UsageError, match="no such precision: int9"):
        load("lkdn-s", 2, precision="int9")


def test_what_has_no_fixed_point_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = Graph(1)
    value = graph.convolution("lr", 4)
    weighed = graph.op("Mul", value, graph.op("GlobalAveragePool", value))
    model = onnx.load_from_string(graph.model(graph.larger(graph.convolution(weighed, 12), 2)))
    model.metadata_props.extend(onnx.load(bundled()["lkdn-s", 2]).metadata_props)
    onnx.save(model, path := tmp_path / "a.onnx")
    assert open_session(path, "native").backend == "native-cpu"
    with pytest.raises(InputError, match="does not support fixed point for a network") as error:
        open_session(path, precision="int16")
    assert "leave out --precision int16" in str(error.value)
    monkeypatch.setattr("lkdn_deploy.backends.native.compile.fixed_obstacle", lambda _: "fixed point on this processor")
    with pytest.raises(MissingError, match="fixed point on this processor"):
        open_session(bundled()["lkdn-s", 2], precision="int16")


def test_small_and_narrow_pictures(int16: NativeSession, fp32: NativeSession) -> None:
    for height, width in ((1, 1), (1, 40), (37, 2), (5, 17)):
        batch = clouds(height, width)[None]
        assert np.abs(filled(int16, batch).astype(int) - filled(fp32, batch)).max() <= 2


def test_the_command_says_how_ranges_were_used(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    Image.fromarray(sample_pixels()[:40, :50]).save(tmp_path / "in.png")
    arguments = [str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--scale", "2", "--precision", "int16"]
    assert run(command, [*arguments, "--json", "--verbose"]) == 0
    printed = capsys.readouterr()
    use = json.loads(printed.out)["fixed_point"]
    assert (use["windows"], use["again"]) == (1, 0)
    assert 0 < use["used"]["depthwise 1"] < 1
    assert "fixed point: 0 of 1 windows computed again in FP32; most of their ranges used: " in printed.err
    assert run(command, [*arguments, "--overwrite", "--backend", "openvino"]) == 2
    assert "int16 is a precision of the native engine, not of openvino" in capsys.readouterr().err

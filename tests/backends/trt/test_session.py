"""The runner of TensorRT engines on a device of host memory, with engines of ONNX Runtime: its pixels, to the bit."""

import dataclasses
import gc
import logging
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from artefacts_fake import METADATA, twice
from device_fake import FakeDevice, MisuseError
from engine_fake import PROFILE, WORKSPACE, runtime_module, side_car

from lkdn_deploy import Upscaler
from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.backends.ort import OrtSession
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.backends.trt import engine_cache as cache
from lkdn_deploy.backends.trt import make
from lkdn_deploy.backends.trt import resolve as resolution
from lkdn_deploy.backends.trt import session as sessions
from lkdn_deploy.backends.trt.engine import Engine, RunSettings, UnusableEngineError
from lkdn_deploy.backends.trt.gpu import gpu_here
from lkdn_deploy.backends.trt.record import Profile, Tensor
from lkdn_deploy.backends.trt.session import STREAMS, TrtSession, open_trt
from lkdn_deploy.core.errors import DeviceError, InputError, OutOfDeviceMemory, UsageError
from lkdn_deploy.runtime.bundled import bundled as bundled_artefacts
from lkdn_deploy.samples import sample_pixels

JIT = RunSettings(jit=True)
random = np.random.default_rng(0)


@pytest.fixture(scope="module")
def bundled() -> Path:
    return bundled_artefacts()["lkdn-s", 4]


@pytest.fixture(scope="module")
def reference(bundled: Path) -> OrtSession:
    return open_session(bundled, "ort-cpu", threads=1)


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    return twice(tmp_path / "twice.onnx")


def opened(
    artefact: Path,
    device: FakeDevice,
    settings: RunSettings = JIT,
    *,
    profile: Profile = PROFILE,
    module: Any = None,
    **facts: Any,
) -> TrtSession:
    kind = "tensorrt-rtx" if settings.jit else "tensorrt"
    module = module or runtime_module(device, profile, jit=settings.jit)
    car = side_car(artefact, profile=profile, kind=kind, **facts)
    return TrtSession(artefact.read_bytes(), car, module, device, settings)


def windows(count: int, shape: tuple[int, ...] = (1, 3, 9, 12)) -> list[np.ndarray]:
    return [random.random(shape, np.float32) for _ in range(count)]


def large(batch: np.ndarray) -> np.ndarray:
    """What ``twice`` makes of it."""
    return (batch * np.float32(0.5)).repeat(2, axis=2).repeat(2, axis=3)


def nothing_left(device: FakeDevice) -> bool:
    gc.collect()
    return not any(device.counts().values())


# what the stand-ins stand for


@pytest.mark.parametrize("name", ["ICudaEngine", "IExecutionContext", "IRuntimeConfig", "IRuntimeCache", "Runtime"])
def test_what_the_stand_in_has_the_real_module_has_too(name: str) -> None:
    real = pytest.importorskip("tensorrt_rtx")
    ours = runtime_module(FakeDevice())
    used = {word for word in vars(getattr(ours, name)) if not word.startswith("_")}
    assert used
    assert used <= set(dir(getattr(real, name)))


def test_the_real_module_has_the_constants_by_which_things_are_named() -> None:
    real, ours = pytest.importorskip("tensorrt_rtx"), runtime_module(FakeDevice())
    for name in ("DataType", "TensorIOMode", "ExecutionContextAllocationStrategy"):
        assert set(getattr(ours, name).__members__) <= set(getattr(real, name).__members__)
    assert real.ILogger.ERROR != real.ILogger.INTERNAL_ERROR
    assert isinstance(real.__version__, str)


@pytest.mark.parametrize("settings", [JIT, RunSettings()])
def test_the_real_runtime_refuses_bytes_that_are_no_engine_with_its_words(
    artefact: Path, settings: RunSettings
) -> None:
    """This much of it works without a GPU."""
    real = pytest.importorskip("tensorrt_rtx")
    with pytest.raises(UnusableEngineError, match=r"tensorrt-rtx 1\.\S+ cannot load this engine: .*agic") as error:
        Engine(b"no engine at all" * 40, side_car(artefact), real, settings)
    assert "lkdn-export --trt" in str(error.value.hint)


def test_a_copy_is_not_there_before_the_stream_is_waited_for() -> None:
    """The stand-in shows a missing wait."""
    device = FakeDevice()
    stream, address, memory, back = device.create_stream(), device.allocate(4), device.pin(4), device.pin(4)
    memory[:] = 1, 2, 3, 4
    device.upload(address, memory, stream)
    device.download(back, address, stream)
    event = device.create_event()
    device.record(event, stream)
    memory[0] = 9  # too early
    assert 1 not in back
    assert 9 not in back
    with pytest.raises(MisuseError, match="released while a stream uses it"):
        device.free(address)
    device.wait(event)
    assert list(back) == [9, 2, 3, 4]
    assert device.elapsed(event, event) > 0


# the same pixels as ONNX Runtime


def test_the_sample_photograph_is_what_onnx_runtime_makes_of_it(bundled: Path, reference: OrtSession) -> None:
    device = FakeDevice()
    with opened(bundled, device) as session:
        assert np.array_equal(Upscaler(session)(sample_pixels()), Upscaler(reference)(sample_pixels()))
    assert nothing_left(device)


PICTURES = {
    "RGB": sample_pixels()[:150, :140],
    "grey": sample_pixels()[:150, :140, 0],
    "RGBA": np.dstack([sample_pixels()[:150, :140], sample_pixels()[30:180, :140, 1]]),
    "16 bit": sample_pixels()[:150, :140].astype(np.uint16) * 257,
    "float": (sample_pixels()[:150, :140] / 255).astype(np.float32),
}


@pytest.mark.parametrize("tile", [None, 10])
@pytest.mark.parametrize("kind", PICTURES)
def test_every_kind_of_picture_whole_and_in_tiles_is_what_onnx_runtime_makes_of_it(
    bundled: Path, reference: OrtSession, kind: str, tile: int | None
) -> None:
    picture, device = PICTURES[kind], FakeDevice()
    with opened(bundled, device) as session:
        ours, theirs = Upscaler(session, tile=tile), Upscaler(reference, tile=tile)
        assert len(ours.plan(150, 140)) == (6 if tile else 1)
        assert np.array_equal(ours(picture), theirs(picture))
    assert nothing_left(device)


@pytest.mark.parametrize("io", ["fp32", "fp16", "uint8"])
@pytest.mark.parametrize("jit", [True, False])
def test_every_type_of_engine_takes_and_gives_float32(tmp_path: Path, io: Any, jit: bool) -> None:
    artefact = twice(tmp_path / "a.onnx", dataclasses.replace(METADATA, io=io))
    theirs = open_session(artefact, "ort-cpu", threads=1)
    batches = [*windows(3), random.uniform(-0.5, 1.5, (1, 3, 9, 12)).astype(np.float32)]
    with opened(artefact, FakeDevice(), RunSettings(jit=jit)) as session:
        assert session.backend == ("trt-rtx" if jit else "trt")
        for batch, result in zip(batches, session.run_many(batches), strict=True):
            assert result.dtype == np.float32
            assert np.array_equal(result, theirs.run(batch))


def test_results_come_in_order_and_stay_as_they_are(artefact: Path) -> None:
    batches = windows(7)
    with opened(artefact, FakeDevice()) as session:
        results = list(session.run_many(iter(batches)))  # buffers are used again, results must not be
        assert np.array_equal(session.run(batches[0]), results[0])
    assert all(np.array_equal(large(batch), result) for batch, result in zip(batches, results, strict=True))


def test_shapes_may_change_within_a_run_and_come_back(artefact: Path) -> None:
    shapes = [(9, 12), (9, 12), (20, 8), (9, 12), (20, 8), (20, 8), (20, 8), (9, 13)]
    batches = [random.random((1, 3, *shape), np.float32) for shape in shapes]
    with opened(artefact, device := FakeDevice()) as session:
        for batch, result in zip(batches, session.run_many(batches), strict=True):
            assert np.array_equal(large(batch), result)
    assert nothing_left(device)


def test_batches_up_to_the_profiles(artefact: Path) -> None:
    profile = dataclasses.replace(PROFILE, batch=4)
    with opened(artefact, FakeDevice(), profile=profile) as session:
        for count in (4, 1, 3):
            (batch,) = windows(1, (count, 3, 9, 12))
            assert np.array_equal(session.run(batch), large(batch))


def test_an_image_smaller_than_the_profile_has_its_edge_repeated(artefact: Path) -> None:
    picture = np.full((3, 5, 3), 200, np.uint8)
    with opened(artefact, FakeDevice(), profile=Profile((16, 12), (32, 32), (64, 64))) as session:
        assert session.metadata.smallest == 16
        result = Upscaler(session)(picture)
    assert result.shape == (6, 10, 3)
    assert (result == 100).all()


def test_tiles_are_no_larger_than_the_profile(bundled: Path) -> None:
    profile = Profile((32, 32), (128, 128), (140, 160))
    with opened(bundled, FakeDevice(), profile=profile) as session:
        tiles = Upscaler(session).plan(600, 700)
        sizes = {tuple(part.stop - part.start for part in tile.window) for tile in tiles}
        assert sizes == {(140, 160)}
        assert Upscaler(session, tile=500).plan(600, 700) == tiles


def test_an_engine_of_one_size_is_run_in_that_size(bundled: Path, reference: OrtSession) -> None:
    with opened(bundled, FakeDevice(), profile=Profile.fixed((140, 135))) as session:
        assert session.fixed_size == (140, 135)
        assert session.metadata.smallest == 1
        result = Upscaler(session)(PICTURES["RGB"])
        with pytest.raises(UsageError, match=r"takes 140x135 pixels \(height x width\), the image has 100x140"):
            Upscaler(session)(PICTURES["RGB"][:100])
    assert np.abs(result.astype(int) - Upscaler(reference)(PICTURES["RGB"])).max() <= 1


def test_memory_is_the_workspace_and_what_goes_in_and_out_of_every_stream(artefact: Path) -> None:
    with opened(artefact, device := FakeDevice()) as session:
        list(session.run_many(windows(3, (1, 3, 64, 64))))
        assert session.bytes_per_pixel() == STREAMS * (WORKSPACE + 3 * 4 + 3 * 4 * 4)
        assert device.peak == 64 * 64 * session.bytes_per_pixel()


# how it gets there


def test_the_next_window_is_on_its_way_before_a_result_is_waited_for(artefact: Path) -> None:
    with opened(artefact, device := FakeDevice()) as session:
        list(session.run_many(windows(5)))
    uploads = [place for place, (name, _) in enumerate(device.log) if name == "upload"]
    waits = [place for place, (name, _) in enumerate(device.log) if name == "synchronise"][:5]
    assert len(uploads) == len(waits) == 5
    for number in range(4):
        assert uploads[number + 1] < waits[number]
        assert device.log[uploads[number + 1]][1] != device.log[waits[number]][1]  # on the other stream
    for stream in {stream for _, stream in device.log}:  # and in order on each
        names = [name for name, where in device.log if where == stream]
        rounds = [tuple(names[place : place + 4]) for place in range(0, len(names) - 1, 4)]
        assert {(first, third, fourth) for first, _, third, fourth in rounds} == {("upload", "download", "synchronise")}
        assert {second for _, second, _, _ in rounds} <= {"execute", "launch"}


def test_one_window_needs_one_stream(artefact: Path) -> None:
    with opened(artefact, device := FakeDevice()) as session:
        session.run(windows(1)[0])
        assert device.counts() | {"device": 0, "pinned": 0} == {
            "device": 0, "pinned": 0, "streams": 1, "events": 0, "graphs": 0, "contexts": 1,
        }  # fmt: skip


def test_buffers_are_made_once_for_a_shape(artefact: Path) -> None:
    with opened(artefact, device := FakeDevice()) as session:
        list(session.run_many(windows(6)))
        made = device.calls.count("allocate"), device.calls.count("pin")
        assert made == (3 * STREAMS, 2 * STREAMS)
        list(session.run_many(windows(6)))
        assert (device.calls.count("allocate"), device.calls.count("pin")) == made
        list(session.run_many(windows(6, (1, 3, 20, 20))))
        assert device.calls.count("allocate") == 2 * made[0]
        assert device.counts()["device"] == 3 * STREAMS


@pytest.mark.parametrize("jit", [True, False])
def test_a_shape_that_comes_again_runs_as_a_graph_after_it_ran_once(artefact: Path, jit: bool) -> None:
    with opened(artefact, device := FakeDevice(), RunSettings(jit=jit)) as session:
        batches = windows(4)
        assert all(np.array_equal(large(batch), session.run(batch)) for batch in batches)
        names = [name for name, _ in device.log if name in ("execute", "launch")]
        assert names == ["execute", "launch", "launch", "launch"]
        assert device.calls.count("begin_capture") == 1
        assert np.array_equal(session.run(other := windows(1, (1, 3, 8, 8))[0]), large(other))
        assert device.counts()["graphs"] == 0  # that of the other shape is gone


def test_the_inference_is_timed_by_events_around_it_alone(artefact: Path) -> None:
    with opened(artefact, device := FakeDevice()) as session:
        for _ in range(3):
            device.log.clear()
            assert session.inference_seconds(windows(1)[0]) == 1e-3
            names = [name for name, _ in device.log]
            start, end = (place for place, name in enumerate(names) if name == "record")
            assert set(names[start + 1 : end]) <= {"execute", "launch"}
            assert names.index("upload") < start
            assert end < names.index("download")
        assert device.calls.count("create_event") == 2
        session.run(windows(1)[0])
        assert device.log[-1][0] != "record"
    assert nothing_left(device)


def without_graphs(artefact: Path) -> dict[str, TrtSession]:
    late = runtime_module(busy := FakeDevice())
    late.capturable = False
    return {
        "told so": opened(artefact, FakeDevice(), RunSettings(jit=True, graphs=False)),
        "no graphs on the device": opened(artefact, FakeDevice(captures=False)),
        "not capturable": opened(artefact, busy, module=late),
    }


@pytest.mark.parametrize("why", ["told so", "no graphs on the device", "not capturable"])
def test_where_graphs_cannot_be_it_goes_on_without(artefact: Path, why: str) -> None:
    with without_graphs(artefact)[why] as session:
        batches = windows(6)
        for batch, result in zip(batches, session.run_many(batches), strict=True):
            assert np.array_equal(large(batch), result)
        assert "begin_capture" not in session.device.calls  # type: ignore[attr-defined]


def test_all_is_released_in_reverse_order(artefact: Path) -> None:
    device = FakeDevice()
    with opened(artefact, device) as session:
        list(session.run_many(windows(4)))
        made = list(device.order)
    assert nothing_left(device)
    released = device.order[len(made) :]
    # Graphs come after the other stream is made, but belong to the stream.
    plain = [(kind, number) for _, kind, number in made if kind != "graph"]
    assert [(kind, number) for _, kind, number in released if kind != "graph"] == plain[::-1]
    kinds = [kind for _, kind, _ in released]
    assert kinds == ["graph", "pinned", "device", "pinned", "device", "device", "context", "stream"] * STREAMS


def test_a_session_that_is_forgotten_releases_all(artefact: Path) -> None:
    device = FakeDevice()
    session = opened(artefact, device)
    list(session.run_many(windows(3)))
    del session
    assert nothing_left(device)


# what it refuses


@pytest.mark.parametrize(
    ("batch", "said"),
    [
        (np.zeros((1, 3, 9, 12), np.float64), r"float32 \(N, 3, H, W\), got float64"),
        (np.zeros((1, 3, 9, 12), np.uint8), "got uint8"),
        (np.zeros((3, 9, 12), np.float32), r"got float32 \(3, 9, 12\)"),
        (np.zeros((1, 4, 9, 12), np.float32), r"got float32 \(1, 4, 9, 12\)"),
        (np.zeros((1, 3, 7, 12), np.float32), "takes 8x8 to 512x512 pixels, batch 1 to 1, got 12x7, batch 1"),
        (np.zeros((1, 3, 9, 513), np.float32), "got 513x9"),
        (np.zeros((2, 3, 9, 12), np.float32), "got 12x9, batch 2"),
        (np.zeros((0, 3, 9, 12), np.float32), "got 12x9, batch 0"),
    ],
)
def test_what_the_engine_does_not_take_never_reaches_the_device(artefact: Path, batch: np.ndarray, said: str) -> None:
    with opened(artefact, device := FakeDevice()) as session:
        before = list(device.calls)
        with pytest.raises(UsageError, match=said):
            session.run(batch)
        assert device.calls == before
        good = windows(1)[0]
        assert np.array_equal(session.run(good), large(good))


@pytest.mark.parametrize(
    ("facts", "said"),
    [
        ({"input": Tensor("lr", "float16")}, r"lr \(TensorIOMode.INPUT, DataType.FLOAT\).*DataType.HALF"),
        ({"output": Tensor("hr", "float32")}, r"sr \(.*the file beside it says hr"),
        ({"output": Tensor("lr", "float32"), "input": Tensor("sr", "float32")}, "the engine's tensors are"),
    ],
)
def test_an_engine_that_is_not_its_side_cars_is_refused(artefact: Path, facts: dict[str, Any], said: str) -> None:
    with pytest.raises(UnusableEngineError, match=said):
        opened(artefact, FakeDevice(), **facts)


def test_an_engine_that_upscales_otherwise_than_it_says_is_refused(artefact: Path) -> None:
    lying = dataclasses.replace(METADATA, scale=3)
    with opened(artefact, device := FakeDevice(), metadata=lying) as session:
        with pytest.raises(InputError, match=r"claims to upscale x3, but it turned .* into \(1, 3, 18, 24\)"):
            session.run(windows(1)[0])
        assert "upload" not in device.calls
    assert nothing_left(device)


def test_a_closed_session_says_so(artefact: Path) -> None:
    session = opened(artefact, device := FakeDevice())
    rest = session.run_many(windows(4))
    next(rest)
    session.close()
    assert nothing_left(device)
    with pytest.raises(UsageError, match="the session is closed"):
        next(rest)
    with pytest.raises(UsageError, match="the session is closed"):
        session.run(windows(1)[0])
    calls = len(device.calls)
    session.close()
    assert len(device.calls) == calls


def test_a_second_run_in_the_middle_of_one_is_refused_and_does_no_harm(artefact: Path) -> None:
    batches = windows(4)
    with opened(artefact, FakeDevice()) as session:
        results = []
        for result in session.run_many(batches):
            results.append(result)
            with pytest.raises(UsageError, match="in the middle of another run"):
                session.run(batches[0])
        assert all(np.array_equal(large(batch), result) for batch, result in zip(batches, results, strict=True))


def test_who_stops_early_or_fails_leaves_nothing_on_the_device(artefact: Path) -> None:
    def failing() -> Any:
        yield from windows(3)
        msg = "the disk is gone"
        raise OSError(msg)

    with opened(artefact, device := FakeDevice()) as session:
        results = session.run_many(windows(9))
        next(results)
        results.close()
        assert nothing_left(device)
        with pytest.raises(OSError, match="the disk is gone"):
            list(session.run_many(failing()))
        assert nothing_left(device)
        batch = windows(1)[0]
        assert np.array_equal(session.run(batch), large(batch))


# what the GPU's compiler made is kept


def test_what_was_compiled_is_kept_beside_the_engine_and_read_again(artefact: Path, tmp_path: Path) -> None:
    path = tmp_path / "engine.kernels"
    settings = RunSettings(jit=True, jit_cache=path)
    with opened(artefact, FakeDevice(), settings) as session:
        session.run(windows(1)[0])
        assert not path.exists()
    assert path.read_bytes() == b"kernels: one"
    path.write_bytes(b"kernels: two")
    written = path.stat().st_mtime_ns
    with opened(artefact, FakeDevice(), settings) as session:
        session.run(windows(1)[0])
    assert path.read_bytes() == b"kernels: two"
    assert path.stat().st_mtime_ns == written  # nothing new, nothing written


def test_what_was_compiled_for_another_gpu_is_made_anew(
    artefact: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "engine.kernels"
    path.write_bytes(b"of another GPU")
    with (
        caplog.at_level(logging.INFO),
        opened(artefact, FakeDevice(), RunSettings(jit=True, jit_cache=path)) as session,
    ):
        session.run(windows(1)[0])
    assert "kernels are compiled anew" in caplog.text
    assert path.read_bytes() == b"kernels: one"


def test_a_cache_that_cannot_be_read_or_written_costs_a_warning(
    artefact: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (folder := tmp_path / "a folder").mkdir()
    with opened(artefact, FakeDevice(), RunSettings(jit=True, jit_cache=folder)) as session:
        session.run(windows(1)[0])
    assert "cannot be read" in caplog.text
    assert "what was compiled for this GPU is not kept" in caplog.text


def test_tensorrt_has_no_such_cache(artefact: Path, tmp_path: Path) -> None:
    path = tmp_path / "engine.kernels"
    with opened(artefact, FakeDevice(), RunSettings(jit=False, jit_cache=path)) as session:
        session.run(windows(1)[0])
    assert not path.exists()


# memory runs out


def test_a_context_for_which_there_is_no_memory_is_told_as_such(artefact: Path) -> None:
    module = runtime_module(device := FakeDevice())
    module.complaint = "Error Code 2: OutOfMemory (Requested size was 12 bytes.)"
    device.fault = ("create_execution_context", 0)
    with opened(artefact, device, module=module) as session, pytest.raises(OutOfDeviceMemory, match="Requested size"):
        session.run(windows(1)[0])
    assert nothing_left(device)


def test_what_is_closed_after_a_failure_does_not_hide_it(artefact: Path, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        with opened(artefact, device) as session:
            session.run(windows(1)[0])
            msg = "the disk is gone"
            raise OSError(msg)

    device = FakeDevice()
    device.fault = ("destroy_stream", 0)
    with pytest.raises(OSError, match="the disk is gone"):
        fail()
    assert "closing a TensorRT session: destroy_stream failed" in caplog.text
    assert nothing_left(device)


def test_a_window_that_does_not_fit_leaves_nothing(artefact: Path) -> None:
    with opened(artefact, device := FakeDevice(capacity=50 * 50 * (WORKSPACE + 60))) as session:
        with pytest.raises(OutOfDeviceMemory):
            session.run(windows(1, (1, 3, 64, 64))[0])
        assert nothing_left(device)
        batch = windows(1, (1, 3, 40, 40))[0]
        assert np.array_equal(session.run(batch), large(batch))


def test_a_runtime_that_does_not_start_is_a_device_error(artefact: Path) -> None:
    device = FakeDevice()
    device.fault = ("Runtime", 0)
    with pytest.raises(DeviceError, match="the runtime of tensorrt-rtx does not start"):
        opened(artefact, device)


# by name, as any other backend


@pytest.fixture
def here(monkeypatch: pytest.MonkeyPatch, artefact: Path) -> FakeDevice:
    """A machine with a GPU, TensorRT for RTX, and an empty cache."""
    device = FakeDevice()
    module = runtime_module(device)
    monkeypatch.setattr(sessions, "open_device", lambda: device)
    monkeypatch.setattr(sessions, "open_runtime", lambda kind: module)
    monkeypatch.setattr(resolution, "wanted_here", lambda data, request: (None, None, "the key"))
    monkeypatch.setattr(cache, "find_engine", lambda key: None)
    return device


def builds(monkeypatch: pytest.MonkeyPatch, artefact: Path) -> list[str]:
    """Has an engine built where one is to be; gives the reasons."""
    reasons: list[str] = []

    def export_engine(path: Path, request: object, *, building: Any) -> Any:
        building("there is none")
        reasons.append("there is none")
        engine = path.with_suffix(".engine")
        made = cache.Made(path.read_bytes(), side_car(path), "")
        return SimpleNamespace(path=cache.write_engine(engine, made))

    monkeypatch.setattr(make, "export_engine", export_engine)
    return reasons


def test_an_engine_that_is_not_there_is_built_and_that_is_told(
    here: FakeDevice, artefact: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    reasons = builds(monkeypatch, artefact)
    session = open_session(artefact, "trt")
    batch = windows(1)[0]
    assert np.array_equal(session.run(batch), large(batch))
    assert session.backend == "trt-rtx"
    assert reasons == ["there is none"]
    assert "building a TensorRT engine of twice.onnx, seconds to minutes, once: there is none" in caplog.text
    session.close()  # type: ignore[attr-defined]
    assert artefact.with_suffix(".kernels").read_bytes() == b"kernels: one"
    assert nothing_left(here)


def test_an_engine_of_the_cache_is_used(
    here: FakeDevice, artefact: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    reasons = builds(monkeypatch, artefact)
    found = cache.Found(tmp_path / "kept.engine", artefact.read_bytes(), side_car(artefact))
    monkeypatch.setattr(cache, "find_engine", lambda key: found if key == "the key" else None)
    with open_trt(read_artifact(artefact), threads=3) as session:
        session.run(windows(1)[0])
    assert not reasons
    assert (tmp_path / "kept.kernels").exists()


def test_an_engine_of_the_cache_that_does_not_load_is_built_again(
    here: FakeDevice,
    artefact: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    reasons = builds(monkeypatch, artefact)
    found = cache.Found(tmp_path / "kept.engine", b"cut short", side_car(artefact))
    found.path.with_suffix(".json").write_text("{}")
    monkeypatch.setattr(cache, "find_engine", lambda key: found)
    with open_trt(read_artifact(artefact)) as session:
        session.run(windows(1)[0])
    assert reasons
    assert "the engine in the cache is not used: tensorrt-rtx 1.7 cannot load this engine" in caplog.text
    assert not found.path.with_suffix(".json").exists()  # or it would be found, and not built, for ever


def test_an_artefact_that_is_not_there_is_named(here: FakeDevice, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"gone\.onnx cannot be read: No such file"):
        open_session(tmp_path / "gone.onnx", "trt")


def test_without_a_gpu_the_command_says_so_at_once_and_loads_nothing_for_it(artefact: Path) -> None:
    if gpu_here() is not None:
        pytest.skip("there is a GPU here")
    code = (
        "import sys, time; from pathlib import Path\n"
        "from lkdn_deploy.backends.registry import open_session\n"
        "from lkdn_deploy.cli._shell import complain\n"
        "from lkdn_deploy.core.errors import LkdnError\n"
        "start = time.perf_counter()\n"
        "try:\n    open_session(Path(sys.argv[1]), 'trt')\n"
        "except LkdnError as error:\n    complain(error); print(error.exit_code.value)\n"
        "print(time.perf_counter() - start)\n"
        "print(*{name.partition('.')[0] for name in sys.modules})"
    )
    done = subprocess.run([sys.executable, "-c", code, str(artefact)], capture_output=True, text=True, check=True)
    exit_code, seconds, loaded = done.stdout.split("\n", 2)
    assert exit_code == "3"
    assert float(seconds) < 1
    assert not {"onnx", "tensorrt", "tensorrt_rtx", "cuda", "pycuda", "torch"} & set(loaded.split())
    assert "TensorRT cannot run here: there is no NVIDIA driver" in done.stderr
    assert "lkdn-bench --predict rtx3080" in done.stderr

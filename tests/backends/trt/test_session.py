"""Sessions on a device of host memory, with engines of ONNX Runtime, whose pixels they must equal to the bit."""

import dataclasses
import logging
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from artefacts_fake import METADATA, twice
from device_fake import ALIGNMENT, GARBAGE, FakeDevice, MisuseError
from engine_fake import WORKSPACE, record_of, runtime_module
from PIL import Image
from session_helpers import check, large, nothing_left, opened, windows

from lkdn_deploy import Upscaler
from lkdn_deploy.backends.ort import OrtSession
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.backends.trt.engine import Engine, UnusableEngineError
from lkdn_deploy.backends.trt.engine_cache import KERNELS
from lkdn_deploy.backends.trt.engine_spec import Profile
from lkdn_deploy.backends.trt.record import Tensor
from lkdn_deploy.backends.trt.session import STREAMS
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.runtime.bundled import bundled as bundled_artefacts
from lkdn_deploy.samples import sample_pixels

pytestmark = pytest.mark.usefixtures("both_ways")


@pytest.fixture(scope="module")
def bundled() -> Path:
    return bundled_artefacts()["lkdn-s", 4]


@pytest.fixture(scope="module")
def reference(bundled: Path) -> OrtSession:
    return open_session(bundled, "ort-cpu", threads=1)


# the stand-ins


@pytest.mark.parametrize("name", ["ICudaEngine", "IExecutionContext", "IRuntimeConfig", "IRuntimeCache", "Runtime"])
def test_the_stand_in_has_no_name_that_the_real_module_lacks(name: str) -> None:
    real, ours = pytest.importorskip("tensorrt_rtx"), runtime_module(FakeDevice())
    used = {word for word in vars(getattr(ours, name)) if not word.startswith("_")}
    assert used
    assert used <= set(dir(getattr(real, name)))
    for constants in ("DataType", "TensorIOMode", "ExecutionContextAllocationStrategy"):
        assert set(getattr(ours, constants).__members__) <= set(getattr(real, constants).__members__)
    assert real.ILogger.ERROR != real.ILogger.INTERNAL_ERROR
    assert isinstance(real.__version__, str)


@pytest.mark.parametrize("jit", [True, False])
def test_the_real_runtime_refuses_bytes_that_are_no_engine_with_its_reason(artefact: Path, jit: bool) -> None:
    """This much of it works without a GPU."""
    real, record = pytest.importorskip("tensorrt_rtx"), record_of(artefact, jit=jit)
    with pytest.raises(UnusableEngineError, match=r"tensorrt\S* 1\.\S+ cannot load this engine: .*agic") as error:
        Engine(b"no engine at all" * 40, record, real)
    assert "lkdn-export --trt" in str(error.value.hint)


def test_a_copy_is_not_there_before_the_stream_is_waited_for() -> None:
    """The stand-in reveals a missing wait, and where it works at once, memory that is filled too late."""
    device = FakeDevice()
    stream, address, memory, back = device.create_stream(), device.allocate(4), device.pin(4), device.pin(4)
    memory[:] = 1, 2, 3, 4
    assert address % ALIGNMENT == 0
    device.upload(address, memory, stream)
    device.download(back, address, stream)
    event = device.create_event()
    device.record(event, stream)
    memory[0] = 9  # too early, or where it works at once, too late
    assert list(back) == ([1, 2, 3, 4] if device.at_once else [GARBAGE] * 4)
    with pytest.raises(MisuseError, match="released while a stream uses it"):
        device.free(address)
    with pytest.raises(MisuseError, match="events that have not happened"):
        device.elapsed(event, event)
    with pytest.raises(MisuseError, match="before it has happened"):
        device.destroy_event(event)
    with pytest.raises(MisuseError, match="memory that another stream is using"):
        device.upload(address, memory, device.create_stream())
    device.synchronise(stream)
    assert list(back) == [1 if device.at_once else 9, 2, 3, 4]
    assert device.elapsed(event, event) > 0


def test_the_stand_in_refuses_what_ends_a_capture_and_other_threads() -> None:
    device = FakeDevice()
    stream, event = device.create_stream(), device.create_event()
    device.begin_capture(stream)
    for call, argument in ((device.allocate, 4), (device.pin, 4), (device.synchronise, stream)):
        with pytest.raises(MisuseError, match="while "):
            call(argument)
    with pytest.raises(MisuseError, match="elapsed is called while a stream is captured"):
        device.elapsed(event, event)
    device.destroy_graph(device.end_capture(stream))
    with ThreadPoolExecutor(1) as pool, pytest.raises(MisuseError, match="from another thread"):
        pool.submit(device.create_stream).result()


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
@pytest.mark.parametrize(
    "kind", [pytest.param(it, marks=pytest.mark.long) if it in {"grey", "float", "16 bit"} else it for it in PICTURES]
)
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
    artefact = twice(tmp_path / "a.onnx", dataclasses.replace(METADATA, io=io), gain=0.9)  # bytes above 127 as well
    theirs = open_session(artefact, "ort-cpu", threads=1)
    batches = [*windows(3), np.random.default_rng(0).uniform(-0.5, 1.5, (1, 3, 9, 12)).astype(np.float32)]
    with opened(artefact, FakeDevice(), jit=jit) as session:
        assert session.backend == ("trt-rtx" if jit else "trt")
        for batch, result in zip(batches, session.run_many(batches), strict=True):
            assert result.dtype == np.float32
            assert np.array_equal(result, theirs.run(batch))


SHAPES = [(9, 12), (9, 12), (20, 8), (9, 12), (20, 8), (20, 8), (20, 8), (9, 13)]


@pytest.mark.parametrize(
    ("batch", "shapes"),
    [(1, [(1, 3, 9, 12)] * 7), (1, [(1, 3, *shape) for shape in SHAPES]), (4, [(n, 3, 9, 12) for n in (4, 1, 3)])],
    ids=["one shape", "several shapes", "several batch sizes"],
)
def test_shapes_may_change_within_a_run_and_come_back(
    artefact: Path, batch: int, shapes: list[tuple[int, ...]]
) -> None:
    with opened(artefact, device := FakeDevice(), batch=batch) as session:
        check(session, [np.random.default_rng(0).random(shape, np.float32) for shape in shapes])
        check(session, windows(1))
    assert nothing_left(device)


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
        with pytest.raises(UsageError, match=r"140x100|100x140"):
            Upscaler(session)(PICTURES["RGB"][:100])
    assert np.abs(result.astype(int) - Upscaler(reference)(PICTURES["RGB"])).max() <= 1


# what bench asks


def test_memory_is_the_workspace_and_the_input_and_output_of_every_stream(artefact: Path) -> None:
    with opened(artefact, device := FakeDevice(), build_seconds=1.5) as session:
        list(session.run_many(windows(3, (1, 3, 64, 64))))
        assert session.bytes_per_pixel() == STREAMS * (WORKSPACE + 3 * 4 + 3 * 4 * 4)
        assert device.peak == 64 * 64 * session.bytes_per_pixel()
        assert session.device_memory(windows(1, (1, 3, 64, 64))[0]) == (device.peak, "Fake")
        assert session.build_seconds == 1.5
        assert not session.on_cpu


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


# streams, buffers and graphs


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


def test_streams_and_buffers_are_made_when_they_are_needed_and_once_for_a_shape(artefact: Path) -> None:
    def made() -> tuple[int, int]:
        return device.calls.count("allocate"), device.calls.count("pin")

    with opened(artefact, device := FakeDevice()) as session:
        session.run(windows(1)[0])
        counts = device.counts()
        assert [counts[name] for name in ("streams", "contexts", "events", "graphs")] == [1, 1, 0, 0]
        list(session.run_many(windows(6)))
        assert made() == (3 * STREAMS, 2 * STREAMS)
        list(session.run_many(windows(6)))
        assert made() == (3 * STREAMS, 2 * STREAMS)
        list(session.run_many(windows(6, (1, 3, 20, 20))))
        assert made() == (6 * STREAMS, 4 * STREAMS)
        assert device.counts()["device"] == 3 * STREAMS


@pytest.mark.parametrize("jit", [True, False])
def test_a_shape_that_comes_again_runs_as_a_graph_after_it_ran_once(artefact: Path, jit: bool) -> None:
    with opened(artefact, device := FakeDevice(), jit=jit) as session:
        for batch in windows(4):
            assert np.array_equal(large(batch), session.run(batch))
        names = [name for name, _ in device.log if name in ("execute", "launch")]
        # Where kernels are compiled beside the first runs, it asks again until they are there.
        assert names == ["execute", "execute" if jit else "launch", "launch", "launch"]
        assert device.calls.count("begin_capture") == 1
        check(session, windows(1, (1, 3, 8, 8)))
        assert device.counts()["graphs"] == 0  # that of the other shape is gone


def test_an_engine_of_one_size_runs_as_a_graph_from_the_second_run_on(artefact: Path) -> None:
    profile = Profile.fixed((16, 12))
    module = runtime_module(device := FakeDevice(), profile)
    with opened(artefact, device, module=module, profile=profile) as session:
        for batch in windows(3, (1, 3, 16, 12)):
            assert np.array_equal(large(batch), session.run(batch))
        assert [name for name, _ in device.log if name in ("execute", "launch")] == ["execute", "launch", "launch"]


@pytest.mark.parametrize("captures", [True, False])
def test_where_graphs_are_impossible_it_goes_on_without(artefact: Path, captures: bool) -> None:
    module = runtime_module(device := FakeDevice(captures=captures))
    module.capturable = not captures
    with opened(artefact, device, module=module) as session:
        check(session, windows(6))
        assert "begin_capture" not in device.calls


def test_everything_is_released_in_reverse_order(artefact: Path) -> None:
    device = FakeDevice()
    with opened(artefact, device) as session:
        list(session.run_many(windows(6)))
        made = list(device.order)
    assert nothing_left(device)
    released = device.order[len(made) :]
    # Graphs come after the other stream is made, but belong to the stream.
    plain = [(kind, number) for _, kind, number in made if kind != "graph"]
    assert [(kind, number) for _, kind, number in released if kind != "graph"] == plain[::-1]
    kinds = [kind for _, kind, _ in released]
    assert kinds == ["graph", "pinned", "device", "pinned", "device", "device", "context", "stream"] * STREAMS


def test_files_are_read_and_written_by_other_threads_than_the_one_that_uses_the_device(
    artefact: Path, tmp_path: Path
) -> None:
    pictures = [sample_pixels()[: 30 + number, :40] for number in range(4)]
    (tmp_path / "in").mkdir()
    for number, picture in enumerate(pictures):
        Image.fromarray(picture).save(tmp_path / "in" / f"{number}.png")
    with opened(artefact, device := FakeDevice()) as session:
        results = [result.unwrap().pixels for result in Upscaler(session).map(sorted((tmp_path / "in").iterdir()))]
        for picture, result in zip(pictures, results, strict=True):
            assert np.array_equal(result, Upscaler(session)(picture))
    assert nothing_left(device)


def test_a_session_that_is_forgotten_releases_everything(artefact: Path) -> None:
    session = opened(artefact, device := FakeDevice())
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
        (np.zeros((1, 3, 7, 12), np.float32), "accepts 8x8 to 512x512 pixels, batch 1 to 1, got 12x7, batch 1"),
        (np.zeros((1, 3, 9, 513), np.float32), "got 513x9"),
        (np.zeros((2, 3, 9, 12), np.float32), "got 12x9, batch 2"),
        (np.zeros((0, 3, 9, 12), np.float32), "got 12x9, batch 0"),
    ],
)
def test_what_the_engine_does_not_accept_never_reaches_the_device(artefact: Path, batch: np.ndarray, said: str) -> None:
    with opened(artefact, device := FakeDevice()) as session:
        before = list(device.calls)
        with pytest.raises(UsageError, match=said):
            session.run(batch)
        assert device.calls == before
        check(session, windows(1))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"input": Tensor("lr", "float16")}, r"lr \(TensorIOMode.INPUT, DataType.FLOAT\).*DataType.HALF"),
        ({"output": Tensor("hr", "float32")}, r"sr \(.*its side-car says hr"),
        ({"output": Tensor("lr", "float32"), "input": Tensor("sr", "float32")}, "the engine's tensors are"),
    ],
)
def test_an_engine_that_does_not_match_its_record_is_refused(
    artefact: Path, changes: dict[str, Any], said: str
) -> None:
    with pytest.raises(UnusableEngineError, match=said):
        opened(artefact, FakeDevice(), **changes)


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
        for batch, result in zip(batches, session.run_many(batches), strict=True):
            assert np.array_equal(large(batch), result)
            with pytest.raises(UsageError, match="in the middle of another run"):
                session.run(batches[0])


# kernels compiled for the GPU at hand


def kernels_after_a_run(artefact: Path, **options: Any) -> bytes | None:
    with opened(artefact, FakeDevice(), **options) as session:
        check(session, windows(1))
    return KERNELS.read(session.record.engine_sha256)


def test_compiled_kernels_are_kept_and_used_again(artefact: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert kernels_after_a_run(artefact) == b"kernels: one"
    digest = record_of(artefact).engine_sha256
    written = KERNELS.write(digest, b"kernels: two").stat().st_ino
    assert kernels_after_a_run(artefact) == b"kernels: two"
    path = KERNELS.find(digest)
    assert path is not None
    assert path.stat().st_ino == written  # nothing new, nothing written
    assert not caplog.records
    KERNELS.write(digest, b"of another GPU")
    assert kernels_after_a_run(artefact) == b"kernels: one"
    assert "compiled again" in caplog.text


def test_a_cache_that_cannot_be_written_does_no_harm(artefact: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(artefact))
    assert kernels_after_a_run(artefact) is None


def test_tensorrt_compiles_no_kernels(artefact: Path) -> None:
    assert kernels_after_a_run(artefact, jit=False) is None

"""Each call to the device and to TensorRT fails once, at each place of a run: that is an error, and nothing leaks."""

import logging
import shutil
from collections import Counter
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from device_fake import FakeDevice
from engine_fake import WORKSPACE, record_of, runtime_module
from session_helpers import check, large, nothing_left, opened, windows

from lkdn_deploy import Upscaler
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.backends.trt.engine import Engine
from lkdn_deploy.backends.trt.engine_cache import KERNELS
from lkdn_deploy.backends.trt.stream import Stream
from lkdn_deploy.core.errors import DeviceError, LkdnError, OutOfDeviceMemory
from lkdn_deploy.runtime.bundled import bundled as bundled_artefacts
from lkdn_deploy.samples import sample_pixels

BATCHES = [np.random.default_rng(seed).random((1, 3, *shape), np.float32) for seed, shape in enumerate([(9, 12)] * 6)]
BATCHES += [np.random.default_rng(9).random((1, 3, 20, 8), np.float32)] * 2

pytestmark = pytest.mark.usefixtures("both_ways")

# A graph that cannot be made is done without, and kernels that cannot be kept are made again.
HARMLESS = {"begin_capture", "end_capture", "serialize", "set_runtime_cache"}


PHOTOGRAPH = np.pad(sample_pixels(), ((0, 60), (0, 60), (0, 0)), mode="reflect")


def failure(device: FakeDevice, artefact: Path) -> tuple[str, str] | None:
    """The error of a whole life, as its kind and text: the error itself would keep what it passed through alive."""
    try:
        with opened(artefact, device) as session:
            check(session, BATCHES)
            assert session.inference_seconds(BATCHES[0]) > 0
    except LkdnError as error:
        return type(error).__name__, str(error)
    return None


def places(artefact: Path) -> list[tuple[str, int]]:
    """Every call of a life without faults, and which of its name it is."""
    device = FakeDevice()
    assert failure(device, artefact) is None
    seen: Counter[str] = Counter()
    found = []
    for name in device.calls:
        found.append((name, seen[name]))
        seen[name] += 1
    return found


def test_every_call_at_every_place(artefact: Path) -> None:
    faults = places(artefact)
    assert {name for name, _ in faults} >= {
        "allocate", "free", "pin", "unpin", "create_stream", "destroy_stream", "upload", "download", "synchronise",
        "begin_capture", "end_capture", "launch", "destroy_graph", "deserialize_cuda_engine", "execute_async_v3",
        "create_event", "record", "elapsed", "destroy_event",
        "create_execution_context", "set_input_shape", "set_tensor_address", "set_runtime_cache", "serialize",
        "update_device_memory_size_for_shapes",
    }  # fmt: skip
    assert len(faults) > 80
    for fault in faults:
        device = FakeDevice()
        device.fault = fault
        shutil.rmtree(KERNELS.folder)
        error = failure(device, artefact)
        # Where it is executed while it is captured, the graph is what fails.
        captured = fault[0] == "execute_async_v3" and error is None and device.calls.count("begin_capture") > 0
        if fault[0] in HARMLESS or captured:
            assert error is None, fault
        else:
            assert error is not None, fault
            kind, text = error
            assert kind in ("DeviceError", "UnusableEngineError", "UsageError"), fault
            assert "injected" in text or fault[0] in ("set_input_shape", "set_tensor_address", "Runtime"), (fault, text)
        assert nothing_left(device), (fault, device.counts())
        device.fault = None
        assert failure(device, artefact) is None, fault  # and another session works
        assert nothing_left(device), fault


def test_the_same_session_works_again_after_a_failed_run(artefact: Path) -> None:
    for fault in [place for place in places(artefact) if place[0] in ("upload", "download", "synchronise", "launch")]:
        device = FakeDevice()
        with opened(artefact, device) as session:
            device.fault = fault
            try:
                check(session, BATCHES)
            except DeviceError:
                assert device.counts()["device"] == device.counts()["pinned"] == device.counts()["streams"] == 0
            device.fault = None
            check(session, BATCHES)


def test_a_stream_that_found_no_memory_for_a_shape_looks_for_it_again(artefact: Path) -> None:
    module = runtime_module(device := FakeDevice())
    engine = Engine(artefact.read_bytes(), record := record_of(artefact), module)
    stream, batch = Stream(engine, record, device), windows(1)[0]
    device.lack = {1}
    with pytest.raises(OutOfDeviceMemory):
        stream.start(batch)
    stream.start(batch)
    assert np.array_equal(stream.finish(), large(batch))
    stream.close()
    engine.close()
    assert nothing_left(device)


@pytest.mark.parametrize("name", ["synchronise", "upload", "execute_async_v3", "launch", "free"])
def test_a_fault_that_stays_is_told_by_every_later_call(artefact: Path, name: str) -> None:
    """CUDA is lost to the process; what is left is to say so, and to end."""
    device = FakeDevice()
    session = opened(artefact, device)
    list(session.run_many(windows(3)))
    device.fault, device.sticks = (name, device.calls.count(name)), True
    for shape in [(1, 3, 9, 12), (1, 3, 20, 8), (1, 3, 9, 12)] * 2:
        with suppress(DeviceError):
            list(session.run_many(windows(3, shape)))
    with pytest.raises(DeviceError):
        session.run(windows(1)[0])
    with suppress(DeviceError):
        session.close()
    assert nothing_left(device)


# what is left after a failure


def test_stopping_early_or_failing_leaves_nothing_on_the_device(artefact: Path) -> None:
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
        check(session, windows(1))


def test_a_context_for_which_there_is_no_memory_is_reported_as_such(artefact: Path) -> None:
    module = runtime_module(device := FakeDevice())
    module.complaint = "Error Code 2: OutOfMemory (Requested size was 12 bytes.)"
    device.fault = ("create_execution_context", 0)
    with opened(artefact, device, module=module) as session, pytest.raises(OutOfDeviceMemory, match="Requested size"):
        session.run(windows(1)[0])
    assert nothing_left(device)


def test_a_failure_to_close_does_not_hide_the_first_failure(artefact: Path, caplog: pytest.LogCaptureFixture) -> None:
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
        check(session, windows(1, (1, 3, 40, 40)))


def test_a_runtime_that_does_not_start_is_a_device_error(artefact: Path) -> None:
    device = FakeDevice()
    device.fault = ("Runtime", 0)
    with pytest.raises(DeviceError, match="the runtime of tensorrt-rtx does not start"):
        opened(artefact, device)


# memory runs out in the middle of a picture


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return PHOTOGRAPH[:200, :170]


@pytest.fixture(scope="module")
def bundled() -> Path:
    return bundled_artefacts()["lkdn-s", 4]


def upscaled(bundled: Path, device: FakeDevice, picture: np.ndarray, **options: Any) -> np.ndarray:
    with opened(bundled, device) as session:
        return Upscaler(session, **options)(picture)


@pytest.mark.parametrize("place", [0, 1, 2])
def test_out_of_memory_halves_the_windows_and_the_result_is_still_exact(
    bundled: Path, picture: np.ndarray, place: int, caplog: pytest.LogCaptureFixture
) -> None:
    device = FakeDevice()
    device.lack = {place}
    result = upscaled(bundled, device, picture)
    # Half of 200 is less than two and a half halos of 63.
    assert "no memory for a window of 170x200 pixels: trying windows of 157" in caplog.text
    theirs = Upscaler(open_session(bundled, "ort-cpu", threads=1), tile=157 - 2 * 63)
    assert np.array_equal(result, theirs(picture))
    assert nothing_left(device)


def test_a_device_too_small_for_the_picture_does_it_in_windows_that_fit(
    artefact: Path, caplog: pytest.LogCaptureFixture
) -> None:
    device = FakeDevice(capacity=2 * 100 * 100 * (WORKSPACE + 60))
    picture = PHOTOGRAPH[:220, :250]
    seen: list[tuple[int, int]] = []
    with opened(artefact, device) as session:
        upscaler = Upscaler(session)
        result = upscaler(picture, progress=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (16, 16)
        assert "trying windows of 117" in caplog.text
        assert "trying windows of 64" in caplog.text  # 62 is less than the least
        caplog.clear()
        assert np.array_equal(upscaler(picture), result)
        assert not caplog.records  # what fits is remembered
    assert np.array_equal(result, Upscaler(open_session(artefact, "ort-cpu"))(picture))


def test_out_of_memory_in_the_middle_of_a_picture_starts_it_anew(artefact: Path) -> None:
    """The second stream is made when the first window is under way already."""
    device = FakeDevice()
    picture = np.dstack([PHOTOGRAPH[:220, :250], PHOTOGRAPH[:220, :250, 0]])
    device.lack = {4}
    with opened(artefact, device) as session:
        assert np.array_equal(Upscaler(session)(picture), Upscaler(open_session(artefact, "ort-cpu"))(picture))
    assert nothing_left(device)


def test_without_memory_for_the_least_window_there_is_an_error_with_a_way_out(
    artefact: Path, caplog: pytest.LogCaptureFixture
) -> None:
    device = FakeDevice(capacity=1000)
    with (
        opened(artefact, device) as session,
        caplog.at_level(logging.WARNING),
        pytest.raises(OutOfDeviceMemory, match="no memory for a window of 64x64") as error,
    ):
        Upscaler(session)(PHOTOGRAPH[:200, :200])
    assert "--backend ort-cpu" in str(error.value.hint)
    assert [record.message.partition("windows of ")[2].partition(" ")[0] for record in caplog.records] == ["100", "64"]

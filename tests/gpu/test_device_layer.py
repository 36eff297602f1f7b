"""Memory, copies, events, graphs and sessions on the driver of a GPU; TensorRT is not needed, kernels come from CuPy.

Without a GPU all are skipped, or with ``LKDN_REHEARSAL=1`` those that can be are run on the stand-in of a GPU.
"""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from artefacts_fake import twice
from engine_fake import record_of
from gpu_at_hand import GpuAtHand, Rehearsal, engine_module

from lkdn_deploy import Upscaler
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.backends.trt.gpu import gpu_here
from lkdn_deploy.backends.trt.session import TrtSession
from lkdn_deploy.core.errors import DeviceError, OutOfDeviceMemory
from lkdn_deploy.samples import sample_pixels

REHEARSAL = os.environ.get("LKDN_REHEARSAL") == "1"
MIB = 1 << 20

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(gpu_here() is None and not REHEARSAL, reason="no NVIDIA GPU, or no driver"),
]
only_real = pytest.mark.skipif(REHEARSAL, reason="the stand-in cannot show this")


@pytest.fixture
def gpu() -> Any:
    if REHEARSAL:
        return Rehearsal()
    pytest.importorskip("cuda.bindings.runtime")
    pytest.importorskip("cupy")
    return GpuAtHand()


@pytest.fixture
def stream(gpu: Any) -> Iterator[int]:
    stream = gpu.device.create_stream()
    yield stream
    gpu.device.synchronise(stream)
    gpu.device.destroy_stream(stream)


def random_bytes(size: int) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, size, np.uint8)


# memory, copies and events


def test_the_gpu_is_described(gpu: Any) -> None:
    found = gpu.device.gpu
    assert found.name
    assert found.capability.startswith("sm")
    assert found.driver


def test_bytes_come_back_as_they_went_in_a_round_trip(gpu: Any, stream: int) -> None:
    size = 64 * MIB
    address, there, back = gpu.device.allocate(size), gpu.device.pin(size), gpu.device.pin(size)
    assert address % 256 == 0
    there[:] = random_bytes(size)
    back[:] = 0
    gpu.device.upload(address, there, stream)
    gpu.device.download(back, address, stream)
    gpu.device.synchronise(stream)
    assert np.array_equal(there, back)
    for memory in (there, back):
        gpu.device.unpin(memory)
    gpu.device.free(address)


def test_a_copy_is_not_waited_for(gpu: Any, stream: int) -> None:
    size, copies = (256 * MIB, 50) if gpu.real else (MIB, 5)
    address, there, back = gpu.device.allocate(size), gpu.device.pin(size), gpu.device.pin(size)
    there[:], back[:] = 7, 0
    for _ in range(copies):
        gpu.device.upload(address, there, stream)
    gpu.device.download(back, address, stream)
    assert not np.array_equal(there, back)
    gpu.device.synchronise(stream)
    assert np.array_equal(there, back)
    for memory in (there, back):
        gpu.device.unpin(memory)
    gpu.device.free(address)


@only_real
def test_events_tell_seconds(gpu: Any, stream: int) -> None:
    address, memory = gpu.device.allocate(1024 * MIB), gpu.device.pin(1024 * MIB)
    memory[:] = 1
    events = [gpu.device.create_event(), gpu.device.create_event()]
    gpu.device.synchronise(stream)
    start = time.perf_counter()
    gpu.device.record(events[0], stream)
    gpu.device.upload(address, memory, stream)
    gpu.device.record(events[1], stream)
    gpu.device.synchronise(stream)
    wall = time.perf_counter() - start
    assert wall / 2 < gpu.device.elapsed(*events) <= wall
    for event in events:
        gpu.device.destroy_event(event)
    gpu.device.unpin(memory)
    gpu.device.free(address)


def test_a_lack_of_memory_does_not_stay(gpu: Any) -> None:
    with pytest.raises(OutOfDeviceMemory):
        gpu.device.allocate(1 << 50)
    gpu.device.free(gpu.device.allocate(64))


def test_nothing_is_left_of_what_is_made_and_released(gpu: Any) -> None:
    def rounds(count: int) -> None:
        for _ in range(count):
            address, memory = gpu.device.allocate(4096), gpu.device.pin(4096)
            stream, event = gpu.device.create_stream(), gpu.device.create_event()
            gpu.device.upload(address, memory, stream)
            gpu.device.record(event, stream)
            gpu.device.synchronise(stream)
            gpu.device.destroy_event(event)
            gpu.device.destroy_stream(stream)
            gpu.device.unpin(memory)
            gpu.device.free(address)

    rounds(10)
    before = gpu.free_memory()
    rounds(10_000 if gpu.real else 50)
    assert gpu.free_memory() >= before - MIB


# graphs


class Twice:
    """Buffers for ``twice`` on (1, 3, 9, 12), and its work on a stream."""

    shape = (1, 3, 9, 12)

    def __init__(self, gpu: Any) -> None:
        self.gpu, self.sizes = gpu, (4 * 324, 16 * 324)
        self.addresses = [gpu.device.allocate(size) for size in self.sizes]
        self.memory = [gpu.device.pin(size) for size in self.sizes]

    def put(self, stream: int) -> None:
        self.gpu.device.upload(self.addresses[0], self.memory[0], stream)
        self.gpu.twice(*self.addresses, self.shape, stream)
        self.gpu.device.download(self.memory[1], self.addresses[1], stream)

    def fill(self, seed: int) -> np.ndarray:
        values = np.random.default_rng(seed).random(self.shape, np.float32)
        self.memory[0].view(np.float32)[:] = values.reshape(-1)
        return (values * np.float32(0.5)).repeat(2, 2).repeat(2, 3)

    def result(self) -> np.ndarray:
        return self.memory[1].view(np.float32).reshape(1, 3, 18, 24).copy()

    def close(self) -> None:
        for address, memory in zip(self.addresses, self.memory, strict=True):
            self.gpu.device.free(address)
            self.gpu.device.unpin(memory)


def test_a_graph_copies_what_the_memory_holds_when_it_is_launched(gpu: Any, stream: int) -> None:
    work, device = Twice(gpu), gpu.device
    work.put(stream)  # kernels are loaded by the first run
    device.synchronise(stream)
    device.begin_capture(stream)
    work.put(stream)
    graph = device.end_capture(stream)
    for seed in range(100):
        expected = work.fill(seed)
        device.launch(graph, stream)
        device.synchronise(stream)
        assert np.array_equal(work.result(), expected)
    device.destroy_graph(graph)
    work.close()


@only_real
def test_after_a_capture_that_failed_the_stream_works(gpu: Any) -> None:
    work, device = Twice(gpu), gpu.device
    stream = device.create_stream()
    work.put(stream)
    device.synchronise(stream)
    device.begin_capture(stream)
    work.put(stream)
    with pytest.raises(DeviceError):
        device.synchronise(stream)
    with pytest.raises(DeviceError):
        device.end_capture(stream)
    expected = work.fill(1)
    work.put(stream)
    device.synchronise(stream)
    assert np.array_equal(work.result(), expected)
    device.destroy_stream(stream)
    work.close()


def test_two_streams_are_captured_in_turn(gpu: Any) -> None:
    device, works, streams = gpu.device, [Twice(gpu), Twice(gpu)], [gpu.device.create_stream() for _ in range(2)]
    graphs = []
    for work, stream in zip(works, streams, strict=True):
        work.put(stream)
        device.synchronise(stream)
        device.begin_capture(stream)
        work.put(stream)
        graphs.append(device.end_capture(stream))
    expected = [work.fill(seed) for seed, work in enumerate(works)]
    for graph, stream in zip(graphs, streams, strict=True):
        device.launch(graph, stream)
    for work, stream, graph, large in zip(works, streams, graphs, expected, strict=True):
        device.synchronise(stream)
        assert np.array_equal(work.result(), large)
        device.destroy_graph(graph)
        device.destroy_stream(stream)
        work.close()


# sessions


@pytest.fixture
def artefact(tmp_path: Path) -> Path:
    return twice(tmp_path / "twice.onnx")


def opened(gpu: Any, artefact: Path) -> TrtSession:
    return TrtSession(artefact.read_bytes(), record_of(artefact, jit=False), engine_module(gpu), gpu.device)


SHAPES = [(9, 12)] * 4 + [(20, 8), (9, 12), (20, 8), (20, 8), (20, 8), (9, 13)]


def test_streams_give_the_results_of_all_batches_in_order(gpu: Any, artefact: Path) -> None:
    batches = [np.random.default_rng(n).random((1, 3, *shape), np.float32) for n, shape in enumerate(SHAPES)]
    with opened(gpu, artefact) as session:
        for _ in range(3):
            for batch, result in zip(batches, session.run_many(iter(batches)), strict=True):
                assert np.array_equal(result, (batch * np.float32(0.5)).repeat(2, 2).repeat(2, 3))
        assert session.inference_seconds(batches[0]) > (0.005 if gpu.real else 0)
        session.run_many(batches).close()  # not begun
        results = session.run_many(batches)
        next(results)
        results.close()
        assert session.run(batches[1]).shape == (1, 3, 18, 24)


def test_tiles_are_what_onnx_runtime_makes_of_them(gpu: Any, artefact: Path) -> None:
    picture = sample_pixels()[:150, :140]
    with opened(gpu, artefact) as session:
        expected = Upscaler(open_session(artefact, "ort-cpu"))(picture)
        assert np.array_equal(Upscaler(session)(picture), expected)
        assert np.array_equal(Upscaler(session, tile=50)(picture), expected)


def test_closing_gives_the_memory_back(gpu: Any, artefact: Path) -> None:
    opened(gpu, artefact).close()
    before = gpu.free_memory()
    with opened(gpu, artefact) as session:
        list(session.run_many([np.zeros((1, 3, 256, 256), np.float32)] * 4))
    forgotten = opened(gpu, artefact)
    forgotten.run(np.zeros((1, 3, 256, 256), np.float32))
    del forgotten
    assert gpu.free_memory() >= before - 8 * MIB


@only_real
def test_copies_go_on_while_kernels_run(gpu: Any, artefact: Path) -> None:
    """Two windows of 20 ms each take less than the sum of all that they do, one after the other."""
    batches = [np.zeros((1, 3, 512, 512), np.float32)] * 20
    with opened(gpu, artefact) as session:
        list(session.run_many(batches[:6]))
        start = time.perf_counter()
        for batch in batches:
            session.run(batch)
        alone = time.perf_counter() - start
        start = time.perf_counter()
        list(session.run_many(batches))
        assert time.perf_counter() - start < alone


@only_real
def test_another_thread_may_use_what_one_opened(gpu: Any, artefact: Path) -> None:
    """CUDA sets the device for each thread, and the first one is the default."""
    with opened(gpu, artefact) as session, ThreadPoolExecutor(1) as pool:
        batch = np.ones((1, 3, 9, 12), np.float32)
        assert (pool.submit(session.run, batch).result() == 0.5).all()


# faults


FAULT = """
import sys
sys.path[:0] = {paths!r}
from gpu_at_hand import GpuAtHand
from lkdn_deploy.core.errors import DeviceError
gpu = GpuAtHand()
stream, address = gpu.device.create_stream(), gpu.device.allocate(64)
gpu.wild(stream)
for call in (lambda: gpu.device.synchronise(stream), lambda: gpu.device.allocate(64), lambda: gpu.device.free(address),
             lambda: gpu.device.destroy_stream(stream)):
    try:
        call()
        print("no error")
    except DeviceError as error:
        print("start it again" in str(error.hint))
"""


@only_real
def test_after_a_fault_every_call_says_so_and_the_program_ends(gpu: Any) -> None:
    paths = [path for path in sys.path if path]
    code = FAULT.format(paths=paths)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.returncode in (0, 1), done.stderr
    assert done.stdout.split() == ["True"] * 4


@only_real
def test_it_leaves_torch_alone_in_the_same_program(gpu: Any, artefact: Path) -> None:
    torch = pytest.importorskip("torch")
    values = torch.arange(1 << 28, device="cuda", dtype=torch.int32)  # 1 GiB
    with opened(gpu, artefact) as session:
        list(session.run_many([np.zeros((1, 3, 256, 256), np.float32)] * 6))
    assert bool((values == torch.arange(1 << 28, device="cuda", dtype=torch.int32)).all())

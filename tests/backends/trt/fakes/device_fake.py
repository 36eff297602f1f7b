"""A GPU made of host memory: copies and kernels happen when a stream is waited for, and not before.

So a missing wait, a buffer used again too early, or released while it is in use, shows on a machine without a GPU.
"""

import itertools
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.trt.gpu import Gpu
from lkdn_deploy.core.errors import DeviceError, OutOfDeviceMemory

GARBAGE = 0xA7  # what memory holds that nobody has written; as float32 no value of a picture


class MisuseError(AssertionError):
    """A mistake that a real device would answer with wrong pixels, or with the end of the process."""


@dataclass
class Operation:
    name: str
    do: Callable[[], None]
    uses: frozenset[int]


@dataclass
class Stream:
    waiting: deque[Operation] = field(default_factory=deque)
    captured: list[Operation] | None = None


class FakeDevice:
    """A ``Device`` without hardware.

    Args:
        capacity: bytes of device memory.
        captures: whether it has graphs.
    """

    def __init__(self, *, capacity: int = 1 << 34, captures: bool = True) -> None:
        self.gpu = Gpu("Fake", "sm86", "580.0")
        self.captures, self.capacity, self.peak = captures, capacity, 0
        self.calls: list[str] = []
        self.fault: tuple[str, int] | None = None
        """The name of a call and which of them fails, from 0; what releases something does so nevertheless, as CUDA
        does, which tells then what went wrong before."""
        self.lack: set[int] = set()
        """Numbers of the allocations, from 0, that find no memory."""
        self.log: list[tuple[str, int]] = []
        """Work put on streams and waits for it: name and stream."""
        self.order: list[tuple[str, str, int]] = []
        """Objects made and released: ``+`` or ``-``, kind and number."""
        self._numbers = itertools.count(1)
        self._device: dict[int, NDArray[np.uint8]] = {}
        self._pinned: dict[int, NDArray[np.uint8]] = {}
        self._streams: dict[int, Stream] = {}
        self._events: dict[int, bool] = {}
        self._graphs: dict[int, list[Operation]] = {}
        self.contexts = 0
        self._seen: Counter[str] = Counter()
        self._allocations = itertools.count()
        self._kept: list[NDArray[np.uint8]] = []  # released memory, so that a use of it ends in a check, not a crash

    def counts(self) -> dict[str, int]:
        """Return the number of objects not released, by kind."""
        return {
            "device": len(self._device),
            "pinned": len(self._pinned),
            "streams": len(self._streams),
            "events": len(self._events),
            "graphs": len(self._graphs),
            "contexts": self.contexts,
        }

    def call(self, name: str) -> bool:
        """Note a call; whether it is the one that is to fail."""
        self.calls.append(name)
        place = self._seen[name]
        self._seen[name] += 1
        return self.fault == (name, place)

    def _call(self, name: str) -> None:
        if self.call(name):
            msg = f"{name} failed: injected"
            raise DeviceError(msg, "take the fault out")

    # memory

    def allocate(self, size: int) -> int:
        self._call("allocate")
        lacking = next(self._allocations) in self.lack
        if lacking or sum(map(len, self._device.values())) + size > self.capacity:
            msg = "the GPU is out of memory"
            raise OutOfDeviceMemory(msg, "use smaller tiles")
        memory = np.full(size, GARBAGE, np.uint8)
        self._device[memory.ctypes.data] = memory
        self.peak = max(self.peak, sum(map(len, self._device.values())))
        self.order.append(("+", "device", memory.ctypes.data))
        return memory.ctypes.data

    def free(self, address: int) -> None:
        self._release("device", self._device, address)
        self._call("free")

    def pin(self, size: int) -> NDArray[np.uint8]:
        self._call("pin")
        memory = np.full(size, GARBAGE, np.uint8)
        self._pinned[memory.ctypes.data] = memory
        self.order.append(("+", "pinned", memory.ctypes.data))
        return memory

    def unpin(self, memory: NDArray[np.uint8]) -> None:
        self._release("pinned", self._pinned, memory.ctypes.data)
        self._call("unpin")

    def _release(self, kind: str, table: dict[int, NDArray[np.uint8]], address: int) -> None:
        if address not in table:
            msg = f"{kind} memory at {address} is not allocated"
            raise MisuseError(msg)
        for stream in self._streams.values():
            if any(address in operation.uses for operation in stream.waiting):
                msg = f"{kind} memory is released while a stream uses it"
                raise MisuseError(msg)
        memory = table.pop(address)
        memory[:] = GARBAGE
        self._kept.append(memory)
        self.order.append(("-", kind, address))

    def reset_peak(self) -> None:
        self.peak = sum(map(len, self._device.values()))

    def at(self, address: int, size: int) -> NDArray[np.uint8]:
        """Device memory that must be there, and as large."""
        if address not in self._device or len(self._device[address]) < size:
            msg = f"{size} bytes of device memory are used where there are none"
            raise MisuseError(msg)
        return self._device[address][:size]

    # streams

    def create_stream(self) -> int:
        self._call("create_stream")
        stream = next(self._numbers)
        self._streams[stream] = Stream()
        self.order.append(("+", "stream", stream))
        return stream

    def destroy_stream(self, stream: int) -> None:
        if self._streams[stream].waiting:
            msg = "a stream is destroyed with work on it"
            raise MisuseError(msg)
        del self._streams[stream]
        self.order.append(("-", "stream", stream))
        self._call("destroy_stream")

    def put(self, name: str, stream: int, do: Callable[[], None], uses: frozenset[int]) -> None:
        """On the stream, or into what it captures."""
        operation = Operation(name, do, uses)
        captured = self._streams[stream].captured
        if captured is not None:
            captured.append(operation)
            return
        self.log.append((name, stream))
        self._streams[stream].waiting.append(operation)

    def synchronise(self, stream: int) -> None:
        failed = self.call("synchronise")  # then too, nothing is under way any more
        self.log.append(("synchronise", stream))
        if self._streams[stream].captured is not None:
            msg = "a stream is waited for while it is captured"
            raise MisuseError(msg)
        waiting = self._streams[stream].waiting
        while waiting:
            waiting.popleft().do()
        if failed:
            msg = "synchronise failed: injected"
            raise DeviceError(msg, "take the fault out")

    def upload(self, address: int, memory: NDArray[np.uint8], stream: int) -> None:
        self._call("upload")
        self._check_pinned(memory)

        def do() -> None:
            self.at(address, memory.nbytes)[:] = memory

        self.put("upload", stream, do, frozenset((address, memory.ctypes.data)))

    def download(self, memory: NDArray[np.uint8], address: int, stream: int) -> None:
        self._call("download")
        self._check_pinned(memory)

        def do() -> None:
            memory[:] = self.at(address, memory.nbytes)

        self.put("download", stream, do, frozenset((address, memory.ctypes.data)))

    def _check_pinned(self, memory: NDArray[np.uint8]) -> None:
        if memory.ctypes.data not in self._pinned:
            msg = "a copy from or to memory that is not pinned"
            raise MisuseError(msg)

    # events

    def create_event(self) -> int:
        self._call("create_event")
        event = next(self._numbers)
        self._events[event] = False
        return event

    def destroy_event(self, event: int) -> None:
        del self._events[event]
        self._call("destroy_event")

    def record(self, event: int, stream: int) -> None:
        self._call("record")
        self._events[event] = False
        self.put("record", stream, lambda: self._events.__setitem__(event, True), frozenset())

    def elapsed(self, start: int, end: int) -> float:
        self._call("elapsed")
        if not self._events[start] or not self._events[end]:
            msg = "the time of events that have not happened"
            raise MisuseError(msg)
        return 1e-3

    # graphs

    def begin_capture(self, stream: int) -> None:
        self._call("begin_capture")
        self._streams[stream].captured = []

    def end_capture(self, stream: int) -> int:
        captured, self._streams[stream].captured = self._streams[stream].captured, None
        assert captured is not None
        self._call("end_capture")
        graph = next(self._numbers)
        self._graphs[graph] = captured
        self.order.append(("+", "graph", graph))
        return graph

    def launch(self, graph: int, stream: int) -> None:
        self._call("launch")
        self.log.append(("launch", stream))
        for operation in self._graphs[graph]:
            self._streams[stream].waiting.append(operation)

    def destroy_graph(self, graph: int) -> None:
        del self._graphs[graph]
        self.order.append(("-", "graph", graph))
        self._call("destroy_graph")

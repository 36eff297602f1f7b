"""A GPU made of host memory, whose copies and kernels happen as late as they may, or as early.

Late, they happen when a stream is waited for, and not before: so a missing wait, and a buffer that is used again or
released too early, show on a machine without a GPU. At once, they happen when they are put on a stream: so a copy that
is put there before its memory is filled shows. A real GPU may do either.
"""

import itertools
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.backends.trt.gpu import Gpu
from lkdn_deploy.core.errors import DeviceError, OutOfDeviceMemory

ALIGNMENT = 256  # of device memory, in bytes, as CUDA gives and TensorRT expects it

NOT_WHILE_CAPTURING = frozenset({"allocate", "free", "pin", "unpin", "elapsed"})
"""Calls that CUDA refuses to a thread that captures, and which end the capture."""

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
    under_way: deque[Operation] = field(default_factory=deque)
    """Operations since the last wait."""
    captured: list[Operation] | None = None


class FakeDevice:
    """A ``Device`` without hardware.

    Args:
        capacity: bytes of device memory.
        captures: whether it has graphs.
    """

    at_once = False
    """Whether operations happen when they are put on a stream, instead of when it is waited for."""

    def __init__(self, *, capacity: int = 1 << 34, captures: bool = True) -> None:
        self.gpu = Gpu("Fake", "sm86", "580.0")
        self.captures, self.capacity, self.peak = captures, capacity, 0
        self.calls: list[str] = []
        self.fault: tuple[str, int] | None = None
        """The name of a call and which of them fails, from 0; what releases something does so nevertheless, as CUDA
        does, which tells then what went wrong before."""
        self.sticks = False
        """Whether the fault stays: every later call fails, as after a kernel's fault, which ends CUDA in a process."""
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
        self._thread = threading.get_ident()
        self._faulty = False
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
        """Note a call, and return whether it is to fail."""
        if threading.get_ident() != self._thread:
            msg = f"{name} is called from another thread than the one that opened the device"
            raise MisuseError(msg)
        if name in NOT_WHILE_CAPTURING and any(stream.captured is not None for stream in self._streams.values()):
            msg = f"{name} is called while a stream is captured"
            raise MisuseError(msg)
        self.calls.append(name)
        place = self._seen[name]
        self._seen[name] += 1
        failed = self.fault == (name, place)
        self._faulty |= failed and self.sticks
        return failed or self._faulty

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
        whole = np.full(size + ALIGNMENT, GARBAGE, np.uint8)
        start = -whole.ctypes.data % ALIGNMENT
        memory = whole[start : start + size]
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
            if any(address in operation.uses for operation in stream.under_way):
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
        if self._streams[stream].under_way:
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
        self._enqueue(operation, stream)

    def _enqueue(self, operation: Operation, stream: int) -> None:
        """Take an operation, which no stream may disturb: nothing here makes one wait for another."""
        for number, other in self._streams.items():
            if number != stream and any(operation.uses & earlier.uses for earlier in other.under_way):
                msg = f"{operation.name} uses memory that another stream is using"
                raise MisuseError(msg)
        self._streams[stream].under_way.append(operation)
        if self.at_once:
            operation.do()

    def synchronise(self, stream: int) -> None:
        failed = self.call("synchronise")  # then too, nothing is under way any more
        self.log.append(("synchronise", stream))
        if self._streams[stream].captured is not None:
            msg = "a stream is waited for while it is captured"
            raise MisuseError(msg)
        under_way = self._streams[stream].under_way
        while under_way:
            operation = under_way.popleft()
            if not self.at_once:
                operation.do()
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
        if any(-event in operation.uses for stream in self._streams.values() for operation in stream.under_way):
            msg = "an event is destroyed before it has happened"
            raise MisuseError(msg)
        del self._events[event]
        self._call("destroy_event")

    def record(self, event: int, stream: int) -> None:
        self._call("record")
        self._events[event] = False
        self.put("record", stream, lambda: self._events.__setitem__(event, True), frozenset((-event,)))

    def elapsed(self, start: int, end: int) -> float:
        self._call("elapsed")
        under_way = {
            -use for stream in self._streams.values() for operation in stream.under_way for use in operation.uses
        }
        if {start, end} & under_way or not self._events[start] or not self._events[end]:
            msg = "the time of events that have not happened"
            raise MisuseError(msg)
        return 1e-3

    # graphs

    def begin_capture(self, stream: int) -> None:
        self._call("begin_capture")
        self._streams[stream].captured = []

    def capturing(self, stream: int) -> bool:
        """Return whether a stream is being captured; of the default one, which is 0, never."""
        return stream in self._streams and self._streams[stream].captured is not None

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
            self._enqueue(operation, stream)

    def destroy_graph(self, graph: int) -> None:
        operations = {id(operation) for operation in self._graphs[graph]}
        if any(id(operation) in operations for stream in self._streams.values() for operation in stream.under_way):
            msg = "a graph is destroyed while a stream runs it"
            raise MisuseError(msg)
        del self._graphs[graph]
        self.order.append(("-", "graph", graph))
        self._call("destroy_graph")

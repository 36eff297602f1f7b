"""Mistakes that a change could bring into the code for TensorRT, each as edits of a file of today's.

``test_mutants.py`` makes each of them in a copy and runs the tests, which must fail. An edit that no longer applies
fails at once: it must be written anew for the changed code. One does no harm with TensorRT for RTX 1.7.1, whose
configuration keeps its monitor ("monitor gone before the build"); the stand-in is stricter, and sees it.
"""

from dataclasses import dataclass

RUN = ("test_faults.py", "test_session.py")
DEVICE = ("test_device.py",)
BUILD = ("test_build.py", "test_runtimes.py")


@dataclass(frozen=True)
class Mutation:
    """One mistake.

    Attributes:
        name: what is wrong.
        file: the file in ``lkdn_deploy/backends/trt``.
        edits: texts of the file, and what stands there instead.
        tests: files of tests, one of which must fail.
    """

    name: str
    file: str
    edits: tuple[tuple[str, str], ...]
    tests: tuple[str, ...]


_UPLOAD = "        self._device.upload(self._input.address, self._input.pinned, self._stream)\n"
_FILL = "        self._input.values[...] = to_input(batch, self._input.io)\n"
_DOWNLOAD = "        self._device.download(self._output.pinned, self._output.address, self._stream)\n"
_WAIT = "        self._device.synchronise(self._stream)\n        return from_output"
_START = "        if events:\n            self._device.record(events[0], self._stream)\n"
_EVENTS = "        events = self._two_events() if timed else None\n" + _START
_END = "        if events:\n            self._device.record(events[1], self._stream)\n"
_DESTROY = "        self._release.callback(device.destroy_stream, self._stream)\n"
_SECOND = (
    "        self._second = device.create_stream()\n"
    "        self._release.callback(device.destroy_stream, self._second)\n"
    "        self._release.callback(device.synchronise, self._second)\n"
)
_SHAPE = "        self._shape = batch.shape\n"
_ASK = "        workspace = int(context.update_device_memory_size_for_shapes())\n"
_BIND = "        context, tensors = self._context, (self._record.input, self._record.output)\n"
_SET_SHAPE = "        if not context.set_input_shape(tensors[0].name, batch.shape):\n"
_MONITOR = "        monitor = _monitor(module, guard, progress)"
_IF_MONITOR = "        if monitor is not None:\n            config.progress_monitor = monitor\n"


def _one(name: str, file: str, old: str, new: str, tests: tuple[str, ...]) -> Mutation:
    return Mutation(name, file, ((old, new),), tests)


MUTATIONS = (
    _one("upload before the pinned buffer is filled", "stream.py", _FILL + _UPLOAD, _UPLOAD + _FILL, RUN),
    _one("result taken without waiting", "stream.py", _WAIT, "        return from_output", RUN),
    _one("result is a view of pinned memory", "stream.py", "_output.values.copy()", "_output.values", RUN),
    Mutation(
        "upload on a second stream, which nothing waits for",
        "stream.py",
        ((_DESTROY, _DESTROY + _SECOND), (_UPLOAD, _UPLOAD.replace("_stream)", "_second)"))),
        RUN,
    ),
    Mutation(
        "download on a second stream, where the first and the second are waited for at the end only",
        "stream.py",
        (
            (_DESTROY, _DESTROY + _SECOND),
            (_DOWNLOAD, _DOWNLOAD.replace("_stream)", "_second)")),
            (_WAIT, "        self._device.synchronise(self._second)\n" + _WAIT),
        ),
        RUN,
    ),
    _one(
        "stream used again before its result is taken",
        "session.py",
        "                if len(started) == STREAMS:\n"
        "                    yield started.popleft().finish()\n"
        "                stream = self._stream(index % STREAMS)\n"
        "                stream.start(batch)\n",
        "                stream = self._stream(index % STREAMS)\n"
        "                stream.start(batch)\n"
        "                if len(started) == STREAMS:\n"
        "                    yield started.popleft().finish()\n",
        RUN,
    ),
    _one(
        "capture of the first run of a shape", "stream.py", "self._ran and self._may_capture", "self._may_capture", RUN
    ),
    _one(
        "graph kept for another shape",
        "stream.py",
        "self._shape, self._graph, self._events = (), None, None",
        "self._shape, self._events = (), None",
        RUN,
    ),
    _one(
        "close without waiting for the stream",
        "stream.py",
        "        self._release.callback(device.synchronise, self._stream)\n",
        "",
        RUN,
    ),
    _one(
        "device memory not freed",
        "stream.py",
        "        self._buffers.callback(self._device.free, address)\n",
        "",
        RUN,
    ),
    _one(
        "events not destroyed",
        "stream.py",
        "                self._buffers.callback(self._device.destroy_event, created[-1])\n",
        "",
        RUN,
    ),
    _one(
        "output taken for float32 whatever its type",
        "stream.py",
        "pinned.view(dtype).reshape(shape)",
        "pinned.view({2: np.float16, 4: np.float32}.get(dtype.itemsize, np.int8)).reshape(shape)",
        RUN,
    ),
    _one("half of the workspace", "stream.py", "self._allocate(workspace)", "self._allocate(workspace // 2)", RUN),
    _one("failed capture left open", "stream.py", "                self._abandon_capture()\n", "", RUN),
    _one(
        "the context is not asked whether it can be captured",
        "engine.py",
        "return not self._compiles or bool(context.is_stream_capturable(stream))",
        "return True",
        RUN,
    ),
    _one(
        "kernels not kept alive",
        "engine.py",
        "        if not self._config.set_runtime_cache(self._kernels):\n",
        "        if not self._config.set_runtime_cache(self._config.create_runtime_cache()):\n",
        RUN,
    ),
    Mutation(
        "copies to the device are timed",
        "stream.py",
        ((_UPLOAD, _EVENTS + _UPLOAD), (_EVENTS + "        if self._graph", "        if self._graph")),
        RUN,
    ),
    _one("copies from the device are timed", "stream.py", _END + _DOWNLOAD, _DOWNLOAD + _END, RUN),
    Mutation("shape noted before its buffers exist", "stream.py", ((_SHAPE, ""), (_BIND, _SHAPE + _BIND)), RUN),
    _one(
        "cuda-python: capture forbids other threads to work",
        "cuda_python.py",
        "cudaStreamCaptureModeThreadLocal",
        "cudaStreamCaptureModeGlobal",
        DEVICE,
    ),
    _one(
        "cuda-python: captured graph not destroyed",
        "cuda_python.py",
        '        self._call("cudaGraphDestroy", graph)  # the',
        "        # the",
        DEVICE,
    ),
    _one("cuda-python: milliseconds for seconds", "cuda_python.py", "[0]) / 1e3", "[0])", DEVICE),
    _one(
        "cuda-python: download in the wrong direction",
        "cuda_python.py",
        "kind = self._cuda.cudaMemcpyKind.cudaMemcpyDeviceToHost",
        "kind = self._cuda.cudaMemcpyKind.cudaMemcpyHostToDevice",
        DEVICE,
    ),
    _one("cuda-python: blocking stream", "cuda_python.py", "self._cuda.cudaStreamNonBlocking", "0", DEVICE),
    _one(
        "cuda-python: out of memory is any error",
        "cuda_python.py",
        "if code == self._cuda.cudaError_t.cudaErrorMemoryAllocation:",
        "if False:",
        DEVICE,
    ),
    _one("pycuda: context not pushed", "pycuda_device.py", "            context.push()\n", "", DEVICE),
    _one(
        "pycuda: context never popped",
        "pycuda_device.py",
        "            weakref.finalize(PycudaDevice, context.pop)\n",
        "",
        DEVICE,
    ),
    _one(
        "pycuda: a context of its own instead of the primary one",
        "pycuda_device.py",
        "self._cuda.Device(0).retain_primary_context()",
        "self._cuda.Device(0).make_context()",
        DEVICE,
    ),
    _one("pycuda: milliseconds for seconds", "pycuda_device.py", ") / 1e3", ")", DEVICE),
    _one("pycuda: blocking stream", "pycuda_device.py", "Stream(_NON_BLOCKING)", "Stream()", DEVICE),
    _one(
        "pycuda: synchronous copies",
        "pycuda_device.py",
        "self._cuda.memcpy_htod_async(address, memory, self._streams[stream])",
        "self._cuda.memcpy_htod(address, memory)",
        DEVICE,
    ),
    _one(
        "cuda-python: pinned memory is not pinned",
        "cuda_python.py",
        '        address = int(self._call("cudaHostAlloc", size, _HOST_DEFAULT)[0])\n',
        "        return np.empty(size, np.uint8)\n",
        DEVICE,
    ),
    _one("workspace in bytes for MiB", "build.py", "spec.workspace << 20", "spec.workspace", BUILD),
    _one(
        "network not strongly typed",
        "runtimes.py",
        "return 1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)",
        "return 0",
        BUILD,
    ),
    _one(
        "tuned for the largest size",
        "build.py",
        "(profile.minimum, profile.optimum, profile.maximum)]",
        "(profile.minimum, profile.maximum, profile.maximum)]",
        BUILD,
    ),
    _one(
        "audit of the engine skipped",
        "build.py",
        "            check_half(seen, excused)\n",
        "            pass\n",
        BUILD,
    ),
    Mutation(
        "monitor gone before the build",
        "build.py",
        ((_MONITOR, _MONITOR.replace("monitor =", "config.progress_monitor =", 1)), (_IF_MONITOR, "")),
        BUILD,
    ),
    Mutation(
        "memory of the shape before",
        "stream.py",
        (
            (_ASK, ""),
            (
                _SET_SHAPE,
                _ASK.replace("()", "() if self._asked else 1 << 24", 1) + "        self._asked = True\n" + _SET_SHAPE,
            ),
            (
                "        self._ran = self._may_capture = False\n",
                "        self._ran = self._may_capture = self._asked = False\n",
            ),
        ),
        RUN,
    ),
)

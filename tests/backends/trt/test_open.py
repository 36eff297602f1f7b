"""Opening the backend by name: the engine is found in the cache or built, or what is missing is said at once."""

import dataclasses
import hashlib
import logging
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
import pytest
from artefacts_fake import METADATA, twice
from device_fake import FakeDevice
from engine_fake import record_of, runtime_module
from session_helpers import check, windows

from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.backends.ort import open_cpu
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.backends.trt import build, make, resolve, session
from lkdn_deploy.backends.trt.engine import UnusableEngineError
from lkdn_deploy.backends.trt.engine_cache import KERNELS
from lkdn_deploy.backends.trt.gpu import gpu_here
from lkdn_deploy.backends.trt.record import Tensor
from lkdn_deploy.backends.trt.session import TrtSession, open_trt
from lkdn_deploy.bench.opening import TRT_WAYS, open_form
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.hub.loading import open_artifact
from lkdn_deploy.runtime.bundled import bundled


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> FakeDevice:
    """A machine with a GPU and TensorRT for RTX."""
    device = FakeDevice()
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", runtime_module(device))
    monkeypatch.setitem(sys.modules, "tensorrt", None)
    monkeypatch.setattr(session, "open_device", lambda: device)
    for module in (resolve, session):
        monkeypatch.setattr(module, "gpu_here", lambda: device.gpu)
    return device


@pytest.fixture
def engines(monkeypatch: pytest.MonkeyPatch, artefact: Path) -> list[bytes]:
    """The engines that the builder will return, one after the other."""
    engines = [artefact.read_bytes()]
    record = record_of(artefact)

    def built(*_args: object, **_options: object) -> build.BuiltEngine:
        return build.BuiltEngine(engines.pop(0), record.input, record.output, (), "info: done\n", 1.0)

    monkeypatch.setattr(make, "build", built)
    return engines


def test_a_missing_engine_is_built_once_and_then_found(
    device: FakeDevice, engines: list[bytes], artefact: Path, caplog: pytest.LogCaptureFixture
) -> None:
    first = open_session(artefact, "trt")
    assert isinstance(first, TrtSession)
    assert first.backend == "trt-rtx"
    assert "building a TensorRT engine of twice.onnx once, which takes seconds to minutes: there is none" in caplog.text
    assert not engines
    with first:
        check(first, windows(1, (1, 3, 40, 48)))
    assert KERNELS.read(first.record.engine_sha256) == b"kernels: one"
    with open_trt(read_artifact(artefact), threads=3) as second:
        check(second, windows(1, (1, 3, 40, 48)))
        assert second.record == first.record


def test_engines_with_other_settings_are_others_and_are_called_so(
    device: FakeDevice, engines: list[bytes], artefact: Path
) -> None:
    engines *= len(TRT_WAYS)
    batch = windows(1, (1, 3, 40, 48))
    names = {}
    for way in ("trt", "trt-aux0", "trt-no-tf32", "trt-aux0"):
        with open_form(read_artifact(artefact), way, "fp32", 1) as found:
            check(found, batch)
            names[way] = found.backend
    assert list(names.values()) == ["trt-rtx", "trt-rtx-aux0", "trt-rtx-no-tf32"]
    assert not engines
    half = twice(artefact.with_name("half.onnx"), dataclasses.replace(METADATA, precision="fp16"))
    with pytest.raises(UsageError, match="TF32 is a way to compute FP32, and the engine would be in fp16"):
        open_form(read_artifact(half), "trt-no-tf32", "fp16", 1)


def test_an_engine_that_was_built_ahead_is_found_and_is_of_the_rewritten_graph(
    device: FakeDevice, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = read_artifact(bundled()["lkdn-s", 4])
    ends = Tensor("lr", "float32"), Tensor("sr", "float32")
    given: list[bytes] = []

    def built(graph: bytes, *_args: object, **_options: object) -> build.BuiltEngine:
        given.append(graph)
        return build.BuiltEngine(graph, *ends, (), "info: done\n", 1.0)

    monkeypatch.setattr(make, "build", built)
    record = make.make_engine(artifact, resolve.resolve("tensorrt-rtx", ("sm86", "sm89"))).record
    assert record.spec.artefact_sha256 == hashlib.sha256(artifact.data).hexdigest()
    batch = np.random.default_rng(0).random((1, 3, 40, 48), np.float32)
    expected = open_cpu(artifact, threads=1).run(batch)
    for backend in ("trt", "auto"):
        with open_artifact(artifact, backend=backend) as found:
            assert found.backend == "trt-rtx"
            np.testing.assert_allclose(found.run(batch), expected, atol=1e-4)
    (graph,) = given
    operators = Counter(node.op_type for node in onnx.load_model_from_string(graph).graph.node)
    assert operators["LayerNormalization"] == operators["Transpose"] == 0 < operators["Conv"]


def test_a_cached_engine_that_does_not_load_is_built_again(
    device: FakeDevice, engines: list[bytes], artefact: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engines.insert(0, b"for another machine")
    with pytest.raises(UnusableEngineError, match=r"tensorrt-rtx 1.7 cannot load this engine"):
        open_trt(read_artifact(artefact))
    with open_trt(read_artifact(artefact)) as session:
        check(session, windows(1, (1, 3, 40, 48)))
    assert "the engine in the cache is not used: tensorrt-rtx 1.7 cannot load this engine" in caplog.text
    assert not engines
    with open_trt(read_artifact(artefact)) as session:  # it is not built for ever
        check(session, windows(1, (1, 3, 40, 48)))


def test_auto_takes_an_engine_that_is_in_the_cache_and_says_so(
    device: FakeDevice, engines: list[bytes], artefact: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    other = twice(tmp_path / "other.onnx", dataclasses.replace(METADATA, model="other"))
    assert not open_session(artefact).backend.startswith("trt")  # nothing is built unasked
    assert engines
    open_trt(read_artifact(artefact)).close()
    with open_session(artefact) as found:
        assert found.backend == "trt-rtx"
        assert "auto: twice.onnx runs on trt-rtx, with the engine in the cache" in caplog.text
    assert not open_session(other).backend.startswith("trt")
    device.gpu = dataclasses.replace(device.gpu, capability="sm90")
    assert not open_session(artefact).backend.startswith("trt")
    assert not [record for record in caplog.records if "not used" in record.message]


def test_auto_goes_on_where_the_engine_in_the_cache_does_not_start(
    device: FakeDevice, engines: list[bytes], artefact: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engines[:] = [b"for another machine"]
    with pytest.raises(UnusableEngineError):
        open_trt(read_artifact(artefact))
    assert not open_session(artefact).backend.startswith("trt")
    assert "the TensorRT engine in the cache is not used: tensorrt-rtx 1.7 cannot load" in caplog.text


def test_a_missing_artefact_is_named(device: FakeDevice, tmp_path: Path) -> None:
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

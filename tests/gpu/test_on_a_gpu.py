"""Tests that need an NVIDIA GPU: run them with `make gpu`. Without a GPU all are skipped.

A maintainer should see every test pass, and then the table of `lkdn-bench --trt`: FP16 rows faster than FP32 ones.
"""

import ctypes
import json
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lkdn_deploy import load
from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.backends.trt.gpu import gpu_here
from lkdn_deploy.backends.trt.runtimes import installed
from lkdn_deploy.backends.trt.session import TrtSession, open_trt
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.bench import command as bench
from lkdn_deploy.cli.export import command as export
from lkdn_deploy.cli.upscale import command as upscale
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.imaging.metrics import psnr_y
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.samples import sample_pixels

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(gpu_here() is None, reason="no NVIDIA GPU, or no driver"),
    pytest.mark.skipif(not installed(), reason="neither tensorrt nor tensorrt_rtx is installed"),
]


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.getbasetemp() / "cache"))


def opened(scale: int = 4) -> TrtSession:
    """The bundled LKDN-S."""
    return open_trt(read_artifact(bundled()["lkdn-s", scale]))


def half(folder: Path) -> Path:
    """The bundled LKDN-S x4 in FP16."""
    assert run(export, ["--onnx", "--fp16", "-o", str(folder)]) == 0
    return folder / "lkdn-s_x4_fp16.onnx"


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_an_fp32_engine_makes_what_onnx_runtime_makes(scale: int) -> None:
    batch = np.random.default_rng(0).random((1, 3, 90, 130), np.float32)
    expected = load("lkdn-s", scale, backend="ort-cpu").session.run(batch)
    with opened(scale) as session:
        # TensorFloat-32 rounds products to 10 bits where the GPU has it.
        assert np.abs(session.run(batch) - expected).max() <= 5e-3
        assert np.array_equal(session.run(batch), session.run(batch))  # before, and as a graph


def test_an_fp16_engine_makes_the_same_picture(tmp_path: Path) -> None:
    expected = load(backend="ort-cpu")(sample_pixels())
    assert psnr_y(load(half(tmp_path), backend="trt")(sample_pixels()), expected, 4) >= 55


def test_tiles_are_the_whole_picture(tmp_path: Path) -> None:
    picture = np.tile(sample_pixels(), (4, 3, 1))
    whole, tiled = (load("lkdn-s", backend="trt", tile=tile)(picture) for tile in (None, 150))
    assert np.abs(whole.astype(int) - tiled).max() <= 1


def test_the_second_start_takes_the_engine_from_the_cache() -> None:
    opened().close()
    start = time.perf_counter()
    opened().close()
    assert time.perf_counter() - start < 10


def test_windows_outside_of_the_profile_are_refused_before_the_device() -> None:
    with (
        opened() as session,
        pytest.raises(UsageError, match="this engine accepts"),
    ):
        session.run(np.zeros((1, 3, 2000, 2000), np.float32))


def free_memory() -> int:
    """Bytes of device memory that nobody uses, asked in the context of an open session."""
    free, total = ctypes.c_size_t(), ctypes.c_size_t()
    driver = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    assert driver.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total)) == 0
    return free.value


def test_no_device_memory_is_left() -> None:
    with opened() as session:
        before = free_memory()
        list(session.run_many([np.zeros((1, 3, 256, 256), np.float32)] * 6))
        assert session.inference_seconds(np.zeros((1, 3, 256, 256), np.float32)) > 0
    with opened():
        assert free_memory() >= before - (64 << 20)


def test_the_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from PIL import Image

    Image.fromarray(sample_pixels()).save(tmp_path / "in.png")
    args = [str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--backend", "trt", "--json"]
    assert run(upscale, args) == 0
    assert json.loads(capsys.readouterr().out)["backend"].startswith("trt")
    assert run(bench, ["--trt", "--model", "lkdn-s", "--rounds", "10", "-o", str(tmp_path / "report")]) == 0
    rows = json.loads((tmp_path / "report" / "bench.json").read_text())["rows"]
    assert [row["precision"] for row in rows] == ["fp32", "fp16"]
    assert all(row["latency"]["device_samples"] for row in rows)

"""The native engine as a backend: published and bundled networks, files that it refuses, memory."""

import itertools
import os
import signal
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import helper

pytest.importorskip("llvmlite")

from native_graphs import Graph, clouds, compiled, everything, noise

from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.backends.native.session import NativeSession
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.cache import Store
from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.runtime.upscaler import Upscaler


@pytest.mark.parametrize(
    "name",
    [
        "LKDN/LKDN-S_x4.pth",
        pytest.param("LKDN/LKDN_x2.pth", marks=pytest.mark.long),
        pytest.param("LKDN/LKDN_x3.pth", marks=pytest.mark.long),
        pytest.param("VapSR/VapSR_X4.pth", marks=pytest.mark.long),
        pytest.param("BSRN/net_g_BSRN_x4.pth", marks=pytest.mark.long),
    ],
)
def test_published_networks_agree_with_onnx_runtime(name: str, data: Path, tmp_path: Path) -> None:
    from lkdn_deploy.export.job import ExportSettings, export_onnx
    from lkdn_models.checkpoint import load_checkpoint

    path = export_onnx(load_checkpoint(data / "weights" / name), tmp_path / "a.onnx", ExportSettings()).path
    session, other = open_session(path, "native"), open_session(path, "ort-cpu")
    assert session.backend == "native-cpu"
    least = session.metadata.smallest
    for size in ((61, 83), (max(least, 9), max(least, 11)), (least, least)):
        batch = clouds(*size)[None]
        np.testing.assert_allclose(session.run(batch), other.run(batch), rtol=0, atol=4e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_a_batch_gives_the_results_of_its_images(scale: int) -> None:
    session = open_session(bundled()["lkdn-s", scale], "native", threads=2)
    batch = np.stack([noise(20, 30), noise(20, 30)[::-1]])
    both = session.run(batch)
    assert both.shape == (2, 3, 20 * scale, 30 * scale)
    for one, image in zip(both, batch, strict=True):
        assert np.array_equal(session.run(image[None])[0], one)


def test_a_session_serves_several_threads_at_once() -> None:
    session = open_session(bundled()["lkdn-s", 2], "native", threads=2)
    batches = [noise(20 + it % 3, 40)[None] for it in range(9)]
    expected = [session.run(batch) for batch in batches]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(session.run, batches))
    assert all(np.array_equal(one, other) for one, other in zip(results, expected, strict=True))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_session_works_in_a_process_that_is_forked_from_its_own_even_during_a_run() -> None:
    session = open_session(bundled()["lkdn-s", 2], "native", threads=2)
    batch = noise(20, 40)[None]
    expected = session.run(batch)
    running = session.run_many([batch, batch])
    next(running)
    assert isinstance(session, NativeSession)
    with session._lock:  # as another thread might
        child = os.fork()
        if not child:
            os._exit(0 if np.array_equal(session.run(batch), expected) else 1)
    deadline = time.monotonic() + 30
    ended, status = os.waitpid(child, os.WNOHANG)
    while not ended and time.monotonic() < deadline:
        time.sleep(0.02)
        ended, status = os.waitpid(child, os.WNOHANG)
    if not ended:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended, "it hangs"
    assert os.waitstatus_to_exitcode(status) == 0
    assert np.array_equal(session.run(batch), expected)


def test_results_of_run_are_the_callers_and_those_of_run_many_share_memory() -> None:
    session = open_session(bundled()["lkdn-s", 2], "native", threads=2)
    batches = [np.stack([noise(20 + it % 2, 30)] * (1 + it // 2)) * np.float32(it / 4) for it in range(4)]
    results = [session.run(batch) for batch in batches]
    copies = [result.copy() for result in results]
    for one, many in zip(copies, session.run_many(iter(batches)), strict=True):
        assert np.array_equal(one, many)
    assert all(np.array_equal(one, other) for one, other in zip(results, copies, strict=True))
    assert not any(np.shares_memory(one, other) for one, other in itertools.combinations(results, 2))
    first, second, other = session.run_many([noise(20, 30)[None], noise(20, 30)[None], noise(21, 30)[None]])
    assert np.shares_memory(first, second)
    assert not np.shares_memory(first, other)


def test_nan_stays_nan_within_the_receptive_radius() -> None:
    session = open_session(bundled()["lkdn-s", 2], "native")
    batch = noise(140, 150)[None]
    batch[0, 1, 5, 7] = np.nan
    result = session.run(batch)
    assert np.isnan(result[0, :, 10:12, 14:16]).all()
    radius = session.metadata.receptive_radius or 0
    assert np.isfinite(result[..., 2 * (5 + radius + 1) :, :]).all()
    assert np.isfinite(result[..., 2 * (7 + radius + 1) :]).all()


def test_an_unsupported_network_is_refused_with_advice_and_left_to_another_engine_by_default(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    model = onnx.load(bundled()["lkdn-s", 2])
    model.graph.node.append(helper.make_node("Abs", [model.graph.output[0].name], ["positive"]))
    model.graph.output[0].name = "positive"
    onnx.save(model, path)
    with pytest.raises(InputError, match="the native engine does not support the operator Abs") as caught:
        open_session(path, "native")
    assert "--backend ort-cpu" in (caught.value.hint or "")
    assert open_session(path).backend == "ort-cpu"
    assert open_session(bundled()["lkdn-s", 2]).backend == "native-cpu"


def test_a_file_that_onnx_cannot_parse_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.onnx"
    path.write_bytes(bundled()["lkdn-s", 2].read_bytes() + b"\x42\x01\x08")  # an operator set that ends early
    with pytest.raises(InputError, match=r"a\.onnx: it is not an ONNX model"):
        open_session(path, "native")


def test_a_missing_package_is_an_error_with_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [it for it in sys.modules if it.startswith(("llvmlite", "lkdn_deploy.backends.native"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    with pytest.raises(MissingError) as caught:
        open_session(bundled()["lkdn-s", 2], "native")
    assert ".[native]" in (caught.value.hint or "")
    assert open_session(bundled()["lkdn-s", 2]).backend == "ort-cpu"


def test_a_fixed_size_is_the_only_one_that_runs(tmp_path: Path) -> None:
    model = onnx.load(bundled()["lkdn-s", 2])
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, 12, 9), strict=True):
        dim.dim_value = size
    onnx.save(model, tmp_path / "a.onnx")
    session = open_session(tmp_path / "a.onnx", "native")
    assert session.fixed_size == (12, 9)
    assert session.run(noise(12, 9)[None]).shape == (1, 3, 24, 18)
    with pytest.raises(UsageError, match="takes 9x12 pixels only, got 12x9"):
        session.run(noise(9, 12)[None])


def test_networks_that_differ_in_their_weights_share_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for seed in range(2):
        graph = Graph(seed)
        compiled(graph.model(everything(graph)))
    assert len(list(Store("native").folder.iterdir())) == 1


SHAPES = [(300, 300), (500, 500), (20000, 1), (1, 20000), (5000, 33), (64, 64), (3000, 3)]


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("scale", [2, 4])
def test_window_bytes_bound_the_memory_of_a_run_of_any_shape(scale: int, shape: tuple[int, int], threads: int) -> None:
    session = open_session(bundled()["lkdn-s", scale], "native", threads=threads)
    batch = noise(*shape)[None]
    pixels = np.empty((scale * shape[0], scale * shape[1], 3), np.uint8)
    tracemalloc.start()
    session.fill(batch, np.s_[:, :], pixels)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    expected = session.window_bytes(*shape)
    assert 0.8 * (expected - (12 << 20)) < peak <= expected


def test_the_memory_budget_holds_for_a_picture_of_any_shape() -> None:
    upscaler = Upscaler(open_session(bundled()["lkdn-s", 4], "native", threads=2), memory_budget=200 << 20)
    for height, width in ((60000, 1), (1, 60000), (20000, 30), (3000, 2000)):
        rows, columns = upscaler.plan(height, width)[0].window
        assert upscaler.session.window_bytes(rows.stop - rows.start, columns.stop - columns.start) <= 200 << 20
    picture = np.zeros((9000, 1, 3), np.uint8)
    tracemalloc.start()
    upscaler(picture)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 200 << 20


def test_every_bundled_artefact_is_supported() -> None:
    for path in bundled().values():
        assert import_program(path.read_bytes()).ops

"""The native engine as a backend: published and bundled networks, files that it cannot run, what it keeps."""

import itertools
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper

pytest.importorskip("llvmlite")

from native_graphs import (
    HERE,
    MODEL,
    PROCESSORS,
    Graph,
    clouds,
    everything,
    noise,
)

from lkdn_deploy.backends.native.compile import Engine
from lkdn_deploy.backends.native.frontend.importer import read_program
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.core.cache import Store
from lkdn_deploy.core.errors import InputError, MissingError, UsageError
from lkdn_deploy.jit import compiler
from lkdn_deploy.runtime.bundled import bundled


@pytest.mark.parametrize(
    "name",
    [
        "LKDN/LKDN-S_x4.pth",
        "LKDN/LKDN_x2.pth",
        "LKDN/LKDN_x3.pth",
        "VapSR/VapSR_X4.pth",
        "BSRN/net_g_BSRN_x4.pth",
    ],
)
def test_published_networks_are_computed_as_by_onnx_runtime(name: str, data: Path, tmp_path: Path) -> None:
    from lkdn_deploy.export.job import ExportSettings, export_onnx
    from lkdn_models.checkpoint import load_checkpoint

    path = export_onnx(load_checkpoint(data / "weights" / name), tmp_path / "a.onnx", ExportSettings()).path
    session, other = open_session(path, "native"), open_session(path, "ort-cpu")
    least = session.metadata.smallest
    for size in ((61, 83), (max(least, 9), max(least, 11)), (least, least)):
        batch = clouds(*size)[None]
        result = session.run(batch)
        assert session.backend == "native-cpu"
        np.testing.assert_allclose(result, other.run(batch), rtol=0, atol=4e-5)


@pytest.mark.parametrize("scale", [2, 3, 4])
def test_bundled_artefacts_run_batches_as_well_as_single_pictures(scale: int) -> None:
    session = open_session(bundled()["lkdn-s", scale], "native", threads=2)
    batch = np.stack([noise(20, 30), noise(20, 30)[::-1]])
    both = session.run(batch)
    assert both.shape == (2, 3, 20 * scale, 30 * scale)
    for one, planes in zip(both, batch, strict=True):
        assert np.array_equal(session.run(planes[None])[0], one)


def test_a_session_serves_several_threads_at_once() -> None:
    session = open_session(bundled()["lkdn-s", 2], "native", threads=2)
    batches = [noise(20 + it % 3, 40)[None] for it in range(9)]
    expected = [session.run(batch) for batch in batches]
    with ThreadPoolExecutor(3) as pool:
        results = list(pool.map(session.run, batches))
    assert all(np.array_equal(one, other) for one, other in zip(results, expected, strict=True))


def test_results_of_single_runs_stay_as_they_are() -> None:
    session = open_session(bundled()["lkdn-s", 2], "native", threads=2)
    batches = [np.stack([noise(20 + it % 2, 30)] * (1 + it // 2)) * np.float32(it / 4) for it in range(4)]
    results = [session.run(batch) for batch in batches]
    copies = [result.copy() for result in results]
    for one, many in zip(copies, session.run_many(iter(batches)), strict=True):
        assert np.array_equal(one, many)
    assert all(np.array_equal(one, other) for one, other in zip(results, copies, strict=True))
    assert not any(np.shares_memory(one, other) for one, other in itertools.combinations(results, 2))


def test_results_of_many_runs_share_memory_while_the_size_stays() -> None:
    session = open_session(bundled()["lkdn-s", 2], "native", threads=2)
    first, second, other = session.run_many([noise(20, 30)[None], noise(20, 30)[None], noise(21, 30)[None]])
    assert np.shares_memory(first, second)
    assert not np.shares_memory(first, other)


def test_what_is_no_number_stays_none_and_does_not_spread_beyond_the_radius() -> None:
    session = open_session(bundled()["lkdn-s", 2], "native")
    batch = noise(140, 150)[None]
    batch[0, 1, 5, 7] = np.nan
    result = session.run(batch)
    assert np.isnan(result[0, :, 10:12, 14:16]).all()
    radius = session.metadata.receptive_radius or 0
    assert np.isfinite(result[..., 2 * (5 + radius + 1) :, :]).all()
    assert np.isfinite(result[..., 2 * (7 + radius + 1) :]).all()


def test_a_network_that_it_cannot_run_is_an_error_with_a_way_out_and_auto_takes_another(tmp_path: Path) -> None:
    model = onnx.load(bundled()["lkdn-s", 2])
    model.graph.node.append(helper.make_node("Abs", [model.graph.output[0].name], ["positive"]))
    model.graph.output[0].name = "positive"
    path = tmp_path / "a.onnx"
    onnx.save(model, path)
    with pytest.raises(InputError, match="the native engine has nothing for the operation Abs") as caught:
        open_session(path, "native")
    assert "--backend ort-cpu" in (caught.value.hint or "")
    assert open_session(path).backend == "ort-cpu"
    assert open_session(bundled()["lkdn-s", 2]).backend == "native-cpu"


def test_other_files_are_refused_as_by_other_backends(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="cannot be read"):
        open_session(tmp_path / "gone.onnx", "native")
    (tmp_path / "a.onnx").write_bytes(b"no model")
    with pytest.raises(InputError, match="cannot be opened by the native engine"):
        open_session(tmp_path / "a.onnx", "native")
    (tmp_path / "a.onnx").write_bytes(MODEL)
    with pytest.raises(InputError, match="it was not made by lkdn-export"):
        open_session(tmp_path / "a.onnx", "native")


def test_without_its_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    import sys

    for name in [it for it in sys.modules if it.startswith(("llvmlite", "lkdn_deploy.backends.native"))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "llvmlite", None)
    with pytest.raises(MissingError) as caught:
        open_session(bundled()["lkdn-s", 2], "native")
    assert "lkdn-deploy[native]" in (caught.value.hint or "")
    assert open_session(bundled()["lkdn-s", 2]).backend == "ort-cpu"


def test_a_fixed_size_is_the_only_one_that_runs(tmp_path: Path) -> None:
    model = onnx.load(bundled()["lkdn-s", 2])
    for dim, size in zip(model.graph.input[0].type.tensor_type.shape.dim, (1, 3, 12, 9), strict=True):
        dim.dim_value = size
    path = tmp_path / "a.onnx"
    onnx.save(model, path)
    session = open_session(path, "native")
    assert session.fixed_size == (12, 9)
    assert session.run(noise(12, 9)[None]).shape == (1, 3, 24, 18)
    with pytest.raises(UsageError, match="takes 9x12 pixels only, got 12x9"):
        session.run(noise(9, 12)[None])


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Store("native").folder


def test_code_is_compiled_once_and_made_again_when_it_is_damaged(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = []
    compile_ = compiler._compiled

    def counted(*args: Any) -> bytes:
        made.append(args)
        return compile_(*args)

    monkeypatch.setattr(compiler, "_compiled", counted)
    batch = noise(9, 20)[None]
    first = open_session(bundled()["lkdn-s", 2], "native").run(batch)
    (file,) = cache.iterdir()
    assert np.array_equal(open_session(bundled()["lkdn-s", 2], "native").run(batch), first)
    assert len(made) == 1
    file.write_bytes(file.read_bytes()[:-100])
    assert np.array_equal(open_session(bundled()["lkdn-s", 2], "native").run(batch), first)
    assert len(made) == 2
    open_session(bundled()["lkdn-s", 2], "native")
    assert len(made) == 2


def test_weights_are_no_part_of_the_code(cache: Path) -> None:
    for name in ("a", "b"):
        graph = Graph(len(name) + ord(name))
        Engine(read_program(graph.model(everything(graph))), HERE)
    assert len(list(cache.iterdir())) == 1


def test_code_is_for_one_processor(cache: Path) -> None:
    for target in PROCESSORS.values():
        Engine(read_program(MODEL), target)
    assert len(list(cache.iterdir())) == len(PROCESSORS)


def test_memory_is_as_much_as_it_says() -> None:
    import tracemalloc

    for artefact, side in itertools.product((bundled()["lkdn-s", 4], bundled()["lkdn-s", 2]), (300, 500)):
        session = open_session(artefact, "native", threads=2)
        batch = noise(side, side)[None]
        scale = session.metadata.scale
        pixels = np.empty((scale * side, scale * side, 3), np.uint8)
        tracemalloc.start()
        session.fill(batch, np.s_[:, :], pixels)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert 0.6 < peak / (session.bytes_per_pixel() * side**2) <= 1


def test_every_bundled_artefact_is_one_for_it() -> None:
    for path in bundled().values():
        assert read_program(path.read_bytes()).operations

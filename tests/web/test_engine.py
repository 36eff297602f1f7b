"""WebAssembly against the native engine with vectors of four lanes, bit for bit, and against ONNX Runtime."""

import json
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("llvmlite")

from in_node import PLAIN, node
from native_graphs import MODEL, WITH_SUBGRAPHS, Graph, Run, compiled, reference

from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.backends.native.ir import UnsupportedError
from lkdn_deploy.backends.native.wasm import compile_wasm
from lkdn_deploy.hub.artifacts import find_artifact
from lkdn_deploy.imaging.pixels import to_batch
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.samples import sample_pixels
from lkdn_deploy.web.folder import STATIC

SIZES = [(1, 1), (2, 3), (5, 47), (16, 31), (37, 5), (29, 70)]
ALL_SIZES = [(side, other) for side in range(1, 71) for other in (side, 37 * side % 71)]

Pixels = NDArray[np.uint8]


def picture(height: int, width: int) -> Pixels:
    """A part of a photograph: trained networks map noise to values far outside 0..1."""
    return np.ascontiguousarray(sample_pixels()[20 : 20 + height, 30 : 30 + width])


def in_wasm(
    folder: Path, model: bytes, sizes: Iterable[tuple[int, int]], threads: Sequence[int]
) -> dict[tuple[int, int, int], NDArray[np.float32]]:
    """Return the results of windows of a picture by height, width and threads."""
    network = compile_wasm(import_program(model))
    for name, content in (("code.wasm", network.code), ("threads.wasm", network.threads_code)):
        (folder / name).write_bytes(content)
    (folder / "weights.bin").write_bytes(network.weights)
    (folder / "network.json").write_text(json.dumps(network.description))
    windows = {f"{height}x{width}x{count}": (height, width, count) for height, width in sizes for count in threads}
    for name, (height, width, _) in windows.items():
        (folder / f"{name}.rgba").write_bytes(np.dstack([picture(height, width), np.zeros((height, width), np.uint8)]))
    (folder / "windows.json").write_text(json.dumps([[name, *window] for name, window in windows.items()]))
    node("windows.mjs", STATIC, folder)
    scale = network.description["scale"]
    return {
        window: np.fromfile(folder / f"{name}.f32", np.float32).reshape(3, scale * window[0], scale * window[1])
        for name, window in windows.items()
    }


def check(
    folder: Path,
    model: bytes,
    sizes: Iterable[tuple[int, int]],
    threads: Sequence[int] = (1, 2),
    tolerance: float = 1e-5,
) -> None:
    results = in_wasm(folder, model, sizes, threads)
    exact = compiled(model, PLAIN) if platform.machine() in ("x86_64", "AMD64") else None
    for (height, width, count), result in results.items():
        batch = to_batch(picture(height, width))[0]
        where = f"{width}x{height}, {count} threads"
        if exact is not None:
            assert np.array_equal(result.view(np.uint32), Run(exact, height, width)(batch).view(np.uint32)), where
        np.testing.assert_allclose(result, reference(model, batch), rtol=0, atol=tolerance, err_msg=where)


def test_a_bundled_network(tmp_path: Path) -> None:
    check(tmp_path, bundled()["lkdn-s", 4].read_bytes(), SIZES)


def test_every_operator(tmp_path: Path) -> None:
    check(tmp_path, MODEL, SIZES, threads=(1, 3), tolerance=2e-5)


@pytest.mark.long
@pytest.mark.parametrize(
    "weights",
    [None, "LKDN/LKDN_x4.pth", "VapSR/VapSR_X4.pth", "SPAN/spanx4_ch48.safetensors"],
    ids=["lkdn-s", "lkdn", "vapsr", "span"],
)
def test_published_networks_in_all_sizes(weights: str | None, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    path = request.getfixturevalue("data") / "weights" / weights if weights else None
    check(tmp_path, find_artifact(weights=path).data, ALL_SIZES)


@pytest.mark.parametrize(
    ("model", "obstacle"), [(WITH_SUBGRAPHS, "whole picture"), (b"fixed", "only")], ids=["subgraphs", "one size"]
)
def test_networks_without_code_are_refused(model: bytes, obstacle: str) -> None:
    if model == b"fixed":
        graph = Graph()
        model = graph.model(graph.convolution("lr", 3), (8, 9))
    with pytest.raises(UnsupportedError, match=obstacle):
        compile_wasm(import_program(model))

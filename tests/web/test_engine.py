"""WebAssembly against the native engine with vectors of four lanes, bit for bit, and against ONNX Runtime."""

import json
import platform
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

pytest.importorskip("llvmlite")

from in_node import PROCESSORS, Instructions, node
from native_graphs import HERE, MODEL, WITH_SUBGRAPHS, Graph, Run, compiled, dense, of_all_kinds, reference

from lkdn_deploy.backends.native.compile import CompiledNetwork
from lkdn_deploy.backends.native.fixed.measured import measure
from lkdn_deploy.backends.native.fixed.pictures import SIDE
from lkdn_deploy.backends.native.fixed.quantise import quantise
from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.backends.native.ir import UnsupportedError
from lkdn_deploy.backends.native.wasm import WasmNetwork, compile_wasm
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
    folder: Path,
    network: WasmNetwork,
    sizes: Iterable[tuple[int, int]],
    threads: Sequence[int],
    instructions: Instructions,
) -> dict[tuple[int, int, int], NDArray[np.float32]]:
    """Return the results of windows of a picture by height, width and threads."""
    code = network.relaxed if instructions == "relaxed" else network.plain
    (folder / "code.wasm").write_bytes(code.alone)
    (folder / "threads.wasm").write_bytes(code.threads)
    (folder / "weights.bin").write_bytes(network.weights)
    (folder / "network.json").write_text(json.dumps(network.description))
    windows = {f"{height}x{width}x{count}": (height, width, count) for height, width in sizes for count in threads}
    for name, (height, width, _) in windows.items():
        (folder / f"{name}.rgba").write_bytes(np.dstack([picture(height, width), np.zeros((height, width), np.uint8)]))
    (folder / "windows.json").write_text(json.dumps([[name, *window] for name, window in windows.items()]))
    node("windows.mjs", STATIC, folder, instructions=instructions)
    scale = network.description["scale"]
    return {
        window: np.fromfile(folder / f"{name}.f32", np.float32).reshape(3, scale * window[0], scale * window[1])
        for name, window in windows.items()
    }


def check(
    folder: Path,
    model: bytes,
    sizes: Sequence[tuple[int, int]],
    threads: Sequence[int] = (1, 2),
    tolerance: float = 1e-5,
) -> None:
    network = compile_wasm(import_program(model))
    batches = {size: to_batch(picture(*size))[0] for size in sizes}
    expected = {size: reference(model, batch) for size, batch in batches.items()}
    for instructions, processor in PROCESSORS.items():
        exact = compiled(model, processor) if platform.machine() in ("x86_64", "AMD64") else None
        for (height, width, count), result in in_wasm(folder, network, sizes, threads, instructions).items():
            where = f"{width}x{height}, {count} threads, {instructions}"
            if exact is not None:
                native = Run(exact, height, width)(batches[height, width])
                assert np.array_equal(result.view(np.uint32), native.view(np.uint32)), where
            np.testing.assert_allclose(result, expected[height, width], rtol=0, atol=tolerance, err_msg=where)


def test_a_bundled_network(tmp_path: Path) -> None:
    check(tmp_path, bundled()["lkdn-s", 4].read_bytes(), SIZES)


def test_every_operator(tmp_path: Path) -> None:
    check(tmp_path, MODEL, SIZES, threads=(1, 3), tolerance=2e-5)


def check_fixed(folder: Path, model: bytes) -> None:
    """Numbers and their extremes are those of the native engine in fixed point."""
    program = import_program(model)
    fixed = quantise(program, measure(program, [picture(SIDE, SIDE)], HERE))
    sizes = [(1, 1), (5, 47), (16, 31)]
    network = compile_wasm(fixed.program, fixed)
    for instructions, processor in PROCESSORS.items():
        exact = CompiledNetwork(fixed.program, processor, fixed)
        for (height, width, count), result in in_wasm(folder, network, sizes, (1, 2), instructions).items():
            native = Run(exact, height, width)
            np.testing.assert_array_equal(result, native(to_batch(picture(height, width))[0]))
            found = dict(json.loads((folder / f"{height}x{width}x{count}.json").read_text()))
            assert [found[it] for it in fixed.watched] == native.extremes().tolist()


def test_a_bundled_network_in_fixed_point(tmp_path: Path) -> None:
    check_fixed(tmp_path, bundled()["lkdn-s", 2].read_bytes())


@pytest.mark.long
def test_every_operator_in_fixed_point(tmp_path: Path) -> None:
    graph = Graph()
    check_fixed(tmp_path, graph.model(of_all_kinds(graph)))


def test_minimal_filtering(tmp_path: Path) -> None:
    check(tmp_path, dense(9), SIZES, threads=(1, 2))


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

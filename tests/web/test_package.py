"""The JavaScript package in Node: its results are those of Python, and it keeps what its declarations promise."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray

pytest.importorskip("llvmlite")

from in_node import PROCESSORS, Instructions, node
from native_graphs import Graph

from lkdn_deploy.backends.native.session import NativeSession
from lkdn_deploy.backends.onnx_bytes import Artifact, parse_artifact
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.imaging.tiles import choose_window, plan_axis
from lkdn_deploy.runtime.upscaler import Upscaler
from lkdn_deploy.samples import sample_pixels
from lkdn_deploy.web.folder import STATIC, write_folder

TILES = Path(__file__).with_name("tiles.json")

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def small() -> Artifact:
    """A network x2 that reads three pixels to each side, and accepts no side below 12."""
    graph = Graph()
    head = graph.op("Gelu", graph.convolution("lr", 8, (3, 3)))
    body = graph.op("Gelu", graph.depthwise(head, (5, 5)))
    base = graph.convolution("lr", 12)
    model = onnx.load_model_from_string(
        graph.model(graph.larger(graph.op("Add", graph.convolution(body, 12), base), 2))
    )
    metadata = ArtifactMetadata("small", 2, 3, 24, fused=True, smallest=12)
    onnx.helper.set_model_props(model, metadata.to_props())
    return parse_artifact(Path("small.onnx"), model.SerializeToString())


@pytest.fixture(scope="module")
def folder(small: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_folder([small], tmp_path_factory.mktemp("web") / "site")


def with_alpha(pixels: Pixels, alpha: Pixels | int) -> Pixels:
    return np.dstack([pixels, np.broadcast_to(np.asarray(alpha, np.uint8), pixels.shape[:2])])


def pictures() -> dict[str, Pixels]:
    height, width = 300, 210
    large = np.tile(sample_pixels(), (2, 2, 1))[:height, :width]
    y, x = np.mgrid[:height, :width]
    edge = np.clip(255 * (60 - np.hypot(y - 70, x - 90)) / 9, 0, 255).astype(np.uint8)
    hole = np.where((abs(y - 75) < 30) & (abs(x - 60) < 45), 0, 255).astype(np.uint8)
    hole[280:, 150:] = 7
    return {
        "tiled": with_alpha(large, 255),
        "even": with_alpha(large[:40, :50], 100),
        "invisible": with_alpha(large[:40, :50], 0),
        "soft": with_alpha(large, edge),
        "hole": with_alpha(large, hole),
        "padded": with_alpha(large[:5, :9], 255),
        "narrow": with_alpha(large[:3, :], hole[70:73]),
        "point": with_alpha(large[:1, :1], 255),
    }


@pytest.mark.parametrize("instructions", PROCESSORS)
def test_results_are_those_of_python(
    instructions: Instructions, folder: Path, small: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    listed = [
        (name, pixels.shape[1], pixels.shape[0], {"threads": 1 + number % 2, "memory": 1 << 20})
        for number, (name, pixels) in enumerate(pictures().items())
    ]
    for name, pixels in pictures().items():
        (tmp_path / f"{name}.rgba").write_bytes(pixels.tobytes())
    (tmp_path / "pictures.json").write_text(json.dumps(listed))
    lines = node("upscale.mjs", folder / "lkdn.mjs", tmp_path, instructions=instructions).splitlines()
    strips = {name: int(number) for name, *_, number in map(str.split, lines)}
    assert strips["tiled"] > 1 == strips["padded"]
    monkeypatch.setattr("lkdn_deploy.jit.compiler.processor", lambda: PROCESSORS[instructions])
    with Upscaler(NativeSession(small, threads=1)) as upscaler:
        for name, pixels in pictures().items():
            expected = upscaler(pixels)
            found = np.fromfile(tmp_path / f"{name}.out", np.uint8).reshape(expected.shape)
            assert np.array_equal(found, expected), name


def test_it_keeps_its_promises(folder: Path) -> None:
    node("behaviour.mjs", folder)


def test_tiles_are_planned_alike() -> None:
    node("tiles.mjs", STATIC, TILES)
    for it in json.loads(TILES.read_text()):
        window = choose_window(it["height"], it["width"], it["halo"], it["budget"], least=it["least"])
        assert list(window) == it["window"]
        for length, side, spans in ((it["height"], window[0], it["rows"]), (it["width"], window[1], it["columns"])):
            found = plan_axis(length, side, it["halo"], step=it.get("step", 1))
            assert [[s.start, s.stop, s.keep_start, s.keep_stop] for s in found] == spans

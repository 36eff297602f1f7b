"""ONNX files of other programs upscale as their networks do, or it is said why not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lkdn_deploy import load
from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.upscale import command
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.graph.interface import adapted, read_interface
from lkdn_deploy.hub.artifacts import find_artifact
from lkdn_deploy.hub.foreign import Hints
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.runtime.upscaler import Upscaler
from lkdn_deploy.samples import sample_pixels

OURS = bundled()["lkdn-s", 3]


@pytest.fixture
def written(tmp_path: Path, empty_cache: Path) -> Callable[..., Path]:
    """Writes the bundled network as another program would, for values and an order of colours."""

    def write(peak: float = 1.0, *, bgr: bool = False, batch: int | None = None) -> Path:
        model = onnx.load(OURS)
        del model.metadata_props[:]
        # What makes a graph of levels one of 0..1 makes one of 0..1 one of levels the other way round.
        changed = adapted(model, read_interface(model), peak=1 / peak, bgr=bgr) if peak != 1 or bgr else model
        if batch is not None:
            changed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
        path = tmp_path / "network.onnx"
        onnx.save(changed, path)
        return path

    return write


def test_a_file_that_tells_nothing_upscales_as_its_network_does(written: Callable[..., Path]) -> None:
    path, lines = written(), list[str]()
    artifact = find_artifact(path, told=lines.append)
    assert [line.removeprefix(f"{path}: ").split(":")[0] for line in lines] == [
        "its input is (N, 3, H, W) of float32",
        "it enlarges 3 times",
        "values are 0..1",
        "colours are RGB",
        "its tiles are exact",
    ]
    facts = artifact.metadata
    assert (facts.model, facts.scale, facts.receptive_radius, facts.smallest) == ("network", 3, 63, 1)
    pixels = sample_pixels()
    whole = load("lkdn-s", 3, backend="native")(pixels)
    tiled = Upscaler(open_session(artifact, "native"), tile=24)
    assert len(tiled.plan(180, 240)) > 1
    assert np.abs(tiled(pixels).astype(int) - whole).max() <= 1
    again: list[str] = []
    assert find_artifact(path, told=again.append).data == artifact.data
    assert again == []


def test_levels_in_another_order_are_upscaled_once_the_order_is_said(
    written: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from PIL import Image

    path, picture, result = written(255.0, bgr=True, batch=4), tmp_path / "in.png", tmp_path / "out.png"
    Image.fromarray(sample_pixels()[:20, :24]).save(picture)
    asked = [str(picture), str(result), "--model", str(path)]
    assert run(command, asked) == 1
    said = capsys.readouterr().err
    assert "network.onnx: the order of colours cannot be told" in said
    assert "--bgr" in said
    assert not result.exists()
    assert run(command, [*asked, "--bgr", "--range", "255"]) == 0
    said = capsys.readouterr().err
    assert "its input is (4, 3, H, W)" in said
    assert "values are" not in said
    expected = load("lkdn-s", 3)(sample_pixels()[:20, :24])
    assert np.abs(np.asarray(Image.open(result)).astype(int) - expected).max() <= 1
    assert run(command, [*asked, "--range", "7"]) == 2
    assert np.array_equal(load(path, value_range=255, bgr=True)(sample_pixels()[:20, :24]), Image.open(result))
    with pytest.raises(UsageError, match="value_range must be 1 or 255"):
        load(path, value_range=7)


def test_what_is_said_of_a_file_that_tells_it_by_itself_is_refused() -> None:
    with pytest.raises(UsageError, match="by itself"):
        find_artifact(OURS, hints=Hints(peak=255.0))
    with pytest.raises(UsageError, match="by itself"):
        find_artifact("lkdn-s", 3, hints=Hints(bgr=False))


def of_nodes(*nodes: onnx.NodeProto, channels: int = 3, **constants: NDArray[np.float32]) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(it, TensorProto.FLOAT, ["n", channels, None, None]) for it in ("x", "y")]
    tensors = [numpy_helper.from_array(value.astype(np.float32), name) for name, value in constants.items()]
    return helper.make_model(
        helper.make_graph(list(nodes), "g", values[:1], values[1:], tensors),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )


def on_blocks() -> onnx.ModelProto:
    """Return a network that enlarges twice and works on blocks of 2x2 pixels: nearest neighbour, and random details."""
    rows = np.arange(4)
    nearest = np.zeros((4, 4, 3, 2, 2, 3))  # row, column and colour of a pixel of the result, then of the source
    for colour in range(3):
        nearest[rows[:, None], rows[None], colour, rows[:, None] // 2, rows[None] // 2, colour] = 1
    details = np.random.default_rng(0).normal(0, 0.05, (4, 4, 3, 2, 2, 3, 3, 3))
    weight = details - details.mean((3, 4, 6, 7), keepdims=True)  # flat colours stay as they are
    weight[..., 1, 1] += nearest
    return of_nodes(
        helper.make_node("SpaceToDepth", ["x"], ["z"], blocksize=2),
        helper.make_node("Conv", ["z", "w"], ["v"], pads=[1] * 4),
        helper.make_node("DepthToSpace", ["v"], ["y"], blocksize=4),
        w=weight.reshape(48, 12, 3, 3),
    )


def test_sides_of_multiples_are_padded_and_tiles_lie_on_them(tmp_path: Path, empty_cache: Path) -> None:
    path, lines = tmp_path / "blocks.onnx", list[str]()
    onnx.save(on_blocks(), path)
    facts = find_artifact(path, told=lines.append).metadata
    assert (facts.scale, facts.size_multiple, facts.receptive_radius) == (2, 2, 3)
    assert any("multiples of 2" in line for line in lines)
    pixels = sample_pixels()[60:109, 80:151]
    padded = np.pad(pixels, ((1, 0), (1, 0), (0, 0)), mode="edge")
    whole = load(path, backend="ort-cpu")(pixels)
    assert np.array_equal(whole, load(path, backend="ort-cpu")(padded)[2:, 2:])
    for tile in (7, 16):
        upscaler = load(path, backend="ort-cpu", tile=tile)
        assert len(upscaler.plan(49, 71)) > 4
        result = upscaler.upscale(pixels)
        assert result.exact
        assert np.array_equal(result.pixels, whole)
    with pytest.raises(UsageError, match="multiples of 2"):
        load(path, wrap=True)


def test_a_network_of_luma_gets_its_colours_from_a_bicubic_filter(tmp_path: Path, empty_cache: Path) -> None:
    path, lines = tmp_path / "luma.onnx", list[str]()
    nodes = helper.make_node("Conv", ["x", "w"], ["z"]), helper.make_node("DepthToSpace", ["z"], ["y"], blocksize=2)
    onnx.save(of_nodes(*nodes, channels=1, w=np.ones((4, 1, 1, 1))), path)
    facts = find_artifact(path, told=lines.append).metadata
    assert (facts.scale, facts.receptive_radius) == (2, 2)
    assert any("it takes luma" in line for line in lines)
    pixels = sample_pixels()[40:80, 60:90]
    result = load(path)(pixels)
    assert np.abs(to_luma(result) - to_luma(pixels).repeat(2, 0).repeat(2, 1))[4:-4, 4:-4].max() < 1
    blue = (result[..., 2] - to_luma(result))[::2, ::2] - (pixels[..., 2] - to_luma(pixels))
    assert np.abs(blue).mean() < 4
    flat = np.full((9, 11, 3), (200, 90, 30), np.uint8)
    assert np.array_equal(load(path)(flat), flat.repeat(2, 0).repeat(2, 1))
    assert np.array_equal(load(path, tile=10)(pixels), result)
    with pytest.raises(InputError, match=r"luma\.onnx: it takes luma"):
        load(path, bgr=True)


def to_luma(pixels: NDArray[np.uint8]) -> NDArray[np.float64]:
    return pixels @ np.array([65.481, 128.553, 24.966]) / 255 + 16


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            of_nodes(
                helper.make_node("MaxPool", ["x"], ["z"], kernel_shape=(50, 50)),
                helper.make_node("Add", ["x", "z"], ["y"]),
            ),
            "do not fit pictures of 40x40",
        ),
        (of_nodes(helper.make_node("Neg", ["x"], ["y"])), "the range of values cannot be told"),
        (of_nodes(helper.make_node("Tile", ["x", "x"], ["y"])), "operator Tile"),
        (of_nodes(helper.make_node("NoSuchOperator", ["x"], ["y"])), "cannot be used: "),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_by_its_name(
    model: onnx.ModelProto, said: str, tmp_path: Path, empty_cache: Path
) -> None:
    path = tmp_path / "other.onnx"
    onnx.save(model, path)
    with pytest.raises(InputError, match=said) as caught:
        find_artifact(path)
    assert str(caught.value.message).startswith(str(path))
    assert not list(empty_cache.rglob("*.onnx"))

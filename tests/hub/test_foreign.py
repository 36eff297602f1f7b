"""ONNX files of other programs upscale as their networks do, or it is said why not."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

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

OURS = bundled()["lkdn-s", 2]


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
        "it enlarges 2 times",
        "values are 0..1",
        "colours are RGB",
        "its tiles are exact",
    ]
    facts = artifact.metadata
    assert (facts.model, facts.scale, facts.receptive_radius, facts.smallest) == ("network", 2, 63, 1)
    pixels = sample_pixels()
    whole = load("lkdn-s", 2, backend="native")(pixels)
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
    expected = load("lkdn-s", 2)(sample_pixels()[:20, :24])
    assert np.abs(np.asarray(Image.open(result)).astype(int) - expected).max() <= 1
    assert run(command, [*asked, "--range", "7"]) == 2


def test_what_is_said_of_a_file_that_tells_it_by_itself_is_refused() -> None:
    with pytest.raises(UsageError, match="by itself"):
        find_artifact(OURS, hints=Hints(peak=255.0))
    with pytest.raises(UsageError, match="by itself"):
        find_artifact("lkdn-s", 2, hints=Hints(bgr=False))


def of_nodes(*nodes: onnx.NodeProto) -> onnx.ModelProto:
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h", "w"]) for name in ("x", "y")]
    return helper.make_model(
        helper.make_graph(list(nodes), "g", values[:1], values[1:]),
        opset_imports=[helper.make_opsetid("", 18)],
        ir_version=9,
    )


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (
            of_nodes(
                helper.make_node("SpaceToDepth", ["x"], ["z"], blocksize=2),
                helper.make_node("DepthToSpace", ["z"], ["y"], blocksize=2),
            ),
            "multiples of 2 only",
        ),
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

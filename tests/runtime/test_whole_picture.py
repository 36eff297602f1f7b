"""Networks by which a pixel depends on the whole picture: BSRN, small and with random weights."""

import logging
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from lkdn_deploy import Upscaler, load
from lkdn_deploy.cli._shell import run
from lkdn_deploy.cli.upscale import command
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.export.to_onnx import to_onnx
from lkdn_deploy.graph.pipeline import serialize
from lkdn_deploy.imaging.pixels import to_batch
from lkdn_deploy.samples import sample_pixels
from lkdn_models.nets.bsrn import BSRN

SCALE, SMALLEST = 2, 15


def exported(folder: Path, static: tuple[int, int] | None = None) -> Path:
    torch.manual_seed(0)
    network = BSRN(SCALE, channels=16, blocks=2).eval()
    metadata = ArtifactMetadata(
        model="bsrn",
        scale=SCALE,
        receptive_radius=network.receptive_radius,
        live_channels=100,
        fused=True,
        smallest=network.smallest,
    )
    path = folder / ("static.onnx" if static else "free.onnx")
    model = to_onnx(network, SCALE, smallest=network.smallest, static=static)
    path.write_bytes(serialize(model, metadata))
    return path


@pytest.fixture(scope="module")
def artefact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("whole"))


def picture(height: int, width: int) -> NDArray[np.float32]:
    return sample_pixels()[:height, :width].astype(np.float32) / 255


def test_it_is_given_the_whole_image_and_no_warning(artefact: Path, caplog: pytest.LogCaptureFixture) -> None:
    upscaler = load(artefact)
    image = picture(90, 121)
    assert len(upscaler.plan(*image.shape[:2])) == 1
    expected = upscaler.session.run(to_batch(image))[0].transpose(1, 2, 0).clip(0, 1)
    assert np.array_equal(upscaler(image), expected)
    assert not upscaler.exact
    assert not caplog.records


def test_tiles_that_are_asked_for_come_with_a_warning_and_another_result(
    artefact: Path, caplog: pytest.LogCaptureFixture
) -> None:
    image = picture(90, 121)
    tiled = load(artefact, tile=20)
    with caplog.at_level(logging.WARNING):
        done = tiled.upscale(image)
    assert done.tiles == len(tiled.plan(90, 121)) > 1
    assert not done.exact
    assert "in tiles its result differs" in caplog.text
    result = done.pixels
    whole = load(artefact)(image)
    assert result.shape == whole.shape
    assert 1e-6 < np.abs(result - whole).max() < 0.1


def test_one_tile_is_the_whole_image_and_no_warning(artefact: Path, caplog: pytest.LogCaptureFixture) -> None:
    image = picture(40, 60)
    done = load(artefact, tile=60).upscale(image)
    assert (done.tiles, done.exact) == (1, True)
    assert np.array_equal(done.pixels, load(artefact)(image))
    assert not caplog.records


def test_an_image_that_does_not_fit_into_memory_is_refused_with_the_way_out(artefact: Path) -> None:
    session = load(artefact).session
    small = Upscaler(session, memory_budget=session.window_bytes(20, 20))
    with pytest.raises(UsageError, match="must process the whole image of 121x90 at once, which needs") as refused:
        small(picture(90, 121))
    assert "--tile" in refused.value.hint
    assert small(picture(20, 20)).shape == (40, 40, 3)


@pytest.mark.parametrize(("height", "width"), [(1, 1), (14, 40), (40, 3), (15, 15)])
def test_an_image_smaller_than_the_network_takes_is_upscaled_all_the_same(
    artefact: Path, height: int, width: int
) -> None:
    upscaler = load(artefact)
    image = picture(height, width)
    result = upscaler(image)
    assert result.shape == (SCALE * height, SCALE * width, 3)
    # As the middle of the image with its edge repeated.
    missing = [max(0, SMALLEST - size) for size in (height, width)]
    above, left = (-(-size // 2) for size in missing)
    padded = np.pad(image, ((above, missing[0] - above), (left, missing[1] - left), (0, 0)), mode="edge")
    rows, columns = (slice(SCALE * a, SCALE * (a + size)) for a, size in ((above, height), (left, width)))
    assert np.array_equal(result, upscaler(padded)[rows, columns])


def test_an_artefact_of_the_least_size_takes_every_smaller_image(tmp_path: Path) -> None:
    upscaler = load(exported(tmp_path, static=(SMALLEST, SMALLEST)))
    for height, width in ((14, 14), (4, 15), (1, 1)):
        assert len(upscaler.plan(height, width)) == 1
        assert upscaler(picture(height, width)).shape == (SCALE * height, SCALE * width, 3)


def test_the_command_says_whether_the_result_is_that_of_the_whole_image(
    artefact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Image.fromarray(sample_pixels()[:90, :120]).save(tmp_path / "in.png")
    args = [str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--model", str(artefact), "--json", "--overwrite"]
    assert run(command, args) == 0
    assert '"exact": true' in capsys.readouterr().out
    assert run(command, [*args, "--tile", "16"]) == 0
    assert '"exact": false' in capsys.readouterr().out

"""``lkdn-upscale`` by its command line: networks from checkpoints, and those of the zoo by their names."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lkdn_deploy.cli.upscale as cli
from lkdn_deploy.cli._shell import run
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.imaging.files.read import read_picture
from lkdn_deploy.samples import sample_pixels
from lkdn_models.download import local
from lkdn_models.zoo import find

RGB = Image.fromarray(sample_pixels()[60:90, 90:124])


def test_a_checkpoint_is_converted_once_and_then_found(
    tmp_path: Path,
    random_checkpoint: Callable[[LkdnSpec], Path],
    random_artefact: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    RGB.save(tmp_path / "in.png")
    args = [str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--overwrite"]
    weights = ["--weights", str(random_checkpoint(LkdnSpec(3, 1, 4, 4)))]
    assert run(cli.command, [*args, *weights]) == 0
    assert "converting" in capsys.readouterr().err
    assert read_picture(tmp_path / "out.png").width == 3 * RGB.width
    assert run(cli.command, [*args, *weights]) == 0
    assert "converting" not in capsys.readouterr().err
    assert run(cli.command, [*args, *weights, "--scale", "4"]) == 2
    assert run(cli.command, [*args, *weights, "--model", "lkdn"]) == 2
    assert "lkdn x3 was asked for, but" in capsys.readouterr().err
    (artefact,) = (tmp_path / "cache" / "lkdn-deploy" / "converted").glob("*.onnx")
    other = random_artefact("one block").read_bytes()
    for content in (b"damaged", other):  # anyone may have written there
        artefact.write_bytes(content)
        assert run(cli.command, [*args, *weights]) == 0
        assert "converting" in capsys.readouterr().err
        assert read_picture(tmp_path / "out.png").width == 3 * RGB.width
    assert run(cli.command, [args[0], args[1], "--weights", "gone.pth"]) == 2  # before the weights are looked at
    assert "exists" in capsys.readouterr().err


class Hostile:
    """Runs a command when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, tuple[str]]:
        return os.system, (f"touch {self.path}",)


def test_a_pickle_that_runs_code_is_refused_as_weights(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lkdn_deploy.cli.export import command as export

    proof, weights = tmp_path / "it-ran", tmp_path / "w.pth"
    torch.save({"params": Hostile(proof)}, weights)
    RGB.save(tmp_path / "in.png")
    assert run(cli.command, [str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--weights", str(weights)]) == 1
    assert "could run code" in capsys.readouterr().err
    assert run(export, ["--onnx", "--weights", str(weights), "-o", str(tmp_path / "out")]) == 1
    assert "could run code" in capsys.readouterr().err
    assert not proof.exists()
    assert sorted(path.name for path in tmp_path.iterdir()) in (["in.png", "w.pth"], ["in.png", "out", "w.pth"])


def test_an_unusable_cache_folder_is_said_with_the_cure(
    tmp_path: Path,
    random_checkpoint: Callable[[LkdnSpec], Path],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    RGB.save(tmp_path / "in.png")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "in.png"))
    weights = str(random_checkpoint(LkdnSpec(2, 1, 4, 4)))
    assert run(cli.command, [str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--weights", weights]) == 1
    assert "set XDG_CACHE_HOME" in capsys.readouterr().err


@pytest.mark.long
def test_a_network_of_the_zoo_runs_by_its_name_once_its_weights_are_there(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    source, target = tmp_path / "in.png", tmp_path / "out.png"
    RGB.save(source)
    args = [str(source), str(target), "--model", "bsrn-s"]
    assert run(cli.command, args) == 3
    assert "lkdn-zoo get bsrn-s --scale 4" in capsys.readouterr().err
    assert not target.exists()
    weights = find("bsrn-s", 4).weights
    place = local(weights)
    place.parent.mkdir(parents=True)
    shutil.copy(data / "weights" / "BSRN" / weights.file_name, place)
    assert run(cli.command, args) == 0
    said = capsys.readouterr()
    assert said.out == f"{target}\n"
    assert "with bsrn-s x4" in said.err
    with Image.open(target) as image:
        large = np.asarray(image).astype(int)
    bicubic = np.asarray(RGB.resize((4 * RGB.width, 4 * RGB.height), Image.Resampling.BICUBIC))
    assert large.shape == bicubic.shape
    assert np.abs(large - bicubic).mean() < 6


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--model", "bsrn-s", "--scale", "2"], 2, "bsrn-s has no x2"),
        (["--model", "drrn"], 3, "were published"),
        (["--model", "edsr"], 2, "edsr"),
    ],
)
def test_a_network_that_cannot_be_had_is_named_with_the_way_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], args: list[str], code: int, said: str
) -> None:
    RGB.save(tmp_path / "in.png")
    assert run(cli.command, [str(tmp_path / "in.png"), str(tmp_path / "out.png"), *args]) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()

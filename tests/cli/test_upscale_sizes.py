"""Sizes of results, the self-ensemble and textures by the command line."""

import json
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import lkdn_deploy.cli.upscale as cli
from lkdn_deploy import load
from lkdn_deploy.cli._shell import run
from lkdn_deploy.imaging.files.read import read_picture
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.samples import sample_pixels

PHOTOGRAPH = sample_pixels()[60:84, 90:120]


@pytest.fixture
def upscale(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Any]:
    """Run the command in the test's folder; give the exit code, stdout as JSON lines, and stderr."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(PHOTOGRAPH).save("in.png")

    def call(*args: str) -> tuple[int, list[dict[str, Any]], str]:
        code = run(cli.command, [*args, "--json"])
        said = capsys.readouterr()
        return code, [json.loads(line) for line in said.out.splitlines()], said.err

    return call


@pytest.mark.parametrize(
    ("options", "size", "scale"),
    [
        (["--scale", "1.5"], (45, 36), 2),
        (["--scale", "7/3"], (70, 56), 3),
        (["--width", "61"], (61, 49), 3),
        (["--height", "96"], (120, 96), 4),
        (["--fit", "60x100"], (60, 48), 2),
        (["--scale", "1.5", "--model", str(bundled()["lkdn-s", 4])], (45, 36), 4),
    ],
)
def test_the_smallest_network_that_serves_is_reduced_to_the_size(
    upscale: Callable[..., Any], options: list[str], size: tuple[int, int], scale: int
) -> None:
    code, (line,), err = upscale("in.png", "out.png", *options)
    assert code == 0, err
    assert (line["width"], line["height"], line["scale"]) == (*size, scale)
    with Image.open("out.png") as image:
        assert image.size == size
    assert f"30x24 -> {size[0]}x{size[1]} with lkdn-s x{scale}" in err


def test_each_picture_of_a_folder_gets_its_own_network_and_failures_do_not_stop_it(
    upscale: Callable[..., Any], tmp_path: Path
) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for width in (20, 30, 40, 100, 10):
        Image.fromarray(PHOTOGRAPH).resize((width, 10)).save(folder / f"{width:03}.png")
    code, lines, err = upscale("in", "out", "--fit", "60x60")
    assert code == 1
    assert [(line["input"][-7:-4], line["status"], line.get("scale")) for line in lines] == [
        ("010", "failed", None),
        ("020", "done", 3),
        ("030", "done", 2),
        ("040", "done", 2),
        ("100", "failed", None),
    ]
    assert "100x10 pixels cannot get the size 'fit 60x60': that would be 0.6 times its size" in err
    assert "10x10 pixels cannot get the size 'fit 60x60': that would be 6 times its size" in err
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"020.png", "030.png", "040.png"}
    expected = load(scale=Fraction(3, 2))(read_picture(folder / "040.png").pixels)
    assert np.array_equal(read_picture(tmp_path / "out" / "040.png").pixels, expected)
    # Other settings are other results.
    code, lines, _ = upscale("in", "out", "--fit", "60x60", "--resume")
    assert [line["status"] for line in lines] == ["failed", "skipped", "skipped", "skipped", "failed"]
    code, lines, _ = upscale("in", "out", "--fit", "60x60", "--resume", "--wrap")
    assert [line["status"] for line in lines] == ["failed", "done", "done", "done", "failed"]


def test_names_have_the_scale_that_was_asked_for(upscale: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    code, (line,), _ = upscale("in.png", "out", "--scale", "1.5", "--name", "{stem}_x{scale}{ext}")
    assert (code, line["output"]) == (0, "out/in_x1.5.png")
    code, lines, err = upscale("in.png", "out", "--width", "60", "--name", "{stem}_x{scale}{ext}")
    assert (code, lines) == (2, [])
    assert "{scale} in --name is another one for each picture, as the size is 'width 60'" in err


def test_sizes_in_exif_and_limits_of_formats_are_those_of_the_result(upscale: Callable[..., Any]) -> None:
    exif = Image.Exif()
    exif[0x0100], exif[0x0101] = 30, 24
    exif.get_ifd(0x8769)[0xA002] = 30
    Image.fromarray(PHOTOGRAPH).save("exif.jpg", exif=exif)
    assert upscale("exif.jpg", "exif.png", "--scale", "1.5")[0] == 0
    with Image.open("exif.png") as image:
        found = image.getexif()
        assert (found[0x0100], found[0x0101], found.get_ifd(0x8769)[0xA002]) == (45, 36, 45)
    Image.new("L", (8000, 3)).save("wide.png")
    assert upscale("wide.png", "wide.webp", "--width", "16000", "--quality", "50")[0] == 0
    code, _, err = upscale("wide.png", "wider.webp", "--width", "16384")
    assert code == 2
    assert "would be 16384×6; WebP files hold at most 16383 pixels a side" in err


def test_the_ensemble_and_the_texture_are_those_of_python(upscale: Callable[..., Any]) -> None:
    for option, name in (("--self-ensemble", "self_ensemble"), ("--wrap", "wrap")):
        assert upscale("in.png", f"{name}.png", "--scale", "2", option)[0] == 0
        expected = load(scale=2, **{name: True})(PHOTOGRAPH)  # type: ignore[arg-type]
        assert np.array_equal(read_picture(f"{name}.png").pixels, expected)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--scale", "1"], "expected a scale above 1 and at most 4, such as 2, 1.5 or 4/3, got '1'"),
        (["--scale", "1e9999999"], "expected a scale above 1"),
        (["--scale", "2", "--width", "60"], "one of scale, width, height and fit chooses the size of results"),
        (["--width", "29"], "30x24 pixels cannot get the size 'width 29'"),
        (["--fit", "500x500"], "that would be 16.67 times its size, and results are 1 to 4 times"),
        (["--fit", "500"], "expected WIDTHxHEIGHT"),
        (["--scale", "3.5", "--model", str(bundled()["lkdn-s", 3])], "x4 or more is needed, but"),
    ],
)
def test_sizes_that_cannot_be_had_are_refused(
    upscale: Callable[..., Any], tmp_path: Path, options: list[str], said: str
) -> None:
    code, _, err = upscale("in.png", "out.png", *options)
    assert code == 2
    assert said in err
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]

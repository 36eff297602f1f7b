"""``lkdn-upscale`` by its command line, on files of every kind."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import lkdn_deploy.cli.upscale as cli
from lkdn_deploy.cli._shell import run
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.files.read import read_picture
from lkdn_deploy.imaging.files.write import write_picture
from lkdn_deploy.samples import sample_pixels

PHOTOGRAPH = sample_pixels()[60:90, 90:124]
DISC = (np.hypot(*np.mgrid[-15:15, -17:17]) < 11).astype(np.uint8) * 255


def saved(image: Image.Image, path: Path, **options: Any) -> Path:
    image.save(path, **options)
    return path


RGB = Image.fromarray(PHOTOGRAPH)
RGBA = Image.fromarray(np.dstack([PHOTOGRAPH, DISC]))


def palette_with_transparency(path: Path) -> Path:
    return saved(RGB.quantize(16), path, transparency=0)


def sixteen(channels: int) -> Callable[[Path], Path]:
    def write(path: Path) -> Path:
        pixels = np.dstack([PHOTOGRAPH, DISC])[:, :, {1: [0], 2: [0, 3], 3: [0, 1, 2], 4: [0, 1, 2, 3]}[channels]]
        write_picture(path, Picture(pixels.astype(np.uint16) * 257))
        return path

    return write


# Made how, under which suffix; read back by Pillow as which mode (None: 16 bits, which Pillow does not tell).
KINDS: dict[str, tuple[str, Callable[[Path], Path], str | None, str]] = {
    "RGB": (".png", lambda path: saved(RGB, path), "RGB", ".png"),
    "RGBA": (".png", lambda path: saved(RGBA, path), "RGBA", ".png"),
    "L": (".png", lambda path: saved(RGB.convert("L"), path), "L", ".png"),
    "LA": (".png", lambda path: saved(RGBA.convert("LA"), path), "LA", ".png"),
    "palette": (".png", lambda path: saved(RGB.quantize(16), path), "RGB", ".png"),
    "palette with transparency": (".png", palette_with_transparency, "RGBA", ".png"),
    "1 bit": (".png", lambda path: saved(RGB.convert("1"), path), "L", ".png"),
    "16-bit grey": (".png", sixteen(1), "I;16", ".png"),
    "16-bit grey and alpha": (".png", sixteen(2), None, ".png"),
    "16-bit RGB": (".png", sixteen(3), None, ".png"),
    "16-bit RGBA": (".tif", sixteen(4), None, ".tif"),
    "CMYK": (".jpg", lambda path: saved(RGB.convert("CMYK"), path), "RGB", ".jpg"),
    "JPEG to WebP": (".jpg", lambda path: saved(RGB, path), "RGB", ".webp"),
    "WebP to TIFF": (".webp", lambda path: saved(RGBA, path, lossless=True), "RGBA", ".tiff"),
    "TIFF to BMP": (".tif", lambda path: saved(RGB, path), "RGB", ".bmp"),
    "BMP to JPEG": (".bmp", lambda path: saved(RGB, path), "RGB", ".jpeg"),
    "grey JPEG": (".jpg", lambda path: saved(RGB.convert("L"), path), "L", ".jpg"),
}


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_image_comes_out_twice_the_size(
    kind: str, tmp_path: Path, upscale: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    suffix, make, mode, target_suffix = KINDS[kind]
    source, target = make(tmp_path / f"in{suffix}"), tmp_path / f"out{target_suffix}"
    assert upscale(source, target) == 0, capsys.readouterr().err
    said = capsys.readouterr()
    assert said.out == f"{target}\n"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([source.name, target.name])
    before, after = read_picture(source), read_picture(target)
    assert after.pixels.shape == (60, 68, before.channels)
    assert after.depth == before.depth
    if mode is not None:
        with Image.open(target) as image:
            assert image.mode == mode
    if kind == "CMYK":
        assert "note: " in said.err
        assert "CMYK" in said.err


@pytest.fixture(scope="module")
def blur(random_artefact: Callable[[str], Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An artefact whose result is a picture: its network sees each pixel's neighbours, and adds up to the image."""
    from lkdn_deploy.export.job import ExportSettings, export_onnx
    from lkdn_models.checkpoint import load_checkpoint, save_checkpoint
    from lkdn_models.nets.lkdn import LKDN

    spec = LkdnSpec(2, 1, 4, 4, input_copies=1)
    network = LKDN(spec)
    folder = tmp_path_factory.mktemp("blur")
    with torch.no_grad():
        for value in network.parameters():
            value.zero_()
        network.fea_conv.pw.weight[:3] = torch.eye(3)[:, :, None, None]
        network.fea_conv.dw.weight[:] = 1 / 9
        for channel in range(3):
            network.upsampler[0].weight[4 * channel : 4 * channel + 4, channel] = 1 / 9  # type: ignore[index]
    save_checkpoint(folder / "blur.safetensors", spec, network.state_dict())
    return export_onnx(load_checkpoint(folder / "blur.safetensors"), folder / "blur.onnx", ExportSettings()).path


def test_colour_under_transparent_pixels_does_not_bleed(tmp_path: Path, blur: Path) -> None:
    """A red disc on transparent green, through a network that mixes neighbours, stays red all over."""
    image = np.zeros((40, 40, 4), np.uint8)
    image[:, :] = [0, 255, 0, 0]
    image[np.hypot(*np.mgrid[-20:20, -20:20]) < 12] = [255, 0, 0, 255]
    Image.fromarray(image).save(tmp_path / "in.png")
    assert run(cli.command, [str(tmp_path / "in.png"), str(tmp_path / "out.png"), "--model", str(blur)]) == 0
    large = read_picture(tmp_path / "out.png").pixels
    visible = large[:, :, 3] > 0
    assert 0.2 < visible.mean() < 0.5
    assert large[visible][:, 1].max() == 0
    assert large[20:60, 20:60, 0].min() > 200


def test_orientation_profile_and_exif_are_kept(tmp_path: Path, upscale: Callable[..., int]) -> None:
    from PIL import ImageCms

    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "Acme"
    RGB.save(tmp_path / "in.jpg", icc_profile=profile, exif=exif)
    assert upscale(tmp_path / "in.jpg", tmp_path / "out.jpg") == 0
    with Image.open(tmp_path / "out.jpg") as image:
        assert image.size == (2 * RGB.height, 2 * RGB.width)
        assert image.info["icc_profile"] == profile
        assert image.getexif().get(0x0112, 1) == 1
        assert image.getexif()[0x010F] == "Acme"


def test_sixteen_bits_come_from_the_file_and_not_from_its_content(tmp_path: Path, upscale: Callable[..., int]) -> None:
    write_picture(tmp_path / "dark.png", Picture(np.full((8, 8, 3), 200, np.uint16)))
    assert upscale(tmp_path / "dark.png", tmp_path / "out.png") == 0
    assert read_picture(tmp_path / "out.png").depth == 16


def truncated(path: Path) -> None:
    RGB.save(path)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


# What IN is; where OUT is; exit code; what is said.
BAD: dict[str, tuple[Callable[[Path], object], str, int, str]] = {
    "truncated PNG": (truncated, "out.png", 1, "image file is truncated"),
    "empty file": (lambda path: path.write_bytes(b""), "out.png", 1, "in.png is empty"),
    "text renamed": (lambda path: path.write_text("hello there"), "out.png", 1, "in.png is not an image"),
    "folder as input": (lambda path: path.mkdir(), "out.png", 1, "in.png holds no image"),
    "missing": (lambda path: None, "out.png", 1, "in.png does not exist"),
    "too wide for JPEG": (
        lambda path: Image.new("L", (60000, 1)).save(path),
        "out.jpg",
        2,
        "JPEG files hold at most 65500 pixels a side",
    ),
    "too wide for WebP": (lambda path: Image.new("L", (9000, 1)).save(path), "out.webp", 2, "at most 16383"),
    "animated": (
        lambda path: RGB.save(path, save_all=True, append_images=[RGBA.convert("RGB")]),
        "out.png",
        1,
        "animated",
    ),
    "alpha into JPEG": (RGBA.save, "out.jpg", 2, "transparency"),
    "unknown suffix": (RGB.save, "out.xyz", 2, "'.xyz'"),
    "folder of the input as output": (RGB.save, ".", 2, "in.png would replace itself"),
    "no such folder": (RGB.save, "no/where/out.png", 2, "there is no folder"),
    "output that is no folder's": (RGB.save, "in.png/out.png", 2, "there is no folder"),
    "unwritable output": (RGB.save, "/proc/out.png", 1, "/proc/out.png cannot be written"),
    "output that exists": (RGB.save, "in.png", 2, "exists"),
    "name too long": (RGB.save, "n" * 300 + ".png", 1, "File name too long"),
}


@pytest.mark.parametrize("kind", BAD)
def test_what_cannot_be_done_ends_with_one_clear_line_and_no_file(
    kind: str, tmp_path: Path, upscale: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    make, target, code, said = BAD[kind]
    source = tmp_path / "in.png"
    make(source)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()}
    assert upscale(source, tmp_path / target) == code
    err = capsys.readouterr().err
    lines = [line for line in err.splitlines() if not line.startswith("hint: ")]
    assert len(lines) == 1
    assert lines[0].startswith("error: ")
    assert said in lines[0]
    assert {path: path.stat().st_mtime_ns for path in tmp_path.iterdir()} == before


@pytest.mark.parametrize("size", [(1, 1), (60000, 1), (1, 300)])
def test_extreme_shapes_work(tmp_path: Path, upscale: Callable[..., int], size: tuple[int, int]) -> None:
    Image.new("RGB", size, (200, 100, 50)).save(tmp_path / "in.png")
    assert upscale(tmp_path / "in.png", tmp_path / "out.png") == 0
    with Image.open(tmp_path / "out.png") as image:
        assert image.size == (2 * size[0], 2 * size[1])


def test_a_bomb_is_refused_before_any_work(
    tmp_path: Path, upscale: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    Image.new("1", (20000, 20000)).save(tmp_path / "bomb.png")
    assert upscale(tmp_path / "bomb.png", tmp_path / "out.png") == 1
    assert "more than the 178,956,970 pixels that are read" in capsys.readouterr().err


@pytest.mark.parametrize("given", [True, False])
def test_what_does_not_fit_into_memory_is_refused_before_any_work(
    given: bool,
    tmp_path: Path,
    upscale: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import psutil

    RGB.save(tmp_path / "in.png")
    if not given:
        monkeypatch.setattr(psutil, "virtual_memory", lambda: type("memory", (), {"available": 20_000}))
    options = ("--max-memory", "20M") if given else ()
    assert upscale(tmp_path / "in.png", tmp_path / "out.png", *options) == 1
    message = capsys.readouterr().err
    assert re.search(r"in.png: x\d of 34x30 needs [1-9]\d* MiB beside the program, 0 MiB are free", message)
    assert ("(of 20 MiB, " in message) == given
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize("size", ["2", "many", "-1G", "1e3M", "9" * 40 + "G"])
def test_a_limit_of_memory_is_an_amount(
    size: str, tmp_path: Path, upscale: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    assert upscale(tmp_path / "in.png", tmp_path / "out.png", f"--max-memory={size}") == 2
    assert "expected an amount of memory such as 900M or 2G" in capsys.readouterr().err


def test_overwriting_is_possible_when_asked(tmp_path: Path, upscale: Callable[..., int]) -> None:
    RGB.save(tmp_path / "in.png")
    (tmp_path / "out.png").write_bytes(b"old")
    assert upscale(tmp_path / "in.png", tmp_path / "out.png", "--overwrite") == 0
    assert read_picture(tmp_path / "out.png").width == 68


def test_a_file_can_replace_itself_when_asked(tmp_path: Path, upscale: Callable[..., int]) -> None:
    RGB.save(tmp_path / "in.png")
    assert upscale(tmp_path / "in.png", tmp_path / "in.png", "--overwrite") == 0
    assert read_picture(tmp_path / "in.png").width == 68


def test_quality_is_for_lossy_formats(tmp_path: Path, upscale: Callable[..., int]) -> None:
    RGB.save(tmp_path / "in.png")
    assert upscale(tmp_path / "in.png", tmp_path / "low.jpg", "--quality", 20) == 0
    assert upscale(tmp_path / "in.png", tmp_path / "high.jpg", "--quality", 99) == 0
    assert (tmp_path / "low.jpg").stat().st_size < (tmp_path / "high.jpg").stat().st_size / 2
    assert upscale(tmp_path / "in.png", tmp_path / "out.png", "--quality", 50) == 2


def test_json_says_what_was_done(
    tmp_path: Path, upscale: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    RGB.save(tmp_path / "in.png")
    assert upscale(tmp_path / "in.png", tmp_path / "out.png", "--json", "--tile", 16, "--threads", 1) == 0
    result = json.loads(capsys.readouterr().out)
    expected = {"width": 68, "height": 60, "channels": 3, "depth": 8, "scale": 2, "tiles": 1, "backend": "native-cpu"}
    assert expected.items() <= result.items()


def test_tiles_do_not_show(tmp_path: Path, upscale: Callable[..., int]) -> None:
    Image.fromarray(sample_pixels()).save(tmp_path / "in.png")
    assert upscale(tmp_path / "in.png", tmp_path / "whole.png") == 0
    assert upscale(tmp_path / "in.png", tmp_path / "tiled.png", "--tile", 40) == 0
    whole, tiled = (read_picture(tmp_path / name).pixels.astype(int) for name in ("whole.png", "tiled.png"))
    assert np.abs(whole - tiled).max() <= 1


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["--scale", "3"], 2, "x3 or more is needed"),
        (["--scale", "9"], 2, "--scale"),
        (["--tile", "0"], 2, "--tile"),
        (["--backend", "ort-cuda"], 3, "CUDAExecutionProvider"),
        (["--backend", "tpu"], 2, "--backend"),
    ],
)
def test_wrong_options_end_with_their_code(
    tmp_path: Path,
    upscale: Callable[..., int],
    capsys: pytest.CaptureFixture[str],
    args: list[str],
    code: int,
    said: str,
) -> None:
    RGB.save(tmp_path / "in.png")
    assert upscale(tmp_path / "in.png", tmp_path / "out.png", *args) == code
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out.png").exists()


def folder_of_images(folder: Path) -> dict[str, Path]:
    """A few that can be upscaled, of several kinds, and one that cannot."""
    folder.mkdir()
    return {
        "rgb": saved(RGB, folder / "a.png"),
        "jpeg": saved(RGB, folder / "b.JPG"),
        "bad": saved(RGB, folder / "c.png", save_all=True, append_images=[RGBA.convert("RGB")]),
        "alpha": saved(RGBA, folder / "d.webp", lossless=True),
    }


def test_a_folder_goes_into_a_folder_and_one_bad_file_does_not_spoil_it(
    tmp_path: Path, upscale: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    folder_of_images(tmp_path / "in")
    (tmp_path / "out").mkdir()
    (tmp_path / "in" / "notes.txt").touch()
    assert upscale(tmp_path / "in", tmp_path / "out", "--quality", 30) == 1
    said = capsys.readouterr()
    done = [tmp_path / "out" / name for name in ("a.png", "b.JPG", "d.webp")]
    assert said.out.splitlines() == [str(path) for path in done]
    errors = [line for line in said.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 2
    assert "note: left out of the input folders: 1 .txt" in said.err.splitlines()
    assert f"{tmp_path / 'in' / 'c.png'}: the file is animated" in errors[0]
    assert errors[1] == "error: 1 of 4 images could not be upscaled"
    assert sorted((tmp_path / "out").iterdir()) == [tmp_path / "out" / ".lkdn-upscale.jsonl", *done]
    assert [read_picture(path).pixels.shape for path in done] == [(60, 68, 3), (60, 68, 3), (60, 68, 4)]
    one = tmp_path / "one.png"
    assert upscale(tmp_path / "in" / "a.png", one) == 0
    assert one.read_bytes() == done[0].read_bytes()


def test_several_files_go_into_a_folder_with_a_line_of_json_each(
    tmp_path: Path, upscale: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    files = folder_of_images(tmp_path / "in")
    other = saved(RGB, tmp_path / "e.gif")
    (tmp_path / "out").mkdir()
    assert upscale(files["alpha"], files["rgb"], other, tmp_path / "out", "--json") == 0
    results = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [Path(result["input"]) for result in results] == [files["alpha"], files["rgb"], other]
    assert [Path(result["output"]).name for result in results] == ["d.webp", "a.png", "e.png"]
    assert all((result["width"], result["height"]) == (68, 60) for result in results)


def test_several_files_need_a_folder_and_names_of_their_own(
    tmp_path: Path, upscale: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    files = folder_of_images(tmp_path / "in")
    (tmp_path / "out").write_bytes(b"a file")
    assert upscale(files["rgb"], files["jpeg"], tmp_path / "out") == 2
    assert "out is a file, and no folder" in capsys.readouterr().err
    assert (tmp_path / "out").read_bytes() == b"a file"
    (tmp_path / "out").unlink()
    (tmp_path / "out").mkdir()
    twin = saved(RGB, tmp_path / "a.png")
    assert upscale(files["rgb"], twin, tmp_path / "out") == 2
    assert f"{files['rgb']} and {twin} would both become" in capsys.readouterr().err
    (tmp_path / "empty").mkdir()
    assert upscale(tmp_path / "empty", tmp_path / "out") == 1
    assert "holds no image" in capsys.readouterr().err
    assert not list((tmp_path / "out").iterdir())


def test_a_missing_folder_is_created_and_a_single_file_goes_into_a_folder_that_exists(
    tmp_path: Path, upscale: Callable[..., int]
) -> None:
    (tmp_path / "in").mkdir()
    source = saved(RGB, tmp_path / "in" / "a.png")
    assert upscale(tmp_path / "in", tmp_path / "new" / "out") == 0
    assert upscale(source, source, tmp_path / "two") == 0  # one file, named twice
    (tmp_path / "there").mkdir()
    assert upscale(source, tmp_path / "there") == 0
    assert upscale(source, f"{tmp_path}/named/as one/") == 0
    results = [tmp_path / name / "a.png" for name in ("new/out", "two", "there", "named/as one")]
    assert len({path.read_bytes() for path in results}) == 1


def test_a_file_that_fails_has_its_line_of_json(
    tmp_path: Path, upscale: Callable[..., int], capsys: pytest.CaptureFixture[str]
) -> None:
    source = saved(RGB, tmp_path / "a.png")
    (tmp_path / "b.png").write_bytes(b"no picture")
    assert upscale(source, tmp_path / "b.png", tmp_path / "out", "--json") == 1
    good, bad = map(json.loads, capsys.readouterr().out.splitlines())
    assert (good["output"], "error" in good) == (str(tmp_path / "out" / "a.png"), False)
    assert bad["input"] == str(tmp_path / "b.png")
    assert "not an image" in bad["error"]
    assert bad["hint"]
    assert upscale(tmp_path / "no.png", tmp_path / "large.png", "--json") == 1
    only = json.loads(capsys.readouterr().out)
    assert (only["status"], only["error"]) == ("failed", f"{tmp_path / 'no.png'} does not exist")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems refuse such names")
def test_names_are_printed_as_they_are_to_programs_and_without_control_characters_elsewhere(tmp_path: Path) -> None:
    for name in (b"\xff.png", b"red\x1b[31m.png"):
        source, target = (tmp_path / os.fsdecode(prefix + name) for prefix in (b"in", b"out"))
        RGB.save(source)
        code = "from lkdn_deploy.cli.upscale import main; main()"
        done = subprocess.run([sys.executable, "-c", code, source, target], capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        assert done.stdout == os.fsencode(target) + b"\n"
        assert b"\x1b" not in done.stderr


def test_files_of_a_folder_that_exist_are_left_unless_asked(tmp_path: Path, upscale: Callable[..., int]) -> None:
    (tmp_path / "in").mkdir()
    saved(RGB, tmp_path / "in" / "a.png")
    saved(RGB, tmp_path / "in" / "b.png")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.png").write_bytes(b"old")
    assert upscale(tmp_path / "in", tmp_path / "out") == 1
    assert (tmp_path / "out" / "b.png").read_bytes() == b"old"
    assert upscale(tmp_path / "in", tmp_path / "out", "--overwrite") == 0
    assert read_picture(tmp_path / "out" / "b.png").width == 68


def test_an_engine_that_fails_half_way_leaves_no_file(
    tmp_path: Path, upscale: Callable[..., int], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from lkdn_deploy.backends.native.session import NativeSession

    working, done = NativeSession.fill, []

    def fail_later(self: NativeSession, *args: Any) -> None:
        if done:
            msg = "the engine stopped"
            raise InputError(msg)
        working(self, *args)
        done.append(args)

    monkeypatch.setattr(NativeSession, "fill", fail_later)
    Image.fromarray(sample_pixels()).save(tmp_path / "in.png")
    assert upscale(tmp_path / "in.png", tmp_path / "out.png", "--tile", 40) == 1
    assert "the engine stopped" in capsys.readouterr().err
    assert len(done) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["in.png"]

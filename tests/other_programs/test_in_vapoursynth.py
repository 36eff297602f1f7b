"""Clips of VapourSynth against direct upscaling; ``test_vapoursynth.py`` runs this in an environment that has it."""

import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("vapoursynth", reason="VapourSynth is not installed; its package needs Python 3.12")

import vapoursynth as vs
from clips import clip_of, pixels

from lkdn_deploy import load
from lkdn_deploy.imaging.pixels import full_scale
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.samples import sample_pixels
from lkdn_deploy.vapoursynth import upscale

TYPES = {"RGBS": np.float32, "RGBH": np.float16, "RGB24": np.uint8, "RGB48": np.uint16}


def photographs(kind: str, count: int = 2, height: int = 30, width: int = 43) -> list[Any]:
    """Parts of a photograph in the type of a format."""
    dtype = np.dtype(TYPES[kind])
    parts = (sample_pixels()[7 * it : 7 * it + height, 20 : 20 + width] for it in range(count))
    return [(it / 255 * full_scale(dtype)).astype(dtype) for it in parts]


@pytest.mark.parametrize("kind", TYPES)
@pytest.mark.parametrize("scale", [2, 1.5])
def test_frames_are_those_of_direct_upscaling(kind: str, scale: float) -> None:
    frames = photographs(kind)
    clip = upscale(clip_of(frames, getattr(vs, kind)), scale=scale)
    assert clip.format.name == kind
    direct = load(scale=scale)
    for frame, found in zip(frames, clip.frames(), strict=True):
        floats = frame.dtype == np.float16
        expected = direct(frame.astype(np.float32) if floats else frame).astype(frame.dtype)
        assert np.array_equal(pixels(found), expected)


def test_frames_asked_for_at_once_are_each_its_own() -> None:
    frames = photographs("RGB24", 12)
    clip = upscale(clip_of(frames, vs.RGB24), scale=2)
    both = vs.core.std.StackVertical([clip, clip[::-1]])
    direct = load(scale=2)
    expected = [direct(frame) for frame in frames]
    requests = [both.get_frame_async(number) for number in [*range(12), *range(11, -1, -1)]]
    for number, request in zip([*range(12), *range(11, -1, -1)], requests, strict=True):
        stacked = np.concatenate([expected[number], expected[11 - number]])
        assert np.array_equal(pixels(request.result()), stacked)


def test_properties_are_kept_and_those_of_yuv_are_not() -> None:
    kept = {"_Transfer": 1, "_Primaries": 1, "_Range": 1, "_SARNum": 8, "_SARDen": 9, "note": "text", "many": [1, 2, 3]}
    clip = clip_of(photographs("RGBS", 3), vs.RGBS, _Matrix=1, _ChromaLocation=2, **kept)
    large = upscale(clip, scale=2)
    assert (large.width, large.height, large.num_frames, large.fps) == (86, 60, 3, clip.fps)
    expected = {**clip.get_frame(1).props, "_Matrix": 0}
    del expected["_ChromaLocation"]
    assert dict(large.get_frame(1).props) == expected
    back = large.resize.Bicubic(format=vs.YUV420P10, matrix_s="709").get_frame(0)
    assert (back.props["_Matrix"], back.props["_Transfer"]) == (1, 1)


@pytest.mark.parametrize("kind", ["GRAY8", "GRAYS"])
def test_alpha_is_upscaled_as_that_of_a_picture(kind: str) -> None:
    (frame,) = photographs("RGB24", 1)
    alpha = np.where(np.hypot(*(np.mgrid[:30, :43] - [[[15]], [[20]]])) < 9, 0, 255).astype(np.uint8)
    mask = vs.core.std.BlankClip(format=getattr(vs, kind), width=43, height=30, length=1)

    def filled(n: int, f: Any) -> Any:
        target = f.copy()
        np.asarray(target[0])[:] = alpha / (255 if kind == "GRAYS" else 1)
        return target

    clip = clip_of([frame], vs.RGB24).std.ClipToProp(mask.std.ModifyFrame(mask, filled))
    found = upscale(clip, scale=2).get_frame(0)
    expected = load(scale=2)(np.dstack([frame, alpha]))
    assert np.array_equal(pixels(found), expected[:, :, :3])
    large = found.props["_Alpha"]
    assert large.format.name.upper() == kind
    assert np.array_equal(np.rint(pixels(large) * (255 if kind == "GRAYS" else 1)), expected[:, :, 3:])


def test_values_outside_the_range_are_clipped() -> None:
    (frame,) = photographs("RGBS", 1)
    found = upscale(clip_of([1.5 * frame - 0.2], vs.RGBS), scale=2).get_frame(0)
    assert np.array_equal(pixels(found), load(scale=2)(np.clip(np.float32(1.5) * frame - np.float32(0.2), 0, 1)))


BLANK = {"width": 40, "height": 30, "length": 1}


@pytest.mark.parametrize(
    ("blank", "options", "message"),
    [
        ({"format": "YUV420P8"}, {}, r"expected a clip of RGBS, RGBH, RGB24 or RGB48, got YUV420P8 \(convert it first"),
        ({"format": "RGB30"}, {}, "got RGB30"),
        ({"format": "RGBS", "varsize": True}, {}, "of one format and size"),
        ({"format": "RGBS", "varformat": True}, {}, "of one format and size"),
        ({"format": "RGBS"}, {"scale": 9}, "at most 4"),
        ({"format": "RGBS"}, {"model": "nothing"}, "nothing"),
        ({"format": "RGBS"}, {"fit": (20, 20)}, "20"),
        ({"format": "RGBS"}, {"backend": "abacus"}, "abacus"),
    ],
)
def test_what_cannot_be_upscaled_is_refused(blank: dict[str, Any], options: dict[str, Any], message: str) -> None:
    clip = vs.core.std.BlankClip(**BLANK | blank | {"format": getattr(vs, blank["format"])})
    with pytest.raises(vs.Error, match=rf"^lkdn-deploy: .*{message}"):
        upscale(clip, **options)


def test_what_is_no_clip_is_refused() -> None:
    with pytest.raises(vs.Error, match="expected a clip of pictures, got str"):
        upscale("film.mkv")


def test_frames_that_cannot_be_upscaled_do_not_hinder_others() -> None:
    frames = photographs("RGBS", 3)
    frames[1][5, 5, 1] = np.nan
    clip = upscale(clip_of(frames, vs.RGBS), scale=2)
    with pytest.raises(vs.Error, match="NaN or infinite"):
        clip.get_frame(1)
    assert np.array_equal(pixels(clip.get_frame(2)), load(scale=2)(frames[2]))
    interlaced = upscale(clip_of(frames, vs.RGBS).std.SetFieldBased(2), scale=2)
    with pytest.raises(vs.Error, match="frame 0 is interlaced"):
        interlaced.get_frame(0)


def in_tiles(clip: Any, path: Path, **options: Any) -> Any:
    return pixels(vs.core.ort.Model(clip, network_path=str(path), provider="CPU", **options).get_frame(0))


def test_our_files_in_mlrt() -> None:
    """vs-mlrt counts the overlap in pixels of the picture, but cuts as many off each tile's result."""
    if not hasattr(vs.core, "ort"):
        pytest.skip("vapoursynth-mlrt-ort is not installed")
    frame = np.tile(sample_pixels(), (1, 4, 1))[:64, :560].astype(np.float32) / 255
    clip, path = clip_of([frame], vs.RGBS), bundled()["lkdn-s", 4]
    whole = in_tiles(clip, path)
    assert np.abs(np.clip(whole, 0, 1) - load("lkdn-s", 4)(frame)).max() < 1e-5
    exact, too_narrow = (
        np.abs(in_tiles(clip, path, tilesize=[overlap * 2 + 52, 64], overlap=[overlap, 0]) - whole).max()
        for overlap in (4 * 63, 63)
    )
    assert exact < 1e-5 < too_narrow


FILM = """
import sys, vapoursynth as vs
from lkdn_deploy.vapoursynth import upscale
film = vs.core.std.BlankClip(format=vs.YUV420P8, width=64, height=48, length=5, color=[100, 90, 160])
large = upscale(film.resize.Bicubic(format=vs.RGBS, matrix_in_s="709"), scale=2)
large.resize.Bicubic(format=vs.YUV420P8, matrix_s="709").output(sys.stdout, y4m=True)
"""


def test_mpv_plays_what_comes_out(tmp_path: Path) -> None:
    mpv = shutil.which("mpv")
    if mpv is None:
        pytest.skip("mpv is not installed")
    film = subprocess.run([sys.executable, "-c", FILM], capture_output=True, check=True).stdout
    words = [mpv, "--no-config", "--ao=null", "--vo=image", "--vo-image-format=png", f"--vo-image-outdir={tmp_path}"]
    subprocess.run([*words, "-"], input=film, capture_output=True, check=True)
    from PIL import Image

    shown = sorted(tmp_path.glob("*.png"))
    assert len(shown) == 5
    with Image.open(shown[0]) as picture:
        assert picture.size == (128, 96)

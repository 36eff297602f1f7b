"""The content of a film is in its result: tracks, times, colours, light, shape of pixels."""

import io
import json
import shutil
import subprocess
import sys
from dataclasses import replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from film_maker import CHAPTERS, MASTERING, Doubler, Recipe, make_film
from PIL import Image

from lkdn_deploy import Upscaler
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.video.colours import hdr10_of
from lkdn_deploy.video.frames import upscale_frames
from lkdn_deploy.video.rendering import FilmSettings, Rendered, begin_film, render

TIMES = [0, 40, 80, 125, 160, 300, 310, 400, 480, 520, 600, 700, 900, 1100, 1500, 1900]  # milliseconds
FULL = Recipe(
    times=TIMES,
    time_base=Fraction(1, 1000),
    aspect=Fraction(4, 3),
    colours=(1, 1, 1, 1),
    sounds=[("aac", "deu"), ("libopus", "eng")],
    subtitles=[("subrip", "deu"), ("ass", "eng")],
    chapters=True,
    attachment=True,
    title="A film",
)
OF_MP4 = replace(FULL, subtitles=[("mov_text", "deu"), ("mov_text", "eng")], attachment=False)
HDR10 = Recipe(
    codec="libx265",
    pixel_format="yuv420p10le",
    colours=(9, 1, 9, 16),
    options={
        "preset": "ultrafast",
        "x265-params": f"log-level=error:hdr10=1:repeat-headers=1:master-display={MASTERING}:max-cll=1000,400",
    },
)


def rendered(source: Path, target: Path, notes: list[str] | None = None, **settings: Any) -> Rendered:
    begun = begin_film(source, target, FilmSettings(**settings))
    if notes is not None:
        notes += begun.notes
    return render(Upscaler(Doubler()), begun, note=(notes or []).append)


def times(path: Path) -> dict[int, list[float]]:
    """The times of all pictures and packets, in seconds, by track."""
    found: dict[int, list[float]] = {}
    with av.open(str(path)) as film:
        for packet in film.demux():
            if packet.pts is not None and packet.stream.type in ("video", "audio", "subtitle"):
                found.setdefault(packet.stream.index, []).append(float(packet.pts * packet.time_base))
    return {index: sorted(values) for index, values in found.items()}


def heard(path: Path) -> list[list[float]]:
    """The times of each track's pictures, packets and texts; the preparation of sound and empty texts left out."""
    with av.open(str(path)) as film:
        tracks: list[list[float]] = [[] for _ in film.streams]
        for packet in film.demux():
            if packet.pts is None or (packet.stream.type == "subtitle" and packet.size < 3):
                continue
            if (packet.pts + packet.duration) * packet.time_base > 0:
                tracks[packet.stream_index].append(float(packet.pts * packet.time_base))
        return [sorted(found) for found, stream in zip(tracks, film.streams, strict=True) if stream.type != "data"]


@pytest.mark.parametrize(
    ("recipe", "source", "target"),
    [(FULL, "film.mkv", "large.mkv"), (FULL, "film.mkv", "large.mp4"), (OF_MP4, "film.mp4", "large.mkv")],
)
def test_all_tracks_and_times_are_kept(tmp_path: Path, recipe: Recipe, source: str, target: str) -> None:
    film, large = make_film(tmp_path / source, recipe), tmp_path / target
    notes: list[str] = []
    done = rendered(film, large, notes, segment=7)
    assert done.frames == len(TIMES)
    changed = source[-3:] != target[-3:]
    assert sum("styles may be lost" in note for note in notes) == (2 if changed else 0)
    assert any("attachment" in note for note in notes) == (recipe.attachment and changed)
    for before, after in zip(heard(film), heard(large), strict=not recipe.attachment):
        assert np.allclose(before, after, rtol=0, atol=0.001), (before, after)
    with av.open(str(large)) as result:
        assert result.metadata["title"] == "A film"
        kinds = [stream.type for stream in result.streams if stream.type != "data"]
        assert (
            kinds
            == ["video", "audio", "audio", "subtitle", "subtitle", *["attachment"] * target.endswith("mkv")][
                : 5 + (recipe.attachment and not changed)
            ]
        )
        assert [stream.language for stream in list(result.streams)[1:5]] == ["deu", "eng", "deu", "eng"]
        named = [stream.metadata.get("title", stream.metadata.get("name")) for stream in list(result.streams)[1:3]]
        assert named == ["track deu", "track eng"]
        assert result.streams[2].disposition & av.stream.Disposition.comment
        unit = [
            (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"]["title"]) for c in result.chapters()
        ]
        assert unit == [(Fraction(a, 1000), Fraction(b, 1000), name) for a, b, name in CHAPTERS]
        assert result.streams.video[0].sample_aspect_ratio == Fraction(4, 3)
        if recipe.attachment and not changed:
            (font,) = result.streams.attachments
            assert (font.name, font.data) == ("font.ttf", b"not really a font" * 100)


@pytest.mark.skipif(shutil.which("ffprobe") is None, reason="ffprobe is not installed")
def test_another_ffmpeg_sees_it_too(tmp_path: Path) -> None:
    film, large = make_film(tmp_path / "film.mkv", FULL), tmp_path / "large.mkv"
    rendered(film, large)
    words = ["ffprobe", "-v", "error", "-of", "json", "-show_streams", "-show_chapters", "-show_format"]
    before, after = (
        json.loads(subprocess.run([*words, str(path)], capture_output=True, check=True).stdout)
        for path in (film, large)
    )
    assert after["chapters"] == before["chapters"]
    assert after["format"]["tags"]["title"] == "A film"
    kept = (
        "codec_name",
        "codec_type",
        "disposition",
        "sample_aspect_ratio",
        "color_space",
        "color_range",
        "start_time",
    )
    for one, other in zip(before["streams"], after["streams"], strict=True):
        assert {key: one.get(key) for key in kept} == {key: other.get(key) for key in kept}
        assert one.get("tags", {}).get("language") == other.get("tags", {}).get("language")


@pytest.mark.parametrize(
    ("colours", "size", "expected"),
    [
        ((5, 1, 5, 6), (32, 24), (5, 1, 5, 6)),
        ((1, 2, 1, 1), (32, 24), (1, 2, 1, 1)),
        ((9, 1, 9, 14), (32, 24), (9, 1, 9, 14)),
        ((2, 0, 2, 2), (32, 24), (6, 1, 6, 6)),
        ((2, 0, 2, 2), (1280, 16), (1, 1, 1, 1)),
    ],
    ids=["601", "709 full", "2020", "untagged SD", "untagged HD"],
)
def test_colours_are_kept_and_named(
    tmp_path: Path, colours: tuple[int, ...], size: tuple[int, int], expected: tuple[int, ...]
) -> None:
    film = make_film(tmp_path / "film.mkv", Recipe(times=range(2), colours=colours, size=size))  # type: ignore[arg-type]
    rendered(film, tmp_path / "large.mkv", crf=1, preset="ultrafast")
    with av.open(str(film)) as before, av.open(str(tmp_path / "large.mkv")) as after:
        one, other = next(before.decode(video=0)), next(after.decode(video=0))
    assert (other.colorspace, other.color_range, other.color_primaries, other.color_trc) == expected
    luma, large = (frame.to_ndarray()[: frame.height].astype(int) for frame in (one, other))
    assert abs(luma.repeat(2, axis=0).repeat(2, axis=1) - large).max() <= 4


@pytest.mark.parametrize(
    ("target", "codec"),
    [("large.mkv", None), ("large.mp4", None), ("large.mp4", "libsvtav1"), ("large.mkv", "libx264")],
)
def test_ten_bits_and_the_light_of_hdr10_are_kept(tmp_path: Path, target: str, codec: str | None) -> None:
    film = make_film(tmp_path / "film.mkv", HDR10)
    rendered(film, tmp_path / target, codec=codec)
    with av.open(str(film)) as before, av.open(str(tmp_path / target)) as after:
        one, other = next(before.decode(video=0)), next(after.decode(video=0))
    assert other.format.name == "yuv420p10le"
    assert (other.colorspace, other.color_range, other.color_primaries, other.color_trc) == (9, 1, 9, 16)
    assert hdr10_of(other).light == hdr10_of(one).light == (1000, 400)
    displays = [hdr10_of(frame).display for frame in (one, other)]
    values = [np.array([*np.ravel(it.points), it.darkest, it.brightest]) for it in displays if it is not None]
    assert np.allclose(*values, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("recipe", [Recipe(), HDR10], ids=["8 bits", "10 bits"])
def test_lossless_results_equal_our_pictures(tmp_path: Path, recipe: Recipe) -> None:
    film = make_film(tmp_path / "film.mkv", recipe)
    rendered(film, tmp_path / "large.mkv", codec="ffv1", segment=4)
    ours = [frame.pixels for frame in upscale_frames(Upscaler(Doubler()), film)]
    assert len(ours) == 10
    assert ours[0].dtype == (np.uint8 if recipe.codec == "libx264" else np.uint16)
    with av.open(str(tmp_path / "large.mkv")) as result:
        kind = "rgb24" if ours[0].dtype == np.uint8 else "rgb48le"
        theirs = [frame.to_ndarray(format=kind) for frame in result.decode(video=0)]
    assert all(np.array_equal(one, other) for one, other in zip(ours, theirs, strict=True))


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
@pytest.mark.parametrize("flip", [False, True])
def test_turned_films_become_upright(tmp_path: Path, turn: int, flip: bool) -> None:
    recipe = Recipe(times=range(2), aspect=Fraction(4, 3), pixel_format="yuv444p")
    plain = make_film(tmp_path / "plain.mp4", recipe)
    turned = make_film(tmp_path / "turned.mp4", replace(recipe, turn=turn, flip=flip))
    (before, _), (after, _) = (list(upscale_frames(Upscaler(Doubler()), path)) for path in (plain, turned))
    expected = np.rot90(before.pixels, turn // 90)
    assert np.array_equal(after.pixels, expected[:, ::-1] if flip else expected)
    rendered(turned, tmp_path / "large.mkv")
    with av.open(str(tmp_path / "large.mkv")) as result:
        frame, track = next(result.decode(video=0)), result.streams.video[0]
        assert (frame.height, frame.width, frame.rotation) == (*after.pixels.shape[:2], 0)
        assert track.sample_aspect_ratio == (Fraction(3, 4) if turn % 180 else Fraction(4, 3))


def test_a_part_begins_at_zero(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mkv", FULL)
    done = rendered(film, tmp_path / "large.mkv", start=0.3, end=1.0)
    assert done.frames == 8
    pictures, sound, *_ = times(tmp_path / "large.mkv").values()
    assert np.allclose(pictures, [(time - 300) / 1000 for time in TIMES if 300 <= time < 1000], atol=0.001)
    assert 0 <= sound[0] < 0.03
    assert 0.65 < sound[-1] < 0.7
    with av.open(str(tmp_path / "large.mkv")) as result:
        assert [float(chapter["end"] * chapter["time_base"]) for chapter in result.chapters()] == [0.6, 0.7]
    with pytest.raises(UsageError, match="lasts"):
        begin_film(film, tmp_path / "other.mkv", FilmSettings(start=100.0))
    with pytest.raises(UsageError, match="must come after"):
        begin_film(film, tmp_path / "other.mkv", FilmSettings(start=1.0, end=0.5))


def test_a_part_is_found_in_films_that_lead_to_any_picture(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.ts", Recipe(times=range(40)))  # one key frame, at the beginning
    assert rendered(film, tmp_path / "large.mkv", start=1.0).frames == 15


def test_a_part_without_pictures_is_an_error_now_and_later(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mkv", Recipe(times=[0, 1, 2, 50]))
    for _ in range(2):
        with pytest.raises(InputError, match="no pictures in the part"):
            rendered(film, tmp_path / "large.mkv", start=0.5, end=1.0, resume=True)
    assert list(tmp_path.iterdir()) == [film]


class Tripler(Doubler):
    """Repeats each pixel twice."""

    metadata = ArtifactMetadata(model="thrice", scale=3, receptive_radius=0, live_channels=12, fused=True)

    def run(self, batch: np.ndarray) -> np.ndarray:
        return batch.repeat(3, axis=2).repeat(3, axis=3)


def test_odd_sizes_are_cropped_with_a_note_or_kept_by_ffv1(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mkv", Recipe(times=range(2), size=(33, 25), pixel_format="yuv444p"))
    notes: list[str] = []
    sizes = []
    for codec in ("libx264", "ffv1"):
        begun = begin_film(film, tmp_path / f"{codec}.mkv", FilmSettings(codec=codec))
        encoding = render(Upscaler(Tripler()), begun, note=notes.append).encoding
        sizes.append((encoding.width, encoding.height))
    assert sizes == [(98, 74), (99, 75)]
    assert len(notes) == 1
    assert "the last column and the last row" in notes[0]


@pytest.mark.parametrize(
    ("target", "settings", "message"),
    [
        ("large.webm", {}, "aac"),
        ("large.avi", {}, ".avi"),
        ("large.mkv", {"codec": "libsvtav1"}, "4/3"),
        ("large.mkv", {"codec": "ffv1", "crf": 3}, "lossless"),
        ("large.mkv", {"crf": 60}, "between 0"),
        ("large.mkv", {"preset": "quick"}, "presets"),
        ("film.mkv", {"overwrite": True}, "replace itself"),
        ("taken.mkv", {}, "already exists"),
    ],
)
def test_what_cannot_be_kept_is_refused_before_work(
    tmp_path: Path, target: str, settings: dict[str, Any], message: str
) -> None:
    film = make_film(tmp_path / "film.mkv", FULL)
    (tmp_path / "taken.mkv").touch()
    session = Doubler()
    with pytest.raises(UsageError, match=message):
        render(Upscaler(session), begin_film(film, tmp_path / target, FilmSettings(**settings)))
    assert session.runs == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["film.mkv", "taken.mkv"]


def test_interlaced_films_are_refused_or_made_whole(tmp_path: Path) -> None:
    recipe = Recipe(size=(64, 64), options={"x264-params": "tff=1", "preset": "ultrafast"})
    film = make_film(tmp_path / "film.mkv", recipe)
    with pytest.raises(UsageError, match="interlaced"):
        begin_film(film, tmp_path / "large.mkv", FilmSettings())
    assert rendered(film, tmp_path / "large.mkv", deinterlace=True).frames == 10
    assert np.allclose(times(tmp_path / "large.mkv")[0], times(film)[0], atol=0.001)
    with av.open(str(tmp_path / "large.mkv")) as result:
        assert not any(frame.interlaced_frame for frame in result.decode(video=0))


MEASURED = """
import sys
from pathlib import Path
import psutil
from lkdn_deploy import load
from lkdn_deploy.video.rendering import FilmSettings, begin_film, render

def measure(done, total):
    if done in (100, 2000):
        print(total, psutil.Process().memory_info().rss)

film, large = map(Path, sys.argv[1:])
render(load("lkdn-s", 2), begin_film(film, large, FilmSettings(preset="ultrafast")), progress=measure)
"""


@pytest.mark.long
def test_memory_does_not_grow_with_the_film(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mkv", Recipe(times=range(2000)))
    # A process of its own: what other tests left behind comes and goes.
    command = [sys.executable, "-c", MEASURED, str(film), str(tmp_path / "large.mkv")]
    printed = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    (total, before), (_, after) = (map(int, line.split()) for line in printed.splitlines())
    assert total == 2000
    # The pictures between take 17 MB as RGB: if one in five stayed, it would show.
    assert after - before < 3 << 20


@pytest.mark.parametrize(("target", "kept"), [("large.mkv", True), ("large.mp4", True), ("large.mov", False)])
def test_a_cover_is_kept_or_named(tmp_path: Path, target: str, kept: bool) -> None:
    picture = io.BytesIO()
    Image.new("RGB", (8, 8), "red").save(picture, "JPEG")
    film = make_film(tmp_path / "film.mkv", Recipe(times=range(3), cover=picture.getvalue()))
    notes: list[str] = []
    rendered(film, tmp_path / target, notes)
    assert any("cover" in note for note in notes) != kept
    with av.open(str(tmp_path / target)) as result:
        covers = [track for track in result.streams.video if track.disposition & av.stream.Disposition.attached_pic]
        assert [bytes(packet) for track in covers for packet in result.demux(track) if packet.size] == [
            picture.getvalue()
        ] * kept

"""Damaged and hostile films: an error that says so, or what could be decoded, with a note."""

import random
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
from film_maker import Doubler, Recipe, make_film

import lkdn_deploy.video.film as film_module
from lkdn_deploy import Upscaler
from lkdn_deploy.core.errors import InputError, LkdnError, UsageError
from lkdn_deploy.video.containers import is_film, seconds
from lkdn_deploy.video.frames import upscale_frames
from lkdn_deploy.video.rendering import FilmSettings, begin_film, render

RECIPE = Recipe(times=range(30), sounds=[("aac", "deu")], subtitles=[("subrip", "eng")], chapters=True)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"junk" * 1000,
        b"#EXTM3U\n#EXTINF:10,\nfile:///etc/passwd\n",
        b"ffconcat version 1.0\nfile /etc/passwd\n",
        b"\x1a\x45\xdf\xa3" + bytes(500),
        b"\0\0\0\x18ftypisom" + bytes(500),
        b"BM" + bytes(500),
    ],
    ids=["empty", "junk", "playlist", "list", "Matroska", "MP4", "picture"],
)
def test_what_is_no_film_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "film.mkv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"film\.mkv"):
        begin_film(path, tmp_path / "large.mkv", FilmSettings())


def test_missing_films_folders_and_pipes_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.mkv").mkdir()
    for name in ("no.mkv", "folder.mkv"):
        with pytest.raises(InputError, match=name):
            begin_film(tmp_path / name, tmp_path / "large.mkv", FilmSettings())


def test_places_that_cannot_be_written_are_refused_before_work(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mkv", RECIPE)
    (tmp_path / "link.mkv").symlink_to("nowhere.mkv")
    for name, said in (("link.mkv", "already exists"), ("no/large.mkv", "there is no folder")):
        with pytest.raises(UsageError, match=said):
            begin_film(film, tmp_path / name, FilmSettings())
    with pytest.raises(InputError, match="name too long"):
        render(Upscaler(Doubler()), begin_film(film, tmp_path / f"{'x' * 250}.mkv", FilmSettings()))


def test_sound_alone_is_refused(tmp_path: Path) -> None:
    path, film = tmp_path / "sound.mkv", make_film(tmp_path / "film.mkv", RECIPE)
    with av.open(str(film)) as source, av.open(str(path), "w") as target:
        track = target.add_stream_from_template(source.streams.audio[0])
        for packet in source.demux(source.streams.audio[0]):
            if packet.dts is not None:
                packet.stream = track
                target.mux(packet)
    with pytest.raises(InputError, match="no pictures"):
        begin_film(path, tmp_path / "large.mkv", FilmSettings())


@pytest.mark.parametrize("count", [200, 50])
def test_a_film_that_is_cut_short_gives_what_it_has_with_a_note(tmp_path: Path, count: int) -> None:
    path = make_film(tmp_path / "film.mkv", Recipe(times=range(count)))
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    done = render(Upscaler(Doubler()), begin_film(path, tmp_path / "large.mkv", FilmSettings()))
    assert count // 20 < done.frames < count * 19 // 20
    assert any("its pictures end at" in note for note in done.notes)


@pytest.mark.parametrize("suffix", [".mkv", ".mp4"])
def test_damaged_bytes_end_in_a_film_or_an_error(tmp_path: Path, suffix: str) -> None:
    whole = make_film(tmp_path / f"whole{suffix}", RECIPE if suffix == ".mkv" else Recipe(times=range(30))).read_bytes()
    rng = random.Random(suffix)  # noqa: S311
    outcomes = set()
    for number in range(12):
        data = bytearray(whole)
        for _ in range(1 << (number // 2)):
            data[rng.randrange(len(data))] = rng.randrange(256)
        path = tmp_path / f"{number}{suffix}"
        path.write_bytes(data)
        try:
            begun = begin_film(path, tmp_path / f"large{number}.mkv", FilmSettings(preset="ultrafast"))
            outcomes.add(bool(render(Upscaler(Doubler()), begun).notes))
        except LkdnError as error:
            outcomes.add(type(error).__name__)
    assert len(outcomes) > 1
    assert not list(tmp_path.glob(".*.part*"))


@pytest.mark.parametrize(
    ("colours", "kind", "said"),
    [
        ((9, 1, 9, 16), "DYNAMIC_HDR_PLUS", "HDR10+"),
        ((9, 1, 9, 16), "DOVI_METADATA", "Dolby Vision is not kept"),
        ((2, 0, 2, 2), "DOVI_METADATA", "profile 5"),
    ],
)
def test_light_that_cannot_be_kept_is_named_or_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, colours: tuple[int, int, int, int], kind: str, said: str
) -> None:
    """The encoders at hand do not write such metadata, so it is put beside the pictures as they are decoded."""
    path = make_film(tmp_path / "film.mkv", Recipe(times=range(3), colours=colours))
    beside = SimpleNamespace(type=SimpleNamespace(name=kind))
    monkeypatch.setattr(film_module, "side_data", lambda _frame: [beside])
    try:
        found = " ".join(begin_film(path, tmp_path / "large.mkv", FilmSettings()).notes)
    except InputError as error:
        found = error.message
    assert said in found


def test_pictures_come_with_their_times(tmp_path: Path) -> None:
    path = make_film(tmp_path / "film.mkv", Recipe(times=[0, 3, 4, 9]))
    frames = list(upscale_frames(Upscaler(Doubler()), path))
    assert [round(frame.time * 25, 1) for frame in frames] == [0, 3, 4, 9]
    assert all(frame.pixels.shape == (48, 64, 3) for frame in frames)
    assert len(list(upscale_frames(Upscaler(Doubler()), path, start=0.1, end=0.2))) == 2


def test_films_are_known_by_suffix_or_content(tmp_path: Path) -> None:
    film = make_film(tmp_path / "film.mp4", Recipe())
    for name, content in (("film", film.read_bytes()), ("picture", b"\x89PNG\r\n"), ("still", b"\0\0\0\x18ftypavif")):
        (tmp_path / name).write_bytes(content)
    assert [is_film(tmp_path / name) for name in ("film", "picture", "still", "no", "a.png", "a.MKV")] == [
        True, False, False, False, False, True,
    ]  # fmt: skip


def test_times_are_read_as_people_write_them() -> None:
    assert [seconds(text) for text in ("90", "1:30", "0:01:30.5", "2.25")] == [90, 90, 90.5, 2.25]
    for text in ("", "a", "1:2:3:4", "1:90", "-1", "1e9"):
        with pytest.raises(UsageError, match=r"hh:mm:ss|60 seconds"):
            seconds(text)

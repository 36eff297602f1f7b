"""Metadata survives where the target can hold it, sizes and orientation become those of the result, and what is lost
is told."""

import io
import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from lkdn_deploy.imaging.files.directory import Field, Tags, integers, lay_out, layout_of, read_tags
from lkdn_deploy.imaging.files.exif import EXIF_PREFIX, parse_exif
from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.files.read import read_picture
from lkdn_deploy.imaging.files.write import write_picture

PIXELS = np.random.default_rng(5).integers(0, 256, (9, 12, 3)).astype(np.uint8)
XMP = b"""<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
<rdf:Description dc:creator="Nobody" tiff:Orientation="6" exif:PixelXDimension="12">
<xmp:Thumbnails><rdf:Alt>old</rdf:Alt></xmp:Thumbnails></rdf:Description></rdf:RDF></x:xmpmeta>"""
IPTC = b"\x1c\x02\x78\x00\x07caption" + b"\x1c\x02\x74\x00\x03CC0"
PHOTOSHOP = b"Photoshop 3.0\08BIM\x04\x04\0\0" + struct.pack(">I", len(IPTC)) + IPTC + bytes(len(IPTC) % 2)


def segment(jpeg: bytes, marker: int, data: bytes) -> bytes:
    return jpeg[:2] + bytes((0xFF, marker)) + struct.pack(">H", 2 + len(data)) + data + jpeg[2:]


def saved(form: str, image: Any = None, **options: Any) -> bytes:
    buffer = io.BytesIO()
    (Image.fromarray(PIXELS) if image is None else image).save(buffer, form, **options)
    return buffer.getvalue()


def copied(data: bytes, target: str, folder: Path) -> tuple[Picture, tuple[str, ...], Path]:
    """Read a file, double its sides, write it; return the result read again, the notes of both, and its path."""
    (folder / "source").write_bytes(data)
    picture = read_picture(folder / "source")
    large = picture.with_pixels(picture.pixels.repeat(2, axis=0).repeat(2, axis=1))
    notes = write_picture(folder / target, large)
    return read_picture(folder / target), picture.notes + notes, folder / target


@pytest.mark.parametrize("source", ["PNG", "JPEG", "WEBP", "TIFF", "AVIF"])
@pytest.mark.parametrize("target", ["x.png", "x.jpg", "x.webp", "x.tif", "x.avif", "x.jxl"])
def test_xmp_is_kept_but_for_orientation_sizes_and_thumbnails(source: str, target: str, tmp_path: Path) -> None:
    if source == "PNG":
        info = PngImagePlugin.PngInfo()
        info.add_itxt("XML:com.adobe.xmp", XMP.decode(), zip=True)
        data = saved("PNG", pnginfo=info)
    else:
        data = saved(source, **({"tiffinfo": {700: XMP}} if source == "TIFF" else {"xmp": XMP}))
    picture, notes, _ = copied(data, target, tmp_path)
    assert notes == ()
    assert picture.xmp is not None
    assert b'dc:creator="Nobody" tiff:Orientation="1">' in picture.xmp
    assert b"Thumbnails" not in picture.xmp


def test_xmp_is_told_where_there_is_no_place_for_it(tmp_path: Path) -> None:
    assert "the XMP packet was left out" in copied(saved("JPEG", xmp=XMP), "x.bmp", tmp_path)[1][0]


@pytest.mark.parametrize("target", ["x.jpg", "x.tif"])
def test_iptc_is_kept(target: str, tmp_path: Path) -> None:
    picture, notes, _ = copied(segment(saved("JPEG"), 0xED, PHOTOSHOP), target, tmp_path)
    assert picture.iptc == IPTC
    assert notes == ()


def test_iptc_of_a_tiff_is_bytes_whatever_its_type_says(tmp_path: Path) -> None:
    words = IPTC + bytes(-len(IPTC) % 4)
    plain = ((256, 1), (257, 1), (258, 8), (262, 1), (273, 0), (278, 1), (279, 1))
    tags: Tags = {tag: integers(4, value) for tag, value in plain} | {33723: Field(4, words)}
    (tmp_path / "x").write_bytes(b"II*\0\x08\0\0\0" + lay_out(tags, 8))
    assert read_picture(tmp_path / "x").iptc == words
    # Big-endian by hand: the same words, each with its bytes in the order of the file.
    big = b"MM\0*\0\0\0\x08\0\x08"
    for tag, value in (*plain, (33723, 10 + 8 * 12 + 4)):
        big += struct.pack(">HHII", tag, 4, len(words) // 4 if tag == 33723 else 1, value)
    (tmp_path / "x").write_bytes(big + bytes(4) + words)
    assert read_picture(tmp_path / "x").iptc == words


def test_iptc_is_told_where_there_is_no_place_for_it(tmp_path: Path) -> None:
    data = segment(saved("JPEG"), 0xED, PHOTOSHOP)
    assert copied(data, "x.png", tmp_path)[1] == ("the IPTC records were left out: PNG files do not hold them",)


def test_texts_of_a_png_are_kept_wherever_they_stand_and_told_elsewhere(tmp_path: Path, make_png: Any) -> None:
    texts = [(b"tEXt", b"parameters\0a castle"), (b"iTXt", b"Copyright\0\0\0\0\0CC0"), (b"tEXt", b"Comment\0hello")]
    data = make_png(1, 1, 8, 0, *texts[:2], rows=b"\0\1")
    data = data[:-12] + make_png(1, 1, 8, 0, texts[2])[33:-12].split(b"\0\0\0\x08IDAT")[0] + data[-12:]
    picture, notes, path = copied(data, "x.png", tmp_path)
    assert notes == ()
    assert picture.texts == tuple(texts)
    with Image.open(path) as image:
        shown = image.text  # type: ignore[attr-defined]
        assert shown == {"parameters": "a castle", "Copyright": "CC0", "Comment": "hello"}
    picture, notes, path = copied(data, "x.jpg", tmp_path)
    assert notes == ("texts were left out, for which JPEG files have no place: Copyright, parameters",)
    with Image.open(path) as image:
        assert image.info["comment"] == b"hello"


@pytest.mark.parametrize("form", ["JPEG", "GIF"])
@pytest.mark.parametrize("target", ["x.png", "x.jpg"])
def test_a_comment_is_kept(form: str, target: str, tmp_path: Path) -> None:
    assert copied(saved(form, comment=b"by me"), target, tmp_path)[0].texts == ((b"tEXt", b"Comment\0by me"),)


P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
COLOURS = [
    pytest.param([(b"gAMA", struct.pack(">I", 100000))], id="gAMA"),
    pytest.param([(b"gAMA", struct.pack(">I", 45455)), (b"cHRM", P3)], id="cHRM"),
    pytest.param([(b"cICP", bytes((12, 13, 0, 1)))], id="cICP"),
    pytest.param([(b"sRGB", b"\1"), (b"gAMA", struct.pack(">I", 45455))], id="sRGB"),
]


@pytest.mark.parametrize("depth", [8, 16])
@pytest.mark.parametrize("chunks", COLOURS)
def test_a_colour_space_in_chunks_is_kept_or_told(
    chunks: list[tuple[bytes, bytes]], depth: int, tmp_path: Path, make_png: Any
) -> None:
    data = make_png(1, 1, depth, 2, *chunks, rows=bytes(1 + 3 * depth // 8))
    picture, notes, _ = copied(data, "x.png", tmp_path)
    assert (picture.colour, notes) == (tuple(chunks), ())
    told = [note for note in copied(data, "x.tif", tmp_path)[1] if "colour space" in note]
    assert len(told) == (chunks[0][0] != b"sRGB")


def block(tags: Tags) -> bytes:
    """Return an EXIF block, a little-endian one."""
    return EXIF_PREFIX + b"II*\0" + struct.pack("<I", 8) + lay_out(tags, 8)


def following(exif: bytes) -> int:
    """Return the place of the directory of the thumbnail, 0 if there is none."""
    layout, start = layout_of(exif[6:])
    return read_tags(io.BytesIO(exif[6:]), start, layout)[1]


SIZES: Tags = {0xA002: integers(3, 12), 0xA003: integers(4, 9)}


@pytest.mark.parametrize("target", ["x.jpg", "x.tif", "x.png", "x.webp", "x.avif", "x.jxl"])
def test_exif_has_the_sizes_of_the_result_and_no_thumbnail(target: str, tmp_path: Path) -> None:
    exif = block({0x0112: integers(3, 6), 0x8769: SIZES})
    second = len(exif) - len(EXIF_PREFIX)
    thumbnail = b"\xff\xd8 sideways \xff\xd9"
    start = second + 2 + 3 * 12 + 4
    more = lay_out(
        {0x0112: integers(3, 6), 0x0201: integers(4, start), 0x0202: integers(4, len(thumbnail))},
        second,
    )
    link = len(EXIF_PREFIX) + 8 + 2 + 2 * 12
    exif = exif[:link] + struct.pack("<I", second) + exif[link + 4 :] + more + thumbnail
    assert following(exif) == second
    picture, notes, path = copied(saved("JPEG", exif=exif), target, tmp_path)
    assert notes == ()
    assert b"sideways" not in path.read_bytes()
    found = Image.Exif()
    found.load(picture.exif or b"")
    assert following(picture.exif or b"") == 0
    inner = found.get_ifd(0x8769)
    assert (inner[0xA002], inner[0xA003]) == (18, 24)
    assert found.get(0x0112, 1) == 1


def test_exif_keeps_its_types_in_a_tiff_and_back(tmp_path: Path) -> None:
    tags: Tags = {
        0x0112: integers(3, 1),
        0x8298: Field(2, "© Müller\0".encode()),
        0x8769: {
            0x9204: Field(10, struct.pack("<2i", -1, 3)),
            0x9286: Field(7, b"ASCII\0\0\0hello"),
            0xA300: Field(7, b"\3"),
            0x927C: Field(7, b"maker's own"),
            0xA005: {1: Field(2, b"R03\0")},
        },
        0x8825: {0: Field(1, b"\2\3\0\0"), 2: Field(5, struct.pack("<6I", 1, 2, 3, 4, 5, 6))},
    }
    picture, notes, path = copied(saved("JPEG", exif=block(tags)), "x.tif", tmp_path)
    assert notes == ("the camera's maker notes were moved: not every program can read them there",)
    assert parse_exif(picture.exif) == tags
    assert parse_exif(copied(path.read_bytes(), "x.jpg", tmp_path)[0].exif) == tags
    with Image.open(path) as image:
        assert image.getexif().get_ifd(0x8769)[0x9204] == pytest.approx(-1 / 3)


@pytest.mark.parametrize(
    "exif", [b"II*\0\x08\0\0\0\xff\xff", b"MM\0*\0\0\0\x08\0\1\x87\x69\0\4\0\0\0\1\0\0\0\x08\0\0\0\0"]
)
def test_exif_that_claims_too_much_or_contains_itself_is_survived(exif: bytes, tmp_path: Path) -> None:
    for target in ("x.tif", "x.jpg"):
        copied(saved("PNG", exif=EXIF_PREFIX + exif), target, tmp_path)


@pytest.mark.parametrize(
    ("xmp", "part"),
    [
        (b'<rdf:Description xmlns:hdrgm="http://ns.adobe.com/hdr-gain-map/1.0/" hdrgm:Version="1.0"/>', "HDR gain map"),
        (b'<rdf:Description GDepth:Format="RangeInverse" GDepth:Near="1"/>', "depth map"),
        (b'<rdf:Description GCamera:MotionPhoto="1"/>', "video"),
        (b'<rdf:Description xmpNote:HasExtendedXMP="0123"/>', "extended XMP packet"),
    ],
)
@pytest.mark.parametrize("form", ["JPEG", "MPO"])
def test_a_part_beside_the_picture_is_told_and_no_longer_described(
    xmp: bytes, part: str, form: str, tmp_path: Path
) -> None:
    more = {"save_all": True, "append_images": [Image.fromarray(PIXELS)]} if form == "MPO" else {}
    picture, notes, _ = copied(saved(form, xmp=b"<x:xmpmeta>" + xmp + b"</x:xmpmeta>", **more), "x.jpg", tmp_path)
    assert f"the file's {part} was left out" in notes
    assert not any(word in (picture.xmp or b"") for word in (b"hdrgm:V", b"GDepth:N", b"MotionPhoto", b"HasExtended"))


def test_a_wrong_checksum_of_pixels_is_told(tmp_path: Path, make_png: Any) -> None:
    data = bytearray(make_png(1, 1, 8, 0, rows=b"\0\7"))
    data[-13] ^= 255  # the last byte before IEND
    picture, notes, _ = copied(bytes(data), "x.png", tmp_path)
    assert picture.pixels[0, 0] == 7
    assert notes == ("a checksum of its pixels is wrong: the picture may be damaged",)


@pytest.mark.parametrize(("colour_type", "key", "row"), [(0, b"\0\7", b"\7"), (2, b"\0\7" * 3, b"\7" * 3)])
def test_transparency_behind_the_pixels_is_left_out_with_a_note(
    colour_type: int, key: bytes, row: bytes, tmp_path: Path, make_png: Any
) -> None:
    data = make_png(1, 1, 8, colour_type, rows=b"\0" + row)
    late = make_png(1, 1, 8, colour_type, (b"tRNS", key))[33 : 33 + 12 + len(key)]
    picture, notes, _ = copied(data[:-12] + late + data[-12:], "x.jpg", tmp_path)
    assert picture.channels == len(row)
    assert notes == ("its transparency was left out: it stands behind the pixels, where it has no effect",)

"""Profiles and EXIF blocks that files of these tests carry."""

import struct
import zlib
from collections.abc import Callable

import pytest
from PIL import Image, ImageCms


@pytest.fixture(scope="session")
def rgb_profile() -> bytes:
    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="session")
def grey_profile(rgb_profile: bytes) -> bytes:
    """A grey profile by its header only; no test converts through it."""
    return rgb_profile[:16] + b"GRAY" + rgb_profile[20:]


@pytest.fixture(scope="session")
def cmyk_profile() -> bytes:
    """The profile of a printer that prints the grey of any inks, which no other conversion gives."""
    inks = [(c, m, y, k) for c in (0, 1) for m in (0, 1) for y in (0, 1) for k in (0, 1)]
    lightness = [round(255 * (1 - k) * (1 - (c + m + y) / 3)) for c, m, y, k in inks]
    table = b"".join(bytes((value, 128, 128)) for value in lightness)
    ramp = bytes(range(256))
    identity = struct.pack(">9i", *(65536 if index % 4 == 0 else 0 for index in range(9)))
    to_lab = b"mft1" + bytes(4) + bytes((4, 3, 2, 0)) + identity + ramp * 4 + table + ramp * 3
    text = b"text" + bytes(4) + b"none\0"
    white = b"XYZ " + bytes(4) + struct.pack(">3i", 63190, 65536, 54061)  # D50
    tags, body = [], b""
    contents = [(b"desc", text), (b"cprt", text), (b"wtpt", white), (b"A2B0", to_lab)]
    for name, content in contents:
        tags.append(struct.pack(">4sII", name, 128 + 4 + 12 * len(contents) + len(body), len(content)))
        body += content + bytes(-len(content) % 4)
    body = struct.pack(">I", len(tags)) + b"".join(tags) + body
    head = struct.pack(">I4sI4s4s4s", 128 + len(body), b"none", 0x02400000, b"prtr", b"CMYK", b"Lab ")
    illuminant = struct.pack(">3i", 63190, 65536, 54061)
    head = head + bytes(12) + b"acsp" + bytes(28) + illuminant
    return head + bytes(128 - len(head)) + body


@pytest.fixture(scope="session")
def make_exif() -> Callable[[int], bytes]:
    """A function that makes an EXIF block with a maker, an exposure time, a latitude letter and an orientation."""

    def make(orientation: int = 1) -> bytes:
        exif = Image.Exif()
        exif[0x0112] = orientation
        exif[0x010F] = "Acme"
        exif[0x8769] = {0x829A: 0.5}
        exif[0x8825] = {1: "N"}
        return exif.tobytes()

    return make


@pytest.fixture(scope="session")
def make_png() -> Callable[..., bytes]:
    """A function that makes a PNG file by hand: header, the chunks given, and no samples or the rows given."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    def make(
        width: int,
        height: int,
        depth: int,
        colour_type: int,
        *chunks: tuple[bytes, bytes],
        rows: bytes = b"",
        interlaced: bool = False,
    ) -> bytes:
        parts = [
            (b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour_type, 0, 0, interlaced)),
            *chunks,
            (b"IDAT", zlib.compress(rows)),
            (b"IEND", b""),
        ]
        return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)

    return make

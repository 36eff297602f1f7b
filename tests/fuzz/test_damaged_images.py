"""Damaged image files end in an error that says why, or in the picture that their header promises."""

import io
from functools import partial
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from fuzzing import fuzz, needs_fork
from image_attempt import damaged_one, read_and_write
from PIL import Image, ImageCms

from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.files.write import write_picture

XMP = b"""<x:xmpmeta><rdf:Description tiff:Orientation="6" exif:PixelXDimension="3" hdrgm:Version="1.0">
<Container:Directory>more</Container:Directory></rdf:Description></x:xmpmeta>"""


def _saved(image: Image.Image, form: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def sources(tmp_path_factory: pytest.TempPathFactory) -> list[bytes]:
    """Small files of every format that can be written here, most of them with all metadata."""
    folder = tmp_path_factory.mktemp("sources")
    y, x = np.mgrid[0:24, 0:32]
    eight = np.dstack([x * 8, y * 10, (x + y) * 4]).astype(np.uint8)
    sixteen = eight.astype(np.uint16) * 257
    tags = Image.Exif()
    tags[0x0112], tags[0x010F] = 6, "Acme"
    tags[0x8769], tags[0x8825] = {0x829A: 0.5, 0xA002: 32, 0x927C: b"maker"}, {1: "N"}
    exif, profile = tags.tobytes(), ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    texts, colour = ((b"tEXt", b"Comment\0hello"),), ((b"gAMA", b"\0\0\xb1\x8f"),)
    found = []
    for pixels in (eight, sixteen, eight[..., :1], np.dstack([sixteen, sixteen[..., :1]])):
        for suffix in (".png", ".tif", ".jpg", ".webp", ".bmp", ".avif", ".jxl"):
            if pixels.shape[2] == 4 and suffix in (".jpg", ".bmp"):
                continue
            kept = profile if pixels.shape[2] > 1 else None
            iptc = b"\x1c\x02\x78\0\2hi"
            about = {"exif": exif, "dpi": (300.0, 300.0), "xmp": XMP, "iptc": iptc, "texts": texts, "colour": colour}
            picture = Picture(pixels, icc_profile=kept, **about)
            write_picture(folder / f"x{suffix}", picture, threads=1)
            found.append((folder / f"x{suffix}").read_bytes())
    image = Image.fromarray(eight)
    found += [_saved(image.quantize(16), form) for form in ("GIF", "PNG", "BMP", "TIFF")]
    found += [_saved(image.convert(mode), "TIFF") for mode in ("1", "CMYK", "LAB", "YCbCr")]
    found += [_saved(image, "JPEG", progressive=True), _saved(image.convert("CMYK"), "JPEG")]
    found.append(_saved(image, "MPO", save_all=True, append_images=[image]))
    found += [_saved(image, "TIFF", compression=name) for name in ("tiff_lzw", "jpeg", "packbits")]
    found += [imagecodecs.tiff_encode(sixteen.copy(), byteorder=">", bigtiff=True, tile=(16, 16))]
    return found


@needs_fork
@pytest.mark.parametrize("count", [pytest.param(200, id="few"), pytest.param(20000, id="many", marks=pytest.mark.long)])
def test_damaged_images_are_refused_or_read_as_promised(sources: list[bytes], count: int, tmp_path: Path) -> None:
    report = fuzz(partial(damaged_one, sources), read_and_write, tmp_path / "damaged", count)
    assert report.findings == {}
    assert report.outcomes["a picture"] > count // 20

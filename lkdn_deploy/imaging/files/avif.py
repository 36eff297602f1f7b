"""AVIF files: headers and metadata by Pillow, pixels by libavif through imagecodecs, as Pillow has 8 bits only."""

import io
import re
from functools import partial
from typing import IO

import numpy as np
from PIL import Image

from lkdn_deploy.imaging.bands import Bands
from lkdn_deploy.imaging.files.compression import imagecodecs
from lkdn_deploy.imaging.files.exif import orientation_of
from lkdn_deploy.imaging.files.picture import (
    Description,
    Header,
    OpenedImage,
    Picture,
    cicp_chunks,
    collected,
    widened,
)
from lkdn_deploy.imaging.files.pillow import open_image, quiet, to_pil, with_metadata_of

BRANDS = (b"avif", b"avis")
_SPEED = 6  # of the encoder, from 0 to 10; at its own choice, 12 bits take forty times as long
_HEADER = 1 << 16  # bytes at the start of a file in which its properties are
_CODEC = re.compile(rb"av1C\x81.(.)", re.DOTALL)
_COLOUR = re.compile(rb"colrnclx(....)", re.DOTALL)
_TONE_MAP = b"tmap"  # brand of files with a gain map
_HIGH, _TWELVE, _MONOCHROME = 0x40, 0x20, 0x10  # bits of the codec's configuration


def open_avif(file: IO[bytes]) -> OpenedImage:
    """Open an AVIF file of 8, 10 or 12 bits per sample.

    Raises:
        InputError: for animations and too large images.
        OSError, SyntaxError, ValueError: from Pillow, if the header is damaged.
    """
    start = file.read(_HEADER)
    file.seek(0)
    found = _CODEC.search(start)  # the first is that of the picture; behind it may be those of alpha and of a gain map
    codec = found[1][0] if found else 0
    bits = 12 if codec & _TWELVE else 10 if codec & _HIGH else 8
    with quiet():
        image = open_image("AVIF", file)
        xmp = image.info.pop("xmp", None)  # the file's own properties say how it is turned, and nothing else
        orientation_of(image)
        image.info["xmp"] = xmp
        channels = (1 if codec & _MONOCHROME else 3) + image.has_transparency_data
        header = Header(image.width, image.height, channels, 8 if bits == 8 else 16).upright(orientation_of(image))
    return OpenedImage(header, partial(_decode, file, image, channels, bits, start))


def _decode(file: IO[bytes], image: Image.Image, channels: int, bits: int, start: bytes) -> Picture:
    """Decode an opened file.

    Raises:
        MissingError: if imagecodecs is not installed.
        RuntimeError, ValueError: from imagecodecs, if the file is damaged.
    """
    shape = (image.height, image.width) + (channels,) * (channels > 1)
    # libavif decodes into an array of the header's size, so that no file can make it allocate more.
    out = np.empty(shape, np.uint8 if bits == 8 else np.uint16)
    file.seek(0)
    pixels = np.asarray(imagecodecs().avif_decode(file.read(), out=out)).reshape(*shape[:2], channels)
    picture = with_metadata_of(image, widened(pixels, bits))
    if bits not in (8, 16):
        picture = picture.with_notes(f"widened from {bits} to 16 bits per sample")
    gain_map = "the file's HDR gain map was left out"
    if _TONE_MAP in start[:64] and gain_map not in picture.notes:
        picture = picture.with_notes(gain_map)
    colour = _COLOUR.search(start)
    if picture.icc_profile is None and colour:
        primaries, transfer = int.from_bytes(colour[1][:2], "big"), int.from_bytes(colour[1][2:], "big")
        picture = picture.with_colour(cicp_chunks(primaries, transfer))
    return picture


def write_avif(file: IO[bytes], description: Description, bands: Bands, quality: int, threads: int) -> None:
    """Write an AVIF file of full colour resolution (4:4:4): 8 bits with all metadata, or 12 bits without.

    Args:
        file: to write to. The picture and the encoded file are held in memory.
        description: of a picture of any kind; 16 bits per sample are rounded to 12.
        bands: its rows.
        quality: 1 to 100; at 100, 12 bits are kept exactly.
        threads: number of threads that encode.

    Raises:
        MissingError: for 16 bits if imagecodecs is not installed.
        OSError: if ``file`` does, or from Pillow.
        RuntimeError, ValueError: from the encoder.
    """
    picture = collected(description, bands)
    if picture.depth == 8:
        buffer = io.BytesIO()
        metadata = {key: value for key, value in picture.metadata.items() if key != "dpi"}
        to_pil(picture).save(
            buffer, "AVIF", quality=quality, subsampling="4:4:4", speed=_SPEED, max_threads=threads, **metadata
        )
        file.write(buffer.getbuffer())
        return
    # v * 4095 / 65535 rounded; a table avoids a wide intermediate the size of the picture.
    table = ((np.arange(65536) * 4095 + 32767) // 65535).astype(np.uint16)
    samples = table[picture.pixels[..., 0] if picture.channels == 1 else picture.pixels]
    colour = dict(picture.colour).get(b"cICP", bytes((1, 13)))
    options = {"primaries": colour[0], "transfer": colour[1]}
    if quality < 100:
        options["matrix"] = 9 if colour[0] == 9 else 6
    file.write(
        imagecodecs().avif_encode(samples, level=quality, bitspersample=12, speed=_SPEED, numthreads=threads, **options)
    )

"""Pillow's images to pictures and back, and the formats that Pillow reads and writes in full."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import IO

import numpy as np
from PIL import Image, ImageCms

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.imaging.bands import Bands
from lkdn_deploy.imaging.files.exif import orientation_of, upright_exif_of
from lkdn_deploy.imaging.files.picture import (
    Description,
    Header,
    OpenedImage,
    Picture,
    check_size,
    collected,
    make_upright,
    plausible_dpi,
    profile_fits,
    to_eight_bits,
)
from lkdn_deploy.imaging.files.xmp import MAX_XMP, clean_xmp, parts_left_out
from lkdn_deploy.imaging.pixels import Pixels

# Mode -> the mode to ask Pillow for: full bytes, no padding, straight alpha.
_PLAIN = {"1": "L", "L": "L", "LA": "LA", "La": "LA", "RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA", "RGBa": "RGBA"}
_OTHER_SPACES = {"CMYK", "YCbCr", "HSV", "LAB"}
_GREY_16 = {"I;16", "I;16L", "I;16B", "I;16N"}
_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
_IPTC = 0x0404  # number of Photoshop's resource that holds it
_quiet_lock = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """Suppress Pillow's warnings: what they warn of is an error here, or reported as a note.

    Python's warning filters belong to the whole process, so one thread at a time changes them.
    """
    with _quiet_lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        yield


def open_with_pillow(name: str, file: IO[bytes]) -> OpenedImage:
    """Open an image file of which Pillow gives every sample.

    Args:
        name: Pillow's name of the format; the file is not tried as any other.
        file: an open file.

    Raises:
        InputError: for animations, too large images, floats and 32-bit integers.
        OSError, SyntaxError, ValueError: from Pillow, if the header is damaged.
    """
    with quiet():
        image = open_image(name, file)
        depth = 16 if image.mode in _GREY_16 else 8
        header = Header(image.width, image.height, channels_of(image), depth).upright(orientation_of(image))
    if image.format == "MPO":
        return OpenedImage(header, partial(_decode_mpo, file, image))
    return OpenedImage(header, partial(from_pil, image))


def _decode_mpo(file: IO[bytes], image: Image.Image) -> Picture:
    file.seek(0)
    parts = parts_left_out(file.read())
    picture = from_pil(image)
    return picture.with_notes(
        "the file holds several pictures (MPO); only the first was read",
        *(note for note in parts if note not in picture.notes),
    )


def open_image(name: str, file: IO[bytes]) -> Image.Image:
    """Open a file of one format with Pillow and check its header; no pixel is decoded yet.

    Raises:
        InputError: for animations, too large images, floats and 32-bit integers.
    """
    image = Image.open(file, formats=(name,))
    check_size(image.width, image.height)
    # Phones append depth maps and the like to a JPEG (MPO): the first picture is what viewers show.
    if image.format != "MPO":
        refuse_frames(getattr(image, "is_animated", False))
    channels_of(image)
    return image


def refuse_frames(several: bool) -> None:
    """Refuse a file that holds several pictures.

    Raises:
        InputError: if it does.
    """
    if several:
        msg = "the file is animated or has several pages; expected a single picture"
        raise InputError(msg, "save the frame or page you want as a file of its own")


def channels_of(image: Image.Image) -> int:
    """Return how many channels reading ``image`` gives.

    Raises:
        InputError: for modes that hold floats or 32-bit integers.
    """
    see_through = image.has_transparency_data
    if image.mode in _PLAIN:
        return _CHANNELS[_PLAIN[image.mode]] + (see_through and image.mode in ("1", "L", "RGB"))
    if image.mode in _GREY_16:
        return 1 + see_through
    if image.mode in ("P", "PA"):
        return 3 + see_through
    if image.mode in _OTHER_SPACES:
        return 3
    msg = f"expected 8 or 16 bits per sample, the image's mode is {image.mode}: floats or 32-bit integers"
    raise InputError(msg, "convert it to 16-bit PNG or TIFF first")


def from_pil(image: Image.Image) -> Picture:
    """Convert a Pillow image to an upright picture with its profile, EXIF and resolution.

    Palettes, colour keys, premultiplied alpha and other colour spaces become grey or RGB with straight alpha;
    ``notes`` tell of a change of colour space. Pillow opens 16-bit RGB files with 8 bits: ``read_picture`` keeps 16.

    Raises:
        InputError: if the image is too large, holds floats or 32-bit integers, or cannot be decoded.
    """
    check_size(image.width, image.height)
    channels_of(image)
    promised = image.info.get("transparency")
    with quiet():
        try:
            image.load()
        except Exception as error:  # a damaged file makes Pillow raise whatever its decoder trips over
            msg = f"the image cannot be decoded: {error}"
            raise InputError(msg, "its file may be cut off or damaged") from error
        if promised is None:
            image.info.pop("transparency", None)  # in a PNG, from behind the pixels, where it has no effect
        pixels, notes = _pixels_of(image)
    return with_metadata_of(image, pixels, notes)


def with_metadata_of(image: Image.Image, pixels: Pixels, notes: tuple[str, ...] = ()) -> Picture:
    """Make an upright picture of a Pillow image's metadata and other pixels.

    Args:
        image: an opened image.
        pixels: (H, W, C), the way round that they are stored in its file.
        notes: on the pixels; those on the metadata are added.
    """
    with quiet():
        exif, damaged = upright_exif_of(image)
        pixels = make_upright(pixels, orientation_of(image))  # 1 for a TIFF that Pillow turned when it loaded it
    if damaged:
        notes += ("its EXIF block is damaged and was left out",)
    icc_profile = image.info.get("icc_profile") or None
    if image.mode in ("CMYK", "LAB") or (icc_profile and not isinstance(icc_profile, bytes)):
        icc_profile = None
    elif icc_profile and not profile_fits(icc_profile, pixels.shape[2]):
        notes += ("its colour profile is for another colour space than its pixels and was left out",)
        icc_profile = None
    xmp, further = xmp_of(image.info.get("xmp"))
    picture = Picture(
        pixels,
        icc_profile=icc_profile,
        exif=exif,
        dpi=plausible_dpi(image.info.get("dpi")),
        notes=notes + further,
        xmp=xmp,
    )
    resources, comment = image.info.get("photoshop"), image.info.get("comment")
    if isinstance(resources, dict) and isinstance(resources.get(_IPTC), bytes):
        picture = replace(picture, iptc=resources[_IPTC])
    if isinstance(comment, bytes) and comment:
        picture = replace(picture, texts=((b"tEXt", b"Comment\0" + comment.replace(b"\0", b"")),))
    return picture


def xmp_of(xmp: object) -> tuple[bytes | None, tuple[str, ...]]:
    """Return an XMP packet without what is no longer true, None if there is none, and notes."""
    if isinstance(xmp, str):
        xmp = xmp.encode()
    if not isinstance(xmp, bytes) or not xmp:
        return None, ()
    if len(xmp) > MAX_XMP:
        return None, ("its XMP packet was left out: it is too large",)
    return clean_xmp(xmp), parts_left_out(xmp)


def to_pil(picture: Picture) -> Image.Image:
    """Convert a picture to a Pillow image of mode L, LA, RGB or RGBA, or I;16 for 16-bit grey.

    Pillow has no other 16-bit image, so those are rounded to 8. Profile, EXIF and resolution are in ``info``.
    """
    pixels = picture.pixels if picture.channels == 1 else to_eight_bits(picture.pixels)
    image = Image.fromarray(pixels[..., 0] if picture.channels == 1 else pixels)
    image.info.update(picture.metadata)
    return image


def write_bmp(file: IO[bytes], description: Description, bands: Bands, quality: int, threads: int) -> None:
    """Write a BMP file; ``quality`` and ``threads`` have no effect."""
    picture = collected(description, bands)
    _save(file, picture, "BMP", **({} if picture.dpi is None else {"dpi": picture.dpi}))


def write_webp(file: IO[bytes], description: Description, bands: Bands, quality: int, threads: int) -> None:
    """Write a WebP file, lossless at quality 100; ``threads`` has no effect."""
    picture = collected(description, bands)
    # exact: without it, colours under transparent pixels are thrown away.
    options = {"lossless": True, "exact": True} if quality == 100 else {"quality": quality}
    _save(file, picture, "WEBP", **options, **picture.metadata)


def _save(file: IO[bytes], picture: Picture, name: str, **options: object) -> None:
    # In memory first: Pillow, given a file, does not notice when only a part is written.
    buffer = io.BytesIO()
    to_pil(picture).save(buffer, name, **options)
    file.write(buffer.getbuffer())


def _pixels_of(image: Image.Image) -> tuple[Pixels, tuple[str, ...]]:
    """Return (H, W, C) pixels as stored, not turned, and notes."""
    if image.mode in _OTHER_SPACES:
        rgb, note = _to_srgb(image)
        return np.array(rgb), (note,)
    if image.mode in ("P", "PA"):
        return np.array(image.convert("RGBA" if image.has_transparency_data else "RGB")), ()
    if image.mode in _GREY_16:
        pixels: Pixels = np.array(image).astype(np.uint16, copy=False)
    else:
        target = _PLAIN[image.mode]
        pixels = np.array(image if image.mode == target else image.convert(target))
    if pixels.ndim == 2:
        pixels = pixels[..., None]
    if channels_of(image) > pixels.shape[2]:
        pixels = _with_colour_key(pixels, image.info.get("transparency"))
    return pixels, ()


def _with_colour_key(pixels: Pixels, key: object) -> Pixels:
    """Append the alpha channel that a colour key stands for: 0 where a pixel has exactly that colour."""
    opaque = np.iinfo(pixels.dtype).max
    colour = key if isinstance(key, tuple) else (key,)
    if len(colour) == pixels.shape[2] and all(isinstance(value, int) and 0 <= value <= opaque for value in colour):
        shown = np.any(pixels != np.array(colour, pixels.dtype), axis=2, keepdims=True)
    else:
        shown = np.ones((*pixels.shape[:2], 1), bool)
    return np.concatenate([pixels, np.where(shown, opaque, 0).astype(pixels.dtype)], axis=2)


def _to_srgb(image: Image.Image) -> tuple[Image.Image, str]:
    """Convert an image in another colour space to sRGB; return it and a note that says how."""
    if image.mode == "LAB":
        lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        return _by_profiles(image, lab), "converted from Lab to sRGB"
    if image.mode != "CMYK":
        return image.convert("RGB"), f"converted from {image.mode} to RGB"
    profile, reason = image.info.get("icc_profile"), "without a profile, as none is embedded"
    if profile:
        try:
            embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            return _by_profiles(image, embedded), "converted from CMYK to sRGB through its embedded profile"
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            reason = "without its embedded profile, which cannot be used"
    return image.convert("RGB"), f"converted from CMYK to sRGB {reason}: colours may be off"


def _by_profiles(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    # The default of print software: keep colours that both spaces have, scale black to black.
    converted = ImageCms.profileToProfile(
        image,
        source,
        ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")),
        renderingIntent=ImageCms.Intent.RELATIVE_COLORIMETRIC,
        outputMode="RGB",
        flags=ImageCms.Flags.BLACKPOINTCOMPENSATION,
    )
    if converted is None:  # only when asked to work in place
        msg = "the colour conversion gave no image"
        raise ValueError(msg)
    return converted

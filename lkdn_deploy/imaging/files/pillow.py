"""Pillow's images to pictures and back."""

import io
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
from PIL import Image, ImageCms

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.imaging.files.exif import orientation_of, profile_fits, sane_dpi, upright_exif_of
from lkdn_deploy.imaging.files.picture import Picture, check_size, make_upright, to_eight_bits
from lkdn_deploy.imaging.pixels import Pixels

# Mode -> the mode to ask Pillow for: full bytes, no padding, straight alpha.
_PLAIN = {"1": "L", "L": "L", "LA": "LA", "La": "LA", "RGB": "RGB", "RGBX": "RGB", "RGBA": "RGBA", "RGBa": "RGBA"}
_OTHER_SPACES = {"CMYK", "YCbCr", "HSV", "LAB"}
_GREY_16 = {"I;16", "I;16L", "I;16B", "I;16N"}
_CHANNELS = {"L": 1, "LA": 2, "RGB": 3, "RGBA": 4}
_quiet_lock = threading.Lock()


@contextmanager
def quiet() -> Iterator[None]:
    """Keep Pillow's warnings from the user: what they warn of is an error here, or told as a note.

    Python's filters belong to the whole process, so one thread at a time changes them.
    """
    with _quiet_lock, warnings.catch_warnings():
        warnings.filterwarnings("ignore", module=r"PIL(\.|$)")
        yield


def channels_of(image: Image.Image) -> int:
    """How many channels reading ``image`` gives.

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
    msg = f"expected 8 or 16 bits a sample, the image's mode is {image.mode}: floats or 32-bit integers"
    raise InputError(msg, "convert it to 16-bit PNG or TIFF first")


def from_pil(image: Image.Image) -> Picture:
    """Take an image of Pillow's, upright, with its profile, EXIF and resolution.

    Palettes, colour keys, premultiplied alpha and other colour spaces become grey or RGB with straight alpha;
    a change of colour space is told in ``notes``. An image that Pillow opened from a file with 16 bits of RGB
    has 8 left in it: ``read_picture`` keeps all 16.

    Raises:
        InputError: if the image is too large, holds floats or 32-bit integers, or cannot be decoded.
    """
    check_size(image.width, image.height, "the image")
    channels_of(image)
    with quiet():
        try:
            image.load()
        except Exception as error:  # a damaged file makes Pillow raise whatever its decoder trips over
            msg = f"the image cannot be decoded: {error}"
            raise InputError(msg, "its file may be cut off or damaged") from error
        exif, damaged = upright_exif_of(image)
        pixels, notes = _pixels_of(image)
        # After load, since Pillow turns a TIFF by itself there and forgets the tag.
        pixels = make_upright(pixels, orientation_of(image))
    if damaged:
        notes += ("its EXIF block is damaged and was left out",)
    icc_profile = image.info.get("icc_profile") or None
    if image.mode in ("CMYK", "LAB") or (icc_profile and not isinstance(icc_profile, bytes)):
        icc_profile = None
    elif icc_profile and not profile_fits(icc_profile, pixels.shape[2]):
        notes += ("its colour profile is for another colour space than its pixels and was left out",)
        icc_profile = None
    return Picture(pixels, icc_profile, exif, sane_dpi(image.info.get("dpi")), notes)


def to_pil(picture: Picture) -> Image.Image:
    """Give the picture as an image of Pillow's: mode L, LA, RGB or RGBA, or I;16 for 16-bit grey.

    Pillow holds no other 16-bit image, so those are rounded to 8. Profile, EXIF and resolution are in ``info``.
    """
    pixels = picture.pixels if picture.channels == 1 else to_eight_bits(picture.pixels)
    image = Image.fromarray(pixels[..., 0] if picture.channels == 1 else pixels)
    facts = {"icc_profile": picture.icc_profile, "exif": picture.exif, "dpi": picture.dpi}
    image.info.update({key: value for key, value in facts.items() if value is not None})
    return image


def _pixels_of(image: Image.Image) -> tuple[Pixels, tuple[str, ...]]:
    """(H, W, C) pixels, not turned, and notes."""
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
    """Add the alpha that a colour key stands for: 0 where the pixel is of just that colour."""
    opaque = np.iinfo(pixels.dtype).max
    colour = key if isinstance(key, tuple) else (key,)
    if len(colour) == pixels.shape[2] and all(isinstance(value, int) and 0 <= value <= opaque for value in colour):
        shown = np.any(pixels != np.array(colour, pixels.dtype), axis=2, keepdims=True)
    else:
        shown = np.ones((*pixels.shape[:2], 1), bool)
    return np.concatenate([pixels, np.where(shown, opaque, 0).astype(pixels.dtype)], axis=2)


def _to_srgb(image: Image.Image) -> tuple[Image.Image, str]:
    """An image in another colour space as sRGB, and the note that says how."""
    if image.mode == "LAB":
        return _by_profiles(
            image, ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB"))
        ), "converted from Lab to sRGB"
    profile = image.info.get("icc_profile")
    if image.mode == "CMYK" and profile:
        try:
            embedded = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            return _by_profiles(image, embedded), "converted from CMYK to sRGB through its embedded profile"
        except (ImageCms.PyCMSError, OSError, TypeError, ValueError):
            note = "converted from CMYK to sRGB without its embedded profile, which cannot be used: colours may be off"
            return image.convert("RGB"), note
    if image.mode == "CMYK":
        return image.convert(
            "RGB"
        ), "converted from CMYK to sRGB without a profile, as none is embedded: colours may be off"
    return image.convert("RGB"), f"converted from {image.mode} to RGB"


def _by_profiles(image: Image.Image, source: ImageCms.ImageCmsProfile) -> Image.Image:
    # What print-minded software does by default: keep colours both spaces have, scale black to black.
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

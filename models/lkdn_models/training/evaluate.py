"""Quality of anything that upscales, on pictures whose original is known, as the papers measure it.

``mean(measure(in_torch(network), open_set("testsets/Set5", 4)))`` is one entry of their tables.
"""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import printable
from lkdn_deploy.imaging.files.read import image_files
from lkdn_deploy.imaging.metrics import luma, psnr, psnr_y, ssim, ssim_y
from lkdn_deploy.imaging.resample import imresize
from lkdn_deploy.imaging.testsets import ImagePair, read_pair

Upscale = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""(H, W, 3) RGB -> (scale * H, scale * W, 3) RGB: a network by ``in_torch``, a deployed ``Upscaler``, ``bicubic``."""

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""(N, 3, H, W) RGB in 0..1 -> (N, 3, scale * H, scale * W), not clipped: a deployed session's ``run``, ``floats``."""


@dataclass(frozen=True, slots=True)
class LumaQuality:
    """How near an upscaled picture is to the original, on luma: PSNR in dB, and SSIM, of which 1 is equal."""

    psnr_y: float
    ssim_y: float


Pair = tuple[str, NDArray[np.uint8], NDArray[np.uint8]]
"""A picture's name, low (h, w, 3) and high (scale * h, scale * w, 3) RGB."""


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """Pictures to measure on. They are taken one after the other, so that ``pairs`` may read them when asked."""

    name: str
    pairs: Sequence[Pair]


def open_set(folder: str | os.PathLike[str], scale: int) -> ValidationSet:
    """The HR pictures of a folder, cropped to a multiple of ``scale``, and their LR made by ``downsample``.

    All are held in memory. A folder laid out as test sets are, with pictures in ``x4/HR`` and the like, gives those
    of ``scale``. LR files beside them are not read: sets were made with differing treatment of the border, and what
    is measured would hang on that. The set has the folder's name, a picture its file's without the suffix.

    Raises:
        InputError: if the folder cannot be read or holds no image, or an image cannot be read or is too small for
            SSIM's window.
    """
    folder = Path(folder).resolve()  # so that "." has a name
    laid_out = folder / f"x{scale}" / "HR"
    try:
        paths = image_files(laid_out if laid_out.is_dir() else folder)
    except InputError as error:
        raise InputError(error.message, f"give a folder of pictures, or one that holds x{scale}/HR") from error
    pictures = (ImagePair(printable(path.stem), path) for path in paths)
    return ValidationSet(printable(folder.name), tuple((item.name, *read_pair(item, scale)) for item in pictures))


def measure(upscale: Upscale, pictures: ValidationSet) -> list[LumaQuality]:
    """The quality on each picture, in the set's order; as many pixels as the scale are left out at each border.

    Raises:
        ValueError: if ``upscale`` gives another size than the originals'.
    """
    values = []
    for _, low, high in pictures.pairs:
        image = upscale(low)
        border = high.shape[0] // low.shape[0]
        values.append(LumaQuality(psnr_y(image, high, border), ssim_y(image, high, border)))
    return values


def measure_luma(run: Run, pictures: ValidationSet) -> list[LumaQuality]:
    """The quality on each picture as the papers of networks that know luma only measure it.

    Luma of the original is rounded to 8 bits, and the low-resolution luma made of it is not; the result is. The network
    gets a grey picture of that luma. (A grey file's own values are luma in MATLAB's scripts; here its luma is that of
    its RGB. Of the test sets, only Set14 has one: bridge.)
    """
    values = []
    for _, low, high in pictures.pairs:
        border = high.shape[0] // low.shape[0]
        reference = luma(high).round()
        # Grey of value v has luma 16 + 219 v.
        small = (imresize(reference, Fraction(1, border)) - 16) / 219
        result = run(np.repeat(small[None, None], 3, axis=1).astype(np.float32))[0].astype(np.float64)
        image = luma(result.transpose(1, 2, 0) * 255).round().clip(0, 255)
        inner = np.s_[border:-border, border:-border]
        values.append(LumaQuality(psnr(image[inner], reference[inner]), ssim(image[inner], reference[inner])))
    return values


def mean(values: Sequence[LumaQuality]) -> LumaQuality:
    """The mean of each figure: the papers' way, PSNR too, though it is a logarithm."""
    psnr, ssim = np.mean([(value.psnr_y, value.ssim_y) for value in values], axis=0)
    return LumaQuality(float(psnr), float(ssim))


def bicubic(scale: int) -> Upscale:
    """Enlargement by MATLAB's bicubic, rounded to 8 bits: what every network must beat."""

    def upscale(low: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return imresize(low, scale)  # type: ignore[return-value]

    return upscale


def in_torch(network: nn.Module) -> Upscale:
    """Run a network on 8-bit images, on the device where it is; its output is clamped to 0..1 and rounded."""
    device = next(network.parameters()).device

    def upscale(low: NDArray[np.uint8]) -> NDArray[np.uint8]:
        # A copy: torch warns of a view of an array that may not be written, as decoded images are.
        x = torch.tensor(low, device=device).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            y = network(x.contiguous(memory_format=torch.channels_last))
        return (y[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().cpu().numpy()  # type: ignore[no-any-return]

    return upscale


def floats(network: nn.Module) -> Run:
    """Run a network of RGB in 0..1 on arrays, on the CPU."""

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(torch.from_numpy(batch)).numpy()  # type: ignore[no-any-return]

    return run

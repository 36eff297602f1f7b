"""Quality of an upscaler on pictures whose original is known, measured as the papers do.

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
from lkdn_models.data.decoded import warn_left_out

Upscale = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""An upscaler, (H, W, 3) RGB -> (scale * H, scale * W, 3) RGB: ``in_torch``, a deployed ``Upscaler``, ``bicubic``."""

Run = Callable[[NDArray[np.float32]], NDArray[np.float32]]
"""A network on RGB in 0..1, (N, 3, H, W) -> (N, 3, scale * H, scale * W), not clipped: ``floats``, ``Session.run``."""


@dataclass(frozen=True, slots=True)
class LumaQuality:
    """Similarity of an upscaled picture to the original, on luma: PSNR in dB, and SSIM, which is 1 for equal ones."""

    psnr_y: float
    ssim_y: float


Pair = tuple[str, NDArray[np.uint8], NDArray[np.uint8]]
"""A picture's name, its low-resolution (h, w, 3) and its original (scale * h, scale * w, 3) RGB pixels."""


@dataclass(frozen=True, slots=True)
class ValidationSet:
    """A named set of pictures; ``pairs`` is read one after the other."""

    name: str
    pairs: Sequence[Pair]


def open_set(folder: str | os.PathLike[str], scale: int) -> ValidationSet:
    """Return the HR pictures of a folder, cropped to a multiple of ``scale``, and their LR made by ``downsample``.

    All are held in memory. In a folder laid out as test sets are, with pictures in ``x4/HR`` and the like, those of
    ``scale`` are taken. LR files beside them are not read, since sets differ in their treatment of the border. The set
    is named after the folder, a picture after its file without the suffix.

    Raises:
        InputError: if the folder cannot be read or holds no image, or all images cannot be read or are too small for
            SSIM's window; a warning names each one that is left out.
    """
    folder = Path(folder).resolve()  # so that "." has a name
    laid_out = folder / f"x{scale}" / "HR"
    try:
        paths = image_files(laid_out if laid_out.is_dir() else folder)
    except InputError as error:
        raise InputError(error.message, f"give a folder of pictures, or one that holds x{scale}/HR") from error
    pairs, errors = [], []
    for item in (ImagePair(printable(path.stem), path) for path in paths):
        try:
            pairs.append((item.name, *read_pair(item, scale)))
        except InputError as error:
            errors.append(error)
    if not pairs:
        raise errors[0]
    for left_out in errors:
        warn_left_out(left_out)
    return ValidationSet(printable(folder.name), tuple(pairs))


def measure(upscale: Upscale, pictures: ValidationSet) -> list[LumaQuality]:
    """Return the quality on each picture, in the set's order; ``scale`` pixels are cropped at each border.

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
    """Return the quality on each picture, measured as the papers of networks of luma do.

    Luma is rounded to 8 bits in the original and in the result, but not in the low-resolution picture between them. The
    network gets a grey picture of that luma. (MATLAB's scripts take a grey file's values for luma; here its luma is
    that of its RGB. The only such file of the test sets is bridge in Set14.)
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
    """Return the mean of each figure; of PSNR too, as the papers do, though it is a logarithm."""
    psnr, ssim = np.mean([(value.psnr_y, value.ssim_y) for value in values], axis=0)
    return LumaQuality(float(psnr), float(ssim))


def bicubic(scale: int) -> Upscale:
    """Return MATLAB's bicubic enlargement, rounded to 8 bits, as an upscaler."""
    return lambda low: imresize(low, scale)  # type: ignore[return-value]


def in_torch(network: nn.Module) -> Upscale:
    """Return a network as an upscaler of 8-bit images, on the network's device; its output is clamped and rounded."""
    device = next(network.parameters()).device

    def upscale(low: NDArray[np.uint8]) -> NDArray[np.uint8]:
        # A copy, since torch warns about views of read-only arrays, which decoded images are.
        x = torch.tensor(low, device=device).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            y = network(x.contiguous(memory_format=torch.channels_last))
        return (y[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().cpu().numpy()  # type: ignore[no-any-return]

    return upscale


def floats(network: nn.Module) -> Run:
    """Return a network of RGB in 0..1 as a function of arrays, on the CPU."""

    def run(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        with torch.inference_mode():
            return network(torch.from_numpy(batch)).numpy()  # type: ignore[no-any-return]

    return run

"""Mean PSNR on luma over a folder of photographs, as the papers measure it, of anything that upscales."""

import os
from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from lkdn_deploy.imaging.metrics import psnr_y
from lkdn_deploy.imaging.resample import downsample
from lkdn_models.data import image_files, read_rgb

Upscale = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]
"""(H, W, 3) RGB -> (scale * H, scale * W, 3) RGB: a network by ``in_torch``, a deployed ``Upscaler``, bicubic."""


def mean_psnr_y(upscale: Upscale, scale: int, folder: str | os.PathLike[str]) -> float:
    """Mean PSNR-Y in dB over the HR images of a folder, ``scale`` pixels at each border left out.

    Low-resolution images are made by ``downsample``.

    Raises:
        InputError: if the folder holds no image or one cannot be read.
    """
    values = []
    for path in image_files(folder):
        high = read_rgb(path)
        low = downsample(high, scale)
        height, width = (scale * size for size in low.shape[:2])
        values.append(psnr_y(upscale(low), high[:height, :width], border=scale))
    return float(np.mean(values))


def in_torch(network: nn.Module) -> Upscale:
    """Run a network on 8-bit images; its output is clamped to 0..1 and rounded."""

    def upscale(low: NDArray[np.uint8]) -> NDArray[np.uint8]:
        x = torch.from_numpy(low).permute(2, 0, 1)[None].float() / 255
        with torch.inference_mode():
            y = network(x.contiguous(memory_format=torch.channels_last))
        return (y[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().numpy()  # type: ignore[no-any-return]

    return upscale

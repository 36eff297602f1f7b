"""MATLAB's bicubic enlargement as a layer, for networks that add their result to it."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from lkdn_deploy.imaging.resample import imresize


class Bicubic(nn.Module):
    """Enlargement by an integer, equal to ``imaging.resample.imresize`` on floats: Keys' cubic, edges mirrored.

    (N, C, H, W) -> (N, C, scale * H, scale * W), not clipped. PyTorch's own bicubic differs: a = -0.75, edges repeated.
    An output pixel depends on input pixels at most ``REACH`` away. Height and width must be at least ``SMALLEST``, so
    that the mirrored pixels are inside the picture.
    """

    REACH = SMALLEST = 2

    def __init__(self, channels: int, scale: int) -> None:
        super().__init__()
        self.channels = channels
        self.shuffle = nn.PixelShuffle(scale)
        # The enlarged picture of a single point holds all weights: that of output (y, x) of a pixel for its neighbour
        # at (2 - i, 2 - j) is at (y, x) of the i-th, j-th pixel around the point.
        point = np.zeros((9, 9))
        point[4, 4] = 1
        blob = imresize(point, scale).reshape(9, scale, 9, scale)[2:7, :, 2:7][::-1, :, ::-1]
        taps = torch.from_numpy(np.ascontiguousarray(blob.transpose(1, 3, 0, 2))).reshape(scale**2, 1, 5, 5)
        # Fixed, so not part of a checkpoint.
        self.register_buffer("taps", taps.float().repeat(channels, 1, 1, 1), persistent=False)
        self.taps: Tensor

    def forward(self, x: Tensor) -> Tensor:
        for axis in (2, 3):
            size = x.shape[axis]
            near, far = x.narrow(axis, 0, 2).flip(axis), x.narrow(axis, size - 2, 2).flip(axis)
            x = torch.cat([near, x, far], dim=axis)
        return self.shuffle(F.conv2d(x, self.taps, groups=self.channels))  # type: ignore[no-any-return]

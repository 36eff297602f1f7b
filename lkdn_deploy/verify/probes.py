"""The inputs on which an artefact is compared with what it was made from."""

import numpy as np
from numpy.typing import NDArray

from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.imaging.pixels import to_batch
from lkdn_deploy.imaging.resample import imresize
from lkdn_deploy.samples import sample_pixels

Batch = NDArray[np.float32]
"""(N, 3, H, W) in 0..1."""


def verification_inputs(metadata: ArtifactMetadata, static: tuple[int, int] | None = None) -> dict[str, Batch]:
    """Return inputs by name, none of a size at which networks are traced.

    They are clouds of an odd size; clouds smaller than the receptive field, so that all of them is within reach of the
    zero padding (for a network that sees the whole picture, of its smallest size); and a photograph. Clouds are noise
    as soft as pictures are: on white noise PAN's values leave all bounds, and its rounding errors with them. For an
    artefact of one fixed height and width (``static``) there are clouds and a photograph of that size.
    """
    random = np.random.default_rng(0)
    photograph = to_batch(sample_pixels())
    if static:
        rows, columns = (np.arange(size) % limit for size, limit in zip(static, photograph.shape[2:], strict=True))
        return {
            "clouds": clouds(random, 1, *static),
            "photograph": np.ascontiguousarray(photograph[:, :, rows][:, :, :, columns]),
        }
    small = max(metadata.smallest, (metadata.receptive_radius or 0) // 3, 1)
    return {
        "clouds": clouds(random, 2, 61, 83),
        "small clouds": clouds(random, 1, small, small + 2),
        "photograph": photograph,
    }


def extreme_inputs(metadata: ArtifactMetadata, static: tuple[int, int] | None = None) -> dict[str, Batch]:
    """Return noise, black and white, which drive a network's values up: an FP16 network must stay finite on them."""
    height, width = static or (max(61, metadata.smallest), max(83, metadata.smallest))
    noise = np.random.default_rng(0).random((1, 3, height, width), np.float32)
    return {"noise": noise, "black": np.zeros_like(noise), "white": np.ones_like(noise)}


def clouds(random: np.random.Generator, count: int, height: int, width: int) -> Batch:
    """Return (count, 3, height, width) of noise, drawn at a quarter of the size and enlarged.

    Args:
        random: source of the noise.
        count: number of pictures.
        height, width: of each, in pixels.
    """
    times = 4
    seeds = random.random((count * 3, -(-height // times), -(-width // times)))
    enlarged = np.stack([imresize(seed, times)[:height, :width] for seed in seeds])
    return enlarged.reshape(count, 3, height, width).clip(0, 1).astype(np.float32)

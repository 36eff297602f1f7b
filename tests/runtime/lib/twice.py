"""A network that repeats each pixel, jobs for it, and a check of what it did to them."""

from pathlib import Path

import numpy as np
from PIL import Image

from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.protocols import SequentialSession
from lkdn_deploy.imaging.files.read import read_picture
from lkdn_deploy.runtime.outcomes import Job
from lkdn_deploy.samples import sample_pixels

METADATA = ArtifactMetadata(model="twice", scale=2, receptive_radius=20, live_channels=12, fused=True)


class Twice(SequentialSession):
    """Repeats each pixel."""

    backend, fixed_size, metadata = "stand-in", None, METADATA

    def run(self, batch: np.ndarray) -> np.ndarray:
        return batch.repeat(2, axis=2).repeat(2, axis=3)

    def bytes_per_pixel(self) -> int:
        return 100


def images(folder: Path, count: int) -> list[Job]:
    """Write so many files, each of another picture, and return a job for each."""
    jobs = []
    for index in range(count):
        source = folder / f"{index}.png"
        Image.fromarray(np.roll(sample_pixels()[:40, :50], 7 * index, axis=0)).save(source)
        jobs.append(Job(source, folder / f"{index}_x2.png"))
    return jobs


def assert_doubled(*jobs: Job) -> None:
    for job in jobs:
        expected = read_picture(job.source).pixels.repeat(2, axis=0).repeat(2, axis=1)
        assert np.array_equal(read_picture(job.target).pixels, expected)

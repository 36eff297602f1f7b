"""The folder of a reader who tries the commands of a page: pictures, a film and weights by the names of the pages."""

from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from lkdn_deploy.samples import sample_pixels

WEIGHTS = ("LKDN/LKDN_x2.pth", "LKDN/LKDN_x4.pth", "LKDN/LKDN-S_x4.pth", "RLFN/rlfn_x4.pth")
SMALL = (90, 140, 102, 156)
"""Top, left, bottom and right of the small pictures."""


def make_pictures(folder: Path) -> None:
    """Write small pictures, and a folder of two photographs."""
    pixels = sample_pixels()
    top, left, bottom, right = SMALL
    small = Image.fromarray(pixels[top:bottom, left:right])
    for name in ("in.png", "in.jpg", "in.tif", "a.png", "b.jpg", "stone.png", "map.tif"):
        small.save(folder / name)
    for name, part in (("photos/one.png", pixels), ("photos/trip/two.png", pixels[40:136, 60:188])):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(part).save(folder / name)


def make_photographs(folder: Path) -> None:
    """Write more photographs, as many as a training needs at least."""
    for index in range(2):
        Image.fromarray(np.rot90(sample_pixels(), index + 1)).save(folder / "photos" / f"more{index}.png")


def make_films(folder: Path) -> None:
    """Write a film of 66 small pictures, one each second, as a container of each kind that the pages name."""
    import av

    for name, codec in (("film.mkv", "libx264"), ("film.mp4", "libx264"), ("old.mpg", "mpeg2video")):
        rate = 25 if codec == "mpeg2video" else 1
        with av.open(folder / name, "w") as container:
            stream = container.add_stream(codec, rate=rate)
            stream.width, stream.height, stream.pix_fmt = 32, 16, "yuv420p"
            for index in range(10 if codec == "mpeg2video" else 66):
                pixels = np.roll(sample_pixels()[60:76, 90:122], index, axis=1)
                frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
                frame.pts, frame.time_base = index, Fraction(1, rate)
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))


def link_data(folder: Path, data: Path) -> None:
    """Put published weights and a test set beside them."""
    for name in WEIGHTS:
        source = data / "weights" / name
        (folder / source.name).symlink_to(source)
    (folder / "Set5").symlink_to(data / "testsets" / "Set5")

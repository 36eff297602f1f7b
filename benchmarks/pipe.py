"""Measure what reading, converting, stitching and writing cost beside the network, and what their overlap saves.

    python benchmarks/pipe.py [--data FOLDER] [--backend auto] [--rounds 7] [--output benchmarks/results/pipe.json]

Three measurements on the CPU, whose candidates run in one process in random order within each round, after a round
that is not counted. The machine's facts are recorded with them:

- one 1000x1000 image through the bundled LKDN-S x4, from PNG to PNG, JPEG to JPEG and PNG to TIFF: seconds spent
  reading, upscaling and writing, and, after each, in the network alone on the same windows, halos included. Quote the
  share of everything but the network. An engine that makes pixels itself computes only the rows that they need, so the
  network alone, which gives all values, may take longer than upscaling; therefore there is also the time to give one
  column of each window's pixels, for which the engine computes the same rows;
- the 4000x4000 result as PNG, by `write_picture` and by Pillow with each of zlib's levels and strategies: seconds and
  bytes;
- several files one by one against `upscale_files`, which reads and writes while the network works. Quote the ratio.

Images are squares from the middle of the photographs in FOLDER, shrunk; without it, the bundled photograph enlarged,
which is smoother than photographs are and so compresses better and faster.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lkdn_deploy import Upscaler, load
from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.core.protocols import PixelSession
from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.files.read import image_files, read_picture, read_rgb
from lkdn_deploy.imaging.files.write import write_picture
from lkdn_deploy.imaging.pixels import Pixels, to_batch
from lkdn_deploy.runtime.files import upscale_files
from lkdn_deploy.runtime.outcomes import Failed, Job
from lkdn_deploy.samples import sample_pixels

SIDE, SMALL_SIDE, FILES = 1000, 500, 6
FORMATS = {"png": (".png", ".png"), "jpeg": (".jpg", ".jpg"), "png_to_tiff": (".png", ".tif")}
STRATEGIES = {"filtered": 1, "huffman_only": 2, "rle": 3}
PILLOW = {
    **{f"level {level}": {"compress_level": level} for level in (1, 2, 3, 4, 6, 9)},
    **{
        f"{name}, level {level}": {"compress_type": value, "compress_level": level}
        for name, value in STRATEGIES.items()
        if name != "filtered"  # which is Pillow's default for PNG
        for level in (1, 6)
    },
}


def main() -> None:
    """Run all measurements and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, help="folder of photographs of 1000x1000 and more")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "pipe.json")
    options = parser.parse_args()
    images = squares(options.data, FILES)
    upscaler = load("lkdn-s", 4, backend=options.backend)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = {
            "machine": machine_facts(),
            "backend": upscaler.session.backend,
            "photographs": "bundled" if options.data is None else f"{len(images)} of a folder",
            "ends": ends(upscaler, images[0], folder, options.rounds),
            "png_encoders": png_encoders(upscaler(np.asarray(images[0])), folder, options.rounds),
            "overlap": overlap(upscaler, images, folder, options.rounds),
        }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def squares(folder: Path | None, count: int) -> list[Image.Image]:
    """Return ``count`` images of 1000x1000."""
    sources = [sample_pixels()] if folder is None else (read_rgb(path) for path in image_files(folder))
    images = []
    for pixels in sources:
        side = min(pixels.shape[:2])
        if folder is None or side >= SIDE:
            top, left = ((size - side) // 2 for size in pixels.shape[:2])
            square = Image.fromarray(pixels[top : top + side, left : left + side])
            images.append(square.resize((SIDE, SIDE), Image.Resampling.LANCZOS))
        if len(images) == count:
            break
    return [images[index % len(images)] for index in range(count)]


def ends(upscaler: Upscaler, image: Image.Image, folder: Path, rounds: int) -> dict[str, Any]:
    """Measure the seconds of each step from file to file, by formats."""
    for suffix in (".png", ".jpg"):
        image.save(folder / f"in{suffix}", quality=95)
    parts: dict[str, list[dict[str, float]]] = {name: [] for name in FORMATS}
    for number, name in in_turn(FORMATS, rounds):
        source, target = (folder / f"{word}{suffix}" for word, suffix in zip(("in", "out"), FORMATS[name], strict=True))
        start = time.perf_counter()
        picture = read_picture(source)
        read = time.perf_counter()
        large = picture.with_pixels(upscaler.upscale(picture.pixels).pixels)
        upscaled = time.perf_counter()
        write_picture(target, large)
        end = time.perf_counter()
        alone, giving_little = network_alone(upscaler, picture.pixels)
        if number:
            row = {"read": read - start, "upscale": upscaled - read, "write": end - upscaled, "network_alone": alone}
            row["share_of_ends"] = 1 - alone / (end - start)
            if giving_little is not None:
                row["network_giving_one_column"] = giving_little
                row["share_of_ends_and_giving"] = 1 - giving_little / (end - start)
            parts[name].append(row)
    return {
        "input": f"{SIDE}x{SIDE}",
        "tiles": len(upscaler.plan(SIDE, SIDE)),
        "formats": {
            name: {part: spread(row[part] for row in rows) for part in rows[0]} for name, rows in parts.items()
        },
    }


def network_alone(upscaler: Upscaler, pixels: Pixels) -> tuple[float, float | None]:
    """Measure the session on the windows of an image, and on one column of each if it makes pixels, in seconds.

    Results share memory, as in the upscaler.
    """
    session = upscaler.session
    tiles = upscaler.plan(*pixels.shape[:2])
    batches = [to_batch(pixels[tile.window]) for tile in tiles]
    start = time.perf_counter()
    for _ in session.run_many(batches):
        pass
    alone = time.perf_counter() - start
    if not isinstance(session, PixelSession):
        return alone, None
    column = np.empty((upscaler.scale * pixels.shape[0], 1, 3), np.uint8)
    start = time.perf_counter()
    for batch, tile in zip(batches, tiles, strict=True):
        rows, columns = tile.kept(upscaler.scale)
        session.fill(batch, (rows, slice(columns.start, columns.start + 1)), column[: rows.stop - rows.start])
    return alone, time.perf_counter() - start


def png_encoders(pixels: np.ndarray[Any, Any], folder: Path, rounds: int) -> dict[str, Any]:
    """Measure seconds and bytes of one picture's file, by this toolkit's threads and by Pillow."""
    image, path = Image.fromarray(pixels), folder / "encoded.png"
    encoders: dict[str, Callable[[], object]] = {
        f"write_picture, threads={threads}": partial(write_picture, path, Picture(pixels), threads=threads)
        for threads in (1, None)
    }
    encoders |= {f"Pillow, {name}": partial(image.save, path, **options) for name, options in PILLOW.items()}
    seconds: dict[str, list[float]] = {name: [] for name in encoders}
    sizes = {}
    for number, name in in_turn(encoders, rounds):
        start = time.perf_counter()
        encoders[name]()
        if number:
            seconds[name].append(time.perf_counter() - start)
        sizes[name] = path.stat().st_size
    return {
        "image": f"{image.width}x{image.height}",
        "encoders": {name: {"bytes": sizes[name], "seconds": spread(seconds[name])} for name in encoders},
    }


def overlap(upscaler: Upscaler, images: list[Image.Image], folder: Path, rounds: int) -> dict[str, Any]:
    """Measure the seconds of all files one by one, and overlapped."""
    jobs = []
    for index, image in enumerate(images):
        source = folder / f"{index}.png"
        image.resize((SMALL_SIDE, SMALL_SIDE), Image.Resampling.LANCZOS).save(source)
        jobs.append(Job(source, folder / f"{index}_x4.png", overwrite=True))

    def take(*some: Job) -> None:
        for outcome in upscale_files(upscaler, some):
            if isinstance(outcome, Failed):
                raise outcome.error

    def one_by_one() -> None:
        for job in jobs:
            take(job)

    candidates: dict[str, Callable[[], None]] = {"one_by_one": one_by_one, "overlapped": lambda: take(*jobs)}
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    for number, name in in_turn(candidates, rounds):
        start = time.perf_counter()
        candidates[name]()
        if number:
            seconds[name].append(time.perf_counter() - start)
    ratios = [after / before for before, after in zip(seconds["one_by_one"], seconds["overlapped"], strict=True)]
    return {
        "files": f"{len(jobs)} of {SMALL_SIDE}x{SMALL_SIDE}, PNG to PNG",
        "seconds": {name: spread(values) for name, values in seconds.items()},
        "overlapped_over_one_by_one": spread(ratios),
    }


def in_turn(names: Iterable[str], rounds: int) -> Iterable[tuple[int, str]]:
    """Yield the round, 0 for the one that is not counted, and a name: each once a round, in random order."""
    order = list(names)
    for number in range(rounds + 1):
        random.Random(number).shuffle(order)
        for name in order:
            yield number, name


def spread(values: Iterable[float]) -> dict[str, float]:
    """Summarise a few measurements."""
    values = sorted(values)
    return {
        "median": round(statistics.median(values), 4),
        "min": round(values[0], 4),
        "max": round(values[-1], 4),
    }


if __name__ == "__main__":
    main()

"""Measure a film against the network alone, and against scripts that do the same with PyTorch or ONNX Runtime.

    python benchmarks/film.py [--size 640x360] [--frames 36] [--rounds 3] [--without torch] [--output FILE.json]

A film of H.264 with sound is made of the bundled photograph, enlarged and moved. The candidates upscale it with the
bundled LKDN-S x2, in one process, each once per round in changing order, after a round that is not counted:

- `network`: the network alone on the same pictures, which are in memory as it takes them; nothing is decoded, converted
  or encoded. Quote the share of its speed that `film` reaches;
- `film`: `lkdn_deploy.video` from file to file, with the sound, libx264 at its defaults;
- `network int16` and `film int16`: the same with `--precision int16`, where the native engine has it, and how many
  pictures were computed again in FP32;
- `script with ONNX Runtime` and `script with PyTorch`: what one would write oneself. PyAV decodes, the network runs as
  it was exported or trained, PyAV encodes by the same settings, one after the other; the sound is left out.

Quote ratios of pictures per second: those of one round are compared with each other.
"""

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from fractions import Fraction
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image

from lkdn_deploy import Upscaler, load
from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.core.errors import LkdnError
from lkdn_deploy.core.protocols import PixelSession
from lkdn_deploy.imaging.pixels import to_batch
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.samples import sample_pixels
from lkdn_deploy.video.rendering import FilmSettings, begin_film, render

SCALE = 2
RATE = 25
ENCODER = {"preset": "medium", "crf": "18", "x264-params": "mbtree=0"}  # as the toolkit sets it


def main() -> None:
    """Run all candidates, and print the result as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="640x360")
    parser.add_argument("--frames", type=int, default=36)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--without", choices=["torch", "onnxruntime"], action="append", default=[])
    parser.add_argument("--output", type=Path, help="default: nothing is written")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    upscalers = {"": load("lkdn-s", SCALE, backend=options.backend)}
    with suppress(LkdnError):  # another backend, or a processor without code for it
        upscalers[" int16"] = load("lkdn-s", SCALE, backend=options.backend, precision="int16")
    with tempfile.TemporaryDirectory() as name:
        film, target = Path(name) / "film.mkv", Path(name) / "large.mkv"
        make_film(film, width, height, options.frames)
        candidates: dict[str, Callable[[], None]] = {}
        for suffix, upscaler in upscalers.items():
            candidates[f"network{suffix}"] = network_alone(upscaler, film)
            candidates[f"film{suffix}"] = partial(render_film, upscaler, film, target)
        if "onnxruntime" not in options.without:
            candidates["script with ONNX Runtime"] = script(film, target, onnxruntime_network())
        if "torch" not in options.without:
            candidates["script with PyTorch"] = script(film, target, torch_network())
        again = pictures_again(upscalers[" int16"], candidates["network int16"]) if " int16" in upscalers else None
        rates = measure(candidates, options.frames, options.rounds)
    results: dict[str, Any] = {
        "machine": machine_facts(),
        "backend": upscalers[""].session.backend,
        "film": f"{options.frames} pictures of {options.size}, H.264 to H.264, x{SCALE}",
        "pictures_per_second": {name: spread(values) for name, values in rates.items()},
        "film_over": {
            name: spread([ours / theirs for ours, theirs in zip(rates["film"], values, strict=True)])
            for name, values in rates.items()
            if name != "film"
        },
    }
    if " int16" in upscalers:
        pairs = zip(rates["film int16"], rates["film"], strict=True)
        results["film_int16_over_film"] = spread([int16 / fp32 for int16, fp32 in pairs])
        results["pictures_again_in_fp32"] = again
    if options.output is not None:
        options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def make_film(path: Path, width: int, height: int, frames: int) -> None:
    """Write a film whose picture moves over a photograph, with a tone."""
    large = Image.fromarray(sample_pixels()).resize((width + 2 * frames, height + frames), Image.Resampling.LANCZOS)
    with av.open(str(path), "w") as container:
        video: Any = container.add_stream("libx264", rate=RATE, width=width, height=height, options={"crf": "16"})
        sound: Any = container.add_stream("aac", rate=48000)
        for number in range(frames):
            picture = large.crop((2 * number, number, 2 * number + width, number + height))
            frame = av.VideoFrame.from_image(picture)
            frame.pts, frame.time_base = number, Fraction(1, RATE)
            container.mux(video.encode(frame))
            times = np.arange(number * 1920, (number + 1) * 1920)
            tone = av.AudioFrame.from_ndarray(np.sin([times / 20] * 2).astype(np.float32), "fltp", "stereo")
            tone.sample_rate, tone.pts = 48000, number * 1920
            container.mux(sound.encode(tone))
        container.mux(video.encode(None))
        container.mux(sound.encode(None))


def network_alone(upscaler: Upscaler, film: Path) -> Callable[[], None]:
    """Return a function that runs the network on all pictures, as batches that are in memory."""
    with av.open(str(film)) as container:
        batches = [to_batch(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)]
    height, width = batches[0].shape[2:]
    session = upscaler.session
    large = np.empty((SCALE * height, SCALE * width, 3), np.uint8)
    whole = np.s_[: SCALE * height, : SCALE * width]

    def run() -> None:
        if isinstance(session, PixelSession):
            for batch in batches:
                session.fill(batch, whole, large)
        else:
            for _ in session.run_many(batches):
                pass

    return run


def pictures_again(upscaler: Upscaler, network: Callable[[], None]) -> str:
    """Return how many pictures of a run are computed again in FP32."""
    upscaler.session.range_use()
    network()
    use = upscaler.session.range_use()
    return "" if use is None else f"{use.again} of {use.windows}"


def render_film(upscaler: Upscaler, film: Path, target: Path) -> None:
    """Upscale the film as ``lkdn-upscale`` does."""
    render(upscaler, begin_film(film, target, FilmSettings(overwrite=True)))


def script(film: Path, target: Path, network: Callable[[np.ndarray[Any, Any]], Any]) -> Callable[[], None]:
    """Return a function that decodes, runs a network and encodes, one after the other."""

    def run() -> None:
        with av.open(str(film)) as source, av.open(str(target), "w") as result:
            pictures = source.streams.video[0]
            pictures.thread_type = "AUTO"
            video: Any = result.add_stream("libx264", rate=pictures.average_rate, options=ENCODER)
            video.width, video.height, video.pix_fmt = SCALE * pictures.width, SCALE * pictures.height, "yuv420p"
            for frame in source.decode(pictures):
                batch = frame.to_ndarray(format="rgb24").transpose(2, 0, 1)[None].astype(np.float32) / 255
                values = np.clip(network(batch)[0], 0, 1).transpose(1, 2, 0)
                large = av.VideoFrame.from_ndarray(np.rint(values * 255).astype(np.uint8), format="rgb24")
                large.pts, large.time_base = frame.pts, frame.time_base
                result.mux(video.encode(large))
            result.mux(video.encode(None))

    return run


def onnxruntime_network() -> Callable[[np.ndarray[Any, Any]], Any]:
    """Open the exported file on ONNX Runtime, as it is."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(bundled()["lkdn-s", SCALE]), providers=["CPUExecutionProvider"])
    (name,) = (node.name for node in session.get_inputs())
    return lambda batch: session.run(None, {name: batch})[0]


def torch_network() -> Callable[[np.ndarray[Any, Any]], Any]:
    """Open the checkpoint in PyTorch."""
    import torch

    import lkdn_models
    from lkdn_models.checkpoint import load_checkpoint

    weights = Path(lkdn_models.__file__).parent / "weights" / f"lkdn-s_x{SCALE}.safetensors"
    network = load_checkpoint(weights).build().eval()

    def run(batch: np.ndarray[Any, Any]) -> Any:
        with torch.inference_mode():
            return network(torch.from_numpy(batch)).numpy()

    return run


def measure(candidates: dict[str, Callable[[], None]], frames: int, rounds: int) -> dict[str, list[float]]:
    """Return the pictures per second of each candidate in each round."""
    rates: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates)
    for number in range(rounds + 1):
        random.Random(number).shuffle(order)
        for name in order:
            start = time.perf_counter()
            candidates[name]()
            if number:
                rates[name].append(frames / (time.perf_counter() - start))
    return rates


def spread(values: list[float]) -> dict[str, float]:
    """Summarise a few measurements."""
    return {"median": round(statistics.median(values), 4), "min": round(min(values), 4), "max": round(max(values), 4)}


if __name__ == "__main__":
    main()

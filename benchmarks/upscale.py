"""Measure start-up, time and memory of `lkdn-upscale` on this machine's CPU.

    python benchmarks/upscale.py [--rounds 5] [--output benchmarks/results/upscale.json]

Three measurements, written with the machine's facts:

- whole processes from a 64x64 PNG to a PNG, by each backend, with a warm user's cache, and `lkdn-upscale --help`; and
  the steps of one process on the default backend;
- a 2000x1500 photograph x4 with the bundled LKDN-S, PNG to PNG and JPEG to JPEG: the whole process, after one that is
  not counted, against the network alone on the same windows, halos included, in turn; quote the ratio. When the native
  engine makes pixels, it computes only the rows that they need, so the time of making one column of each window's
  pixels is also measured. So is the whole process after a pause: virtual machines return free memory to their host
  within seconds, and getting 2 MB again takes 5 ms where clearing them takes 0.2. And the process's peak memory;
- growth of a process's memory over one run of the network, per LR pixel, against the estimate that chooses tile sizes.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.core.protocols import PixelSession
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.samples import sample_pixels

UPSCALE = [sys.executable, "-c", "from lkdn_deploy.cli.upscale import main; main()"]
BACKENDS = ("native", "ort-cpu", "openvino")
WIDTH, HEIGHT = 2000, 1500
SUFFIXES = (".png", ".jpg")
PAUSE = 5  # seconds


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--photograph", type=Path, help="2000x1500 pixels or more; default: the bundled one, enlarged")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "upscale.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = {
            "machine": machine_facts(),
            "start_up": start_up(folder, options.rounds),
            "photograph": photograph(folder, options.rounds, options.photograph),
            "bytes_per_lr_pixel": {backend: bytes_per_pixel(backend) for backend in BACKENDS},
        }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def start_up(folder: Path, rounds: int) -> dict[str, Any]:
    """Measure the seconds of whole processes, in turn, and of the steps of one."""
    small, target = folder / "small.png", folder / "small_x4.png"
    Image.fromarray(sample_pixels()[:64, :64]).save(small)
    commands = {"--help": [*UPSCALE, "--help"], "python alone": [sys.executable, "-c", ""]}
    for backend in BACKENDS:
        commands[backend] = [*UPSCALE, str(small), str(target), "--overwrite", "--backend", backend]
    run = lambda command: lambda: subprocess.run(command, check=True, capture_output=True)  # noqa: E731
    seconds = in_turn({name: run(command) for name, command in commands.items()}, rounds)
    for figures in seconds.values():
        del figures["values"]
    code = """
import json, sys, time
steps = [("", time.perf_counter())]
def step(name): steps.append((name, time.perf_counter()))
from lkdn_deploy import load
from lkdn_deploy.imaging.files.read import read_picture
from lkdn_deploy.imaging.files.write import write_picture
step("importing")
upscaler = load()
step("opening the network")
picture = read_picture(sys.argv[1])
step("reading")
large = picture.with_pixels(upscaler.upscale(picture.pixels).pixels)
step("upscaling")
write_picture(sys.argv[2], large)
step("writing")
print(json.dumps({"backend": upscaler.session.backend} | {
    name: round(end - start, 4) for (_, start), (name, end) in zip(steps, steps[1:])
}))
"""
    parts = [measured(code, str(small), str(target)) for _ in range(rounds)]
    steps = {name: statistics.median(part[name] for part in parts) for name in parts[0] if name != "backend"}
    return {"processes": seconds, "steps": {"backend": parts[0]["backend"], **steps}}


def photograph(folder: Path, rounds: int, given: Path | None) -> dict[str, Any]:
    """Measure whole processes against the network alone, by format, and peak memory in MiB."""
    source = Image.open(given).convert("RGB") if given else Image.fromarray(sample_pixels())
    scale = max(WIDTH / source.width, HEIGHT / source.height)
    size = max(WIDTH, round(source.width * scale)), max(HEIGHT, round(source.height * scale))
    image = source.resize(size, Image.Resampling.LANCZOS).crop((0, 0, WIDTH, HEIGHT))
    files = {suffix: folder / f"large{suffix}" for suffix in SUFFIXES}
    for path in files.values():
        image.save(path, quality=95)
    network = NetworkAlone(files[".png"])
    candidates: dict[str, Callable[[], object]] = {"network alone": network}
    if isinstance(network.session, PixelSession):
        candidates["network giving one column"] = partial(network.give_one_column, network.session)
    before: dict[str, Callable[[], object]] = {}
    peaks: dict[str, list[int]] = {suffix: [] for suffix in SUFFIXES}
    for suffix, path in files.items():
        process = lambda suffix=suffix, path=path: peaks[suffix].append(  # noqa: E731
            upscaled(path, folder / f"large_x4{suffix}")
        )
        for name, first in ((suffix, process), (f"{suffix} after a pause", lambda: time.sleep(PAUSE))):
            candidates[name], before[name] = process, first
    seconds = in_turn(candidates, rounds, before)
    parts = {name: seconds[name].pop("values") for name in candidates if name not in before}
    for name in before:
        values = seconds[name].pop("values")
        for part, of_part in parts.items():
            ratios = [whole / alone for whole, alone in zip(values, of_part, strict=True)]
            seconds[name][f"over_{part}".replace(" ", "_")] = spread(ratios)
    for suffix in SUFFIXES:
        seconds[suffix]["peak_mib"] = max(peaks[suffix])
    return {
        "photograph": given.name if given else "the bundled one, enlarged",
        "input": f"{WIDTH}x{HEIGHT}",
        "backend": network.backend,
        "windows": network.windows,
        "seconds": seconds,
    }


class NetworkAlone:
    """The network of `lkdn-upscale` on the windows of an image, without anything else."""

    def __init__(self, path: Path) -> None:
        from lkdn_deploy import load
        from lkdn_deploy.imaging.files.read import read_picture
        from lkdn_deploy.imaging.pixels import to_batch

        upscaler = load()
        picture = read_picture(path)
        tiles = upscaler.plan(picture.height, picture.width)
        self.session = upscaler.session
        self._batches = [to_batch(picture.pixels[tile.window]) for tile in tiles]
        self._kept = [tile.kept(upscaler.scale) for tile in tiles]
        self.backend, self.windows = upscaler.session.backend, len(tiles)

    def __call__(self) -> None:
        for _ in self.session.run_many(self._batches):  # as the upscaler does: results share memory
            pass

    def give_one_column(self, session: PixelSession) -> None:
        """Compute the pixels that the upscaler asks for."""
        for batch, (rows, columns) in zip(self._batches, self._kept, strict=True):
            column = np.empty((rows.stop - rows.start, 1, 3), np.uint8)
            session.fill(batch, (rows, slice(columns.start, columns.start + 1)), column)


def upscaled(source: Path, target: Path) -> int:
    """Measure the peak resident memory of `lkdn-upscale` in MiB."""
    code = (
        "import json, sys; from lkdn_deploy.cli.upscale import main\n"
        "sys.argv += ['--json', '--overwrite']\ntry: main()\nfinally: print(json.dumps(peak() >> 20))"
    )
    return int(measured(code, str(source), str(target)))


def bytes_per_pixel(backend: str) -> dict[str, Any]:
    """Measure the growth of the peak over one run of LKDN-S x4 at 500x500, against the estimate for tile sizes."""
    artefact = bundled()["lkdn-s", 4]
    code = (
        "import sys; import numpy as np; from lkdn_deploy.backends.registry import open_session\n"
        "from lkdn_deploy.runtime.optimised import optimised_for\n"
        "session = open_session(Path(sys.argv[1]), sys.argv[2], optimise=optimised_for); before = peak()\n"
        "session.run(np.zeros((1, 3, 500, 500), np.float32)); print((peak() - before) // 500**2)"
    )
    found = measured(code, str(artefact), backend)
    return {"measured": found, "assumed": open_session(artefact, backend).bytes_per_pixel()}


def in_turn(
    candidates: dict[str, Callable[[], object]], rounds: int, before: Mapping[str, Callable[[], object]] | None = None
) -> dict[str, dict[str, Any]]:
    """Time the candidates round by round, in random order within each, after one call that is not counted.

    Args:
        candidates: functions to time.
        rounds: number of rounds.
        before: functions to call, untimed, before the candidate of the same name.
    """
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates)
    for number in range(rounds + 1):
        random.Random(number).shuffle(order)
        for name in order:
            if before and name in before:
                before[name]()
            start = time.perf_counter()
            candidates[name]()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {name: {**spread(values), "values": values} for name, values in seconds.items()}


def spread(values: list[float]) -> dict[str, float]:
    """Summarise a few measurements."""
    return {"median": round(statistics.median(values), 3), "min": round(min(values), 3), "max": round(max(values), 3)}


# A process's own high-water mark: what getrusage gives would begin with that of the process that started it.
PEAK = """
import re
from functools import partial
from pathlib import Path
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
"""


def measured(code: str, *args: str) -> Any:
    """Run ``code``, which may call ``peak()`` and prints JSON in its last line, in a new process. Linux only."""
    done = subprocess.run([sys.executable, "-c", PEAK + code, *args], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


if __name__ == "__main__":
    main()

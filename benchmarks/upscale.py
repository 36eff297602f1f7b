"""Start-up cost, speed and memory of upscaling on this machine's CPU.

    python benchmarks/upscale.py [--rounds 7] [--output benchmarks/results/upscale.json]

Three measurements, written with the machine's facts:

- `lkdn-upscale` of a 64x64 image, the whole process, and of `lkdn-upscale --help`;
- one image of 320x180 through LKDN-S and LKDN, the fused network on ONNX Runtime against the same network in PyTorch
  eager, in turn in one process (A B A B), both with the same number of threads; the ratio is what to quote;
- peak memory of `lkdn-upscale` on a 2000x1500 image, and of one run of the network per LR pixel.

LKDN has random weights here: time and memory do not depend on them.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import torch
from PIL import Image

from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_deploy.export.job import ExportSettings, export_onnx, open_checkpoint
from lkdn_deploy.fuse.plan import fuse_state
from lkdn_deploy.runtime.bundled import find
from lkdn_deploy.samples import sample_pixels
from lkdn_models.checkpoint import Checkpoint, load_checkpoint, save_checkpoint
from lkdn_models.lkdn import LKDN

UPSCALE = [sys.executable, "-c", "from lkdn_deploy.cli.upscale import main; main()"]
HEIGHT, WIDTH = 180, 320


def main() -> None:
    """Measure and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "upscale.json")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoints = {"lkdn-s": open_checkpoint(None), "lkdn": random_lkdn(folder)}
        artefacts = {"lkdn-s": find("lkdn-s", 4)}
        artefacts["lkdn"] = export_onnx(checkpoints["lkdn"], folder / "lkdn.onnx", ExportSettings()).path
        results = {
            "machine": machine_facts(),
            "start_up": start_up(folder, options.rounds),
            "speed": {key: speed(artefacts[key], checkpoints[key], options.rounds) for key in artefacts},
            "memory": {
                "lkdn_upscale_2000x1500": peak_of_upscale(folder),
                "bytes_per_lr_pixel": {key: bytes_per_pixel(path) for key, path in artefacts.items()},
            },
        }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def random_lkdn(folder: Path) -> Checkpoint:
    """LKDN x4 with random weights."""
    spec = LkdnSpec.lkdn(4)
    save_checkpoint(folder / "lkdn.safetensors", spec, LKDN(spec).state_dict())
    return load_checkpoint(folder / "lkdn.safetensors")


def start_up(folder: Path, rounds: int) -> dict[str, Any]:
    """Seconds of whole processes, in turn."""
    small, target = folder / "small.png", folder / "small_x4.png"
    Image.fromarray(sample_pixels()[:64, :64]).save(small)
    commands = {"upscale_64x64": [*UPSCALE, str(small), str(target), "--overwrite"], "help": [*UPSCALE, "--help"]}
    run = lambda command: lambda: subprocess.run(command, check=True, capture_output=True)  # noqa: E731
    return in_turn({name: run(command) for name, command in commands.items()}, rounds)


def speed(artefact: Path, checkpoint: Checkpoint, rounds: int) -> dict[str, Any]:
    """Milliseconds a LR megapixel on ONNX Runtime and in PyTorch eager, and their ratio."""
    threads = psutil.cpu_count(logical=False) or 1
    torch.set_num_threads(threads)
    session = open_session(artefact, "ort-cpu", threads=threads)
    fused = fuse_state({name: value.numpy() for name, value in checkpoint.state.items()}, checkpoint.spec)
    network = LKDN(fused.spec).eval()
    network.load_state_dict({name: torch.from_numpy(value) for name, value in fused.state.items()})
    batch = np.random.default_rng(0).random((1, 3, HEIGHT, WIDTH), np.float32)
    tensor = torch.from_numpy(batch)
    with torch.inference_mode():
        difference = float(np.abs(network(tensor).numpy() - session.run(batch)).max())
        times = in_turn({"ort_cpu": lambda: session.run(batch), "torch_eager": lambda: network(tensor)}, rounds)
    megapixels = HEIGHT * WIDTH / 1e6
    return {
        "input": f"{WIDTH}x{HEIGHT}",
        "threads": threads,
        "max_difference": difference,
        "ms_per_lr_megapixel": {name: round(1e3 * value["median"] / megapixels) for name, value in times.items()},
        "ort_cpu_over_torch_eager": round(times["ort_cpu"]["median"] / times["torch_eager"]["median"], 3),
        "seconds": times,
    }


def in_turn(candidates: dict[str, Callable[[], object]], rounds: int) -> dict[str, Any]:
    """Time the candidates round by round, in random order within each, after one call that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    order = list(candidates)
    for number in range(rounds + 1):
        random.Random(number).shuffle(order)
        for name in order:
            start = time.perf_counter()
            candidates[name]()
            if number:
                seconds[name].append(time.perf_counter() - start)
    return {
        name: {"median": statistics.median(values), "min": min(values), "max": max(values), "rounds": rounds}
        for name, values in seconds.items()
    }


# A process's own high-water mark: what getrusage gives would begin with that of the process that started it.
PEAK = """
import re
from pathlib import Path
def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) * 1024
"""


def measured(code: str, *args: str) -> Any:
    """Run ``code``, which may call ``peak()`` and prints JSON in its last line, in a process of its own. Linux only."""
    done = subprocess.run([sys.executable, "-c", PEAK + code, *args], check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def peak_of_upscale(folder: Path) -> dict[str, Any]:
    """Peak resident memory (MiB) and wall time (s) of `lkdn-upscale` from 2000x1500 to PNG."""
    large = folder / "large.png"
    Image.fromarray(np.tile(sample_pixels(), (9, 9, 1))[:1500, :2000]).save(large)
    code = (
        "import json, sys; from lkdn_deploy.cli._shell import run; from lkdn_deploy.cli.upscale import command\n"
        "run(command, [*sys.argv[1:], '--json']); print(json.dumps(peak() >> 20))"
    )
    start = time.perf_counter()
    peak = measured(code, str(large), str(folder / "large_x4.png"))
    return {"peak_mib": peak, "seconds": round(time.perf_counter() - start, 1)}


def bytes_per_pixel(artefact: Path) -> dict[str, Any]:
    """Growth of the peak over one run at 500x500, against what tile sizes are chosen by."""
    code = (
        "import sys; import numpy as np; from lkdn_deploy.backends.registry import open_session\n"
        "session = open_session(Path(sys.argv[1]), 'ort-cpu'); before = peak()\n"
        "session.run(np.zeros((1, 3, 500, 500), np.float32)); print((peak() - before) // 500**2)"
    )
    return {"measured": measured(code, str(artefact)), "assumed": open_session(artefact, "ort-cpu").bytes_per_pixel()}


if __name__ == "__main__":
    main()

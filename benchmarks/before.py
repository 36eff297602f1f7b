"""Check that the native engine in FP32 is as fast as at an earlier commit.

    python benchmarks/before.py [--commit COMMIT] [--size WxH ...] [--rounds 12] [--threads 2]
                                [--output benchmarks/results/before.json]

The default commit is the last one without 16-bit fixed point, which shares the code generator with FP32. Each round
starts a process for this tree and one for the commit's, in random order. Each of them opens the same bundled LKDN-S x4,
runs it some times without timing, and gives the median of some runs, from pixels to pixels. Quote the ratio.
"""

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.bench.measure.statistics import bootstrap_ratio
from lkdn_deploy.core.files import publish
from lkdn_deploy.runtime.bundled import bundled

ROOT = Path(__file__).parents[1]
WITHOUT_FIXED_POINT = "d889b33"

WORKER = """
import sys, time
from pathlib import Path
import numpy as np
from lkdn_deploy.backends.native.session import NativeSession
from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.samples import sample_pixels

path, threads, height, width = Path(sys.argv[1]), *map(int, sys.argv[2:])
session = NativeSession(read_artifact(path), threads)
pixels = np.tile(sample_pixels(), (-(-height // 100), -(-width // 100), 1))[:height, :width]
batch = np.ascontiguousarray(pixels.transpose(2, 0, 1)[None].astype(np.float32) / 255)
large = np.empty((4 * height, 4 * width, 3), np.uint8)
times = []
for run in range(12):
    start = time.perf_counter()
    session.fill(batch, np.s_[:, :], large)
    times.append(time.perf_counter() - start)
print(1000 * float(np.median(times[4:])))
"""


def main() -> None:
    """Measure, print the results and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--commit", default=WITHOUT_FIXED_POINT)
    parser.add_argument("--size", action="append", default=[], metavar="WxH")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "before.json")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name, checked_out(options.commit, Path(name) / "tree") as before:
        for size in options.size or ["320x180", "640x360"]:
            rows.append(compared(size, before, options.threads, options.rounds))
            print(json.dumps(rows[-1]), flush=True)
    facts = {"machine": machine_facts(options.threads), "commit": options.commit, "rounds": options.rounds}
    with publish(options.output) as part:
        part.write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")


@contextmanager
def checked_out(commit: str, folder: Path) -> Iterator[Path]:
    """Check a commit out into a folder."""
    git = ["git", "-C", str(ROOT), "worktree"]
    subprocess.run([*git, "add", "--quiet", "--detach", str(folder), commit], check=True)
    try:
        yield folder
    finally:
        subprocess.run([*git, "remove", "--force", str(folder)], check=True)


def compared(size: str, before: Path, threads: int, rounds: int) -> dict[str, Any]:
    """Time both trees at one size; the first round fills their caches and is not counted."""
    width, height = map(int, size.split("x"))
    times: dict[Path, list[float]] = {ROOT: [], before: []}
    for number in range(rounds + 1):
        for tree in random.Random(number).sample([*times], len(times)):
            value = in_process(tree, threads, height, width)
            if number:
                times[tree].append(value)
    ratio = bootstrap_ratio(times[ROOT], times[before])
    return {
        "size": size,
        "now ms": [round(it, 2) for it in times[ROOT]],
        "before ms": [round(it, 2) for it in times[before]],
        "now over before": [round(it, 4) for it in (ratio.value, ratio.low, ratio.high)] if ratio else None,
    }


def in_process(tree: Path, threads: int, height: int, width: int) -> float:
    """Return the milliseconds of a run with the package of a tree."""
    words = [sys.executable, "-c", WORKER, str(bundled()["lkdn-s", 4]), *map(str, (threads, height, width))]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tree), str(tree / "models")])}
    done = subprocess.run(words, env=environment, cwd=tree, stdout=subprocess.PIPE, text=True, check=True)
    return float(done.stdout)


if __name__ == "__main__":
    main()

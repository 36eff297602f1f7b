"""Measure the peak memory of `lkdn-upscale` on large pictures.

    python benchmarks/memory.py [--case 8000x6000.png:.png ...] [--max-memory SIZE] [--scale 2]
                                [--output benchmarks/results/memory.json]

Each case is a picture that is made here, a size and the suffix of its file, and the suffix of the result: by default
8000x6000 pixels to PNG, TIFF and JPEG, a minute or more each. The peak is the largest resident set of a whole process,
as the kernel counts it. Results of cases that were measured before, with the same limit and scale, are replaced; others
are kept.

A picture is the bundled photograph again and again, with noise in the lowest bits, so that its file is as large as a
photograph's.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.core.limits import parse_memory
from lkdn_deploy.imaging.files.picture import Description, Header
from lkdn_deploy.imaging.files.write import write_bands
from lkdn_deploy.imaging.pixels import Pixels
from lkdn_deploy.samples import sample_pixels

UPSCALE = [sys.executable, "-c", "from lkdn_deploy.cli.upscale import main; main()"]
CASES = ("8000x6000.png:.png", "8000x6000.png:.tif", "8000x6000.png:.jpg")


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--case", action="append", help=f"default: {', '.join(CASES)}")
    parser.add_argument("--max-memory", type=lambda text: text if parse_memory(text) else "")
    parser.add_argument("--scale", type=int, default=2)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "memory.json")
    options = parser.parse_args()
    kept = json.loads(options.output.read_text())["peaks"] if options.output.exists() else []
    peaks = {(each["case"], each["max_memory"], each["scale"]): each for each in kept}
    for case in options.case or CASES:
        with tempfile.TemporaryDirectory() as folder:
            peaks[case, options.max_memory, options.scale] = {
                "case": case,
                "max_memory": options.max_memory,
                "scale": options.scale,
                **peak(case, options.max_memory, options.scale, Path(folder)),
            }
        results = {"machine": machine_facts(), "peaks": list(peaks.values())}
        options.output.write_text(json.dumps(results, indent=2) + "\n")
        print(json.dumps(list(peaks.values()), indent=2))


def peak(case: str, max_memory: str | None, scale: int, folder: Path) -> dict[str, Any]:
    """Upscale one picture in a process of its own, and return what it took."""
    match = re.fullmatch(r"(\d+)x(\d+)(\.\w+):(\.\w+)", case)
    if match is None:
        sys.exit(f"expected a case such as {CASES[0]}, got {case}")
    source, target = folder / f"in{match[3]}", folder / f"out{match[4]}"
    header = Header(int(match[1]), int(match[2]), 3, 8)
    write_bands(source, Description(header), bands(header))
    command = [*UPSCALE, str(source), str(target), "--scale", str(scale), "--json", "--quiet"]
    command += ["--max-memory", max_memory] if max_memory else []
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    outcome = json.loads(process.stdout.read() if process.stdout else "")
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        sys.exit(f"{case} failed: {outcome}")
    return {
        "peak_mb": round(usage.ru_maxrss * 1024 / 1e6),  # Linux counts in KiB
        "tiles": outcome["tiles"],
        "backend": outcome["backend"],
        "seconds": round(time.perf_counter() - start, 1),
        "cpu_seconds": round(usage.ru_utime + usage.ru_stime, 1),
        "source_mb": round(source.stat().st_size / 1e6),
        "result_mb": round(target.stat().st_size / 1e6),
    }


def bands(header: Header) -> Iterator[Pixels]:
    """Yield the rows of a picture."""
    photograph, random = sample_pixels(), np.random.default_rng(0)
    for top in range(0, header.height, len(photograph)):
        rows = photograph[: header.height - top]
        band = np.tile(rows, (1, -(-header.width // rows.shape[1]), 1))[:, : header.width]
        yield np.minimum(band, 250) + random.integers(0, 4, band.shape, dtype=np.uint8)


if __name__ == "__main__":
    main()

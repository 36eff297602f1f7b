"""Measure `lkdn-serve` under load on the loopback interface, of a bounded size.

    python benchmarks/serve.py [--requests 200] [--clients 1 4 16] [--output benchmarks/results/serve.json]

The command runs with one worker on all cores and a queue of 8. For each number of clients, these ask for as many
results of a 320x180 picture, x4, from PNG to PNG, as they can, each when it has its answer. One that is refused with
503 asks again after a tenth of a second. Recorded are results a second, the time from request to answer, the share of
it in the network, and the refusals; and last the memory of the service before and after. The clients take a little of
the same cores. Quote results a second against `batch.json`, which has the time a picture of `lkdn-upscale` on a folder
of the same size.
"""

import argparse
import io
import json
import statistics
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import psutil
from PIL import Image

from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.samples import sample_pixels

WIDTH, HEIGHT, QUEUE = 320, 180, 8
COMMAND = [sys.executable, "-c", "from lkdn_deploy.cli import serve; serve()", "--port", "0", "--queue", str(QUEUE)]


def main() -> None:
    """Measure and write the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200, help="results for each number of clients")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "serve.json")
    options = parser.parse_args()
    machine = machine_facts()
    with subprocess.Popen(COMMAND, stdout=subprocess.PIPE, text=True) as process:
        address = process.stdout.readline().strip() if process.stdout else ""
        try:
            load(address, 1, 10)
            before = memory(process.pid)
            loads = [load(address, clients, options.requests) for clients in options.clients]
            after = memory(process.pid)
        finally:
            process.terminate()
    results = {
        "machine": machine,
        "input": f"{WIDTH}x{HEIGHT}, x4, PNG to PNG, one worker, a queue of {QUEUE}",
        "loads": loads,
        "memory_mib": {"before": before, "after": after},
    }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def picture() -> bytes:
    """Return a PNG file of the middle of the sample."""
    file = io.BytesIO()
    Image.fromarray(sample_pixels()).resize((WIDTH, HEIGHT)).save(file, "PNG")
    return file.getvalue()


def load(address: str, clients: int, requests: int) -> dict[str, Any]:
    """Return what a number of clients measure."""
    content, statuses, waited, network = picture(), Counter[int](), list[float](), list[float]()

    def ask(count: int) -> None:
        with httpx.Client(base_url=address, timeout=300, headers={"Content-Type": "image/png"}) as client:
            while count:
                start = time.perf_counter()
                response = client.post("/upscale", content=content)
                statuses[response.status_code] += 1
                if response.status_code == 503:
                    time.sleep(0.1)
                    continue
                response.raise_for_status()
                waited.append(time.perf_counter() - start)
                network.append(float(response.headers["Server-Timing"].partition("dur=")[2]) / 1000)
                count -= 1

    shares = [requests // clients + (index < requests % clients) for index in range(clients)]
    start = time.perf_counter()
    with ThreadPoolExecutor(clients) as threads:
        list(threads.map(ask, shares))
    seconds = time.perf_counter() - start
    cuts = statistics.quantiles(waited, n=100, method="inclusive")
    return {
        "clients": clients,
        "results": statuses[200],
        "refused": statuses[503],
        "results_a_second": round(statuses[200] / seconds, 2),
        "seconds_to_answer": {f"p{p}": round(cuts[p - 1], 4) for p in (50, 95, 99)},
        "seconds_in_network": round(statistics.median(network), 4),
    }


def memory(pid: int) -> float:
    """Return the memory of a process and its children, in MiB."""
    process = psutil.Process(pid)
    found = [each.memory_info().rss for each in (process, *process.children(recursive=True))]
    return round(sum(found) / 2**20, 1)


if __name__ == "__main__":
    main()

"""Check that repeated runs of `lkdn-bench` agree, and that its harness detects a planted slowdown.

    python benchmarks/repeat.py [--runs 3] [--rounds 30] [--model NAME ...] [--output benchmarks/results/repeat.json]

Two measurements:

- planted: LKDN-S x4 on ONNX Runtime at 320x180, reopened in each round, as three candidates: unchanged, unchanged
  again, and with a wait of a tenth of its median after each run. The harness should tell the third from the first, but
  not the second;
- repeated: `lkdn-bench --torch --ort` with its default models or those named, ``--runs`` times in separate processes.
  For every row, some value of the ratio to the first row should lie in the intervals of all runs; and a run's ratio
  should lie in the interval of another run for 93 of 100 pairs, since both scatter (2.58 standard errors of one are
  1.82 of a difference).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np

from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.bench.measure.harness import Run, WarmUpLimits, measure_rounds, timed
from lkdn_deploy.bench.measure.statistics import bootstrap_ratio
from lkdn_deploy.bench.results import Ratio, Report, read_report
from lkdn_deploy.bench.rows import timed_run
from lkdn_deploy.core.files import publish
from lkdn_deploy.core.limits import cores
from lkdn_deploy.runtime.bundled import bundled

BENCH = [sys.executable, "-c", "from lkdn_deploy.cli.bench import main; main()"]
SIZE = (180, 320)
PLANTED_ROUNDS = 30


def main() -> None:
    """Measure, print the results and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rounds", type=int, default=30, help="rounds of lkdn-bench")
    parser.add_argument("--model", action="append", default=[], help="model of lkdn-bench; repeatable")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "repeat.json")
    options = parser.parse_args()
    results: dict[str, Any] = {
        "machine": machine_facts(cores()),
        "rounds": options.rounds,
        "planted": [],
        "repeated": {},
    }
    for _ in range(options.runs):
        results["planted"].append(planted(PLANTED_ROUNDS))
        print(json.dumps(results["planted"][-1]), flush=True)
    results["repeated"] = repeated(options.runs, options.rounds, options.model)
    results["load after"] = machine_facts()["load before"]
    for row in results["repeated"]["rows"]:
        ratios = "  ".join("{value:.3f} [{low:.3f}, {high:.3f}]".format(**ratio) for ratio in row["ratios"])
        print(f"{row['row']:<28} {ratios}  {row['within']} of {row['pairs']} within")
    with publish(options.output) as part:
        part.write_text(json.dumps(results, indent=1) + "\n")


def planted(rounds: int) -> dict[str, Any]:
    """Measure the ratios of the second and the third candidate to the first."""
    batch = np.random.default_rng(0).random((1, 3, *SIZE), np.float32)

    def opened(_: int = 0) -> Run:
        session = open_session(bundled()["lkdn-s", 4], "ort-cpu", threads=cores())
        return timed_run(session, batch)

    run = opened()
    times = [timed(run)[0] for _ in range(11)]
    wait = 0.1 * float(np.median(times)) / 1e3

    def slowed(_: int) -> Run:
        run = opened()

        def slower() -> None:
            run()
            end = time.perf_counter() + wait
            while time.perf_counter() < end:
                pass

        return slower

    first, same, slow = measure_rounds([opened, opened, slowed], rounds, warm_up=WarmUpLimits()).each
    found = {"0 %": bootstrap_ratio(same.samples, first.samples), "10 %": bootstrap_ratio(slow.samples, first.samples)}
    return {name: said(ratio) for name, ratio in found.items() if ratio} | {"wait ms": round(wait * 1e3, 1)}


def said(ratio: Ratio) -> dict[str, Any]:
    """Return a ratio as text with its verdict."""
    figures = {"value": ratio.value, "low": ratio.low, "high": ratio.high}
    return {name: round(value, 4) for name, value in figures.items()} | {"told apart": ratio.told_apart}


def repeated(runs: int, rounds: int, models: list[str]) -> dict[str, Any]:
    """Run the same command several times, and compare the reports."""
    arguments = ["--torch", "--ort", "--rounds", str(rounds)]
    for name in models:
        arguments += ["--model", name]
    command = [*BENCH, *arguments]
    reports: list[Report] = []
    with tempfile.TemporaryDirectory() as folder:
        for index in range(runs):
            output = Path(folder) / str(index)
            subprocess.run([*command, "--output", str(output)], check=True)
            reports.append(read_report(output / "bench.json"))
    rows = []
    for same in zip(*(report.rows[1:] for report in reports), strict=True):
        ratios = [row.latency.ratio for row in same if row.latency and row.latency.ratio]
        pairs = list(permutations(ratios, 2))
        within = sum(1 for one, other in pairs if other.low <= one.value <= other.high)
        rows.append(
            {
                "row": same[0].title,
                "ratios": [said(ratio) for ratio in ratios],
                "within": within,
                "pairs": len(pairs),
                "one value in all": max(ratio.low for ratio in ratios) <= min(ratio.high for ratio in ratios),
            }
        )
    return {
        "command": f"lkdn-bench {' '.join(arguments)}",
        "first row": reports[0].rows[0].title,
        "medians of the first row, ms": [
            round(report.rows[0].latency.median, 1) for report in reports if report.rows[0].latency
        ],
        "rows": rows,
    }


if __name__ == "__main__":
    main()

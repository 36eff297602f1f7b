"""Measure the gain of each graph rewrite on each CPU engine, alone and after those before it.

    python benchmarks/passes.py [--model lkdn-s] [--size 320x180] [--rounds 12]
                                [--output benchmarks/results/passes.json]

All candidates run in turn in one process, reopened in each round and fixed to the size. Ratios are to the plain graph
on the same engine. Weights are those available, else random: times do not depend on them.
"""

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.bench.measure.harness import Prepare, Run, WarmUpLimits, measure_rounds
from lkdn_deploy.bench.measure.statistics import bootstrap_ratio
from lkdn_deploy.bench.models import find_models
from lkdn_deploy.bench.rows import Batch
from lkdn_deploy.core.files import publish
from lkdn_deploy.core.limits import cores
from lkdn_deploy.export.job import ExportSettings, export_onnx
from lkdn_deploy.graph.pipeline import rewrite
from lkdn_deploy.graph.targets import TARGETS


def main() -> None:
    """Measure all candidates, print the results and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="lkdn-s")
    parser.add_argument("--size", default="320x180", metavar="WxH")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "passes.json")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    batch = np.random.default_rng(0).random((1, 3, height, width), np.float32)
    (model,) = find_models([options.model], 4, [])
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        checkpoint = model.load()
        plain = onnx.load(export_onnx(checkpoint, folder / "a.onnx", ExportSettings(static=(height, width))).path)
        candidates: dict[tuple[str, str, str], Prepare] = {}
        for engine in ("ort-cpu", "openvino"):
            forms = {("", "plain"): (), **forms_of(TARGETS[engine])}
            for (kind, title), names in forms.items():
                path = folder / f"{engine}_{kind}_{title}.onnx"
                onnx.save(rewrite(plain, names).model if names else plain, path)
                candidates[engine, kind, title] = opened(path, engine, batch)
        limits = WarmUpLimits(most_runs=4, runs_before=1)
        timings = measure_rounds([*candidates.values()], options.rounds, warm_up=limits).each
        samples = {key: timing.samples for key, timing in zip(candidates, timings, strict=True)}
        for (engine, kind, title), mine in samples.items():
            ratio = bootstrap_ratio(mine, samples[engine, "", "plain"]) if kind else None
            rows.append(
                {
                    "engine": engine,
                    "kind": kind,
                    "rewrite": title,
                    "median ms": round(float(np.median(mine)), 1),
                    "ratio": [round(value, 3) for value in (ratio.value, ratio.low, ratio.high)] if ratio else None,
                }
            )
            print(*rows[-1].values(), sep="\t", flush=True)
    with publish(options.output) as part:
        facts = {"machine": machine_facts(cores()), "model": options.model, "size": options.size}
        part.write_text(json.dumps(facts | {"rounds": options.rounds, "rows": rows}, indent=1) + "\n")


def forms_of(names: tuple[str, ...]) -> dict[tuple[str, str], tuple[str, ...]]:
    """Return each rewrite alone, and each with all before it."""
    alone = {("alone", name): (name,) for name in names}
    return alone | {("chain", name): names[: place + 1] for place, name in enumerate(names)}


def opened(path: Path, engine: str, batch: Batch) -> Prepare:
    """Return what opens a new session for each round."""

    def prepare(_: int) -> Run:
        session = open_session(path, engine, threads=cores())

        def run() -> None:
            session.run(batch)

        return run

    return prepare


if __name__ == "__main__":
    main()

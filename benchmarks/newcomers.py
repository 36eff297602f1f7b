"""Measure networks since LKDN: PSNR against multiply-accumulates, and against the time of the native engine.

    python benchmarks/newcomers.py [--only NAME ...] [--size WxH] [--rounds N] [--output FILE.json]
    python benchmarks/newcomers.py --draw [--output FILE.json]

The networks are timed at x4 in random order, in rounds. PSNR is the zoo's, measured with the published weights on luma
of Set5; times do not depend on weights, so random ones do. A network that the native engine does not run has no time.
Multiply-accumulates are those of convolutions and linear layers for an input of 256x256, as NTIRE's challenges count.
The plot beside the JSON is drawn from the JSON alone.
"""

import argparse
import json
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import matplotlib as mpl
import numpy as np
from cpu_peers import THREADS, of_rounds, size
from figure1_picture import legend, plot, prepare, write_labels
from matplotlib.figure import Figure

from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.bench.complexity.count import count
from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.bench.measure.harness import WarmUpLimits, measure_rounds
from lkdn_deploy.bench.models import Model, find_models
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import publish
from lkdn_deploy.export.job import ExportSettings, export_onnx
from lkdn_models.zoo import find
from lkdn_models.zoo.facts import CHALLENGE

SCALE = 4
NETWORKS = (
    *("lkdn-s", "lkdn", "bsrn", "bsrn-s", "vapsr", "vapsr-s", "rfdn-aim", "rlfn-ntire"),
    *("span-ch48", "span-ch28", "spanf", "pkdsr", "pds", "tssr", "efdn", "reprlfn", "dipnet", "smfanet"),
    *("sgsdn", "gfmn", "r2net", "safmn-v3"),
    *("ecbsr-m4c16", "ecbsr-m6c40", "etds-m4c32", "etds-m7c48", "abpn-m6c40", "espcn"),
)
"""Networks of the zoo; Compact is left out, since its published weights are not made for PSNR."""
COLUMNS = {
    "multiply_accumulates_g": ("multiply-accumulates for an input of 256x256 (G)", (1, 2, 5, 10, 20, 50)),
    "native_ms": ("native engine, {size} to x4 (ms)", (5, 10, 20, 50, 100, 200, 500)),
}


def main() -> None:
    """Time the networks and write the results, or only draw them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", action="append", choices=NETWORKS, default=[])
    parser.add_argument("--size", type=size, default=(180, 320), metavar="WxH")
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "newcomers.json")
    parser.add_argument("--draw", action="store_true")
    options = parser.parse_args()
    if not options.draw:
        names = options.only or NETWORKS
        found = {
            "machine": machine_facts(THREADS),
            "size": "{1}x{0}".format(*options.size),
            "rounds": options.rounds,
            "rows": measured(names, options.size, options.rounds),
        }
        with publish(options.output) as part:
            part.write_text(json.dumps(found, indent=1) + "\n")
    draw(json.loads(options.output.read_text()), options.output.with_suffix(".svg"))


def measured(names: tuple[str, ...], shape: tuple[int, int], rounds: int) -> list[dict[str, Any]]:
    """Return a row for each network, with its median time in ms."""
    with TemporaryDirectory() as folder:
        found = {model.name: opened(model, shape, Path(folder)) for model in find_models(names, SCALE, [])}
        calls = {name: call for name, call in found.items() if call}
        limits = WarmUpLimits(most_runs=4, runs_before=1, seconds_before=0.1)
        timings = measure_rounds([of_rounds(lambda call=call: call) for call in calls.values()], rounds, warm_up=limits)
    times = {name: round(float(np.median(each.samples)), 2) for name, each in zip(calls, timings.each, strict=True)}
    rows = [facts(name) | {"native_ms": times.get(name)} for name in names]
    for row in rows:
        print(f"{row['name']:<16}{row['native_ms'] or np.nan:9.1f} ms  {row['psnr']:.3f} dB", flush=True)
    return rows


def opened(model: Model, shape: tuple[int, int], folder: Path) -> Callable[[], None] | None:
    """Return what upscales a picture of noise once, on the native engine; ``None`` if it does not run the network."""
    path = export_onnx(model.load(), folder / f"{model.name}.onnx", ExportSettings()).path
    try:
        session = open_session(path, "native", threads=THREADS)
    except InputError:
        return None
    picture = np.random.default_rng(0).random((1, 3, *shape), np.float32)

    def run() -> None:
        session.run(picture)

    return run


def facts(name: str) -> dict[str, Any]:
    """Return the figures of a network that need no timing."""
    entry = find(name, SCALE)
    model = find_models([name], SCALE, [])[0]
    network, channels = model.build_core()
    return {
        "name": name,
        "origin": "published",
        "luma_only": entry.input.luma_only,
        "parameters": entry.parameters,
        "multiply_accumulates_g": round(count(network, (1, channels, *CHALLENGE)).macs / 1e9, 4),
        "psnr": entry.measured["Set5"][0],
    }


def draw(results: dict[str, Any], path: Path) -> None:
    """Write the plot as SVG: PSNR against work, and against time."""
    rows = results["rows"]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": path.stem}), publish(path) as part:
        figure = Figure(figsize=(6.5 * len(COLUMNS), 5.2), dpi=72, layout="constrained")
        panels = figure.subplots(1, len(COLUMNS), sharey=True)
        for axes, (field, (title, ticks)) in zip(panels, COLUMNS.items(), strict=True):
            prepare(axes, ticks)
            axes.set_xlabel(title.format(size=results["size"]))
            for row in rows:
                if row[field]:
                    plot(axes, row, (row[field], row["psnr"]))
        panels[0].set_ylabel(f"PSNR on Set5 x{SCALE} (dB)")
        figure.legend(handles=legend(rows), loc="outside upper center", ncols=6, frameon=False)
        figure.draw_without_rendering()  # computes the layout: labels need the positions of their markers
        figure.set_layout_engine("none")
        for axes, field in zip(panels, COLUMNS, strict=True):
            write_labels(axes, [(row, (row[field], row["psnr"])) for row in rows if row[field]])
        figure.savefig(part, format="svg", metadata={"Date": None})


if __name__ == "__main__":
    main()

"""Check that graph rewrites and the native engine leave PSNR and SSIM unchanged.

    python benchmarks/unchanged.py --weights DIR --testsets DIR [--output benchmarks/results/unchanged.json]

Every published checkpoint of LKDN, LKDN-S, BSRN and VAPSR at every scale, x4 first, is exported plainly and rated on
Set5 and Set14 on ONNX Runtime; then after each rewrite of the chain for each CPU engine, on that engine; and without
rewrites on the native engine, if that supports it. Takes half an hour. The exit status is 1 if an average PSNR differs
by more than 0.001 dB, or SSIM by more than 0.0001.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import onnx

from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.bench.quality.evaluation import Borders, average, evaluate, of_session
from lkdn_deploy.core.errors import InputError
from lkdn_deploy.core.files import publish
from lkdn_deploy.core.limits import cores
from lkdn_deploy.export.job import ExportSettings, export_onnx
from lkdn_deploy.graph.pipeline import rewrite
from lkdn_deploy.graph.targets import TARGETS
from lkdn_deploy.imaging.testsets import TestSet, find_all
from lkdn_models.checkpoint import load_checkpoint

FILES = (
    *("LKDN/LKDN-S_x4.pth", "LKDN/LKDN_x4.pth", "BSRN/net_g_BSRN_x4.pth", "VapSR/VapSR_X4.pth"),
    *("LKDN/LKDN_x3.pth", "BSRN/net_g_BSRN_x3.pth", "VapSR/VapSR_X3.pth"),
    *("LKDN/LKDN_x2.pth", "BSRN/net_g_BSRN_x2.pth", "VapSR/VapSR_X2.pth"),
)
ALLOWED = (0.001, 0.0001)
"""Tolerances of PSNR in dB and of SSIM, on luma."""

Figures = dict[str, tuple[float, float]]
"""PSNR and SSIM by set."""


def main() -> None:
    """Measure and print each network, and write all results after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="folder that holds LKDN, BSRN and VapSR")
    parser.add_argument("--testsets", type=Path, required=True, help="folder that holds Set5 and Set14")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "unchanged.json")
    options = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for file in FILES:
            checkpoint = load_checkpoint(options.weights / file)
            sets = find_all((options.testsets / "Set5", options.testsets / "Set14"), checkpoint.scale)
            path = Path(name) / f"{checkpoint.name}_x{checkpoint.scale}.onnx"
            export_onnx(checkpoint, path, ExportSettings())
            rows += network(path, sets)
            with publish(options.output) as part:
                part.write_text(json.dumps({"machine": machine_facts(cores()), "rows": rows}, indent=1) + "\n")
    sys.exit(0 if all(row["unchanged"] for row in rows) else 1)


def network(plain: Path, sets: list[TestSet]) -> list[dict[str, Any]]:
    """Measure a row for the plain graph, for each engine and rewrite, and for the native engine."""
    before = rated(plain, "ort-cpu", sets)
    rows = [row(plain, "ort-cpu", "plain", before, before)]
    model = onnx.load(plain)
    for engine in ("ort-cpu", "openvino"):
        names = TARGETS[engine]
        for place, rewriting in enumerate(names):
            form = plain.with_name("form.onnx")
            onnx.save(rewrite(model, names[: place + 1]).model, form)
            rows.append(row(plain, engine, rewriting, rated(form, engine, sets), before))
    try:
        rows.append(row(plain, "native", "plain", rated(plain, "native", sets), before))
    except InputError as error:
        print(f"{plain.stem:<12} native    {error.message}", flush=True)
    return rows


def rated(path: Path, engine: str, sets: list[TestSet]) -> Figures:
    """Measure average PSNR and SSIM on luma."""
    subject = of_session(path.stem, open_session(path, engine))
    figures = {}
    for each in sets:
        found = average(each.name, list(evaluate(subject, each, Borders(subject.scale, subject.scale))))
        assert found.quality  # noqa: S101  (of files that are all there)
        figures[each.name] = found.quality.psnr_y, found.quality.ssim_y
    return figures


def row(path: Path, engine: str, rewriting: str, figures: Figures, before: Figures) -> dict[str, Any]:
    """Print the figures and the largest differences from the plain graph's."""
    psnr, ssim = (max(abs(figures[name][place] - before[name][place]) for name in before) for place in range(2))
    print(f"{path.stem:<12} {engine:<9} {rewriting:<20} PSNR {psnr:.6f} dB, SSIM {ssim:.7f}", flush=True)
    return {
        "network": path.stem,
        "engine": engine,
        "up to": rewriting,
        "figures": {name: [round(value, 6) for value in pair] for name, pair in figures.items()},
        "psnr differs": round(psnr, 7),
        "ssim differs": round(ssim, 8),
        "unchanged": psnr <= ALLOWED[0] and ssim <= ALLOWED[1],
    }


if __name__ == "__main__":
    main()

"""Measure the columns of the paper's Table 5 on deployed files: published weights, exported, on ONNX Runtime.

    python benchmarks/paper_table.py --weights DIR --testsets DIR [--output benchmarks/results/paper_table.json]

Runs `lkdn-eval` once on the published checkpoints of LKDN, LKDN-S, BSRN and VAPSR at all their scales, and on those of
the paper's five test sets that are there, and writes its results. Then prints each figure beside those of the paper and
of the zoo, which were measured in PyTorch and show where published weights fall short of their paper.
The exit status is 1 if a figure agrees with neither.
"""

import argparse
import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from lkdn_models.zoo import ZooEntry, find
from lkdn_models.zoo.facts import SETS

FILES = (
    *("LKDN/LKDN_x2.pth", "LKDN/LKDN_x3.pth", "LKDN/LKDN_x4.pth", "LKDN/LKDN-S_x4.pth"),
    *("BSRN/net_g_BSRN_x2.pth", "BSRN/net_g_BSRN_x3.pth", "BSRN/net_g_BSRN_x4.pth"),
    *("VapSR/VapSR_X2.pth", "VapSR/VapSR_X3.pth", "VapSR/VapSR_X4.pth"),
)
TOLERANCE = (0.01, 0.0005)
"""Tolerances of PSNR in dB and of SSIM."""
EVAL = [sys.executable, "-c", "from lkdn_deploy.cli.eval import main; main()"]

Figures = tuple[float, float]
"""PSNR in dB and SSIM, on luma."""


def main() -> None:
    """Measure and compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="folder that holds LKDN, BSRN and VapSR")
    parser.add_argument("--testsets", type=Path, required=True, help="folder that holds Set5 and others")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "paper_table.json")
    options = parser.parse_args()
    arguments = ["--backend", "ort-cpu", "--make-lr", "--overwrite", "--json", str(options.output)]
    for name in SETS:
        if (options.testsets / name).is_dir():
            arguments += ["--data", str(options.testsets / name)]
    for name in FILES:
        arguments += ["--weights", str(options.weights / name)]
    print("lkdn-eval", shlex.join(arguments))
    subprocess.run([*EVAL, *arguments], check=True)
    sys.exit(0 if table(json.loads(options.output.read_text())) else 1)


def table(report: dict[str, Any]) -> bool:
    """Print the table; return whether every figure is the paper's or the zoo's."""
    print(f"{'network':<8} {'':<2} {'set':<6} {'here':>15} {'paper':>15} {'zoo':>15}")
    good = True
    for model in report["models"]:
        entry = find(model["artefact"]["model"], model["scale"])
        for each in model["sets"]:
            here = each["average"]["psnr_y"], each["average"]["ssim_y"]
            paper, zoo = printed(entry, each["set"]), entry.measured.get(each["set"])
            equal = [near(here, other) for other in (paper, zoo) if other]
            good &= any(equal)
            verdict = "" if all(equal) else "as the zoo says" if any(equal) else "differs"
            cells = " ".join(
                f"{'{:.3f} / {:.4f}'.format(*value) if value else '-':>15}" for value in (here, paper, zoo)
            )
            print(f"{entry.name:<8} x{entry.scale} {each['set']:<6} {cells}  {verdict}".rstrip())
    return good


def printed(entry: ZooEntry, name: str) -> Figures | None:
    """Return the paper's figures."""
    figures = entry.printed.quality.get(name) if entry.printed else None
    return (float(figures[0]), float(figures[1])) if figures else None


def near(one: Figures, other: Figures) -> bool:
    """Return whether two figures are equal within ``TOLERANCE``, at the precision of the paper."""
    return all(abs(a - b) <= most + 1e-9 for a, b, most in zip(one, other, TOLERANCE, strict=True))


if __name__ == "__main__":
    main()

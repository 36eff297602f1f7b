"""Draw the plot of the results of ``cpu_peers.py``: python benchmarks/cpu_peers_picture.py"""

import json
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lkdn_deploy.core.files import publish

RESULTS = Path(__file__).parent / "results"
TITLES = {"lkdn-s": "LKDN-S x4", "lkdn": "LKDN x4", "bsrn": "BSRN x4", "vapsr": "VapSR x4"}
# Of Okabe and Ito's palette, which the colour-blind tell apart too.
OURS, PEER = "#0072B2", "0.72"


def main() -> None:
    """Draw all recorded models and sizes."""
    runs = json.loads((RESULTS / "cpu_peers.json").read_text())["runs"]
    models = list(dict.fromkeys(run["model"] for run in runs))
    sizes = list(dict.fromkeys(run["size"] for run in runs))
    with mpl.rc_context({"svg.hashsalt": "lkdn", "font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(figsize=(4 * len(sizes), 2.1 * len(models)), layout="constrained")
        panels = figure.subplots(len(models), len(sizes), squeeze=False)
        for axes in panels.flat:
            axes.set_visible(False)  # not every model is recorded at every size
        for run in runs:
            panel(panels[models.index(run["model"])][sizes.index(run["size"])], run)
        figure.supxlabel("time over PyTorch eager, with its 99 % interval (median of rounds in one process)")
        with publish(RESULTS / "cpu_peers.svg") as part:
            figure.savefig(part, format="svg", metadata={"Date": None})


def panel(axes: Axes, run: dict[str, Any]) -> None:
    """Draw one model at one size, the fastest candidate on top."""
    axes.set_visible(True)
    rows = sorted(run["rows"], key=lambda row: row["median"], reverse=True)
    eager = next(row["median"] for row in rows if row["name"] == "PyTorch eager")
    for place, row in enumerate(rows):
        value, low, high = row.get("over eager", [row["median"] / eager] * 3)  # of few rounds there is no interval
        colour = OURS if row["name"].startswith("ours") else PEER
        axes.barh(place, value, color=colour, xerr=[[value - low], [high - value]], error_kw={"linewidth": 0.8})
        axes.text(high + 0.02, place, f"{row['median']:.0f} ms", va="center", fontsize=7)
    axes.set_yticks(range(len(rows)), [row["name"] for row in rows])
    axes.set_title(f"{TITLES.get(run['model'], run['model'])}, {run['size']}", loc="left", fontweight="bold")
    axes.margins(x=0.15)


if __name__ == "__main__":
    main()

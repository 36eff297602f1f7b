"""Write the table of figures in the README from the recorded results, so that neither says what the other does not.

python tools/readme_figures.py
"""

import json
import re
import subprocess
from pathlib import Path
from typing import Any

from lkdn_models.zoo import find

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results"
SETS = ("Set5", "Set14")
BEGIN, END = "<!-- figures: written by tools/readme_figures.py from benchmarks/results -->", "<!-- end of figures -->"


def table() -> list[str]:
    """Return the lines of the table, without the dates."""
    lines = ["| | measured | to compare |", "| --- | --- | --- |"]
    lines += [
        f"| PSNR on Set5 and Set14 x4 of {label} | {figures} dB | {other} |" for label, figures, other in _quality()
    ]
    lines += [f"| time of {label} | {ratio} | of {other} |" for label, ratio, other in _speed()]
    return lines


def _quality() -> list[tuple[str, str, str]]:
    exported = {(each["model"], each["scale"]): each for each in _results("paper_table")["models"]}
    rows = []
    for name, title in (("lkdn", "LKDN"), ("lkdn-s", "LKDN-S")):
        averages = {each["set"]: each["average"]["psnr_y"] for each in exported[title, 4]["sets"]}
        printed = find(name, 4).printed.quality
        paper = " and ".join(printed[each][0] for each in SETS)
        rows.append(
            (
                f"{title} with the authors' weights, as exported",
                " and ".join(f"{averages[each]:.2f}" for each in SETS),
                f"the paper: {paper}",
            )
        )
    card = (ROOT / "models" / "lkdn_models" / "weights" / "lkdn-s_x4.md").read_text(encoding="utf-8")
    measured = {each: re.findall(rf"^\| {each} \|(.*)\|$", card, re.MULTILINE)[0].split("|") for each in SETS}
    bicubic = " and ".join(f"{float(measured[each][-1].split('/')[0]):.2f}" for each in SETS)
    ours = " and ".join(f"{float(measured[each][0].split('/')[0]):.2f}" for each in SETS)
    rows.append(("the bundled LKDN-S, trained on a CPU", ours, f"bicubic: {bicubic}"))
    return rows


def _speed() -> list[tuple[str, str, str]]:
    rows = []
    for name, title in (("lkdn-s", "LKDN-S"), ("lkdn", "LKDN")):
        run = next(each for each in _results("cpu_peers")["runs"] if (each["model"], each["size"]) == (name, "320x180"))
        by_name = {each["name"]: each for each in run["rows"]}
        ours = by_name["ours, native"]
        peers = [each for name, each in by_name.items() if not name.startswith("ours")]
        best = min(peers, key=lambda each: each["median"])["name"].partition(",")[0]
        label = f"{title} x4 of 320x180 on the native engine"
        rows.append((label, _interval(ours["over the best peer"]), f"{best}, the fastest peer"))
        rows.append((label, _interval(ours["over eager"]), "PyTorch eager"))
    browser = _results("browser")["browser"]["ratios"]["ours x4, 1 thread / onnxruntime-web x4, 1 thread"]
    rows.append(
        ("LKDN-S x4 in Chromium, one thread", _interval([browser["median"], *browser["interval"]]), "onnxruntime-web")
    )
    film = _results("film")["film_over"]["script with ONNX Runtime"]
    ratio = [1 / film[name] for name in ("median", "max", "min")]
    rows.append(("a film x2, from file to file", _interval(ratio), "a script of PyAV and ONNX Runtime"))
    return rows


def _interval(values: list[float]) -> str:
    middle, low, high = (f"{value:.2f}" for value in values)
    return f"**{middle}** [{low}, {high}]"


def _results(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    return found


def conditions() -> str:
    """Return the line on machine and dates: those of the commits that recorded the results."""
    machine = _results("cpu_peers")["machine"]
    versions = machine["versions"]
    cpu = re.sub(r"\(R\)", "", machine["cpu"])
    days = sorted(_recorded(name) for name in ("paper_table", "cpu_peers", "browser", "film"))
    return (
        f"{machine['cores']} cores of an {cpu} with AVX-512, Linux, OpenVINO {versions['openvino']}, ONNX Runtime "
        f"{versions['onnxruntime']}, PyTorch {versions['torch'].partition('+')[0]}; recorded {days[0]} to {days[-1]}. "
        "Times are ratios, with their 99 % interval, or the range for the film: smaller is faster."
    )


def _recorded(name: str) -> str:
    words = ["git", "log", "-1", "--format=%cs", "--", f"benchmarks/results/{name}.json"]
    return subprocess.run(words, cwd=ROOT, check=True, capture_output=True, text=True).stdout.strip()


def main() -> None:
    """Replace the table of the README."""
    path = ROOT / "README.md"
    before, _, rest = path.read_text(encoding="utf-8").partition(BEGIN)
    after = rest.partition(END)[2]
    text = "\n".join([BEGIN, "", *table(), "", conditions(), "", END])
    path.write_text(before + text + after, encoding="utf-8")


if __name__ == "__main__":
    main()

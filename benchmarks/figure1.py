"""Measure PSNR against Multi-Adds and parameters, as in the first figure of papers on efficient super-resolution.

    python benchmarks/figure1.py --weights DIR --testsets DIR [--only NAME ...] [--again] [--output FILE.json]
    python benchmarks/figure1.py --draw [--output FILE.json]

Every checkpoint under ``--weights`` of a network of the zoo, and the bundled ones, are measured in PyTorch, and on ONNX
Runtime as ``export_onnx`` writes them: on Set5, on Set14 and, if it is there, on Urban100, of which the LKDN paper's
figure is. Formats that need it are converted first; weights that serve several scales are measured at each. A result is
written at once and not measured again, so a recording can be made in parts. Nothing is timed.

The plot beside the JSON is drawn from the JSON alone. In the end, all recorded figures are printed beside those of the
zoo for the same weights; if two of them differ by more than ``TOLERANCE``, the exit status is 1.
"""

import argparse
import hashlib
import json
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from figure1_picture import SETS, Row, write_picture

from lkdn_deploy import load
from lkdn_deploy.bench.complexity.count import count
from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.core.counting import Rule
from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.files import publish
from lkdn_deploy.export.job import ExportSettings, export_onnx
from lkdn_models.checkpoint import CONVERTERS, Checkpoint, load_checkpoint
from lkdn_models.rgb import as_rgb
from lkdn_models.training.evaluate import (
    Run,
    Upscale,
    ValidationSet,
    floats,
    in_torch,
    mean,
    measure,
    measure_luma,
    open_set,
)
from lkdn_models.zoo import ZooEntry, all_entries, names

ROOT = Path(__file__).parents[1]
SUFFIXES = (".pth", ".pt", ".safetensors", *CONVERTERS)
TOLERANCE = (0.01, 0.0005)
"""Tolerances of PSNR in dB and of SSIM."""


# Measuring


@dataclass(frozen=True, slots=True)
class Source:
    """Weights to measure."""

    checkpoint: Checkpoint
    entry: ZooEntry
    file: Path
    sha256: str
    """SHA-256 of ``file``, before any conversion."""

    @property
    def key(self) -> tuple[str, int, str]:
        """Identity of the row."""
        return self.entry.name, self.entry.scale, self.sha256

    @property
    def origin(self) -> str:
        """``bundled``, ``published`` if the file is exactly the one in the zoo, or ``other``."""
        if self.file == self.entry.bundled:
            return "bundled"
        return "published" if self.entry.weights and self.entry.weights.sha256 == self.sha256 else "other"


def sources(folder: Path, work: Path) -> Iterator[Source]:
    """Yield the bundled checkpoints, then those under ``folder``; files that are left out are named on stderr."""
    found = set()
    bundled = [entry.bundled for entry in all_entries() if entry.bundled]
    below = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    for path in (*bundled, *below):
        try:
            checkpoints = read(path, work)
        except LkdnError as error:
            tell(f"left out: {error}")
            continue
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
        for checkpoint in checkpoints:
            identity = checkpoint.name, checkpoint.scale, digest
            entry = next((entry for entry in all_entries() if (entry.name, entry.scale) == identity[:2]), None)
            if entry is None:
                tell(f"left out: {path}: the zoo has no {checkpoint.name} x{checkpoint.scale}")
            elif identity not in found:  # a copy is measured once
                found.add(identity)
                yield Source(checkpoint, entry, path, digest)


def read(path: Path, work: Path) -> list[Checkpoint]:
    """Return a file's checkpoint, or one for each scale that its weights serve; converted files go into ``work``.

    Raises:
        InputError: as ``load_checkpoint`` does, or if the file cannot be converted.
    """
    if converter := CONVERTERS.get(path.suffix.lower()):
        converted = work / f"{path.name}.safetensors"
        # The converters are scripts, not modules: they are run as their users run them.
        command = [sys.executable, ROOT / converter, path, converted]
        done = subprocess.run(command, check=False, capture_output=True, text=True)
        if done.returncode:
            raise InputError(done.stderr.strip() or f"{path}: {converter} failed")
        path = converted
    checkpoint = load_checkpoint(path)
    if not (isinstance(checkpoint.network, ZooEntry) and checkpoint.network.network.shared_weights):
        return [checkpoint]
    scales = [entry.scale for entry in all_entries() if entry.network is checkpoint.network.network]
    return [load_checkpoint(path, scale) for scale in scales]


def measured(source: Source, testsets: Path, work: Path) -> Row:
    """Measure the row of one set of weights.

    Raises:
        LkdnError: if a test set cannot be read, or the exported network's numbers are not the checkpoint's.
    """
    checkpoint, entry = source.checkpoint, source.entry
    luma_only = entry.input.luma_only
    with torch.device("meta"):
        deployed = entry.build(deployed=True)
    cost = count(deployed, (1, 1 if luma_only else 3, *entry.input_size))
    network = as_rgb(checkpoint.build(), checkpoint.input, checkpoint.scale).eval()
    # On the CPU everywhere: what is recorded should not hang on what else a machine has.
    artefact = export_onnx(checkpoint, work / "network.onnx", ExportSettings()).path
    upscaler = load(artefact, backend="ort-cpu")
    pictures = [pictures_of(testsets / name, checkpoint.scale) for name in SETS if (testsets / name).is_dir()]
    return {
        "name": entry.name,
        "scale": entry.scale,
        "origin": source.origin,
        "file": source.file.name,
        "sha256": source.sha256,
        "luma_only": luma_only,
        "parameters": cost.parameters,
        "multi_adds_g": round(cost.multi_adds(Rule.C) / 1e9, 4),
        "torch": qualities(in_torch(network), floats(network), luma_only, pictures),
        "onnx": qualities(upscaler, upscaler.session.run, luma_only, pictures),
    }


@cache
def pictures_of(folder: Path, scale: int) -> ValidationSet:
    """Read a test set, once."""
    return open_set(folder, scale)


def qualities(upscale: Upscale, run: Run, luma_only: bool, pictures: list[ValidationSet]) -> dict[str, Any]:
    """Measure mean PSNR and SSIM by test set, as the papers of such networks do."""
    means = {each.name: mean(measure_luma(run, each) if luma_only else measure(upscale, each)) for each in pictures}
    return {name: {"psnr": round(value.psnr_y, 5), "ssim": round(value.ssim_y, 6)} for name, value in means.items()}


def record(options: argparse.Namespace) -> bool:
    """Measure what is not recorded yet, or everything with ``--again``; return whether all checkpoints succeeded."""
    facts = machine_facts()
    failed = False
    with TemporaryDirectory() as name:
        work = Path(name)
        for source in sources(options.weights, work):
            title = f"{source.entry.name} x{source.entry.scale} ({source.origin}, {source.file.name})"
            if options.only and source.entry.name not in options.only:
                continue
            rows = recorded(options.output)
            if not options.again and any(key(row) == source.key for row in rows):
                tell(f"{title}: recorded already")
                continue
            tell(title)
            try:
                # The machine's facts are those of the last part, the versions each row's own.
                row = measured(source, options.testsets, work) | {"versions": facts["versions"]}
            except LkdnError as error:
                tell(f"{title}: {error}")
                failed = True
                continue
            rows = [row, *(other for other in rows if not replaces(row, other))]
            write_json(options.output, {"machine": facts, "rows": sorted(rows, key=order)})
            tell(f"  {row['onnx']}")
    return not failed


def recorded(path: Path) -> list[Row]:
    """Read the rows of a recording; a missing file has none."""
    return json.loads(path.read_text())["rows"] if path.is_file() else []


def key(row: Row) -> tuple[str, int, str]:
    """Return the identity of a row."""
    return row["name"], row["scale"], row["sha256"]


def replaces(new: Row, old: Row) -> bool:
    """Return whether the rows have the same weights, or are earlier and later bundled or published ones."""
    same_place = all(new[field] == old[field] for field in ("name", "scale", "origin"))
    return key(new) == key(old) or (same_place and new["origin"] != "other")


def order(row: Row) -> tuple[int, int, str, str]:
    """Return the order of the zoo."""
    return names().index(row["name"]), row["scale"], row["origin"], row["sha256"]


def write_json(path: Path, value: dict[str, Any]) -> None:
    """Write the file completely or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with publish(path) as part:
        part.write_text(json.dumps(value, indent=1) + "\n")


def tell(line: str) -> None:
    """Print progress."""
    print(line, file=sys.stderr, flush=True)


# Comparing


def compare(rows: Iterable[Row]) -> bool:
    """Print a line for each row and set; return whether all figures that must be equal are."""
    line = "{:<10} {:>5}  {:<10} {:<6} {:>14} {:>14} {:>14}  {}"
    print(line.format("network", "scale", "weights", "set", "PyTorch", "ONNX Runtime", "zoo", ""))
    equal = True
    for row in rows:
        for name in row["onnx"]:
            here = [(row[engine][name]["psnr"], row[engine][name]["ssim"]) for engine in ("torch", "onnx")]
            zoo, comparable = written(row, name)
            compared = [*here, zoo] if zoo and comparable else here
            good = all(near(one, other) for one in compared for other in compared)
            equal &= good
            verdict = ("" if comparable else "n/a") if good else "differs"
            figures = ["{:.3f}/{:.4f}".format(*value) if value else "-" for value in (*here, zoo)]
            print(line.format(row["name"], f"x{row['scale']}", row["origin"], name, *figures, verdict).rstrip())
    return equal


def written(row: Row, set_name: str) -> tuple[tuple[float, float] | None, bool]:
    """Return the zoo's figures for exactly these weights, if any, and whether they were measured in the same way.

    Set14 has a grey picture, whose luma is computed differently for luma networks (see ``measure_luma``).
    """
    if row["origin"] != "published":
        return None, True
    entry = next(entry for entry in all_entries() if (entry.name, entry.scale) == (row["name"], row["scale"]))
    return entry.measured.get(set_name), not (row["luma_only"] and set_name == "Set14")


def near(one: tuple[float, float], other: tuple[float, float]) -> bool:
    """Return whether two pairs of PSNR and SSIM are equal within ``TOLERANCE``."""
    return all(abs(a - b) <= most for a, b, most in zip(one, other, TOLERANCE, strict=True))


def main() -> None:
    """Record results, draw the plot and compare with the zoo."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="folder of checkpoints, including its subfolders")
    parser.add_argument("--testsets", type=Path, help="folder that holds NAME/xSCALE/HR/*.png")
    parser.add_argument("--only", nargs="+", choices=names(), metavar="NAME", help="networks to measure")
    parser.add_argument("--again", action="store_true", help="also measure what is already recorded")
    parser.add_argument("--draw", action="store_true", help="only draw the plot")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "figure1.json")
    options = parser.parse_args()
    if not options.draw and not (options.weights and options.testsets):
        parser.error("give --weights and --testsets, or --draw")
    for folder in (options.weights, options.testsets):
        if folder and not folder.is_dir():
            parser.error(f"{folder} is not a folder")
    try:
        complete = options.draw or record(options)
        rows = recorded(options.output)
        write_picture(options.output.with_suffix(".svg"), rows)
    except LkdnError as error:
        sys.exit(str(error))
    sys.exit(0 if compare(rows) and complete else 1)


if __name__ == "__main__":
    main()

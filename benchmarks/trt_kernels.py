"""Count the kernels and events of TensorRT's engines by the form of the graph. Needs no GPU.

    python benchmarks/trt_kernels.py --weights DIR [--output benchmarks/results/trt_kernels.json]

LKDN-S and LKDN x4 with the published weights under DIR, in FP16, built ahead of time by TensorRT for RTX. Kernels and
events are what the builder lists; decibels are the PSNR of each form, in FP16 on ONNX Runtime, against the plain graph
in FP32 on a photograph. No engine is run: that fewer kernels are faster is to be shown on a GPU. Beside the JSON file a
table is written in Markdown.
"""

import argparse
import json
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from lkdn_deploy.backends.onnx_bytes import parse_artifact
from lkdn_deploy.backends.ort import open_cpu
from lkdn_deploy.backends.trt.audit import count_layers
from lkdn_deploy.backends.trt.build import build
from lkdn_deploy.backends.trt.engine_spec import DEFAULT_PROFILE, Profile
from lkdn_deploy.backends.trt.resolve import resolve
from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.files import publish
from lkdn_deploy.export.job import ExportSettings, export_onnx, open_checkpoint
from lkdn_deploy.export.to_fp16 import to_fp16
from lkdn_deploy.graph.pipeline import rewrite_for, serialize
from lkdn_deploy.graph.targets import TARGETS
from lkdn_deploy.imaging.pixels import to_batch
from lkdn_deploy.samples import sample_pixels

FILES = ("LKDN/LKDN-S_x4.pth", "LKDN/LKDN_x4.pth")
GPUS = ("sm86", "sm89", "sm120")
PROFILES = {"320x180": Profile.fixed((180, 320)), "any size": DEFAULT_PROFILE}
DENSE, TANH = "merge-wide-separable-conv", "approximate-gelu"
DEFAULT = TARGETS["tensorrt"]
FORMS: dict[str, tuple[Sequence[str], int | None]] = {
    "as exported": ((), None),
    "norm over axis 1": (DEFAULT[:2], None),
    "padded channels": ((DEFAULT[0], "layer-norm-to-rms", "pad-channels"), None),
    "both": ((*DEFAULT[:2], "pad-channels"), None),
    "both, parallel convolutions merged (default)": (DEFAULT, None),
    "default, one stream": (DEFAULT, 0),
    "default, GELU by tanh": ((*DEFAULT, TANH), None),
    "default, dense 3x3": ((*DEFAULT, DENSE), None),
    "default, dense 3x3, GELU by tanh": ((*DEFAULT, DENSE, TANH), None),
}
"""Passes and auxiliary streams by the name of a form."""


def main() -> None:
    """Build every form, print the counts and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, required=True, help="folder of published checkpoints")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "trt_kernels.json")
    options = parser.parse_args()
    photograph = np.ascontiguousarray(to_batch(sample_pixels())[:, :, :120, :160])
    inputs = [photograph, np.random.default_rng(0).random((1, 3, 61, 83), np.float32)]
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        for file in FILES:
            report = export_onnx(open_checkpoint(options.weights / file), Path(name) / "a.onnx", ExportSettings())
            plain = onnx.load(report.path)
            rows += counted(plain, report.metadata, inputs)
    with publish(options.output) as part:
        part.write_text(json.dumps({"machine": machine_facts(), "rows": rows}, indent=1) + "\n")
    with publish(options.output.with_suffix(".md")) as part:
        part.write_text(table(rows))
    print(table(rows))


def counted(
    plain: onnx.ModelProto, metadata: ArtifactMetadata, inputs: list[NDArray[np.float32]]
) -> list[dict[str, Any]]:
    """Return a row for each form, GPU and profile of a plain graph."""
    reference = run(plain, metadata, inputs[0])
    rows = []
    for title, (passes, streams) in FORMS.items():
        also = [name for name in passes if name not in DEFAULT]
        skip = [name for name in DEFAULT if name not in passes]
        form = rewrite_for(plain, metadata, "tensorrt", skip, also)
        converted = to_fp16(form.model, "fp32", inputs)
        facts = converted.describe(form.metadata, "fp32")
        data = serialize(converted.result.model, facts)
        decibels = psnr(run(converted.result.model, facts, inputs[0]), reference)
        multiplications = multiply_adds(form.model)
        for gpu in GPUS:
            for size, profile in PROFILES.items():
                spec = replace(resolve("tensorrt-rtx", (gpu,), profile=profile, aux_streams=streams), precision="fp16")
                count = count_layers(build(data, spec).log)
                row = {"model": metadata.model, "form": title, "gpu": gpu, "sizes": size, "db": round(decibels, 1)}
                rows.append(row | asdict(count) | {"multiply-adds": multiplications})
                print(*rows[-1].values(), sep="\t", flush=True)
    return rows


def multiply_adds(model: onnx.ModelProto) -> int:
    """Return the multiplications of all convolutions for each LR pixel: none of these networks changes size before
    its end.
    """
    weights = {tensor.name: tensor.dims for tensor in model.graph.initializer}
    return sum(int(np.prod(weights[node.input[1]])) for node in model.graph.node if node.op_type == "Conv")


def run(model: onnx.ModelProto, metadata: ArtifactMetadata, batch: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the result of a graph on ONNX Runtime."""
    session = open_cpu(parse_artifact(Path("form.onnx"), serialize(model, metadata)), threads=1)
    return session.run(batch)


def psnr(one: NDArray[np.float32], other: NDArray[np.float32]) -> float:
    """Return the decibels between two pictures in 0..1, of all channels."""
    difference = np.clip(one, 0, 1).astype(np.float64) - np.clip(other, 0, 1)
    return float(-10 * np.log10(np.mean(difference**2)))


def table(rows: list[dict[str, Any]]) -> str:
    """Return the counts as a table in Markdown, the GPUs in one cell if they agree."""
    lines = [
        "| network | form | kernels, 320x180 | kernels, any size | events | multiply-adds a pixel | FP16, dB |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    for model, title in dict.fromkeys((row["model"], row["form"]) for row in rows):
        mine = [row for row in rows if (row["model"], row["form"]) == (model, title)]
        kernels = [
            "/".join(map(str, dict.fromkeys(row["kernels"] for row in mine if row["sizes"] == size)))
            for size in PROFILES
        ]
        events = "/".join(map(str, dict.fromkeys(row["events"] for row in mine)))
        cells = [model, title, *kernels, events, f"{mine[0]['multiply-adds']:,}", f"{mine[0]['db']:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    same = f"The counts of {', '.join(GPUS)} are the same where one number stands"
    return "\n".join(lines) + f"\n\n{same}; events of both sizes where they differ.\n"


if __name__ == "__main__":
    main()

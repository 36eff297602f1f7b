"""The paper's Table 4 on the GPU here, in PyTorch alone: which networks and which forms of them are fast.

    python benchmarks/gpu_table4.py [--size 320x180] [--runs 100] [--minutes 2] [--json FILE]

Every row is a network in one way of running it; the batch is one picture. Rows take turns in a random order, each run
timed by CUDA events. "dense" has every 1x1 convolution that a depthwise 3x3 follows as one dense 3x3, three times the
work in fewer kernels; "tanh" has GELU by tanh. Weights are random: times do not depend on them. Rows that the time does
not suffice for are left out, and named. With --rehearsal it runs on the CPU, which shows that it runs and nothing else.

The paper has 83.75 ms (BSRN), 105.82 ms (VapSR) and 85.65 ms (LKDN) on an RTX 3080.
"""

import argparse
import json
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
import torch.nn.functional as F
from torch import nn

from lkdn_deploy.core.files import publish
from lkdn_models.nets.blocks import BSConv
from lkdn_models.rgb import as_rgb
from lkdn_models.zoo import find

NETWORKS = ("lkdn", "lkdn-s", "bsrn", "vapsr", "rfdn-aim")
FORMS_OF = ("lkdn", "lkdn-s")
WARM_UP = 20
TF32, FP32, FP16, LAST, GRAPH, COMPILED = (
    "fp32 (TF32)",
    "fp32",
    "fp16",
    "fp16 channels last",
    "fp16 graph",
    "fp16 compiled",
)
WAYS = (FP32, TF32, FP16, LAST, GRAPH, COMPILED)

Run = Callable[[], Any]


def dense(network: nn.Module) -> nn.Module:
    """Replace every 1x1 convolution before a depthwise 3x3 by one dense 3x3, in place, and return the network."""
    for name, child in network.named_children():
        if type(child) is BSConv and isinstance(child.pw, nn.Conv2d):
            pointwise, depthwise = child.pw, child.dw
            merged = nn.Conv2d(pointwise.in_channels, depthwise.out_channels, 3, padding=1)
            with torch.no_grad():
                merged.weight.copy_(depthwise.weight * pointwise.weight[:, :, 0, 0, None, None])
                if depthwise.bias is not None and merged.bias is not None:
                    merged.bias.copy_(depthwise.bias)
            setattr(network, name, merged)
        else:
            dense(child)
    return network


def prepared(name: str, form: str, way: str, batch: torch.Tensor, stack: ExitStack) -> tuple[Run, float]:
    """Return one run of a network, and the peak of the memory for its activations in MiB.

    Args:
        name: network of the zoo.
        form: ``""``, ``dense`` or ``tanh``.
        way: one of ``WAYS``.
        batch: (1, 3, H, W) float32 on the device.
        stack: ends what must last as long as the run.
    """
    cuda = batch.is_cuda
    torch.manual_seed(0)
    gelu = partial(F.gelu, approximate="tanh") if form == "tanh" else F.gelu
    with patch.object(F, "gelu", gelu):
        entry = find(name, 4)
        network = as_rgb(entry.build(deployed=True), entry.input, 4).eval().to(batch.device)
    if form == "dense":
        dense(network)
    values = batch if way in (FP32, TF32) else batch.half()
    network = network.to(values.dtype)
    if way in (LAST, COMPILED):
        network, values = network.to(memory_format=torch.channels_last), values.to(memory_format=torch.channels_last)
    called = torch.compile(network, mode="max-autotune") if way == COMPILED and cuda else network

    def plain() -> Any:
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = way == TF32
        with torch.inference_mode(), patch.object(F, "gelu", gelu):
            return called(values)

    before = torch.cuda.memory_allocated() if cuda else 0
    if cuda:
        torch.cuda.reset_peak_memory_stats()
    for _ in range(WARM_UP if cuda else 1):
        plain()
    if not cuda:
        return plain, 0.0
    torch.cuda.synchronize()
    peak = (torch.cuda.max_memory_allocated() - before) / (1 << 20)
    if way != GRAPH:
        return plain, peak
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = plain()
    stack.callback(lambda _: None, result)  # the graph writes there
    return graph.replay, peak


def seconds(run: Run, cuda: bool) -> float:
    """Return the time of one run, by events on a GPU."""
    if not cuda:
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    start_event, end_event = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    start_event.record()
    run()
    end_event.record()
    end_event.synchronize()
    return start_event.elapsed_time(end_event) / 1e3


def clocks() -> str:
    """Return what the driver says of the GPU's clocks and temperature; nothing where there is none."""
    query = "--query-gpu=name,driver_version,clocks.sm,clocks.mem,temperature.gpu,power.draw"
    try:
        done = subprocess.run(
            ["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True, timeout=20
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip()


def rows() -> list[tuple[str, str, str]]:
    """Return network, form and way of every row, the most telling first."""
    plain = [(name, "", way) for way in (FP16, GRAPH, FP32, TF32, LAST) for name in NETWORKS]
    forms = [(name, form, way) for way in (GRAPH, FP16) for name in FORMS_OF for form in ("dense", "tanh")]
    compiled = [(name, "", COMPILED) for name in NETWORKS]
    return plain + forms + compiled + [(name, "dense", COMPILED) for name in FORMS_OF]


def main() -> None:
    """Measure, print and write the rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="320x180", metavar="WxH")
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--json", type=Path, dest="output")
    parser.add_argument("--rehearsal", action="store_true")
    options = parser.parse_args()
    if not options.rehearsal and not torch.cuda.is_available():
        sys.exit("error: PyTorch finds no GPU")
    cuda = not options.rehearsal
    width, height = map(int, options.size.split("x"))
    batch = torch.rand(1, 3, height, width, device="cuda" if cuda else "cpu")
    end, before = time.monotonic() + 60 * options.minutes, clocks()
    runs: dict[tuple[str, str, str], Run] = {}
    peaks: dict[tuple[str, str, str], float] = {}
    left_out: list[str] = []
    with ExitStack() as stack:
        for row in rows():
            if time.monotonic() > end - 20 * options.minutes:  # the last third is for measuring
                left_out.append(f"{' '.join(row)}: the time was over")
                continue
            try:
                runs[row], peaks[row] = prepared(*row, batch, stack)
            except Exception as error:  # one row that fails leaves the others
                left_out.append(f"{' '.join(row)}: {type(error).__name__}: {str(error)[:200]}")
        samples: dict[tuple[str, str, str], list[float]] = {row: [] for row in runs}
        order = list(runs)
        for _ in range(options.runs):
            if time.monotonic() > end:
                break
            random.shuffle(order)
            for row in order:
                samples[row].append(seconds(runs[row], cuda))
    results = []
    for row, taken in samples.items():
        if not taken:
            continue
        values = sorted(1e3 * value for value in taken)
        p5, p95 = (values[round(share * (len(values) - 1))] for share in (0.05, 0.95))
        results.append(
            {
                "network": row[0],
                "form": row[1],
                "way": row[2],
                "ms": round(statistics.median(values), 4),
                "p5": round(p5, 4),
                "p95": round(p95, 4),
                "runs": len(values),
                "peak_mib": round(peaks[row], 1),
            }
        )
    for result in sorted(results, key=lambda result: (result["network"], result["ms"])):
        print("{network:9}{form:6} {way:19}{ms:9.3f} ms  {p5:9.3f}..{p95:.3f}  {peak_mib:8.1f} MiB".format(**result))
    for line in left_out:
        print(f"left out: {line}")
    if options.output:
        facts = {"torch": torch.__version__, "size": options.size, "cuda": cuda, "before": before, "after": clocks()}
        with publish(options.output) as part:
            part.write_text(json.dumps({"facts": facts, "rows": results, "left_out": left_out}, indent=2) + "\n")


if __name__ == "__main__":
    main()

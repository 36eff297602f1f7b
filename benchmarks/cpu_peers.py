"""Compare the same network and weights on this machine's CPU on all usable engines and this toolkit.

    python benchmarks/cpu_peers.py [--weights DIR] [--model NAME ...] [--size WxH ...] [--rounds 12] [--native]
                                   [--output benchmarks/results/cpu_peers.json]

Peers run the network as its authors wrote it, with the best of their usual settings: PyTorch eager, channels-last and
compiled; its plain export on ONNX Runtime and OpenVINO, fixed to the size; ncnn, through pnnx; LiteRT. "Ours" is what
`lkdn-upscale` runs: the artefact optimised for the engine, or as it is on the native engine. Engines that are not
installed are left out and named:

    pip install ncnn pnnx            # ncnn
    pip install litert-torch && pip install 'typing_extensions>=4.16'    # LiteRT, which requires an older one

Each round times every candidate once in random order, reopened (except candidates that compile for many seconds), and
after untimed runs. Results are compared with PyTorch's before anything is timed. In fixed point (int16), the native
engine detects saturated ranges as always, and the photograph has none; its row has the ratio to float32, too.
Where the processor has more than AVX2, both are also timed with code for AVX2. `--native` leaves out all but these and
eager PyTorch. Weights are the published ones under DIR, else random: times do not depend on them.
`benchmarks/cpu_peers_picture.py` draws the plot from the JSON.
"""

import argparse
import json
import os
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import openvino
import torch
from instructions import AVX2, THIS, compiled_for, instruction_sets
from numpy.typing import NDArray
from torch import nn

from lkdn_deploy.backends.registry import open_session
from lkdn_deploy.bench.complexity.devices import measure_cpu
from lkdn_deploy.bench.complexity.roofline import bounds
from lkdn_deploy.bench.complexity.trace import trace
from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.bench.measure.harness import Prepare, Run, WarmUpLimits, measure_rounds
from lkdn_deploy.bench.measure.statistics import bootstrap_ratio
from lkdn_deploy.bench.models import find_models
from lkdn_deploy.core.files import publish
from lkdn_deploy.core.limits import cores
from lkdn_deploy.export.job import ExportSettings, export_onnx, fuse
from lkdn_deploy.imaging.pixels import to_batch
from lkdn_deploy.runtime.optimised import optimised_for
from lkdn_deploy.samples import repeated_sample
from lkdn_models.checkpoint import Checkpoint
from lkdn_models.rgb import as_rgb

FILES = {
    "lkdn-s": "LKDN/LKDN-S_x4.pth",
    "lkdn": "LKDN/LKDN_x4.pth",
    "bsrn": "BSRN/net_g_BSRN_x4.pth",
    "imdn": "IMDN/IMDN_x4.pth",
    "vapsr": "VapSR/VapSR_X4.pth",
    "span-ch48": "SPAN/spanx4_ch48.safetensors",
    "span-ch28": "NTIRE2024/team38_span_ch28_slim.pth",
    "spanf": "NTIRE2025/team24_spanf.pth",
    "pkdsr": "NTIRE2026/team16_PKDSR.pth",
    "pds": "NTIRE2026/team01_PDS.pth",
    "tssr": "NTIRE2025/team58_TSSR.pth",
    "compact": "Compact/realesr-animevideov3-x4.safetensors",
    "ecbsr-m4c16": "ETDS/ECBSR_M4C16_x4.pth",
    "ecbsr-m6c40": "ETDS/ECBSR_M6C40_x4.pth",
    "ecbsr-et-m4c16": "ETDS/ECBSR_ET_M4C16_x4.pth",
    "etds-m4c32": "ETDS/ETDS_M4C32_x4.pth",
    "etds-m7c48": "ETDS/ETDS_M7C48_x4.pth",
    "abpn-m6c40": "ETDS/ABPN_M6C40_x4.pth",
    "espcn": "ETDS/ESPCN_x4.pth",
    "efdn": "NTIRE2025/team00_EFDN.pth",
    "reprlfn": "NTIRE2025/team25_RepRLFN.pth",
    "dipnet": "NTIRE2025/team15_DIPNet_slim_v2.pt",
    "smfanet": "SMFANet/SMFANet_DF2K_100w_x4SR.pth",
    "sgsdn": "NTIRE2025/team18_SGSDN.pth",
    "r2net": "NTIRE2024/team29_R2Net.pth",
}
"""Files of published weights, by the networks' names."""
MODELS = tuple(FILES)
SIZES = ((61, 83), (180, 320), (360, 640))
ALLOWED = 1e-4
"""Largest accepted difference from PyTorch on a photograph, over the largest value if that is above 1."""
ALLOWED_INT16 = 2.5 / 255
"""The same in fixed point, where pixels of 8 bits may be off by two levels."""
EAGER = "PyTorch eager"
NATIVE, INT16 = "ours, native", "ours, native int16"
NATIVE_AVX2, INT16_AVX2 = f"{NATIVE}, {AVX2}", f"{INT16}, {AVX2}"
IN_FLOAT = {INT16: NATIVE, INT16_AVX2: NATIVE_AVX2}
"""Rows in fixed point, and the same in float32."""
OVER_NATIVE = "over native in float32"
THREADS = cores()

Batch = NDArray[np.float32]
Call = Callable[[], Batch]


@dataclass(frozen=True, slots=True)
class Subject:
    """The network that all candidates run."""

    network: nn.Module
    plain: Path
    """File of its plain export with dynamic size."""
    fixed: Path
    """File of its plain export with the size fixed."""
    batch: Batch


Candidate = Callable[[Subject], Callable[[], Call]]
"""Prepares a network for an engine, and returns what opens it."""


def main() -> None:
    """Measure and print each model and size, and write all results after each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--weights", type=Path, help="folder of published checkpoints")
    parser.add_argument("--model", action="append", choices=MODELS, default=[])
    parser.add_argument("--size", action="append", type=size, default=[], metavar="WxH")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--native", action="store_true", help="only the native engine, and eager PyTorch")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "cpu_peers.json")
    options = parser.parse_args()
    candidates = {EAGER: eager} | native_candidates()
    if not options.native:
        candidates = PEERS | candidates
    wanted = options.model or MODELS
    files = [options.weights / FILES[name] for name in wanted] if options.weights else []
    models = {}
    for name, model in zip(wanted, find_models([] if files else [*wanted], 4, files), strict=True):
        models[name] = model, model.load()
    device = measure_cpu(THREADS)
    results: dict[str, Any] = {"machine": machine_facts(THREADS), "rounds": options.rounds, "runs": []}
    torch.set_num_threads(THREADS)
    with tempfile.TemporaryDirectory() as name:
        for model_name in wanted:
            model, checkpoint = models[model_name]
            for shape in options.size or SIZES:
                subject = prepare(checkpoint, shape, Path(name))
                least = bounds(trace(model.build(), (1, 3, *shape)), device, "fp32")
                run = {
                    "model": model_name,
                    "weights": model.origin,
                    "size": "{1}x{0}".format(*shape),
                    "bounds ms": {kind: round(getattr(least, kind), 2) for kind in ("pointwise", "network")},
                    **measure(subject, candidates, options.rounds),
                }
                results["runs"].append(run)
                show(run)
                with publish(options.output) as part:
                    part.write_text(json.dumps(results, indent=1) + "\n")


def size(text: str) -> tuple[int, int]:
    """Parse ``320x180``, width by height, into height and width."""
    width, height = map(int, text.split("x"))
    return height, width


def prepare(checkpoint: Checkpoint, shape: tuple[int, int], folder: Path) -> Subject:
    """Build the deployed network and its exports; the picture is the photograph that ships, repeated."""
    height, width = shape
    batch = to_batch(repeated_sample(height, width))
    plain, fixed = folder / f"{checkpoint.name}.onnx", folder / f"{checkpoint.name}_{width}x{height}.onnx"
    if not plain.exists():
        export_onnx(checkpoint, plain, ExportSettings())
    export_onnx(checkpoint, fixed, ExportSettings(static=shape))
    network = as_rgb(fuse(checkpoint).network, checkpoint.input, checkpoint.scale).eval()
    return Subject(network, plain, fixed, batch)


def measure(subject: Subject, candidates: dict[str, Candidate], rounds: int) -> dict[str, Any]:
    """Compare and time every candidate that works here."""
    opened: dict[str, Callable[[], Call]] = {}
    left_out: dict[str, str] = {}
    differences: dict[str, float] = {}
    reference = eager(subject)()()
    for name, opening in candidates.items():
        try:
            start = time.perf_counter()
            call = opening(subject)()
            difference = float(np.abs(call() - reference).max() / max(1, np.abs(reference).max()))
            seconds = time.perf_counter() - start
        except Exception as error:  # whatever a peer raises, the others go on
            said = (
                str(error).partition("\n")[0].replace(f"{subject.plain.parent}{os.sep}", "")
            )  # results name no folder
            left_out[name] = f"{type(error).__name__}: {said}"[:200]
            continue
        differences[name] = difference
        if difference > (ALLOWED_INT16 if name in IN_FLOAT else ALLOWED):
            left_out[name] = f"its result differs by {difference:.1e}"
            continue
        # What compiles for long is opened once.
        opened[name] = (lambda call=call: call) if seconds > 5 else opening(subject)
    limits = WarmUpLimits(most_runs=6, runs_before=2, seconds_before=0.3)
    timings = measure_rounds([of_rounds(each) for each in opened.values()], rounds, warm_up=limits)
    samples = {name: timing.samples for name, timing in zip(opened, timings.each, strict=True)}
    return {"rows": [row(name, samples, differences) for name in samples], "left out": left_out}


def of_rounds(opening: Callable[[], Call]) -> Prepare:
    """Return what reopens a candidate for each round."""

    def prepared(_: int) -> Run:
        call = opening()

        def run() -> None:
            call()

        return run

    return prepared


def row(name: str, samples: dict[str, list[float]], differences: dict[str, float]) -> dict[str, Any]:
    """Summarise a candidate: times in ms, and ratios to eager and to the fastest peer in the same rounds."""
    mine = samples[name]
    best = min((other for other in samples if not other.startswith("ours")), key=lambda it: np.median(samples[it]))
    found: dict[str, Any] = {
        "name": name,
        "median": round(float(np.median(mine)), 2),
        "least": round(min(mine), 2),
        "max difference": differences[name],
    }
    others = [("over eager", EAGER), ("over the best peer", best)]
    if IN_FLOAT.get(name) in samples:
        others.append((OVER_NATIVE, IN_FLOAT[name]))
    for title, other in others:
        ratio = bootstrap_ratio(mine, samples[other]) if other != name else None
        if ratio:
            found[title] = [round(value, 4) for value in (ratio.value, ratio.low, ratio.high)]
    return found | {"samples": [round(value, 3) for value in mine]}


def show(run: dict[str, Any]) -> None:
    """Print a table."""
    print(f"\n{run['model']} {run['size']}: least {run['bounds ms']} ms by the roofline", flush=True)
    for each in sorted(run["rows"], key=lambda it: it["median"]):
        ratios = "  ".join(
            f"{title} {each[title][0]:.2f} [{each[title][1]:.2f}, {each[title][2]:.2f}]"
            for title in ("over eager", "over the best peer", OVER_NATIVE)
            if title in each
        )
        print(f"{each['name']:<28}{each['median']:9.1f} ms  {ratios}", flush=True)
    for name, why in run["left out"].items():
        print(f"{name:<28} left out: {why}", flush=True)


def eager(subject: Subject) -> Callable[[], Call]:
    """Open eager PyTorch."""
    return in_torch(subject, lambda network: network)


def channels_last(subject: Subject) -> Callable[[], Call]:
    """Open eager PyTorch with channels last in memory."""
    return in_torch(subject, lambda network: network.to(memory_format=torch.channels_last), torch.channels_last)


def compiled(subject: Subject) -> Callable[[], Call]:
    """Open ``torch.compile``, which needs a C++ compiler."""
    return in_torch(subject, lambda network: torch.compile(network), torch.channels_last)  # type: ignore[arg-type]


def in_torch(
    subject: Subject, change: Callable[[nn.Module], nn.Module], layout: torch.memory_format = torch.contiguous_format
) -> Callable[[], Call]:
    """Open a changed copy of the network."""

    def opening() -> Call:
        import copy

        network = change(copy.deepcopy(subject.network))
        x = torch.from_numpy(subject.batch.copy()).contiguous(memory_format=layout)

        def call() -> Batch:
            with torch.inference_mode():
                return network(x).numpy()  # type: ignore[no-any-return]

        return call

    return opening


def ort_plain(path: Callable[[Subject], Path]) -> Candidate:
    """Open an export on ONNX Runtime with its default settings."""

    def candidate(subject: Subject) -> Callable[[], Call]:
        def opening() -> Call:
            options = onnxruntime.SessionOptions()
            options.intra_op_num_threads = THREADS
            session = onnxruntime.InferenceSession(path(subject), options, providers=["CPUExecutionProvider"])
            return lambda: session.run(None, {"lr": subject.batch})[0]

        return opening

    return candidate


def openvino_plain(subject: Subject) -> Callable[[], Call]:
    """Open the export of fixed size on OpenVINO."""

    def opening() -> Call:
        settings = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": THREADS, "INFERENCE_PRECISION_HINT": "f32"}
        request = openvino.Core().compile_model(subject.fixed, "CPU", settings).create_infer_request()
        return lambda: np.asarray(next(iter(request.infer({0: subject.batch}).values())))

    return opening


def in_ncnn(subject: Subject) -> Callable[[], Call]:
    """Open ncnn, converted by pnnx at this size, with the converter's files in a separate folder."""
    import ncnn
    import pnnx

    here = Path.cwd()
    folder = Path(tempfile.mkdtemp(dir=subject.fixed.parent))
    os.chdir(folder)  # it writes where it is
    try:
        pnnx.export(subject.network, "network.pt", (torch.from_numpy(subject.batch),), fp16=False)
    finally:
        os.chdir(here)

    def opening() -> Call:
        net = ncnn.Net()
        net.opt.num_threads = THREADS
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        net.opt.use_bf16_storage = False
        net.load_param(str(folder / "network.ncnn.param"))
        net.load_model(str(folder / "network.ncnn.bin"))
        x = ncnn.Mat(subject.batch[0]).clone()  # its channels start at multiples of 16 bytes, as a Concat of it needs

        def call() -> Batch:
            extractor = net.create_extractor()
            extractor.input("in0", x)
            return np.array(extractor.extract("out0")[1])[None]

        return call

    return opening


def in_litert(subject: Subject) -> Callable[[], Call]:
    """Open LiteRT with XNNPACK, converted at this size."""
    import litert_torch
    from ai_edge_litert.interpreter import Interpreter

    path = subject.fixed.with_suffix(".tflite")
    litert_torch.convert(subject.network, (torch.from_numpy(subject.batch),)).export(str(path))

    def opening() -> Call:
        interpreter = Interpreter(model_path=str(path), num_threads=THREADS)
        interpreter.allocate_tensors()
        source = interpreter.get_input_details()[0]["index"]
        result = interpreter.get_output_details()[0]["index"]

        def call() -> Batch:
            interpreter.set_tensor(source, subject.batch)
            interpreter.invoke()
            return np.asarray(interpreter.get_tensor(result))

        return call

    return opening


def ours(backend: str, precision: str | None = None, instructions: str = THIS) -> Candidate:
    """Open what `lkdn-upscale` runs on a backend, in a precision, with code for some instructions."""

    def candidate(subject: Subject) -> Callable[[], Call]:
        def opening() -> Call:
            with compiled_for(instruction_sets()[instructions]):
                session = open_session(
                    subject.plain, backend, threads=THREADS, optimise=optimised_for, precision=precision
                )

            def call() -> Batch:
                result = session.run(subject.batch)
                use = session.range_use()
                if use is not None and use.again:
                    msg = "the picture was computed again in float32, so that both precisions would be timed"
                    raise RuntimeError(msg)
                return result

            return call

        return opening

    return candidate


def native_candidates() -> dict[str, Candidate]:
    """Return the native engine in both precisions, also with code for AVX2 where that is not all there is."""
    found = {NATIVE: ours("native"), INT16: ours("native", "int16")}
    if AVX2 in instruction_sets():
        found |= {NATIVE_AVX2: ours("native", None, AVX2), INT16_AVX2: ours("native", "int16", AVX2)}
    return found


PEERS: dict[str, Candidate] = {
    "PyTorch channels-last": channels_last,
    "PyTorch compiled": compiled,
    "ONNX Runtime, free size": ort_plain(lambda subject: subject.plain),
    "ONNX Runtime, fixed size": ort_plain(lambda subject: subject.fixed),
    "OpenVINO, fixed size": openvino_plain,
    "ncnn": in_ncnn,
    "LiteRT": in_litert,
    "ours, ONNX Runtime": ours("ort-cpu"),
    "ours, OpenVINO": ours("openvino"),
}


if __name__ == "__main__":
    main()

"""Measure the native engine in FP32 and in 16-bit fixed point by kind of layer, beside the processor's peak.

    python benchmarks/kinds.py [--channels 42] [--size 320x180] [--rounds 12] [--threads 1] [--avx2]
                               [--output benchmarks/results/kinds.json]

For each kind, two networks that differ only in how many such layers they have in a row: the difference of their times
is that of the additional layers, with loads and stores, and without head and tail. The tail, a dense 3x3 convolution
with the pixel shuffle and the pixels of 8 bits, is that of a whole network with one 1x1 convolution before it.

Peaks are measured in the same rounds, by generated loops on registers: fused multiply-adds of float32, and products of
pairs of 16-bit integers. Dense 3x3 convolutions are computed directly, as in LKDN; networks that consist of them
take fewer multiplications in FP32, by minimal filtering. `--avx2` measures code for AVX2 on a processor that has more.
"""

import argparse
import json
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from instructions import AVX2, THIS, instruction_sets
from llvmlite import ir
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from lkdn_deploy.backends.native.compile import CompiledNetwork
from lkdn_deploy.backends.native.executor import Executor
from lkdn_deploy.backends.native.fixed.measured import measure
from lkdn_deploy.backends.native.fixed.pictures import as_image, shipped_pictures
from lkdn_deploy.backends.native.fixed.quantise import quantise
from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.bench.measure.harness import Prepare, WarmUpLimits, measure_rounds
from lkdn_deploy.bench.measure.statistics import bootstrap_ratio
from lkdn_deploy.core.files import publish
from lkdn_deploy.jit import builder, sixteen
from lkdn_deploy.jit.builder import INT, POINTER, Builder
from lkdn_deploy.jit.compiler import Processor, library
from lkdn_deploy.jit.sixteen import Pairs, pair_unit
from lkdn_deploy.samples import repeated_sample

FEW, MANY = 2, 10
"""Layers of the two networks of a kind."""
PRECISIONS = ("fp32", "int16")
TURNS = 2**17
"""Iterations of a peak's loop: a few milliseconds."""

Pixels = NDArray[np.uint8]


class Layers:
    """An ONNX graph of layers in a row, whose features stay of one size."""

    def __init__(self, channels: int) -> None:
        self.channels, self.macs = channels, 0
        self._random = np.random.default_rng(0)
        self._nodes: list[onnx.NodeProto] = []
        self._weights: list[onnx.TensorProto] = []

    def conv(self, value: str, shape: tuple[int, int, int, int], *, dilation: int = 1, gain: float = 1.0) -> str:
        """Add a convolution with a bias; one with one input channel is depthwise."""
        count, each, rows, columns = shape
        spread = gain / np.sqrt(each * rows * columns)
        names = []
        for numbers in (self._random.normal(0, spread, shape), self._random.normal(0, 0.1, count)):
            names.append(f"w{len(self._weights)}")
            self._weights.append(numpy_helper.from_array(numbers.astype(np.float32), names[-1]))
        pads = [rows // 2 * dilation, columns // 2 * dilation] * 2
        groups = count if each == 1 else 1
        self.macs += int(np.prod(shape))
        return self._add("Conv", value, *names, pads=pads, dilations=[dilation] * 2, group=groups)

    def gelu(self, value: str) -> str:
        """Add an activation."""
        return self._add("Gelu", value)

    def gated(self, value: str, gate: str) -> str:
        """Add a product."""
        return self._add("Mul", value, gate)

    def model(self, value: str, scale: int, size: tuple[int, int]) -> bytes:
        """Return the network whose pixels are made of a value, for pictures of one size: without minimal filtering."""
        result = self._add("DepthToSpace", value, blocksize=scale, mode="CRD")
        ends = [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3, *sides])
            for name, sides in (("lr", size), (result, [scale * it for it in size]))
        ]
        graph = helper.make_graph(self._nodes, "layers", ends[:1], ends[1:], self._weights)
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9).SerializeToString()

    def _add(self, kind: str, *inputs: str, **attributes: Any) -> str:
        name = f"v{len(self._nodes)}"
        self._nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name


def pointwise(layers: Layers, value: str) -> str:
    """Add a 1x1 convolution."""
    return layers.conv(value, (layers.channels, layers.channels, 1, 1))


def depthwise(layers: Layers, value: str, side: int, dilation: int = 1) -> str:
    """Add a depthwise convolution."""
    return layers.conv(value, (layers.channels, 1, side, side), dilation=dilation, gain=1.2)


def attention(layers: Layers, value: str) -> str:
    """Add a large kernel attention: a 1x1 and two depthwise convolutions, whose result multiplies its input."""
    gate = depthwise(layers, depthwise(layers, pointwise(layers, value), 5), 5, 3)
    return layers.gated(value, gate)


KINDS: dict[str, Callable[[Layers, str], str]] = {
    "1x1": pointwise,
    "1x1, GELU": lambda layers, value: layers.gelu(pointwise(layers, value)),
    "dense 3x3, GELU": lambda layers, value: layers.gelu(
        layers.conv(value, (layers.channels, layers.channels, 3, 3), gain=1.5)
    ),
    "depthwise 3x3": lambda layers, value: depthwise(layers, value, 3),
    "depthwise 3x3, GELU": lambda layers, value: layers.gelu(depthwise(layers, value, 3)),
    "depthwise 5x5": lambda layers, value: depthwise(layers, value, 5),
    "depthwise 5x5, dilation 3": lambda layers, value: depthwise(layers, value, 5, 3),
    "attention": lambda layers, value: layers.gelu(attention(layers, value)),
}
TAIL = "tail"


@dataclass(frozen=True, slots=True)
class Network:
    """A network of a kind, compiled in both precisions."""

    kind: str
    count: int
    macs: int
    """Multiply-accumulates per pixel."""
    compiled: dict[str, CompiledNetwork]


def main() -> None:
    """Measure, print the results and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--channels", type=int, default=42)
    parser.add_argument("--size", default="320x180", metavar="WxH")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--avx2", action="store_true")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "kinds.json")
    options = parser.parse_args()
    instructions = AVX2 if options.avx2 else THIS
    target = instruction_sets()[instructions]
    width, height = map(int, options.size.split("x"))
    picture = repeated_sample(height, width)
    networks = [*networks_of(options.channels, (height, width), target)]
    with ThreadPoolExecutor(max(options.threads - 1, 1)) as pool:
        samples, peaks = measured(networks, picture, target, options.threads, options.rounds, pool)
    rows = [row(*it, samples, height * width, peaks) for it in pairs_of(networks)]
    for it in rows:
        print(json.dumps(it), flush=True)
    facts = {"machine": machine_facts(options.threads), "instructions": instructions, "channels": options.channels}
    facts |= {"size": options.size, "rounds": options.rounds, "peaks GMAC/s": peaks}
    print(json.dumps(facts["peaks GMAC/s"]))
    with publish(options.output) as part:
        part.write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")


def networks_of(channels: int, size: tuple[int, int], target: Processor) -> Iterator[Network]:
    """Compile the networks of all kinds."""
    for kind, add in KINDS.items():
        for count in (FEW, MANY):
            layers = Layers(channels)
            value = layers.conv("lr", (channels, 3, 1, 1))
            for _ in range(count):
                value = add(layers, value)
            value = layers.conv(value, (12, channels, 1, 1))
            yield Network(kind, count, layers.macs, compiled(layers.model(value, 2, size), target))
    layers = Layers(channels)
    value = layers.conv(layers.conv("lr", (channels, 3, 1, 1)), (48, channels, 3, 3))
    yield Network(TAIL, 1, layers.macs, compiled(layers.model(value, 4, size), target))


def compiled(model: bytes, target: Processor) -> dict[str, CompiledNetwork]:
    """Compile a network in both precisions."""
    program = import_program(model)
    fixed = quantise(program, measure(program, shipped_pictures(), target))
    return {"fp32": CompiledNetwork(program, target), "int16": CompiledNetwork(fixed.program, target, fixed)}


def measured(
    networks: list[Network], picture: Pixels, target: Processor, threads: int, rounds: int, pool: ThreadPoolExecutor
) -> tuple[dict[tuple[str, int, str], list[float]], dict[str, float]]:
    """Time all networks and the peaks in turn.

    Returns:
        Milliseconds in each round by kind, count and precision, and the peaks of all threads in GMAC/s.
    """
    loops = {precision: peak_loop(precision, target) for precision in PRECISIONS}
    candidates: dict[tuple[str, int, str], Prepare] = {("peak", 0, it): loop for it, (loop, _) in loops.items()}
    for network in networks:
        for precision, code in network.compiled.items():
            executor = Executor(code, *picture.shape[:2], threads)
            candidates[network.kind, network.count, precision] = prepared(executor, picture, code.scale, pool)
    limits = WarmUpLimits(most_runs=4, runs_before=1, seconds_before=0.02)
    timings = measure_rounds([*candidates.values()], rounds, warm_up=limits).each
    samples = {key: timing.samples for key, timing in zip(candidates, timings, strict=True)}
    peaks = {
        precision: round(threads * TURNS * macs / float(np.median(samples["peak", 0, precision])) / 1e6, 1)
        for precision, (_, macs) in loops.items()
    }
    return samples, peaks


def prepared(executor: Executor, picture: Pixels, scale: int, pool: ThreadPoolExecutor) -> Prepare:
    """Return what runs a network from values to pixels."""
    image = as_image(picture)
    large = np.empty((scale * image.shape[1], scale * image.shape[2], 3), np.uint8)

    def run() -> None:
        executor.run(image, np.s_[:, :], large, pool)

    return lambda _: run


def peak_loop(precision: str, target: Processor) -> tuple[Prepare, int]:
    """Return what runs the loop of a peak on one core, and the multiply-accumulates of an iteration."""
    count = 24 if target.lanes == 16 else 12  # enough to hide the latency, within the registers
    name = f"peak_{precision}"

    def emit(module: ir.Module) -> None:
        b = Builder(ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, INT]), name), target.lanes)
        result, turns = b.function.args
        pairs = Pairs(b, pair_unit(target.features, target.lanes))

        weight = pairs.integers(0x10003)

        def products(_: Any, values: Any) -> list[Any]:
            if precision == "fp32":
                return [b.fma(value, b.constant(0.5), b.constant(1)) for value in values]
            # Of changing numbers: what is the same each time would be taken out of the loop.
            found = {it: pairs.dot(values[it], values[it - 1], weight) for it in reversed(range(count))}
            return [found[it] for it in range(count)]

        starts = [b.constant(it) if precision == "fp32" else pairs.integers(it) for it in range(count)]
        sums = b.loop(turns, starts, products)
        total = sums[0]
        for value in sums[1:]:
            total = b.fadd(total, value) if precision == "fp32" else b.add(total, value)
        b.store_vector(total if precision == "fp32" else b.bitcast(total, b.vector), result)
        b.ret_void()

    sources = [__file__, str(builder.__file__), str(sixteen.__file__)]
    code = library("native", emit, target, sources, [name])
    function = code.function(name, "pi")
    memory = np.zeros(64, np.float32)
    place = memory.ctypes.data + -memory.ctypes.data % 64

    def run(_code: object = code, _memory: object = memory) -> None:
        function(place, TURNS)

    return (lambda _: run), count * target.lanes * (1 if precision == "fp32" else 2)


def pairs_of(networks: list[Network]) -> Iterator[tuple[Network | None, Network]]:
    """Yield the short and the long network of each kind; the tail has none that is shorter."""
    for network in networks:
        if network.kind == TAIL:
            yield None, network
        elif network.count == MANY:
            yield next(it for it in networks if (it.kind, it.count) == (network.kind, FEW)), network


def row(
    short: Network | None,
    network: Network,
    samples: dict[tuple[str, int, str], list[float]],
    pixels: int,
    peaks: dict[str, float],
) -> dict[str, Any]:
    """Summarise a kind: milliseconds of a layer, GMAC/s and its share of the peak, and int16 over FP32."""
    layers, macs = network.count, network.macs
    times = {it: np.array(samples[network.kind, network.count, it]) for it in PRECISIONS}
    if short is not None:
        layers, macs = layers - short.count, macs - short.macs
        times = {it: each - np.array(samples[short.kind, short.count, it]) for it, each in times.items()}
    found: dict[str, Any] = {"kind": network.kind, "MMAC": round(macs * pixels / layers / 1e6, 1)}
    for precision, each in times.items():
        milliseconds = float(np.median(each)) / layers
        rate = macs * pixels / layers / milliseconds / 1e6
        found[precision] = {
            "ms": round(milliseconds, 3),
            "GMAC/s": round(rate, 1),
            "share of the peak": round(rate / peaks[precision], 3),
        }
    ratio = (
        bootstrap_ratio([*times["int16"]], [*times["fp32"]]) if all((it > 0).all() for it in times.values()) else None
    )
    found["int16 over fp32"] = [round(it, 3) for it in (ratio.value, ratio.low, ratio.high)] if ratio else None
    return found


if __name__ == "__main__":
    main()

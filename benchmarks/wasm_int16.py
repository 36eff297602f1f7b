"""Measure networks in WebAssembly in 16-bit fixed point against the same networks in FP32, in Node, in one thread.

    python benchmarks/wasm_int16.py [--model FILE.onnx ...] [--size 320x180] [--rounds 12]
                                    [--output benchmarks/results/wasm_int16.json]

The default is the bundled LKDN-S x4. Each network is compiled in both precisions, for plain SIMD and for relaxed SIMD,
which has a fused multiply-add for FP32. Each of the four runs in a process of its own, from the pixels of a photograph
to pixels, once per round in random order after a round that is not counted. A network of which a value saturates on
the photograph is not timed, as that would have to be computed again. Quote the ratios.
"""

import argparse
import json
import subprocess
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
from browser import measured, summary

from lkdn_deploy.backends.native.fixed.fixed_ir import FixedProgram
from lkdn_deploy.backends.native.fixed.measured import measure
from lkdn_deploy.backends.native.fixed.pictures import shipped_pictures
from lkdn_deploy.backends.native.fixed.quantise import quantise
from lkdn_deploy.backends.native.fixed.usage import RangeRecord
from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.backends.native.wasm import WasmNetwork, compile_wasm
from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.core.files import publish
from lkdn_deploy.jit.compiler import processor
from lkdn_deploy.runtime.bundled import bundled
from lkdn_deploy.samples import repeated_sample
from lkdn_deploy.web.folder import STATIC

PROGRAM = Path(__file__).parent / "browser_race" / "engine.mjs"
INSTRUCTIONS = ("plain", "relaxed")
PAIRS = tuple((f"int16, {it}", f"fp32, {it}") for it in INSTRUCTIONS)

Answer = Callable[[], tuple[float, list[Any]]]


def main() -> None:
    """Measure each network, print the results and write them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, action="append", default=[], help="artefact; repeatable")
    parser.add_argument("--size", default="320x180", metavar="WxH")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "wasm_int16.json")
    options = parser.parse_args()
    width, height = map(int, options.size.split("x"))
    results: dict[str, Any] = {"machine": machine_facts(1), "size": options.size, "rounds": options.rounds}
    for path in options.model or [bundled()["lkdn-s", 4]]:
        results[path.stem] = raced(path, height, width, options.rounds)
        print(path.stem, json.dumps(results[path.stem]), flush=True)
    with publish(options.output) as part:
        part.write_text(json.dumps(results, indent=1) + "\n")


def raced(path: Path, height: int, width: int, rounds: int) -> dict[str, Any]:
    """Time a network in both precisions and sets of instructions."""
    data = path.read_bytes()
    program = import_program(data)
    fixed = quantise(program, measure(program, shipped_pictures(), processor()))
    networks = {"fp32": compile_wasm(program), "int16": compile_wasm(fixed.program, fixed)}
    pixels = repeated_sample(height, width)
    picture = np.dstack([pixels, np.full((height, width), 255, np.uint8)]).tobytes()
    with tempfile.TemporaryDirectory() as name, ExitStack() as stack:
        answers: dict[str, Answer] = {}
        for precision, network in networks.items():
            for instructions in INSTRUCTIONS:
                folder = Path(name) / precision / instructions
                write(network, instructions, picture, folder)
                words = ["node", PROGRAM, STATIC, folder, width, height]
                pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
                process = stack.enter_context(subprocess.Popen([*map(str, words)], **pipes))
                stack.callback(process.stdin.close)
                answers[f"{precision}, {instructions}"] = answering(process)
        for instructions in INSTRUCTIONS:
            check(fixed, answers[f"int16, {instructions}"]()[1])
        times = measured({it: lambda answer=answer: answer()[0] for it, answer in answers.items()}, rounds)
    return summary(times, PAIRS)


def write(network: WasmNetwork, instructions: str, picture: bytes, folder: Path) -> None:
    """Write a network and a picture for Node."""
    folder.mkdir(parents=True)
    code = network.relaxed if instructions == "relaxed" else network.plain
    (folder / "code.wasm").write_bytes(code.alone)
    (folder / "weights.bin").write_bytes(network.weights)
    (folder / "network.json").write_text(json.dumps(network.description))
    (folder / "picture.rgba").write_bytes(picture)


def answering(process: "subprocess.Popen[str]") -> Answer:
    """Return what asks a process for a run: its milliseconds, and the extremes of its values."""

    def answer() -> tuple[float, list[Any]]:
        print(file=process.stdin, flush=True)
        assert process.stdout is not None  # noqa: S101  (it is a pipe)
        milliseconds, extremes = json.loads(process.stdout.readline())
        return milliseconds, extremes

    return answer


def check(fixed: FixedProgram, extremes: list[Any]) -> None:
    """Check that a run in fixed point need not be done again in FP32."""
    found = dict(map(tuple, extremes))
    numbers = np.array([found[value] for value in fixed.watched], np.int16)
    if not RangeRecord(fixed).add(numbers, as_pixels=True):
        msg = "a value saturates on the photograph, which would have to be computed again in FP32"
        raise SystemExit(msg)


if __name__ == "__main__":
    main()

"""Measure the networks in a browser against onnxruntime-web and UpscalerJS on one page, and in Node against natively.

    python benchmarks/browser.py [--size 320x180] [--rounds 12] [--packages FOLDER] [--output FILE.json]

It needs Chromium with its driver, selenium, Node and npm; it installs the peers from npm into FOLDER, by default a
temporary one (460 MB). On one page in Chromium, each candidate once per round in changing order, after a round that is
not counted, with the same picture:

- `ours x4` with the bundled LKDN-S, from pixels to pixels, with relaxed SIMD and without;
- `onnxruntime-web x4` with the same file, WebAssembly SIMD, the fixed size told in advance: the network alone, from
  float32 to float32, so the conversion of pixels, which ours includes, is not in its time;
- `ours x2` and `UpscalerJS x2` with the model that UpscalerJS brings (an ESRGAN of another design and quality, so it is
  no comparison of engines), on the WebAssembly backend of TensorFlow.js.

Then Node with ours x4 and relaxed SIMD against the native engine in Python: with vectors of four lanes and fused
multiply-add, which computes the same, and as it is for this processor. Quote ratios: those of one round are compared
with each other, and their medians have 99 % intervals (from 8 rounds on).
"""

import argparse
import json
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
from PIL import Image

from lkdn_deploy import load
from lkdn_deploy.backends.onnx_bytes import read_artifact
from lkdn_deploy.bench.machine import machine_facts
from lkdn_deploy.bench.measure.statistics import bootstrap_ratio
from lkdn_deploy.jit.compiler import Processor
from lkdn_deploy.runtime.bundled import FOLDER
from lkdn_deploy.samples import sample_pixels
from lkdn_deploy.web.folder import write_folder

sys.path.insert(0, str(Path(__file__).parents[1] / "tools"))

from chromium import chromium, missing

HERE = Path(__file__).parent / "browser_race"
PEERS = {
    "onnxruntime-web": "latest",
    "upscaler": "1.0.0",
    "@upscalerjs/default-model": "1.0.0",
    "@tensorflow/tfjs": "4.11.0",  # the version that UpscalerJS asks for
    "@tensorflow/tfjs-backend-wasm": "4.11.0",
}
FILES = {
    "onnxruntime-web/dist/ort.wasm.min.mjs": "ort.wasm.min.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.mjs": "ort-wasm-simd-threaded.mjs",
    "onnxruntime-web/dist/ort-wasm-simd-threaded.wasm": "ort-wasm-simd-threaded.wasm",
    "@tensorflow/tfjs/dist/tf.min.js": "tf.min.js",
    "@tensorflow/tfjs-backend-wasm/dist/tf-backend-wasm.min.js": "tf-backend-wasm.min.js",
    "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm.wasm": "tfjs-backend-wasm.wasm",
    "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-simd.wasm": "tfjs-backend-wasm-simd.wasm",
    "@tensorflow/tfjs-backend-wasm/dist/tfjs-backend-wasm-threaded-simd.wasm": "tfjs-backend-wasm-threaded-simd.wasm",
    "upscaler/dist/browser/umd/upscaler.min.js": "upscaler.min.js",
    "@upscalerjs/default-model/dist/umd/index.min.js": "default-model.min.js",
    "@upscalerjs/default-model/models": "default-model",
}
PAIRS = (
    ("ours x4, 1 thread", "onnxruntime-web x4, 1 thread"),
    ("ours x4, 2 threads", "onnxruntime-web x4, 2 threads"),
    ("ours x4, 2 threads", "ours x4, 1 thread"),
    ("ours x4, 1 thread", "ours x4 without relaxed SIMD, 1 thread"),
    ("ours x2, 1 thread", "UpscalerJS x2, 1 thread"),
)
NODE, FOUR_LANES, NATIVE = "Node, 1 thread", "native, four lanes, 1 thread", "native, this processor, 1 thread"
FUSED = Processor("x86-64", "+avx,+fma", lanes=4, max_outputs=4)
"""A processor with the vectors and the multiplication of relaxed SIMD."""

Run = Callable[[], float]


def main() -> None:
    """Run both parts and write them as JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", default="320x180")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--packages", type=Path, help="folder to install the peers into, kept for the next time")
    parser.add_argument("--output", type=Path, default=Path(__file__).parent / "results" / "browser.json")
    options = parser.parse_args()
    if reason := missing():
        parser.error(reason)
    width, height = map(int, options.size.split("x"))
    picture = Image.fromarray(sample_pixels()).resize((width, height), Image.Resampling.LANCZOS)
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        versions = make_page(root / "page", options.packages or root / "packages", picture)
        browser = in_browser(root, options.rounds)
        results = {
            "machine": machine_facts(),
            "size": options.size,
            "rounds": options.rounds,
            "versions": versions | browser.pop("versions"),
            "browser": browser,
            "node": in_node(root, picture, options.rounds),
        }
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(results, indent=2) + "\n")
    print(json.dumps(results, indent=2))


def make_page(page: Path, packages: Path, picture: Image.Image) -> dict[str, str]:
    """Write the page with all engines, and return the versions of the peers."""
    packages.mkdir(parents=True, exist_ok=True)
    (packages / "package.json").write_text(json.dumps({"private": True}))
    words = ["npm", "install", "--silent", *(f"{name}@{version}" for name, version in PEERS.items())]
    subprocess.run(words, cwd=packages, check=True)
    shutil.copytree(HERE, page)
    modules = packages / "node_modules"
    for source, target in FILES.items():
        copy = shutil.copytree if (modules / source).is_dir() else shutil.copy
        copy(modules / source, page / target)
    write_folder([read_artifact(FOLDER / f"lkdn-s_x{scale}.onnx") for scale in (4, 2)], page / "site")
    shutil.copy(FOLDER / "lkdn-s_x4.onnx", page)
    picture.save(page / "picture.png")
    (page / "picture.rgba").write_bytes(np.asarray(picture.convert("RGBA")).tobytes())
    return {name: json.loads((modules / name / "package.json").read_text())["version"] for name in PEERS}


class _Isolated(SimpleHTTPRequestHandler):
    """Serves files with the headers that threads need, and without a policy, under which some peers do not start."""

    def end_headers(self) -> None:
        for name, value in (("Opener", "same-origin"), ("Embedder", "require-corp")):
            self.send_header(f"Cross-Origin-{name}-Policy", value)
        super().end_headers()

    def guess_type(self, path: Any) -> str:
        return {".mjs": "text/javascript", ".wasm": "application/wasm"}.get(Path(path).suffix) or super().guess_type(
            path
        )

    def log_message(self, *_: Any) -> None:
        pass


@contextmanager
def served(folder: Path) -> Iterator[str]:
    """Give the URL of a folder."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Isolated, directory=str(folder)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()


def in_browser(root: Path, rounds: int) -> dict[str, Any]:
    """Measure all candidates on one page."""
    with served(root / "page") as url, chromium(root / "profile") as driver:
        driver.get(url)
        wait = "const done = arguments[arguments.length - 1]; const names = [...arguments].slice(0, -1);"

        def call(function: str, *names: str) -> Any:
            answer = f"race.{function}(...names).then((it) => done([it ?? 0, null]), (it) => done([0, String(it)]))"
            value, error = driver.execute_async_script(wait + answer, *names)
            if error is not None:
                msg = f"{function}({', '.join(names)}): {error}"
                raise RuntimeError(msg)
            return value

        names = driver.execute_script("return race.names")
        for name in names:
            call("prepare", name)
        times = measured({name: partial(call, "run", name) for name in names}, rounds)
        differences = {
            ours: driver.execute_script("return race.difference(...arguments)", ours, theirs)
            for ours, theirs in PAIRS
            if theirs.startswith("onnxruntime")
        }
        version = driver.capabilities["browserVersion"]
    return {
        "versions": {"chromium": version},
        "largest_difference_of_255": differences,
        **summary(times, PAIRS),
    }


def in_node(root: Path, picture: Image.Image, rounds: int) -> dict[str, Any]:
    """Measure Node against the native engine."""
    with patch("lkdn_deploy.jit.compiler.processor", lambda: FUSED):
        four = load("lkdn-s", 4, backend="native", threads=1)
    pixels = np.asarray(picture)
    words = ["node", HERE / "node.mjs", root / "page" / "site", *pixels.shape[1::-1], 1, root / "page" / "picture.rgba"]
    with (
        load("lkdn-s", 4, backend="native", threads=1) as native,
        subprocess.Popen([*map(str, words)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process,
    ):

        def in_process() -> float:
            print(file=process.stdin, flush=True)
            return float(process.stdout.readline())

        def seconds(upscale: Callable[[Any], Any]) -> float:
            start = time.perf_counter()
            upscale(pixels)
            return 1000 * (time.perf_counter() - start)

        runs: dict[str, Run] = {NODE: in_process, FOUR_LANES: partial(seconds, four), NATIVE: partial(seconds, native)}
        times = measured(runs, rounds)
        process.stdin.close()
    return summary(times, ((NODE, FOUR_LANES), (NODE, NATIVE)))


def measured(runs: dict[str, Run], rounds: int) -> dict[str, list[float]]:
    """Run each once a round in random order, and return milliseconds; the first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name in random.Random(number).sample([*runs], len(runs)):
            value = runs[name]()
            if number:
                times[name].append(value)
    return times


def summary(times: dict[str, list[float]], pairs: tuple[tuple[str, str], ...]) -> dict[str, Any]:
    """Return median times, and ratios with their intervals."""
    ratios = {}
    for one, other in pairs:
        ratio = bootstrap_ratio(times[one], times[other])
        plain = statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))
        interval = None if ratio is None else [round(ratio.low, 3), round(ratio.high, 3)]
        ratios[f"{one} / {other}"] = {"median": round(plain, 3), "interval": interval}
    medians = {name: round(statistics.median(values), 2) for name, values in times.items()}
    return {"milliseconds": medians, "ratios": ratios}


if __name__ == "__main__":
    main()

"""Everything that a borrowed GPU can tell in eight minutes, on a machine without a network.

    python tools/gpu_day.py pack PACK [--data DIR] [--machine-has NAME...]
    python tools/gpu_day.py run PACK RESULTS [--minutes 8] [--rehearsal]

`pack` puts the wheels that the machine lacks into a folder, for its Python, with test pictures where DIR is given, a
test set such as Set5 with `x4/HR` in it. The folder and the checkout of this project go to the machine, and are 64 MiB
at most. `run` installs the wheels, and runs there, in order: the facts of the machine, the tests of the device layer,
PyTorch's Table 4, a memory checker over the tests, and `lkdn-bench`, also by the protocol of NTIRE on the pictures.
Each has a limit of time of its own, and what there is no time for is left out, the last first: RESULTS has a log of
each, and `summary.json` what became of it. `--rehearsal` runs the first three with the stand-in of a GPU, in their
smallest setting. The machine has PyTorch, CuPy, cuda-python, onnxruntime and pytest, as images for PyTorch do.
"""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

ROOT = Path(__file__).parents[1]
LIMIT = 64 << 20
"""Bytes of the pack and of the checkout's files together."""
WHEELS = (
    "imagecodecs",
    "zlib-ng",
    "platformdirs",
    "pooch",
    "pydantic",
    "pydantic-core",
    "annotated-types",
    "typing-inspection",
)
"""Packages that this project needs and images for PyTorch lack; of pydantic-core the version that pydantic needs."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_27_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")
PATH = click.Path(path_type=Path)


@dataclass(frozen=True, slots=True)
class Step:
    """A step of a run.

    Attributes:
        name: what its log is called.
        seconds: its limit.
        command: the program and its arguments.
    """

    name: str
    seconds: int
    command: Sequence[str]


def files() -> list[Path]:
    """Return the files of the checkout that git has or would have."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout.decode().split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def size_of(paths: Sequence[Path]) -> int:
    """Return the bytes of files."""
    return sum(path.stat().st_size for path in paths)


@click.group()
def command() -> None:
    """Pack what a machine with a GPU lacks; run everything there."""


@command.command()
@click.argument("pack", type=PATH)
@click.option("--data", type=PATH, help="Folder of test pictures, such as Set5, for the protocol of NTIRE.")
@click.option("--python", default="3.12", show_default=True, help="The version of Python on that machine.")
@click.option("--machine-has", multiple=True, help="Package that needs not go along.")
def pack(pack: Path, data: Path | None, python: str, machine_has: tuple[str, ...]) -> None:
    """Download the wheels into the folder PACK, and copy pictures."""
    wheels = pack / "wheels"
    wheels.mkdir(parents=True, exist_ok=True)
    download = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary=:all:", "-d", str(wheels)]
    machine = ["--python-version", python, "--implementation", "cp"]
    machine += [word for platform in PLATFORMS for word in ("--platform", platform)]
    for name in WHEELS:
        if name not in machine_has:
            exact = f"{name}=={_core_version(wheels)}" if name == "pydantic-core" else name
            subprocess.run([*download, *machine, exact], check=True)
    if data is not None:
        shutil.copytree(data, pack / "data" / data.name, dirs_exist_ok=True)
    packed = [path for path in pack.rglob("*") if path.is_file()]
    seen = {path.resolve() for path in packed}
    total = size_of(packed) + size_of([path for path in files() if path.resolve() not in seen])
    print(f"{size_of(packed) / 2**20:.1f} MiB in {pack}, {total / 2**20:.1f} MiB with the checkout")
    if total > LIMIT:
        sys.exit(f"error: more than {LIMIT >> 20} MiB; give fewer pictures, or --machine-has")


def _core_version(wheels: Path) -> str:
    """Return the version of pydantic-core that the downloaded pydantic asks for."""
    (wheel,) = wheels.glob("pydantic-*.whl")
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(".dist-info/METADATA"))
        found = re.search(r"^Requires-Dist: pydantic-core==(\S+)", archive.read(name).decode(), re.M)
    if found is None:
        sys.exit(f"error: {wheel.name} names no version of pydantic-core")
    return found[1]


def steps(pack: Path, results: Path, rehearsal: bool) -> list[Step]:
    """Return the steps, the most telling first."""
    python = sys.executable
    layer = [python, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", "-W", "default"]
    bench = [python, "-c", "from lkdn_deploy.cli.bench import main; main()", "--torch", "-o"]
    table = [python, "benchmarks/gpu_table4.py", "--json", str(results / "table4.json")]
    facts = "import torch; print(torch.__version__, torch.cuda.is_available())"
    small = ["--rehearsal", "--size", "24x16", "--runs", "2", "--minutes", "0.3"] if rehearsal else ["--minutes", "2"]
    found = [
        Step("facts", 20, [python, "-c", facts] if rehearsal else ["sh", "-c", f'nvidia-smi; {python} -c "{facts}"']),
        Step("device", 90, [*layer, "tests/gpu/test_device_layer.py", "tests/backends/trt/test_device.py"]),
        Step("table4", 150, [*table, *small]),
    ]
    if rehearsal:
        return found
    checker = ["compute-sanitizer", "--tool", "memcheck", "--leak-check", "full"]
    found.append(
        Step("checker", 60, [*checker, *layer, "-x", "tests/gpu/test_device_layer.py", "-k", "round_trip or streams"])
    )
    found.append(
        Step(
            "bench",
            60,
            [*bench, str(results / "bench"), "--precision", "fp32", "--precision", "fp16", "--rounds", "10"],
        )
    )
    if pictures := sorted((pack / "data").glob("*")):
        found.append(
            Step("ntire", 40, [*bench, str(results / "ntire"), "--protocol", "ntire2023", "--data", str(pictures[0])])
        )
    return found


@command.command()
@click.argument("pack", type=PATH)
@click.argument("results", type=PATH)
@click.option("--minutes", default=8.0, show_default=True, help="Minutes that all of it takes at most.")
@click.option("--rehearsal", is_flag=True, help="Use the stand-in of a GPU, and the smallest settings.")
def run(pack: Path, results: Path, minutes: float, rehearsal: bool) -> None:
    """Run everything with the wheels in PACK, and put logs into RESULTS."""
    end = time.monotonic() + 60 * minutes
    pack, results = pack.resolve(), results.resolve()
    results.mkdir(parents=True, exist_ok=True)
    site = results.parent / f"{results.name}-site"  # beside the results, which come back
    surroundings = os.environ | {
        "PYTHONPATH": os.pathsep.join(map(str, (site, ROOT, ROOT / "models"))),
        "PYTHONUNBUFFERED": "1",
        "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "8"),
        "LKDN_REHEARSAL": str(int(rehearsal)),
    }
    wheels = sorted(map(str, (pack / "wheels").glob("*.whl")))
    if wheels and not rehearsal:
        install = [sys.executable, "-m", "pip", "install", "-q", "--no-index", "--no-deps", "--no-compile"]
        subprocess.run([*install, "--no-cache-dir", "--upgrade", "--target", str(site), *wheels], check=True)
    summary: dict[str, str] = {}
    for step in steps(pack, results, rehearsal):
        left = min(step.seconds, end - time.monotonic() - 5)
        summary[step.name] = _ended(step, left, results, surroundings) if left > 10 else "left out: no time"
        print(f"{step.name}: {summary[step.name]}", flush=True)
        (results / "summary.json").write_text(json.dumps(summary, indent=2) + "\n")
    if any(not text.startswith("done") for text in summary.values()):
        sys.exit(1)


def _ended(step: Step, seconds: float, results: Path, surroundings: dict[str, str]) -> str:
    """Run a step with its output in a log, and return how it ended."""
    start = time.monotonic()
    with (results / f"{step.name}.log").open("w") as log:
        try:
            program = subprocess.Popen(
                step.command, cwd=ROOT, env=surroundings, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
            )
        except OSError as error:
            return f"failed: {error}"
        try:
            code = program.wait(seconds)
        except subprocess.TimeoutExpired:
            os.killpg(program.pid, signal.SIGKILL)  # with what it has started
            program.wait()
            return f"failed: stopped after {seconds:.0f} s"
    took = f"after {time.monotonic() - start:.0f} s"
    return f"done {took}" if code == 0 else f"failed: exit code {code} {took}"


if __name__ == "__main__":
    command()

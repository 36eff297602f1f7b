"""Train a bundled model in a few minutes of a borrowed GPU: everything it needs in one file of at most 60 MiB.

    python tools/train_on_gpu.py pack PACK --data DIR... [--graphics DIR...] [--teacher FILE] \
        [--run RUN | --weights FILE]
    python tools/train_on_gpu.py train PACK RECIPE --minutes 9 -o RUN

`pack` collects what a machine without the photographs lacks: parts of the photographs, as many as fit, drawings, and
either the newest state of a run or weights to start from, with the teacher's. `train` unpacks them and trains for the
time given, then stops as on SIGTERM: the state is in the run folder, and the next `pack --run RUN` goes on from it. The
package itself must be installed where `train` runs.

Photographs are cut into parts of SIDE x SIDE pixels, at the size that brings their longer side to at most LONGER
pixels, and the parts with most detail are kept.
"""

import io
import shutil
import signal
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import click
from PIL import Image

from lkdn_deploy.imaging.files.read import read_rgb
from lkdn_deploy.imaging.resample import imresize
from lkdn_models.data.folders import find_sources

LIMIT = 60 << 20
"""Bytes that a pack takes at most."""
PHOTOGRAPHS = 44 << 20
"""Bytes of it for photographs: the same ones whatever goes along, so that a run can be resumed."""
SIDE = 640
"""Pixels of the sides of a part of a photograph."""
LONGER = 2000
"""Pixels that the longer side of a photograph has at most when it is cut."""
QUALITY = 95
"""JPEG quality of the parts, without chroma subsampling."""
PATH = click.Path(path_type=Path)


def parts(path: Path) -> Iterator[tuple[float, str, bytes]]:
    """Yield the parts of a photograph: bytes a pixel, which tell of its detail, a name, and a JPEG file."""
    image = read_rgb(path)
    factor = -(-max(image.shape[:2]) // LONGER)
    high = image if factor == 1 else imresize(image, Fraction(1, factor))
    for top in range(0, high.shape[0], SIDE):
        for left in range(0, high.shape[1], SIDE):
            part = high[top : top + SIDE, left : left + SIDE]
            if min(part.shape[:2]) < SIDE // 2:
                continue
            file = io.BytesIO()
            Image.fromarray(part).save(file, "JPEG", quality=QUALITY, subsampling=0)
            size = part.shape[0] * part.shape[1]
            yield len(file.getvalue()) / size, f"{path.stem}_{left}_{top}.jpg", file.getvalue()


@click.group()
def command() -> None:
    """Pack photographs, code's inputs and state; train from a pack."""


@command.command()
@click.argument("pack", type=PATH)
@click.option("--data", multiple=True, required=True, type=PATH, help="Folder of photographs.")
@click.option("--graphics", multiple=True, type=PATH, help="Folder of drawings.")
@click.option("--run", "folder", type=PATH, help="Run folder whose newest state goes along.")
@click.option("--weights", type=PATH, help="Weights to start from, where there is no run.")
@click.option("--teacher", type=PATH, help="Weights of the teacher.")
@click.option("--photographs", default=PHOTOGRAPHS, show_default=True, help="Bytes for the photographs.")
def pack(
    pack: Path,
    data: tuple[Path, ...],
    graphics: tuple[Path, ...],
    folder: Path | None,
    weights: Path | None,
    teacher: Path | None,
    photographs: int,
) -> None:
    """Write PACK, a tar file."""
    files: dict[str, bytes] = {}
    for name, path in (("weights", weights), ("teacher", teacher)):
        if path:
            files[f"{name}{path.suffix}"] = path.read_bytes()
    if folder:
        newest = max((folder / "states").iterdir())
        # lags.npy is in runs with hard crops alone.
        for path in (folder / "log.jsonl", newest, folder / "weights.safetensors", folder / "lags.npy"):
            if path.exists() or path.name != "lags.npy":
                files[f"run/{path.relative_to(folder)}"] = path.read_bytes()
    for path in (path for one in graphics for path in sorted(one.glob("*.png"))):
        files[f"graphics/{path.name}"] = path.read_bytes()
    found = sorted((part for source in find_sources(data, 1) for part in parts(source.high)), reverse=True)
    for _, name, content in found:
        if len(content) <= photographs:
            files[f"photos/{name}"] = content
            photographs -= len(content)
    if (size := sum(1024 + len(content) for content in files.values())) > LIMIT:
        message = f"the pack would take {size} bytes, more than {LIMIT}: give fewer drawings or less --photographs"
        raise SystemExit(message)
    with tarfile.open(pack, "w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    print(pack, f"{pack.stat().st_size / 2**20:.1f} MiB, {sum(name.startswith('photos/') for name in files)} parts")


@command.command()
@click.argument("pack", type=PATH)
@click.argument("recipe")
@click.option("--minutes", type=float, required=True, help="Time to train.")
@click.option("-o", "--output", type=PATH, required=True, help="Run folder.")
@click.option("--iterations", type=int, help="Number of batches, instead of the recipe's.")
def train(pack: Path, recipe: str, minutes: float, output: Path, iterations: int | None) -> None:
    """Train RECIPE on PACK for some minutes; the state stays in the run folder."""
    with tempfile.TemporaryDirectory() as name:
        inputs = Path(name)
        with tarfile.open(pack) as archive:
            archive.extractall(inputs, filter="data")
        options = ["--data", inputs / "photos", "-o", output, "--cache", inputs / "cache"]
        if (inputs / "run").is_dir():
            shutil.copytree(inputs / "run", output, dirs_exist_ok=True)
            (output / "samples").mkdir(exist_ok=True)
            options.append("--resume")
        for option, found in (("--init", "weights.*"), ("--teacher", "teacher.*"), ("--graphics", "graphics")):
            options += [item for path in inputs.glob(found) for item in (option, path)]
        if iterations:
            options += ["--iterations", iterations]
        process = subprocess.Popen([sys.executable, "-m", "lkdn_models.training", recipe, *map(str, options)])
        try:
            code = process.wait(60 * minutes)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGTERM)
            code = process.wait()
    if code not in (0, 130):
        raise SystemExit(code)
    print(output)


if __name__ == "__main__":
    command()

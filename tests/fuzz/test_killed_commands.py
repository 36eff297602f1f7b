"""Commands that are killed at random moments leave nothing damaged behind, and then run as if nothing had happened."""

import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import onnx
import pytest
import safetensors
from PIL import Image
from safetensors.numpy import load

from lkdn_deploy.samples import sample_pixels

pytestmark = pytest.mark.long

TIMES = int(os.environ.get("LKDN_KILLS", "50"))
"""Number of kills of each command."""

RECIPE = """
seed = 1
log_every = 2
save_every = 4
validate_every = 8
[network]
scale = 2
blocks = 1
channels = 16
attention_channels = 16
block = "bsb"
[data]
patch = 16
batch = 2
held_out = 1
[optimisation]
iterations = 40
learning_rate = 1e-3
"""


@dataclass(frozen=True)
class Case:
    """A command, with the options by which it goes on after a kill."""

    name: str
    words: tuple[str, ...]
    again: tuple[str, ...] = ("--overwrite",)
    same: tuple[str, ...] = ()
    """Suffixes of the files that are the same in every run."""
    cold: bool = False
    """Whether some runs begin with an empty cache."""

    @property
    def resumes(self) -> bool:
        return "--resume" in self.again


CASES = (
    Case("lkdn-upscale", ("in", "out"), same=(".png",)),
    Case("lkdn-upscale", ("in/0.png", "out/one.png", "--weights", "weights.safetensors"), same=(".png",), cold=True),
    Case(
        "lkdn-export", ("--fuse", "--onnx", "--weights", "weights.safetensors", "-o", "out"), same=(".onnx",), cold=True
    ),
    Case("lkdn-eval", ("--data", "in", "--scale", "2", "--json", "out/eval.json")),
    Case("lkdn-bench", ("--ort", "--model", "lkdn-s", "--size", "32x32", "--rounds", "2", "-o", "out")),
    Case("lkdn-zoo", ("list",), ()),
    Case(
        "lkdn-train",
        ("recipe.toml", "--data", "photos", "-o", "out/run", "--cache", "cache"),
        ("--resume",),
        same=(".safetensors",),
    ),
)


@pytest.fixture
def place(tmp_path: Path) -> Path:
    picture = Image.fromarray(sample_pixels())
    for folder, count, side in (("in", 3, 96), ("photos", 4, 160)):
        (tmp_path / folder).mkdir()
        for number in range(count):
            left = 10 * number
            picture.crop((left, left, left + side, left + side - 20)).save(tmp_path / folder / f"{number}.png")
    (tmp_path / "recipe.toml").write_text(RECIPE)
    weights = Path(__file__).parents[2] / "models/lkdn_models/weights/lkdn-s_x2.safetensors"
    (tmp_path / "weights.safetensors").write_bytes(weights.read_bytes())
    return tmp_path


def environment(place: Path, cache: str) -> dict[str, str]:
    return {**os.environ, "XDG_CACHE_HOME": str(place / cache), "OMP_NUM_THREADS": "1"}


def program(case: Case, place: Path, cache: str, *, again: bool) -> "subprocess.Popen[str]":
    words = [str(Path(sys.executable).parent / case.name), *case.words, *(case.again if again else ())]
    return subprocess.Popen(
        words, cwd=place, env=environment(place, cache), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def visible(folder: Path) -> dict[Path, bytes]:
    """Return the files that a person or a program would take for results, but for logs, whose names have a date."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        path.relative_to(folder): path.read_bytes()
        for path in files
        if not any(part.startswith(".") or part == "tensorboard" for part in path.relative_to(folder).parts)
    }


def check(path: Path) -> None:
    """Read a result as its users would."""
    match path.suffix:
        case ".png":
            with Image.open(path) as image:
                image.load()
        case ".onnx":
            onnx.checker.check_model(path, full_check=True)
        case ".json":
            json.loads(path.read_text())
        case ".safetensors":
            with safetensors.safe_open(path, "numpy") as file:
                assert [file.get_tensor(key) for key in file.keys()]  # noqa: SIM118 - it is no dictionary
        case ".jsonl":
            lines = path.read_text().splitlines()
            assert all(json.loads(line) for line in lines[:-1])


def values(path: Path, content: bytes) -> object:
    """Return what two runs have in common of a result: of weights, not how long it took to train them."""
    if path.suffix == ".safetensors":
        return {name: tensor.tobytes() for name, tensor in load(content).items()}
    return content


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.name} {case.words[0]}")
def test_a_killed_command_damages_nothing_and_runs_again(case: Case, place: Path) -> None:
    out = place / "out"
    out.mkdir()
    for again in (False, True):  # the second run, with a warm cache, tells how long it takes
        start = time.monotonic()
        if case.resumes and again:
            shutil.rmtree(out / "run", ignore_errors=True)
        undisturbed = program(case, place, "cache", again=again and not case.resumes)
        _, err = undisturbed.communicate()
        assert undisturbed.returncode == 0, err
        duration = time.monotonic() - start
    expected = visible(out)
    chance, killed = random.Random(case.name), 0  # noqa: S311
    for number in range(TIMES):
        if case.resumes and number % 5 == 0:
            shutil.rmtree(out / "run", ignore_errors=True)
        again = not case.resumes or (out / "run").exists()
        process = program(case, place, f"cold{number}" if case.cold and number % 3 == 0 else "cache", again=again)
        try:
            process.communicate(timeout=chance.uniform(0.05, 0.95 * duration))
        except subprocess.TimeoutExpired:
            killed += 1
            process.kill()
            process.communicate()
        for path in visible(out):
            check(out / path)
    assert killed >= TIMES // 2
    last = program(case, place, "cache", again=not case.resumes or (out / "run").exists())
    _, err = last.communicate()
    assert last.returncode == 0, err
    assert "Traceback" not in err
    found = visible(out)
    assert set(found) == set(expected)
    for path in found:
        check(out / path)
        assert path.suffix not in case.same or values(path, found[path]) == values(path, expected[path]), path


def test_what_a_killed_run_left_is_not_taken_for_a_picture(place: Path) -> None:
    case = CASES[0]
    (place / "out").mkdir()
    for seconds in (0.3, 0.5, 0.6, 0.7, 0.8):
        process = program(case, place, "cache", again=True)
        time.sleep(seconds)
        process.kill()
        process.communicate()
    program(case, place, "cache", again=True).communicate()
    second = Case("lkdn-upscale", ("out", "twice", "--scale", "2"), ())
    process = program(second, place, "cache", again=False)
    out, err = process.communicate()
    assert process.returncode == 0, err
    assert len(out.splitlines()) == 3

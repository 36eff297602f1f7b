"""Reads damaged recipes, side-cars, reports, logs and checkpoints."""

import random
import re
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import torch
from fuzzing import damaged

from lkdn_deploy.backends.trt.record import EngineRecord
from lkdn_deploy.bench.compare import compare
from lkdn_deploy.bench.compare import text as compared
from lkdn_deploy.bench.report.text import markdown, text
from lkdn_deploy.bench.results import read_report
from lkdn_deploy.core.errors import LkdnError
from lkdn_deploy.export.release import read_history
from lkdn_models.checkpoint import load_checkpoint
from lkdn_models.recognise import recognise
from lkdn_models.training.curves import draw_curves
from lkdn_models.training.recipe import as_table, read_recipe
from lkdn_models.training.runs import RunFolder

VALUES = [
    *("1e999", "NaN", "-1", "0", "-0", "[]", "{}", "null", "true", "inf", "nan", "1_0", "1e-400", "1e308", "0x10"),
    *("9" * 25, "1" + "0" * 400, "1" + "0" * 5000, "0x" + "f" * 400, "[" * 2000, "2000-01-01"),
    *('"x"', '""', '"\\ud800"', '"""', "'''"),
]
"""Values that parsers, or what follows them, may trip over."""


def read_log(path: Path) -> None:
    run = RunFolder(path.parent)
    path.rename(path.parent / "log.jsonl")
    log = run.read_log()
    read_history(log)
    draw_curves({"run": log})


def read_all_of_report(path: Path) -> None:
    found = read_report(path)
    compared(compare(found, found))
    for form in (text, markdown):
        form(found)


def read_twice(path: Path) -> None:
    recipe = read_recipe(path)
    as_table(recipe)
    recipe.optimisation.rate(0)


READERS: list[Callable[[Path], object]] = [
    read_twice,
    lambda path: EngineRecord.from_json(path.read_bytes()),
    read_all_of_report,
    read_log,
    load_checkpoint,
]


def build_layouts() -> None:
    """Build the layouts of all networks, which `recognise` keeps."""
    with suppress(LkdnError):
        recognise({"x": torch.zeros(1)})


def damaged_text(sources: Sequence[Sequence[bytes]], source: random.Random) -> bytes:
    """Return the reader's number, and a file for it with some bytes or values changed."""
    kind = source.randrange(len(sources))
    data = source.choice(sources[kind])
    if kind == len(sources) - 1 or source.random() < 0.4:
        return bytes([kind]) + damaged(data, source)
    words = data.decode()
    for _ in range(source.choice([1, 1, 2, 4])):
        if places := list(re.finditer(r'-?\d[\d.e+-]*|"[^"\n]*"|true|false|null', words)):
            place = source.choice(places)
            words = words[: place.start()] + source.choice(VALUES) + words[place.end() :]
    return bytes([kind]) + words.encode(errors="replace")


def read_text(path: Path, source: random.Random) -> str:
    kind, *data = path.read_bytes()
    target = path.with_suffix(source.choice([".pth", ".safetensors"]))
    target.write_bytes(bytes(data))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Matplotlib's and NumPy's on extreme values: users see them, and a figure
        READERS[kind](target)
    return "read"

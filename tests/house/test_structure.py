"""The source tree: one name for one thing, short modules, and imports that tools can see."""

import ast
import functools
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("lkdn_deploy", "models/lkdn_models")
PRODUCT = sorted(path.relative_to(ROOT) for name in PACKAGES for path in (ROOT / name).rglob("*.py"))
TESTS = sorted(path.relative_to(ROOT) for path in (ROOT / "tests").rglob("*.py"))

MOST_LINES = 450

# Stems that stand for two things, each with the reason.
SHARED_STEMS = {
    "__main__": "commands that start with python -m",
    "files": "safe files in core; image files through an upscaler in runtime",
    "session": "the class of each backend that implements Session",
    "threads": "work on several cores, by Python and by generated code",
    "train": "a command, and the loop that it runs",
}

# Modules that import by name, each with the reason: modules of ours, and only those of other projects.
IMPORTERS = {
    "lkdn_deploy/backends/registry.py": "an engine's package is imported only when the engine is asked for",
    "models/lkdn_models/zoo/facts.py": "networks.toml names the class of each network, which needs torch",
}
THIRD_PARTY_IMPORTERS = {
    "lkdn_deploy/core/optional.py": "engines are imported with their telemetry disabled",
    "lkdn_deploy/backends/trt/runtimes.py": "the table of runtimes names the package of each: tensorrt or tensorrt_rtx",
}


@functools.cache
def tree(path: Path) -> ast.Module:
    return ast.parse((ROOT / path).read_text(encoding="utf-8"))


def ids(paths: list[Path]) -> list[str]:
    return [str(path) for path in paths]


@pytest.mark.parametrize("path", PRODUCT + TESTS, ids=ids(PRODUCT + TESTS))
def test_modules_are_short(path: Path) -> None:
    lines = (ROOT / path).read_text(encoding="utf-8").count("\n")
    assert lines <= MOST_LINES


def test_a_file_stem_stands_for_one_thing() -> None:
    found = defaultdict(list)
    for path in PRODUCT:
        found[path.stem].append(str(path))
    shared = {stem: paths for stem, paths in found.items() if len(paths) > 1 and stem != "__init__"}
    assert shared.keys() == SHARED_STEMS.keys(), shared


def test_a_class_name_stands_once() -> None:
    found = defaultdict(list)
    for path in PRODUCT:
        for node in ast.walk(tree(path)):
            if isinstance(node, ast.ClassDef):
                found[node.name].append(f"{path}:{node.lineno}")
    assert {name: places for name, places in found.items() if len(places) > 1} == {}


def strings_of_modules(path: Path) -> Iterator[ast.Constant]:
    """Strings that name a module of ours, as ``lkdn_deploy.backends.ort`` or ``lkdn_deploy.backends.ort:open_cpu``."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            name = node.value.partition(":")[0]
            if re.fullmatch(r"(lkdn_deploy|lkdn_models)(\.\w+)+", name):
                base = ROOT / ("models" if name.startswith("lkdn_models") else "") / name.replace(".", "/")
                # The module, or the one that has the name behind the last dot.
                if any(it.is_dir() or it.with_suffix(".py").exists() for it in (base, base.parent)):
                    yield node


def importing_calls(path: Path) -> Iterator[ast.Call]:
    """Calls that import what a string names, but for literal names of other projects' modules."""
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Call):
            called = node.func.attr if isinstance(node.func, ast.Attribute) else getattr(node.func, "id", "")
            first = node.args[0] if node.args else None
            theirs = isinstance(first, ast.Constant) and not str(first.value).startswith(("lkdn_", "."))
            if called in ("import_module", "__import__", "resolve_name", "run_module") and not theirs:
                yield node


@pytest.mark.parametrize("path", PRODUCT, ids=ids(PRODUCT))
def test_nothing_is_imported_by_its_name_in_a_string(path: Path) -> None:
    name = path.as_posix()
    strings = [] if name in IMPORTERS else [*strings_of_modules(path)]
    calls = [] if name in IMPORTERS | THIRD_PARTY_IMPORTERS else [*importing_calls(path)]
    assert [f"{path}:{node.lineno}" for node in (*strings, *calls)] == []


@pytest.mark.parametrize("name", IMPORTERS | THIRD_PARTY_IMPORTERS)
def test_modules_that_may_import_by_name_still_do(name: str) -> None:
    assert any(importing_calls(Path(name)))


def test_contributing_names_files_that_exist() -> None:
    folders = ("lkdn_deploy", "models", "tests", "tools", "benchmarks")
    paths = [
        f"/{path.relative_to(ROOT).as_posix()}"
        for name in folders
        for path in (ROOT / name, *ROOT.glob(f"{name}/**/*"))
    ]
    named = re.findall(r"`([\w./]*(?:/|\.py|\.toml))`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))
    assert len(named) > 20
    missing = [name for name in named if not any(path.endswith("/" + name.rstrip("/")) for path in paths)]
    assert missing == []


def test_contributing_names_what_its_modules_define() -> None:
    """Each row of the table of questions: the module, then what to look for in it."""
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    rows = re.findall(r"`([\w/]+\.py)`: (?:[a-z ]*)`([\w.]+)`(?: and `([\w.]+)`)?", text)
    assert len(rows) > 3
    for name, *words in rows:
        source = (ROOT / "lkdn_deploy" / name).read_text(encoding="utf-8")
        for word in filter(None, words):
            assert all(re.search(rf"\b{part}\b", source) for part in word.split(".")), (name, word)

"""Compiled code in the user's cache: once for each processor, source and facts, and not used when damaged."""

import ctypes
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("llvmlite")

from llvmlite import ir

from lkdn_deploy.core.cache import Store
from lkdn_deploy.jit.builder import INT, POINTER, Builder
from lkdn_deploy.jit.compiler import library, processor


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Store("test").folder


def test_code_is_compiled_again_only_when_it_is_damaged_or_something_it_depends_on_changes(
    cache: Path, tmp_path: Path
) -> None:
    compiled: list[int] = []
    source, here = tmp_path / "source.py", processor()
    source.write_text("a")

    def emit(module: ir.Module) -> None:
        compiled.append(1)
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [POINTER, INT]), "double")
        b = Builder(function, 4)
        target, value = function.args
        b.store(b.add(value, value), target, align=8)
        b.ret_void()

    def doubled(**changed: Any) -> int:
        found = ctypes.c_int64()
        arguments = {"kind": "test", "emit": emit, "target": here, "sources": [str(source)], "facts": [1]}
        loaded = library(**(arguments | changed))  # its functions live no longer than it does
        loaded.function("double", "pi")(ctypes.addressof(found), 21)
        return found.value

    assert doubled() == doubled() == 42
    assert len(compiled) == 1
    (file,) = cache.iterdir()
    file.write_bytes(file.read_bytes()[:-100])
    assert doubled() == doubled() == 42
    assert len(compiled) == 2
    assert doubled(facts=[2]) == doubled(target=replace(here, lanes=1)) == 42
    assert len(compiled) == 4
    source.write_text("b")
    assert doubled() == doubled(facts=[1]) == 42
    assert len(compiled) == 5

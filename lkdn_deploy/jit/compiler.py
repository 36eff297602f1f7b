"""LLVM for this machine's processor: how wide its vectors are, and code from functions, compiled once and kept."""

import ctypes
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import llvmlite
import llvmlite.binding as llvm
from llvmlite import ir

from lkdn_deploy.core.cache import Store

_ADDRESS, _INTEGER = ctypes.c_void_p, ctypes.c_int64

_COMPILER = f"llvmlite {llvmlite.__version__}, LLVM {'.'.join(map(str, llvm.llvm_version_info))}"


@dataclass(frozen=True, slots=True)
class Processor:
    """What kernels are made for."""

    name: str
    features: str
    """As LLVM writes them."""
    lanes: int
    """float32 values of a vector."""
    results: int
    """Channels of which a kernel can hold two vectors in registers, with what it needs beside them."""


def processor() -> Processor:
    """This machine's."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    lanes, results = 4, 4
    if features.get("avx512f"):
        lanes, results = 16, 14
    elif features.get("avx2") and features.get("fma"):
        lanes, results = 8, 5
    elif features.get("neon"):
        lanes, results = 4, 12
    # Some processors are set to halves of their vectors, as a precaution for code that uses them rarely.
    flags = [f"{'+' if there and name != 'prefer-256-bit' else '-'}{name}" for name, there in sorted(features.items())]
    return Processor(llvm.get_host_cpu_name(), ",".join(flags), lanes, results)


def library(
    kind: str,
    emit: Callable[[ir.Module], None],
    target: Processor,
    sources: Iterable[str],
    facts: Iterable[object] = (),
) -> "Library":
    """The functions that ``emit`` adds to a module: compiled, or found where they are kept.

    Args:
        kind: of code, as in ``core.cache.Store``.
        emit: depends on nothing but ``target``, ``sources`` and ``facts``.
        target: the processor.
        sources: the files that it is written in.
        facts: what decides on it beside them, told apart by their ``repr``.
    """
    texts = b"".join(Path(it).read_bytes() for it in sources)
    store = Store(kind)
    key = hashlib.sha256(repr((_COMPILER, target, tuple(facts))).encode() + texts).hexdigest()
    code = store.read(key)
    if code is None:
        module = ir.Module()
        emit(module)
        code = _compiled(module, target)
        store.keep(key, code)
    return Library(code, target)


def _compiled(module: ir.Module, target: Processor) -> bytes:
    """An object file of the module's functions.

    None of LLVM's passes over the representation is run: kernels are written as they are to be, and gained nothing.
    """
    module.triple = llvm.get_process_triple()
    parsed = llvm.parse_assembly(str(module))
    parsed.verify()
    return bytes(_machine(target).emit_object(parsed))


class Library:
    """Functions of an object file, for as long as this lives."""

    def __init__(self, code: bytes, target: Processor) -> None:
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _machine(target))
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Of a function."""
        return int(self._engine.get_function_address(name))

    def function(self, name: str, arguments: str) -> Any:
        """One that returns nothing, to be called with addresses (p) and integers (i); other threads run meanwhile."""
        kinds = [_ADDRESS if it == "p" else _INTEGER for it in arguments]
        return ctypes.CFUNCTYPE(None, *kinds)(self.address(name))


def _machine(target: Processor) -> Any:
    found = llvm.Target.from_triple(llvm.get_process_triple())
    return found.create_target_machine(cpu=target.name, features=target.features, opt=2)

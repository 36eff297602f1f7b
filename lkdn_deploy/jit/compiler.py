"""LLVM for a processor, by default this machine's: the width of its vectors; compiled functions, kept in the cache."""

import ctypes
import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
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
    """A processor to compile for."""

    name: str
    """Name that LLVM uses."""
    features: str
    """Instruction sets in LLVM's notation."""
    lanes: int
    """Float32 values of a vector."""
    max_outputs: int
    """Output channels that a convolution can accumulate in registers, in two vectors each."""
    triple: str = ""
    """The target triple of LLVM; empty for that of this machine."""
    replaced: tuple[tuple[str, str], ...] = ()
    """Text of LLVM's language that kernels consist of, and what this processor has instead of it."""


def processor() -> Processor:
    """Return the processor of this machine."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    features = llvm.get_host_cpu_features()
    lanes, max_outputs = 4, 4
    if features.get("avx512f"):
        lanes, max_outputs = 16, 14
    elif features.get("avx2") and features.get("fma"):
        lanes, max_outputs = 8, 5
    elif features.get("neon"):
        lanes, max_outputs = 4, 12
    # LLVM prefers half-width vectors on some processors, as a precaution for code that rarely uses vectors.
    flags = [f"{'+' if there and name != 'prefer-256-bit' else '-'}{name}" for name, there in sorted(features.items())]
    if features.get("avx512vnni") or features.get("avxvnni"):
        flags.append("+fast-dpwssd")  # otherwise LLVM takes two instructions for it where several follow each other
    return Processor(llvm.get_host_cpu_name(), ",".join(flags), lanes, max_outputs)


def library(
    kind: str,
    emit: Callable[[ir.Module], None],
    target: Processor,
    sources: Iterable[str],
    facts: Iterable[object] = (),
) -> "Library":
    """Return the functions that ``emit`` adds to a module, compiled now or found in the user's cache.

    Args:
        kind: name of the folder in the cache, as in ``core.cache.Store``.
        emit: must depend on nothing but ``target``, ``sources`` and ``facts``.
        target: the processor.
        sources: paths of the modules whose code ``emit`` runs.
        facts: everything else that determines the functions, told apart by ``repr``.
    """
    texts = b"".join(Path(it).read_bytes() for it in sources)
    store = Store(kind)
    key = hashlib.sha256(repr((_COMPILER, target, tuple(facts))).encode() + texts).hexdigest()
    code = store.read(key)
    if code is None:
        module = ir.Module()
        emit(module)
        code = compile_module(module, target)
        store.keep(key, code)
    return Library(code, target)


def compile_module(module: ir.Module, target: Processor) -> bytes:
    """Return an object file of a module's functions.

    LLVM's passes over the intermediate representation are not run: they did not speed up these kernels.
    """
    if target.triple:
        _initialize_others()
    module.triple = _triple(target)
    text = str(module)
    for written, instead in target.replaced:
        text = text.replace(written, instead)
    parsed = llvm.parse_assembly(text)
    parsed.verify()
    return bytes(_target_machine(target).emit_object(parsed))


@cache
def _initialize_others() -> None:
    """Prepare LLVM for other processors than this machine's.

    Instructions stay in the order in which they were written, which suits the number of registers. For processors, LLVM
    does that anyway; for WebAssembly it would compute what leads to one result after what leads to the other.
    """
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    llvm.set_option("lkdn", "-pre-RA-sched=source")


class Library:
    """The functions of an object file; their addresses are valid for as long as it exists."""

    def __init__(self, code: bytes, target: Processor) -> None:
        self._engine = llvm.create_mcjit_compiler(llvm.parse_assembly(""), _target_machine(target))
        self._engine.add_object_file(llvm.ObjectFileRef.from_data(code))
        self._engine.finalize_object()

    def address(self, name: str) -> int:
        """Return the address of a function."""
        return int(self._engine.get_function_address(name))

    def function(self, name: str, arguments: str) -> Any:
        """Return a function without a result, during which other Python threads run.

        Args:
            name: name of the function.
            arguments: a letter for each, p for an address and i for an integer of 64 bits.
        """
        types = [_ADDRESS if it == "p" else _INTEGER for it in arguments]
        return ctypes.CFUNCTYPE(None, *types)(self.address(name))


def _triple(target: Processor) -> str:
    return target.triple or str(llvm.get_process_triple())


def _target_machine(target: Processor) -> Any:
    machine = llvm.Target.from_triple(_triple(target))
    return machine.create_target_machine(cpu=target.name, features=target.features, opt=2)

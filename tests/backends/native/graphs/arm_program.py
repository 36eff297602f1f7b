"""The native engine as a program for ARM, which an emulator of that processor runs.

The program is one run of an executor: its code, compiled for aarch64, and its memory and tables as they are here, with
every address in them moved to where it lies there. It writes the result to standard output. No compiler and no linker
for ARM are needed: an object file of LLVM needs a dozen kinds of relocation at most, and the file of a program one
header.
"""

import struct
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from llvmlite import ir
from native_graphs import HERE, Batch
from numpy.typing import NDArray

from lkdn_deploy.backends.native.codegen.threads import YIELD
from lkdn_deploy.backends.native.compile import CompiledNetwork, distinct_signatures, emit_network, stage_name
from lkdn_deploy.backends.native.executor import Executor
from lkdn_deploy.backends.native.frontend.importer import import_program
from lkdn_deploy.jit.builder import INT, POINTER, Builder
from lkdn_deploy.jit.compiler import Processor, compile_module

ARM = Processor("generic", "+neon", lanes=4, max_outputs=12, triple="aarch64-unknown-linux-gnu")
"""Any ARM processor of 64 bits, as ``processor`` describes it."""

LIKE_ARM = replace(HERE, lanes=ARM.lanes, max_outputs=ARM.max_outputs)
"""This machine's processor, as if its vectors were ARM's."""

BASE, DATA = 1 << 22, 1 << 28
"""Addresses of the program's code, and of its data."""

_PAGE = 1 << 16
_ALIGNMENT = 64
_SMALLEST_ADDRESS = 1 << 32  # of this machine; all other numbers in tables are smaller
_FUNCTION = 1 << 60  # and the largest, for functions
_WRITE, _EXIT = 64, 93  # system calls
_SYSTEM = "system"
_SYSTEM_CODE = struct.pack("<6I", 0xAA0003E8, 0xAA0103E0, 0xAA0203E1, 0xAA0303E2, 0xD4000001, 0xD65F03C0)
"""A function that makes the system call of this number with three arguments. Its instructions move each argument down a
register, the number to x8, then call the system and return. LLVM would need its parser of assembly to make them."""
_CALL = 283
_MOVES = {263: 0, 264: 0, 265: 1, 266: 1, 267: 2, 268: 2, 269: 3}
"""Relocations that put 16 bits of an address into an instruction, and which of them."""


def run_on_arm(model: bytes, image: Batch, emulator: str, folder: Path) -> Batch:
    """Return what the engine makes of an image on ARM.

    Args:
        model: a serialised network without subgraphs.
        image: (3, H, W).
        emulator: path of a program that runs programs for ARM.
        folder: for the program.
    """
    network = CompiledNetwork(import_program(model), LIKE_ARM)
    signatures = distinct_signatures(network.segments)
    _, height, width = image.shape
    # Tables hold a number for each function, which stands for its address.
    names = [*(stage_name(at) for at in range(len(signatures))), "float_output"]
    network.stage_addresses = {it: _FUNCTION + at for at, it in enumerate(signatures)}
    network.float_output = _FUNCTION + len(signatures)
    executor = Executor(network, height, width, 1)
    result = np.zeros((3, network.scale * height, network.scale * width), np.float32)
    executor._set_output(np.s_[:, :], result)
    executor._boundaries.exchange(0, {network.program.boundaries[0].name: image[None]})
    memory = _Memory(executor, result)
    module = ir.Module()
    emit_network(signatures, ARM.lanes, module)
    _emit_start(module, executor, memory, result)
    code, symbols = _linked(compile_module(module, ARM))
    content = memory.content([symbols[name] for name in names])
    path = folder / "program"
    path.write_bytes(_program(code, symbols["_start"], content))
    path.chmod(0o755)
    with (folder / "result").open("w+b") as file:  # a pipe would take it in parts
        subprocess.run([emulator, str(path)], stdout=file, check=True, timeout=1200)
    return np.fromfile(folder / "result", np.float32).reshape(result.shape)


class _Memory:
    """The arrays of an executor, and where each lies in the program's memory."""

    def __init__(self, executor: Executor, result: Batch) -> None:
        bands = [band for thread in executor._bands for band in thread]
        arrays: list[NDArray[Any]] = [
            *(it for part in executor._network.weights for it in part),
            *(it for band in bands for it in (band.stages, *band.operands)),
            *(facts for _, facts in executor._outputs),
            *(executor._damage, executor._geometry, executor._state, result),
            *executor._parts,
        ]
        self._places: list[tuple[int, NDArray[Any]]] = []
        self.size = 0
        for array in arrays:
            self._places.append((self.size, array))
            self.size += -(-array.nbytes // _ALIGNMENT) * _ALIGNMENT
        executor._state[YIELD] = 0

    def moved(self, address: int) -> int:
        """Return the address in the program of what has an address here."""
        for place, array in self._places:
            if 0 <= address - array.ctypes.data < max(array.nbytes, 1):
                return DATA + place + address - array.ctypes.data
        msg = f"{address:#x} is no address in an executor's memory"
        raise ValueError(msg)

    def content(self, functions: list[int]) -> bytes:
        """Return the program's data, given the addresses of its functions."""
        content = bytearray(self.size)
        for place, array in self._places:
            values = array
            if array.dtype == np.int64:
                values = array.copy()
                for at, value in enumerate(array.flat):
                    if value >= _FUNCTION:
                        values.flat[at] = functions[value - _FUNCTION]
                    elif value >= _SMALLEST_ADDRESS:
                        values.flat[at] = self.moved(int(value))
            content[place : place + array.nbytes] = values.tobytes()
        return bytes(content)


def _emit_start(module: ir.Module, executor: Executor, memory: _Memory, result: Batch) -> None:
    """Add the function at which the program begins."""
    b = Builder(ir.Function(module, ir.FunctionType(ir.VoidType(), []), "_start"), 1)
    lead = module.globals["lead"]

    def address(array: NDArray[Any]) -> Any:
        return b.inttoptr(INT(memory.moved(array.ctypes.data)), POINTER)

    state, geometry = address(executor._state), address(executor._geometry)
    for number, (table, count, *steps) in enumerate(executor._tables[0].tolist()):
        stages = b.inttoptr(INT(memory.moved(table)), POINTER)
        b.call(lead, [state, INT(number), INT(0), stages, INT(count), geometry, *map(INT, steps)])
    system = ir.Function(module, ir.FunctionType(ir.VoidType(), [INT] * 4), _SYSTEM)
    for call in ((_WRITE, 1, memory.moved(result.ctypes.data), result.nbytes), (_EXIT, 0, 0, 0)):
        b.call(system, [INT(it) for it in call])
    b.unreachable()


@dataclass(frozen=True, slots=True)
class _Section:
    name: str
    kind: int
    offset: int
    size: int
    target: int
    alignment: int


_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
_RELOCATION = struct.Struct("<QQq")
_RELOCATIONS = 4  # kind of section


def _sections(code: bytes) -> list[_Section]:
    (start,), (count, names) = struct.unpack_from("<Q", code, 40), struct.unpack_from("<HH", code, 60)
    headers = [_SECTION.unpack_from(code, start + _SECTION.size * it) for it in range(count)]
    texts = headers[names][4]
    return [_Section(_text(code, texts + it[0]), it[1], it[4], it[5], it[7], max(it[8], 1)) for it in headers]


def _text(code: bytes, start: int) -> str:
    return code[start : code.index(b"\0", start)].decode()


def _linked(code: bytes) -> tuple[bytes, dict[str, int]]:
    """Return the code and constants of an object file as they lie at ``BASE``, and the addresses of its functions."""
    sections = _sections(code)
    placed: dict[int, int] = {}
    content = bytearray()
    for number, section in enumerate(sections):
        if section.name == ".text" or section.name.startswith(".rodata"):
            content += bytes(-len(content) % section.alignment)
            placed[number] = len(content)
            content += code[section.offset : section.offset + section.size]
    system = BASE + len(content)
    content += _SYSTEM_CODE
    by_name = {section.name: section for section in sections}
    symbols = list(_symbols(code, by_name[".symtab"], by_name[".strtab"].offset, placed))
    for section in sections:
        if section.kind != _RELOCATIONS or section.target not in placed:
            continue
        for at in range(section.offset, section.offset + section.size, _RELOCATION.size):
            offset, info, addend = _RELOCATION.unpack_from(code, at)
            place = placed[section.target] + offset
            name, address = symbols[info >> 32]
            _relocate(content, place, info & 0xFFFFFFFF, (system if name == _SYSTEM else address) + addend)
    return bytes(content), {name: address for name, address in symbols if name and address}


def _symbols(code: bytes, table: _Section, texts: int, placed: dict[int, int]) -> Iterator[tuple[str, int]]:
    """Yield the name and address of each symbol; 0 for one that has none."""
    for at in range(table.offset, table.offset + table.size, _SYMBOL.size):
        name, _, _, section, value, _ = _SYMBOL.unpack_from(code, at)
        yield _text(code, texts + name), BASE + placed[section] + value if section in placed else 0


def _relocate(content: bytearray, place: int, kind: int, value: int) -> None:
    (word,) = struct.unpack_from("<I", content, place)
    if kind in _MOVES:
        word |= (value >> 16 * _MOVES[kind] & 0xFFFF) << 5
    elif kind == _CALL:
        word |= (value - BASE - place >> 2) & 0x3FFFFFF
    else:
        msg = f"relocations of kind {kind} are not known here"
        raise ValueError(msg)
    struct.pack_into("<I", content, place, word)


def _program(code: bytes, start: int, data: bytes) -> bytes:
    """Return the file of a program: its code at ``BASE``, and its data at ``DATA``, which can be written."""
    parts = [(5, BASE, code), (6, DATA, data)]  # may be read and executed, read and written
    header = struct.pack(
        "<16sHHIQQQIHHHHHH", b"\x7fELF\2\1\1", 2, 183, 1, start, 64, 0, 0, 64, 56, len(parts), 64, 0, 0
    )
    content = bytearray()
    for flags, address, part in parts:
        content += bytes(-(_PAGE + len(content)) % _PAGE)
        header += struct.pack(
            "<IIQQQQQQ", 1, flags, _PAGE + len(content), address, address, len(part), len(part), _PAGE
        )
        content += part
    return header.ljust(_PAGE, b"\0") + content

"""WebAssembly modules from LLVM's object files, without a linker.

An object file of LLVM for wasm32 is almost a module: it has types, imports and code. What a linker would do to it is
little, since the code has no data, calls nothing outside, and refers to functions by pointers that it is given: the
functions are exported, and the memory is declared as shared where threads share it. A module imports

    env.__linear_memory             the memory
    env.__stack_pointer             a mutable global, the end of a stack in it; each thread has its own
    env.__indirect_function_table   the table of functions; a function's address is its place in it
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lkdn_deploy.jit.compiler import Processor

WASM = Processor(
    "generic",
    "+simd128,+bulk-memory,+mutable-globals,+nontrapping-fptoint,+sign-ext",
    lanes=4,
    max_outputs=4,  # most machines that run it have 16 vector registers
    triple="wasm32-unknown-unknown",
    # Loads add a constant to an address without wrapping; LLVM lets them only where it knows that nothing wraps.
    replaced=(("getelementptr ", "getelementptr inbounds "),),
)
"""WebAssembly with vectors of 128 bits, and memory that belongs to one thread."""

WASM_RELAXED = replace(
    WASM,
    features=f"{WASM.features},+relaxed-simd",
    replaced=(
        *WASM.replaced,
        ("llvm.fmuladd.", "llvm.wasm.relaxed.madd."),
        ("llvm.wasm.swizzle", "llvm.wasm.relaxed.swizzle"),
        ("llvm.wasm.q15mulr.sat.signed", "llvm.wasm.relaxed.q15mulr.signed"),
    ),
)
"""The same with relaxed SIMD, whose multiplication with an addition is rounded once where the processor can.

Its look-up in bytes and its multiplication of 16-bit integers differ from the others only for places outside a table,
and for -32768 times itself, neither of which occurs.
"""


def for_threads(target: Processor) -> Processor:
    """Return a target of WebAssembly whose memory threads may share."""
    return replace(target, features=f"{target.features},+atomics")


MAX_PAGES = 1 << 16
"""Pages of the largest memory that a module with 32-bit addresses can have."""

_MAGIC = b"\0asm\1\0\0\0"
_CUSTOM, _TYPE, _IMPORT, _FUNCTION, _EXPORT, _CODE = 0, 1, 2, 3, 7, 10
_TABLE_KIND, _MEMORY_KIND, _GLOBAL_KIND = 1, 2, 3
_IMPORTS = {
    "__linear_memory": _MEMORY_KIND,
    "__stack_pointer": _GLOBAL_KIND,
    "__indirect_function_table": _TABLE_KIND,
}
_HAS_MAXIMUM, _SHARED = 1, 2
_SYMBOLS, _FUNCTION_SYMBOL = 8, 0
_UNDEFINED, _EXPLICIT_NAME = 0x10, 0x40
_FUNCREF, _I32, _MUTABLE = b"\x70", b"\x7f", b"\x01"


def link(code: bytes, exports: Sequence[str], *, shared: bool) -> bytes:
    """Return a module of an object file's functions.

    Args:
        code: an object file that ``compile_module`` made for ``WASM`` or ``WASM_RELAXED``, or for threads.
        exports: names of the functions to export.
        shared: whether the memory is one that threads share.

    Raises:
        ValueError: if the object file has anything that only a linker can resolve.
    """
    sections = _sections(code)
    names = _functions(sections.get(_CUSTOM, []))
    others = sections.keys() - {_CUSTOM, _TYPE, _IMPORT, _FUNCTION, _CODE}
    imports = _imports(sections[_IMPORT][0])
    if others or not imports.items() <= _IMPORTS.items():
        msg = f"code that needs a linker: sections {sorted(others)}, imports {sorted(imports)}"
        raise ValueError(msg)
    listed = [_text(name) + b"\0" + _number(names[name]) for name in exports]
    return _MAGIC + b"".join(
        _section(number, content)
        for number, content in (
            (_TYPE, sections[_TYPE][0]),
            (_IMPORT, _vector([_import(name, shared) for name in _IMPORTS])),
            (_FUNCTION, sections[_FUNCTION][0]),
            (_EXPORT, _vector(listed)),
            (_CODE, sections[_CODE][0]),
        )
    )


def _import(name: str, shared: bool) -> bytes:
    limits = _number(_HAS_MAXIMUM | (_SHARED if shared else 0)) + _number(0) + _number(MAX_PAGES)
    kind = {
        _MEMORY_KIND: limits,
        _GLOBAL_KIND: _I32 + _MUTABLE,
        _TABLE_KIND: _FUNCREF + b"\0\0",  # of any size
    }
    return _text("env") + _text(name) + bytes([_IMPORTS[name]]) + kind[_IMPORTS[name]]


@dataclass(slots=True)
class _Reader:
    data: bytes
    place: int = 0

    def __bool__(self) -> bool:
        return self.place < len(self.data)

    def take(self, count: int) -> bytes:
        self.place += count
        return self.data[self.place - count : self.place]

    def byte(self) -> int:
        return self.take(1)[0]

    def number(self) -> int:
        """Read an unsigned number in LEB128."""
        found = shift = 0
        while True:
            byte = self.byte()
            found |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return found

    def text(self) -> str:
        return self.take(self.number()).decode()


def _sections(code: bytes) -> dict[int, list[bytes]]:
    """Return the contents of a file's sections by their number, of which only custom ones may stand repeatedly."""
    reader = _Reader(code, len(_MAGIC))
    found: dict[int, list[bytes]] = {}
    while reader:
        number = reader.byte()
        found.setdefault(number, []).append(reader.take(reader.number()))
    return found


def _imports(section: bytes) -> dict[str, int]:
    """Return the names and kinds of what an object file imports."""
    reader, found = _Reader(section), {}
    for _ in range(reader.number()):
        reader.text()
        name = reader.text()
        found[name] = kind = reader.byte()
        if kind == _GLOBAL_KIND:
            reader.take(2)
        elif kind in (_MEMORY_KIND, _TABLE_KIND):
            reader.take(kind == _TABLE_KIND)
            bounded = reader.number() & _HAS_MAXIMUM
            for _ in range(2 if bounded else 1):
                reader.number()
        else:
            reader.number()
    return found


def _functions(sections: Sequence[bytes]) -> dict[str, int]:
    """Return the functions that an object file defines, by name, from its table of symbols."""
    found: dict[str, int] = {}
    for content in sections:
        reader = _Reader(content)
        if reader.text() != "linking":
            continue
        reader.number()  # the version
        while reader:
            kind, part = reader.byte(), _Reader(reader.take(reader.number()))
            for _ in range(part.number() if kind == _SYMBOLS else 0):
                symbol, flags = part.byte(), part.number()
                index = part.number()  # objects without data have no other kinds of symbols
                if not flags & _UNDEFINED or flags & _EXPLICIT_NAME:
                    name = part.text()
                    if symbol == _FUNCTION_SYMBOL:
                        found[name] = index
    return found


def _number(value: int) -> bytes:
    """Write an unsigned number in LEB128."""
    found = bytearray()
    while value > 127:
        found.append(value & 127 | 128)
        value >>= 7
    return bytes([*found, value])


def _text(value: str) -> bytes:
    return _number(len(value)) + value.encode()


def _vector(items: Sequence[bytes]) -> bytes:
    return _number(len(items)) + b"".join(items)


def _section(number: int, content: bytes) -> bytes:
    return bytes([number]) + _number(len(content)) + content

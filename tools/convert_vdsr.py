"""Convert the published weights of VDSR to safetensors with the names of ``lkdn_models.nets.vdsr``.

    python tools/convert_vdsr.py VDSR_Official.mat vdsr.safetensors

The file is in MATLAB's own format (level 5, not HDF5): a structure ``model`` with cells ``weight`` and ``bias``, one
entry for each layer. The script reads the parts of the format ("MAT-File Format", The MathWorks) that such a file
needs: structures, cells and real arrays in single or double precision. Nothing in the file is run.
"""

import math
import struct
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.files import publish
from lkdn_models.nets.vdsr import VDSR

MAX_BYTES = 1 << 26  # the published one has 2.5 MB, 2.7 MB when inflated
HEADER = 128

# Kinds of elements, and classes of arrays.
INT8, INT32, UINT32, SINGLE, DOUBLE, MATRIX, COMPRESSED = 1, 5, 6, 7, 9, 14, 15
CELL, STRUCT, DOUBLE_CLASS, SINGLE_CLASS = 1, 2, 6, 7
DTYPES = {INT8: "<i1", 2: "<u1", 3: "<i2", 4: "<u2", INT32: "<i4", UINT32: "<u4", SINGLE: "<f4", DOUBLE: "<f8"}

Value = np.ndarray | list["Value"] | dict[str, "Value"]


def main(source: str, target: str) -> None:
    """Convert a file."""
    try:
        state = read(Path(source))
        with publish(target) as part:
            part.write_bytes(save(state, metadata={"network": "vdsr"}))
    except LkdnError as error:
        sys.exit(f"{source}: {error}")


def read(path: Path) -> dict[str, Tensor]:
    """Return the weights of VDSR.

    Raises:
        InputError: if the file cannot be read, is damaged, or holds another network.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            msg = f"it has {size:,} bytes, more than the {MAX_BYTES:,} that a model may have"
            raise InputError(msg)
        state = convert(variables(path.read_bytes()))
    except OSError as error:
        msg = f"cannot be read: {error.strerror}"
        raise InputError(msg) from error
    except RecursionError as error:
        msg = "its arrays are nested too deeply"
        raise InputError(msg) from error
    expected = {name: value.shape for name, value in VDSR().state_dict().items()}
    found = {name: value.shape for name, value in state.items()}
    if found != expected:
        differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        msg = "not a VDSR: number or shapes of its weights differ"
        raise InputError(msg, f"for instance {', '.join(differing[:8])}")
    if bad := [name for name, value in state.items() if not value.isfinite().all()]:
        msg = f"weights must be finite numbers, these are not: {', '.join(bad[:8])}"
        raise InputError(msg)
    return state


def convert(found: dict[str, Value]) -> dict[str, Tensor]:
    """Return the state dict of ``VDSR`` from the file's variables.

    Weights are (row, column, input, output), for a correlation as in PyTorch; MATLAB drops a last dimension of 1.

    Raises:
        InputError: if there are no such cells.
    """
    model = found.get("model")
    weights, biases = (model.get(name) if isinstance(model, dict) else None for name in ("weight", "bias"))
    if not isinstance(weights, list) or not isinstance(biases, list) or len(weights) != len(biases):
        msg = "no structure model with cells weight and bias of one length"
        raise InputError(msg, f"the file has {', '.join(found) or 'no variables'}")
    state = {}
    for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
        if not isinstance(weight, np.ndarray) or not isinstance(bias, np.ndarray) or weight.ndim not in (2, 3, 4):
            msg = f"layer {i + 1} is not a weight of two to four dimensions and a bias"
            raise InputError(msg)
        full = weight.reshape(*weight.shape, *[1] * (4 - weight.ndim))
        state[f"layers.{i}.weight"] = _tensor(full.transpose(3, 2, 0, 1))
        state[f"layers.{i}.bias"] = _tensor(bias.ravel())
    return state


def _tensor(values: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(values, dtype=np.float32, order="C"))


def variables(data: bytes) -> dict[str, Value]:
    """Return the variables of a MATLAB level 5 file.

    Raises:
        InputError: if it is none, is damaged, or holds what is not read here.
    """
    if data[HEADER - 4 : HEADER] != b"\x00\x01IM":
        msg = "not a little-endian MATLAB file of level 5"
        raise InputError(msg)
    found = {}
    for kind, payload in _elements(data[HEADER:]):
        if kind == COMPRESSED:
            kind, payload = next(_take(_elements(_inflate(payload)), 1, "the file"))
        name, value = _array(kind, payload)
        found[name] = value
    return found


def _inflate(data: bytes) -> bytes:
    try:
        inflater = zlib.decompressobj()
        content = inflater.decompress(data, MAX_BYTES)
    except zlib.error as error:
        msg = f"damaged: {error}"
        raise InputError(msg) from error
    if not inflater.eof:
        msg = f"cut short, or more than {MAX_BYTES:,} bytes"
        raise InputError(msg)
    return content


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield kind and payload of consecutive elements."""
    at = 0
    while at < len(data):
        if len(data) - at < 8:
            msg = "cut short in the head of an element"
            raise InputError(msg)
        kind, size = struct.unpack_from("<II", data, at)
        if kind >> 16:  # the head itself holds up to four bytes
            kind, size, start, step = kind & 0xFFFF, kind >> 16, at + 4, 8
        else:
            start = at + 8
            # Only compressed elements are not padded to eight bytes.
            step = 8 + (size if kind == COMPRESSED else -(-size // 8) * 8)
        if start + size > min(len(data), at + step):
            msg = f"an element claims {size:,} bytes and has {max(len(data) - start, 0):,}"
            raise InputError(msg)
        yield kind, data[start : start + size]
        at += step


def _array(kind: int, data: bytes) -> tuple[str, Value]:
    """Return name and value of an array element, which holds flags, dimensions, name and contents."""
    if kind != MATRIX:
        msg = f"an array was expected, got an element of kind {kind}"
        raise InputError(msg)
    parts = _elements(data)
    flags = _numbers(parts, UINT32)
    shape = tuple(int(size) for size in _numbers(parts, INT32))
    name = _numbers(parts, INT8).tobytes().decode("ascii", "replace")
    if len(flags) != 2 or len(shape) < 2 or min(shape) < 0:
        msg = f"{name or 'an array'} has odd flags or dimensions"
        raise InputError(msg)
    array_class, is_complex, count = int(flags[0]) & 0xFF, int(flags[0]) & 0x800, math.prod(shape)
    if array_class == CELL:
        return name, [_array(*part)[1] for part in _take(parts, count, name)]
    if array_class == STRUCT and count == 1:
        width = int(_numbers(parts, INT32).sum())  # one number: the length of every field's name
        raw = _numbers(parts, INT8).tobytes()
        names = [
            raw[i : i + width].split(b"\0")[0].decode("ascii", "replace") for i in range(0, len(raw), max(width, 1))
        ]
        return name, dict(zip(names, (_array(*part)[1] for part in _take(parts, len(names), name)), strict=True))
    if array_class in (DOUBLE_CLASS, SINGLE_CLASS) and not is_complex:
        values = _numbers(parts)
        if len(values) != count:
            msg = f"{name or 'an array'} of {shape} holds {len(values)} numbers"
            raise InputError(msg)
        return name, values.reshape(shape, order="F")
    msg = f"{name or 'an array'} is of class {array_class}: only structures, cells and real arrays are read"
    raise InputError(msg)


def _numbers(parts: Iterator[tuple[int, bytes]], expected: int | None = None) -> np.ndarray:
    """Return the numbers of the next element."""
    kind, data = next(_take(parts, 1, ""))
    if kind not in DTYPES or (expected is not None and kind != expected):
        msg = f"numbers of kind {expected or 'any'} were expected, got kind {kind}"
        raise InputError(msg)
    dtype = np.dtype(DTYPES[kind])
    if len(data) % dtype.itemsize:
        msg = f"{len(data)} bytes are not a multiple of {dtype.itemsize}"
        raise InputError(msg)
    return np.frombuffer(data, dtype)


def _take(parts: Iterator[tuple[int, bytes]], count: int, name: str) -> Iterator[tuple[int, bytes]]:
    """Return exactly so many elements."""
    for _ in range(count):
        part = next(parts, None)
        if part is None:
            msg = f"{name or 'an array'} ends early"
            raise InputError(msg)
        yield part


if __name__ == "__main__":
    main(*sys.argv[1:])

"""The bytes of an ONNX file that keeps no weights in other files.

Engines follow such a name, also where they are given bytes and no path: OpenVINO below the current folder, ONNX Runtime
too where the tensor is a constant in the branch of a condition. What is found there would be part of a result. Only the
wire format of Protocol Buffers is read here (protobuf.dev, "Encoding"), with the field numbers of onnx.proto.
"""

from collections.abc import Iterator
from pathlib import Path

from lkdn_deploy.core.errors import InputError

# Where tensors can be: the fields of each message that lead to one.
_GRAPH, _NODE, _ATTRIBUTE, _SPARSE, _TRAINING, _FUNCTION, _TENSOR, _MODEL = range(8)
_INSIDE = {
    _MODEL: {7: _GRAPH, 20: _TRAINING, 25: _FUNCTION},
    _GRAPH: {1: _NODE, 5: _TENSOR, 15: _SPARSE},
    _NODE: {5: _ATTRIBUTE},
    _ATTRIBUTE: {5: _TENSOR, 6: _GRAPH, 10: _TENSOR, 11: _GRAPH, 22: _SPARSE, 23: _SPARSE},
    _SPARSE: {1: _TENSOR, 2: _TENSOR},
    _TRAINING: {1: _GRAPH, 2: _GRAPH},
    _FUNCTION: {7: _NODE, 11: _ATTRIBUTE},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
_PROPERTIES = 14
_VARINT, _EIGHT_BYTES, _SPAN, _FOUR_BYTES = 0, 1, 2, 5


def read_artefact(artefact: Path, engine: str) -> bytes:
    """The content of a file for ``engine``, whose name is for errors.

    Raises:
        InputError: if it cannot be read, is no ONNX file, or names other files.
    """
    try:
        data = artefact.read_bytes()
    except OSError as error:
        msg = f"{artefact} cannot be read: {error.strerror}"
        raise InputError(msg) from error
    try:
        outside = names_other_files(data)
    except ValueError as error:
        msg = f"{artefact} cannot be opened by {engine} as a model"
        raise InputError(msg, f"it is no ONNX file: {error}") from error
    if outside:
        msg = f"{artefact} keeps weights in other files, which are not read"
        raise InputError(msg, "export the checkpoint with lkdn-export")
    return data


def properties(model: bytes) -> dict[str, str]:
    """The metadata of an ONNX file, without a library that reads the whole.

    Raises:
        ValueError: if this is no ONNX file.
    """
    found = {}
    for number, kind, first, last in _fields(model, 0, len(model)):
        if (number, kind) == (_PROPERTIES, _SPAN):
            pair = {inner: model[start:end] for inner, _, start, end in _fields(model, first, last)}
            found[pair.get(1, b"").decode(errors="replace")] = pair.get(2, b"").decode(errors="replace")
    return found


def names_other_files(model: bytes) -> bool:
    """Whether a tensor anywhere in ``model`` is kept outside of it.

    Raises:
        ValueError: if this is no ONNX file.
    """
    todo = [(_MODEL, 0, len(model))]
    while todo:
        message, start, end = todo.pop()
        for number, kind, first, last in _fields(model, start, end):
            if message == _TENSOR:
                if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and kind == _VARINT and first):
                    return True
            elif kind == _SPAN and number in _INSIDE[message]:
                todo.append((_INSIDE[message][number], first, last))
    return False


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Number, wire type, and begin and end of the value, or a varint's value twice."""
    while at < end:
        tag, at = _varint(data, at, end)
        kind = tag & 7
        first, at = _varint(data, at, end) if kind in (_VARINT, _SPAN) else (at, at)
        if kind == _VARINT:
            last = first
        elif kind in (_SPAN, _EIGHT_BYTES, _FOUR_BYTES):
            size = {_SPAN: first, _EIGHT_BYTES: 8, _FOUR_BYTES: 4}[kind]
            first, at = at, at + size
            last = at
        else:
            msg = f"wire type {kind} is none of ONNX"
            raise ValueError(msg)
        if at > end:
            msg = "a field is longer than what holds it"
            raise ValueError(msg)
        yield (tag & 0xFFFFFFFF) >> 3, kind, first, last


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """The value, and where what follows begins."""
    if at < end and data[at] < 0x80:  # as nearly all are
        return data[at], at + 1
    value = 0
    for place, byte in enumerate(data[at : min(at + 10, end)]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    msg = "a number does not end"
    raise ValueError(msg)

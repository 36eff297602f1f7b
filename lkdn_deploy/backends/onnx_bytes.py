"""Reads an ONNX file and its metadata, without a library that parses the whole, and refuses external weights.

Engines follow the name of an external file even where they are given bytes and no path: OpenVINO below the current
folder, ONNX Runtime where the tensor is a constant in the branch of a condition. Its content would become part of a
result. Only the wire format of Protocol Buffers is parsed here (protobuf.dev, "Encoding"), with the field numbers of
onnx.proto.
"""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from lkdn_deploy.core.artifact import PREFIX, ArtifactMetadata
from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.files import open_regular, printable

log = logging.getLogger(__name__)

MAX_BYTES = 512 << 20
"""Limit of an artefact's size. The networks of the zoo have 16 MiB at most."""

MAX_NODES = 4096
"""Limit of an artefact's operations. The networks of the zoo have some hundreds."""

_UNWANTED = {
    b"Loop",
    b"Scan",
    b"If",
    b"SequenceMap",
    b"Expand",
    b"Tile",
    b"Range",
    b"ConstantOfShape",
    b"EyeLike",
    b"OneHot",
}
"""Operators of no exported network, by which a file of a few bytes may take an engine any time or memory."""

# The fields of each message that lead to tensors.
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
_OPERATOR = 4
_PROPERTIES = 14
_EXPORT = "export the checkpoint with lkdn-export"
_VARINT, _EIGHT_BYTES, _SPAN, _FOUR_BYTES = 0, 1, 2, 5


@dataclass(frozen=True, slots=True, eq=False)
class Artifact:
    """An ``.onnx`` file of ``lkdn-export``, read once.

    Attributes:
        path: the file, for messages and for programs that open it themselves.
        data: its content, which refers to no other file.
        metadata: its description of itself.
    """

    path: Path
    data: bytes
    metadata: ArtifactMetadata


def read_artifact(path: Path) -> Artifact:
    """Read a file of ``lkdn-export``.

    Raises:
        InputError: if it cannot be read, is not an ONNX file, keeps weights in other files, or has no valid metadata.
    """
    return parse_artifact(path, read_onnx(path))


def read_onnx(path: Path) -> bytes:
    """Return the content of an ``.onnx`` file.

    Raises:
        InputError: if it cannot be read or is too large.
    """
    try:
        with open_regular(path) as file:
            size = os.fstat(file.fileno()).st_size
            data = file.read(min(size, MAX_BYTES))  # for which memory is allocated at once
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise InputError(msg) from error
    if size > MAX_BYTES:
        msg = f"{path} is larger than {MAX_BYTES >> 20} MiB, the most that an artefact may have"
        raise InputError(msg)
    return data


def is_foreign(data: bytes) -> bool:
    """Return whether the content of a file is an ONNX model that another program wrote, weights inside.

    Raises:
        InputError: as ``read_properties`` does.
    """
    try:
        properties = read_properties(data)
    except ValueError:
        return False
    return properties is not None and not any(name.startswith(PREFIX) for name in properties)


def parse_artifact(path: Path, data: bytes) -> Artifact:
    """Return the artefact in the content of a file of ``lkdn-export``.

    Raises:
        InputError: if it is not an ONNX file, keeps weights in other files, or has no valid metadata.
    """
    try:
        properties = read_properties(data)
        if properties is not None:
            return Artifact(path, data, ArtifactMetadata.from_props(properties))
    except ValueError as error:
        msg = f"{path} is not an ONNX model: {error}"
        raise InputError(msg, "give a file that lkdn-export wrote") from error
    except InputError as error:
        msg = f"{path}: {error.message}"
        raise InputError(msg, error.hint) from error
    msg = f"{path} keeps weights in other files, which are not read"
    raise InputError(msg, _EXPORT)


@contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn whatever reading or rewriting an artefact raises into an error that names its file.

    Packages that parse ONNX raise errors of many kinds on damaged files, which have no common base.

    Raises:
        InputError: in place of any exception but an ``LkdnError``.
    """
    try:
        yield
    except LkdnError:
        raise
    except Exception as error:
        log.debug("%s", path, exc_info=True)
        reason = (str(error).strip().splitlines() or [""])[0][:200]
        msg = f"{path} cannot be used: {type(error).__name__}{': ' * bool(reason)}{printable(reason)}"
        raise InputError(
            msg, "the file is damaged, or was not made by lkdn-export; export the checkpoint again"
        ) from error


def read_properties(model: bytes) -> dict[str, str] | None:
    """Return the metadata pairs of an ONNX file, or ``None`` if a tensor anywhere in it is kept in another file.

    Raises:
        ValueError: if this is not an ONNX file.
        InputError: if it has more operations than artefacts have, or others.
    """
    found, nodes, unwanted = {}, 0, set[bytes]()
    todo = [(_MODEL, 0, len(model))]
    while todo:
        message, start, end = todo.pop()
        for number, kind, first, last in _fields(model, start, end):
            if message == _TENSOR:
                if number == _EXTERNAL_DATA or (number == _DATA_LOCATION and kind == _VARINT and first):
                    return None
            elif (message, number, kind) == (_NODE, _OPERATOR, _SPAN):
                nodes += 1
                unwanted |= _UNWANTED & {model[first:last]}
            elif kind == _SPAN and number in _INSIDE[message]:
                todo.append((_INSIDE[message][number], first, last))
            elif (message, number, kind) == (_MODEL, _PROPERTIES, _SPAN):
                pair = {inner: model[begin:stop] for inner, _, begin, stop in _fields(model, first, last)}
                found[pair.get(1, b"").decode(errors="replace")] = pair.get(2, b"").decode(errors="replace")
    if unwanted:
        msg = f"it has the operator {min(unwanted).decode()}, which no exported network has"
        raise InputError(msg, _EXPORT)
    if nodes > MAX_NODES:
        msg = f"it has {nodes} operations, more than {MAX_NODES}"
        raise InputError(msg, _EXPORT)
    return found


def _fields(data: bytes, at: int, end: int) -> Iterator[tuple[int, int, int, int]]:
    """Yield each field's number, wire type, and begin and end of its value, or a varint's value twice."""
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
            msg = f"unknown wire type {kind}"
            raise ValueError(msg)
        if at > end:
            msg = "a field is longer than its message"
            raise ValueError(msg)
        yield (tag & 0xFFFFFFFF) >> 3, kind, first, last


def _varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """Return a variable-length integer and the position behind it."""
    if at < end and data[at] < 0x80:  # as nearly all are
        return data[at], at + 1
    value = 0
    for place, byte in enumerate(data[at : min(at + 10, end)]):
        value |= (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return value, at + place + 1
    msg = "a number has no end"
    raise ValueError(msg)

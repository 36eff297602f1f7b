"""Boxes, which ISO media files (AVIF, HEIC) and JPEG XL containers are made of (ISO/IEC 14496-12, section 4.2)."""

import struct
from collections.abc import Iterator


def boxes(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield kind and contents of each box at the top level, until one makes no sense."""
    at = 0
    while at + 8 <= len(data):
        size, kind = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1 and at + 16 <= len(data):
            (size,), head = struct.unpack_from(">Q", data, at + 8), 16
        size = size or len(data) - at
        if size < head:
            return
        yield kind, data[at + head : at + size]
        at += size


def box(kind: bytes, contents: bytes) -> bytes:
    """Return a box."""
    size = 8 + len(contents)
    return (struct.pack(">I4s", size, kind) if size < 2**32 else struct.pack(">I4sQ", 1, kind, size + 8)) + contents

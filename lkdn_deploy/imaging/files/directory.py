"""Directories of tagged values, which TIFF files and EXIF blocks are made of (TIFF 6.0, section 2; BigTIFF)."""

import io
import struct
from collections.abc import Mapping
from typing import IO, Literal, NamedTuple, TypeAlias

import numpy as np

EXIF_DIRECTORY, GPS_DIRECTORY, INTEROP_DIRECTORY = 0x8769, 0x8825, 0xA005
_INNER = (EXIF_DIRECTORY, GPS_DIRECTORY, INTEROP_DIRECTORY)
_INTEGERS = {1: "u1", 3: "u2", 4: "u4", 6: "i1", 8: "i2", 9: "i4", 13: "u4", 16: "u8", 17: "i8", 18: "u8"}
_FLOATS = {11: "f4", 12: "f8"}
_RATIONALS = {5: "u4", 10: "i4"}
_BYTES = {2: "u1", 7: "u1"}
_UNITS = _INTEGERS | _FLOATS | _RATIONALS | _BYTES
BYTE, ASCII, SHORT, LONG, RATIONAL, UNDEFINED, LONG8 = 1, 2, 3, 4, 5, 7, 16
_MAX_BYTES = 1 << 26  # of all values of a directory; files of a few bytes can claim any size
_MAX_ENTRIES = 65535


class Field(NamedTuple):
    """The values of one tag: their type, by its number in TIFF, and their bytes in little-endian order."""

    kind: int
    data: bytes

    @property
    def numbers(self) -> tuple[float, ...]:
        """The values as integers or floats, rationals divided; none for types without numbers."""
        unit = _UNITS[self.kind]
        values: list[float] = np.frombuffer(self.data, f"<{unit}").tolist() if self.kind not in _BYTES else []
        if self.kind in _RATIONALS:
            return tuple(a / b if b else 0.0 for a, b in zip(values[::2], values[1::2], strict=True))
        return tuple(values)


Tags: TypeAlias = dict[int, "Field | Tags"]
"""Tag numbers to fields, and to further directories."""


class ByteLayout(NamedTuple):
    """Byte order, and whether offsets and counts have 64 bits (BigTIFF)."""

    order: Literal["<", ">"]
    big: bool = False


def layout_of(start: bytes | bytearray) -> tuple[ByteLayout, int]:
    """Return the layout of a TIFF file or EXIF block by its first 16 bytes, and where its first directory is.

    Raises:
        ValueError, struct.error: if they are not the start of one.
    """
    order: Literal["<", ">"] = "<" if start[:2] == b"II" else ">"
    if start[:2] not in (b"II", b"MM"):
        msg = "no byte order"
        raise ValueError(msg)
    big = struct.unpack_from(f"{order}H", start, 2) == (43,)
    (at,) = struct.unpack_from(f"{order}Q", start, 8) if big else struct.unpack_from(f"{order}I", start, 4)
    return ByteLayout(order, big), at


def read_tags(file: IO[bytes], at: int, layout: ByteLayout) -> tuple[Tags, int]:
    """Read a directory with those inside it, and return it with the place of the next one, 0 if there is none.

    Fields of unknown types, and those that lie outside the file, are left out.

    Args:
        file: the file.
        at: place of the directory, in bytes.
        layout: byte order, and whether it is a BigTIFF.

    Raises:
        ValueError, struct.error: if there is no directory at ``at``, or a file claims too much.
    """
    return _read(file, at, layout, set(), [_MAX_BYTES])


def _read(file: IO[bytes], at: int, layout: ByteLayout, seen: set[int], left: list[int]) -> tuple[Tags, int]:
    order, big = layout
    size = file.seek(0, io.SEEK_END)
    entry, head, offset = (20, 8, "Q") if big else (12, 2, "I")
    if at in seen or not 0 < at < size:
        msg = "a directory lies outside the file, or within itself"
        raise ValueError(msg)
    seen.add(at)
    file.seek(at)
    (count,) = struct.unpack(order + ("Q" if big else "H"), file.read(head))
    if count > _MAX_ENTRIES:
        msg = f"a directory of {count} tags"
        raise ValueError(msg)
    table = file.read(count * entry)
    following = file.read(8 if big else 4)
    tags: Tags = {}
    for start in range(0, count * entry, entry):
        tag, kind, number = struct.unpack_from(f"{order}HH{offset}", table, start)
        if kind not in _UNITS:
            continue
        unit = np.dtype(_UNITS[kind])
        length = number * unit.itemsize * (2 if kind in _RATIONALS else 1)
        inline = table[start + entry - (8 if big else 4) : start + entry]
        place = None if length <= len(inline) else struct.unpack(order + offset, inline)[0]
        if place is not None and place + length > size:
            continue
        left[0] -= length
        if left[0] < 0:
            msg = "the tags of a directory are larger than any picture's"
            raise ValueError(msg)
        if place is None:
            data = inline[:length]
        else:
            file.seek(place)
            data = file.read(length)
        field = Field(kind, np.frombuffer(data, unit.newbyteorder(order)).astype(unit.newbyteorder("<")).tobytes())
        if tag in _INNER and field.numbers:
            try:
                tags[tag] = _read(file, int(field.numbers[0]), layout, seen, left)[0]
            except (ValueError, struct.error):
                continue
        elif tag not in tags:
            tags[tag] = field
    return tags, struct.unpack(order + offset, following)[0] if len(following) == struct.calcsize(offset) else 0


def lay_out(tags: Mapping[int, "Field | Tags"], at: int, *, big: bool = False) -> bytes:
    """Return the little-endian bytes of a directory, with those inside it, that begins at ``at``.

    Args:
        tags: its fields and directories.
        at: offset in the file, or in the EXIF block.
        big: whether the file is a BigTIFF, in which counts and offsets have 64 bits.

    Raises:
        struct.error: if something lies beyond 4 GiB.
    """
    head, entry, offset = ("<Q", "<HHQ", "<Q") if big else ("<H", "<HHI", "<I")
    inline = struct.calcsize(offset)  # bytes of a value that stand in its entry
    table, behind = struct.pack(head, len(tags)), b""
    end = at + len(table) + (struct.calcsize(entry) + inline) * len(tags) + inline
    for tag, field in sorted(tags.items()):
        if isinstance(field, dict):
            place = end + len(behind)
            behind += lay_out(field, place, big=big)
            field = Field(LONG, struct.pack("<I", place))
        size = np.dtype(_UNITS[field.kind]).itemsize * (2 if field.kind in _RATIONALS else 1)
        value = field.data.ljust(inline, b"\0")
        if len(field.data) > inline:
            value = struct.pack(offset, end + len(behind))
            behind += field.data + bytes(len(field.data) % 2)
        table += struct.pack(entry, tag, field.kind, len(field.data) // size) + value
    return table + bytes(inline) + behind + bytes(len(behind) % 2)


def integers(kind: int, *values: int) -> Field:
    """Return a field of integers of the type ``kind``."""
    return Field(kind, np.array(values, f"<{_UNITS[kind]}").tobytes())

"""Write a published Caffe model of IDN as safetensors, without Caffe.

    python tools/convert_idn.py IDN_x4.caffemodel idn_x4.safetensors

The file is a protobuf message, caffe.proto's NetParameter. The script reads the layers (100), and of each layer its
name (1), its blobs (7) and, for the scale, the stride (6) of its convolution_param (106); of each blob it reads the
shape (7, with dim 1) and the values (5, packed floats). Nothing in the file is run. Names become NAME.weight and
NAME.bias; the scale, which the shapes do not show, goes into the header as "scale".
"""

import math
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save
from torch import Tensor

from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_deploy.core.files import publish
from lkdn_models.nets.idn import IDN

MAX_BYTES = 1 << 26  # the published ones have 2.2 MB
SCALES = (2, 3, 4)

LAYER, NAME, BLOB, CONVOLUTION, STRIDE = 100, 1, 7, 106, 6
BLOB_VALUES, BLOB_SHAPE, SHAPE_DIM = 5, 7, 1
VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
"""Wire types of protobuf, without its obsolete groups."""


def main(source: str, target: str) -> None:
    """Convert a file."""
    try:
        state, scale = read(Path(source))
        with publish(target) as part:
            part.write_bytes(save(state, metadata={"network": "idn", "scale": str(scale)}))
    except LkdnError as error:
        sys.exit(f"{source}: {error}")


def read(path: Path) -> tuple[dict[str, Tensor], int]:
    """Return the weights of a Caffe model of IDN, and its scale.

    Raises:
        InputError: if the file cannot be read, is damaged, or holds another network.
    """
    try:
        size = path.stat().st_size
        if size > MAX_BYTES:
            msg = f"it has {size:,} bytes, more than the {MAX_BYTES:,} that a model may have"
            raise InputError(msg)
        state, stride = parse(path.read_bytes())
    except OSError as error:
        msg = f"cannot be read: {error.strerror}"
        raise InputError(msg) from error
    if stride not in SCALES:
        msg = f"not an IDN: its layer upsample has stride {stride}, not one of {SCALES}"
        raise InputError(msg)
    expected = {name: value.shape for name, value in IDN(stride).state_dict().items()}
    found = {name: value.shape for name, value in state.items()}
    if found != expected:
        differing = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
        msg = "not an IDN: names or shapes of its weights differ"
        raise InputError(msg, f"for instance {', '.join(differing[:8])}")
    if bad := [name for name, value in state.items() if not value.isfinite().all()]:
        msg = f"weights must be finite numbers, these are not: {', '.join(bad[:8])}"
        raise InputError(msg)
    return state, stride


def parse(data: bytes) -> tuple[dict[str, Tensor], int | None]:
    """Return the weights in a NetParameter, and the stride of its layer ``upsample``."""
    state: dict[str, Tensor] = {}
    stride = None
    for number, layer in fields(data):
        if number != LAYER:
            continue
        parts = list(fields(message(layer)))
        name = "".join(message(value).decode("utf-8", "replace") for key, value in parts if key == NAME)
        blobs = [blob(message(value), name) for key, value in parts if key == BLOB]
        if not blobs:
            continue  # activations, sums and the like
        if len(blobs) != 2 or f"{name}.weight" in state:
            msg = f"layer {name}: expected weights and biases once, got {len(blobs)} blobs or a second layer"
            raise InputError(msg)
        state[f"{name}.weight"], state[f"{name}.bias"] = blobs
        if name == "upsample":
            settings = [field for key, value in parts if key == CONVOLUTION for field in fields(message(value))]
            stride = next((value for key, value in settings if key == STRIDE and isinstance(value, int)), None)
    return state, stride


def blob(data: bytes, name: str) -> Tensor:
    """Return the floats of a BlobProto in its shape."""
    shape: list[int] = []
    values = b""
    for number, value in fields(data):
        if number == BLOB_SHAPE:
            shape = [
                size for key, dims in fields(message(value)) if key == SHAPE_DIM for size in varints(message(dims))
            ]
        elif number == BLOB_VALUES:
            values = message(value)
    if not shape or 4 * math.prod(shape) != len(values):
        msg = f"layer {name}: a blob of shape {shape} cannot have {len(values)} bytes of values"
        raise InputError(msg)
    return torch.from_numpy(np.frombuffer(values, "<f4").astype(np.float32).reshape(shape))


def fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Yield the fields of a message: number, and an integer or the bytes of any other type."""
    at = 0
    while at < len(data):
        tag, at = varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == VARINT:
            value, at = varint(data, at)
            yield number, value
            continue
        if kind == BYTES:
            size, at = varint(data, at)
        elif kind in (FIXED64, FIXED32):
            size = 8 if kind == FIXED64 else 4
        else:
            msg = f"damaged: there is no wire type {kind}"
            raise InputError(msg)
        if size > len(data) - at:
            msg = f"damaged: a field of {size:,} bytes where {len(data) - at:,} are left"
            raise InputError(msg)
        yield number, data[at : at + size]
        at += size


def varints(data: bytes) -> Iterator[int]:
    """Yield packed integers."""
    at = 0
    while at < len(data):
        value, at = varint(data, at)
        yield value


def varint(data: bytes, at: int) -> tuple[int, int]:
    """Return an integer of seven bits a byte, low ones first, and the position of its end."""
    value = 0
    for count in range(10):  # 64 bits at most
        if at + count >= len(data):
            break
        byte = data[at + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, at + count + 1
    msg = "damaged: an integer does not end"
    raise InputError(msg)


def message(value: int | bytes) -> bytes:
    """Return a field that must hold bytes: a message, a string or packed numbers."""
    if isinstance(value, int):
        msg = "damaged: a number where a message must be"
        raise InputError(msg)
    return value


if __name__ == "__main__":
    main(*sys.argv[1:])

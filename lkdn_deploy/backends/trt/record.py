"""The record of a built engine: the JSON side-car beside it, since the engine itself is opaque without a device."""

import json
import math
import re
from dataclasses import asdict, dataclass, fields, is_dataclass
from types import UnionType
from typing import Any, Literal, get_args, get_origin, get_type_hints

from lkdn_deploy.backends.trt.engine_spec import EngineSpec
from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, LkdnError

FORMAT = 4
MAX_SIDECAR = 16 << 20
"""Largest size of a side-car's file."""

DTYPES = ("float32", "float16", "uint8")


@dataclass(frozen=True, slots=True)
class Tensor:
    """An engine's input or output; ``dtype`` is one of ``DTYPES``."""

    name: str
    dtype: str

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            msg = f"an engine's tensors must be {', '.join(DTYPES)}, but {self.name} is {self.dtype}"
            raise InputError(msg)


@dataclass(frozen=True, slots=True)
class Audit:
    """The number of convolutions that an engine computes in FP16."""

    convolutions: int
    half: int
    """Convolutions with FP16 inputs."""
    source: Literal["network", "engine"]
    """``network``: the types of the parsed network; ``engine``: those of the engine's own layers, listed by the
    inspector where a device opens the engine, else in the builder's log."""

    def __post_init__(self) -> None:
        if not 0 <= self.half <= self.convolutions:
            msg = f"{self.half} of {self.convolutions} convolutions in FP16 is impossible"
            raise InputError(msg)

    def __str__(self) -> str:
        return f"{self.half} of {self.convolutions} convolutions in FP16, by the {self.source}'s types"


@dataclass(frozen=True, slots=True)
class EngineRecord:
    """Facts about a built engine.

    Raises:
        InputError: if a value is impossible; side-cars are files, and files are not trusted.
    """

    spec: EngineSpec
    metadata: ArtifactMetadata
    """Metadata of the ``.onnx`` file that it was built from."""
    input: Tensor
    output: Tensor
    engine_sha256: str
    audit: Audit | None
    """``None`` if the engine is in FP32."""
    rewrites: tuple[str, ...] = ()
    """Rewrites of that file's graph that had an effect; ``spec`` names those that were tried."""
    fallbacks: tuple[str, ...] = ()
    """Convolutions put back to FP32 because the builder has no FP16 kernel for them."""
    build_seconds: float = 0.0
    made: str = ""
    """Time of the build, UTC, ISO 8601."""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[0-9a-f]{64}", self.engine_sha256):
            msg = f"engine_sha256 must be 64 hexadecimal digits, got {self.engine_sha256!r}"
            raise InputError(msg)
        if not 0 <= self.build_seconds < math.inf:
            msg = f"build_seconds must be a duration, got {self.build_seconds}"
            raise InputError(msg)

    def to_json(self) -> str:
        """Return the text of the side-car."""
        return json.dumps({"format": FORMAT} | asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "EngineRecord":
        """Read back ``to_json``.

        Raises:
            InputError: if the text is damaged; the message says where.
        """
        try:
            value = json.loads(text)
            if not isinstance(value, dict) or value.pop("format", None) != FORMAT:
                msg = f"expected format {FORMAT}"
                raise ValueError(msg)
            record: EngineRecord = _decode(cls, value)
        except Exception as error:  # whatever damaged JSON makes the decoding trip over
            reason = error.message if isinstance(error, LkdnError) else str(error)
            msg = f"the side-car is damaged: {reason[:500] or type(error).__name__}"
            raise InputError(msg, "build the engine again") from error
        return record


def _decode(kind: Any, value: Any) -> Any:
    """Return a JSON value as a ``kind``: a field's type or a dataclass.

    Raises:
        ValueError, LkdnError: if it is none; the message names the field.
    """
    arguments = get_args(kind)
    if kind is ArtifactMetadata and isinstance(value, dict):
        return ArtifactMetadata(**value)
    if isinstance(kind, type) and is_dataclass(kind) and isinstance(value, dict):
        hints = get_type_hints(kind)
        names = {item.name for item in fields(kind)}
        if names != value.keys():
            msg = f"missing or unknown fields: {', '.join(sorted(names ^ value.keys()))}"
            raise ValueError(msg)
        return kind(**{name: _decode_field(name, hints[name], value[name]) for name in names})
    if get_origin(kind) is UnionType:
        return None if value is None else _decode(arguments[0], value)
    if get_origin(kind) is tuple and isinstance(value, list):
        kinds = [arguments[0]] * len(value) if arguments[1] is Ellipsis else arguments
        return tuple(_decode(*pair) for pair in zip(kinds, value, strict=True))
    if value in arguments or (type(value) is kind and (kind is not str or value.isprintable())):
        return value
    if kind is float and type(value) is int:
        return float(value)
    expected = " or ".join(arguments) if get_origin(kind) is Literal else kind.__name__
    msg = f"expected {expected}, got {value!r}"
    raise ValueError(msg)


def _decode_field(name: str, kind: Any, value: Any) -> Any:
    try:
        return _decode(kind, value)
    except (ValueError, TypeError, OverflowError) as error:
        msg = f"{name}: {error}"
        raise ValueError(msg) from error

"""What is known of an engine: the JSON file beside it. The engine itself tells nothing until a device opens it."""

import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any, Literal, get_args

from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import InputError, LkdnError, UsageError

FORMAT = 1

Kind = Literal["tensorrt", "tensorrt-rtx"]
"""Two runtimes with the same names inside; neither opens the other's engines."""
KINDS: tuple[Kind, ...] = get_args(Kind)

DTYPES = ("float32", "float16", "uint8")

Size = tuple[int, int]
"""Height and width in LR pixels."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The input sizes that an engine takes.

    Raises:
        UsageError: if they are not in order.
    """

    minimum: Size
    optimum: Size
    """What its kernels are chosen for."""
    maximum: Size
    batch: int = 1
    """Images at once, always so many."""

    def __post_init__(self) -> None:
        for axis, name in enumerate(("heights", "widths")):
            sizes = [size[axis] for size in (self.minimum, self.optimum, self.maximum)]
            if not 1 <= sizes[0] <= sizes[1] <= sizes[2] <= 1 << 14:
                msg = f"{name} of a profile rise and lie in 1..{1 << 14}, got {sizes}"
                raise UsageError(msg, "give MIN:OPT:MAX, such as 64x64:256x256:512x512")
        if not 1 <= self.batch <= 1 << 10:
            msg = f"the batch of a profile lies in 1..{1 << 10}, got {self.batch}"
            raise UsageError(msg)

    @classmethod
    def fixed(cls, size: Size, batch: int = 1) -> "Profile":
        """Of one size."""
        return cls(size, size, size, batch)

    @property
    def fixed_size(self) -> Size | None:
        """The one size; ``None``: there are more."""
        return self.optimum if self.minimum == self.maximum else None

    def __str__(self) -> str:
        sizes = (self.optimum,) if self.fixed_size else (self.minimum, self.optimum, self.maximum)
        text = ":".join(f"{width}x{height}" for height, width in sizes)
        return text if self.batch == 1 else f"{text}, batch {self.batch}"


@dataclass(frozen=True, slots=True)
class Tensor:
    """An engine's input or output."""

    name: str
    dtype: str
    """Of ``DTYPES``."""

    def __post_init__(self) -> None:
        if self.dtype not in DTYPES:
            msg = f"a tensor of an engine is of {', '.join(DTYPES)}, {self.name} of {self.dtype}"
            raise InputError(msg)


@dataclass(frozen=True, slots=True)
class Audit:
    """In which precision the convolutions are."""

    convolutions: int
    half: int
    """Of these, with FP16 inputs."""
    source: Literal["network", "engine"]
    """``network``: the types of the parsed network; ``engine``: those of the engine's own layers, which the inspector
    lists where a device opens it, else the builder's log."""

    def __post_init__(self) -> None:
        if not 0 <= self.half <= self.convolutions or self.source not in ("network", "engine"):
            msg = f"{self.half} of {self.convolutions} convolutions in FP16, by {self.source!r}: no audit is so"
            raise InputError(msg)

    def __str__(self) -> str:
        return f"{self.half} of {self.convolutions} convolutions in FP16, by the {self.source}'s types"


@dataclass(frozen=True, slots=True)
class SideCar:
    """Facts about an engine.

    Raises:
        InputError: if they cannot be so; side-cars are files, and files are not trusted.
    """

    metadata: ArtifactMetadata
    """Of the ``.onnx`` file that it was built from."""
    input: Tensor
    output: Tensor
    profile: Profile
    runtime: Kind
    runtime_version: str
    """In full."""
    targets: tuple[str, ...]
    """Compute capabilities as ``sm86``, of TensorRT for RTX; of TensorRT the one of the GPU that it was built on."""
    gpu: str
    """Name of that GPU; empty of TensorRT for RTX, which builds for targets, with or without one."""
    driver: str
    """Its version; empty if there is no GPU's name."""
    system: str
    """Operating system and architecture."""
    artefact_sha256: str
    """Of the ``.onnx`` file's bytes."""
    engine_sha256: str
    key: str
    """Of the cache."""
    audit: Audit | None
    """``None``: nothing was to be in FP16."""
    options: Mapping[str, str] = field(default_factory=dict)
    """Of the builder."""
    fallbacks: tuple[str, ...] = ()
    """Convolutions that were put back to FP32, since the builder has no kernel for them in FP16."""
    build_seconds: float = 0.0
    made: str = ""
    """UTC, ISO 8601."""

    def __post_init__(self) -> None:
        for name in ("artefact_sha256", "engine_sha256", "key"):
            if not re.fullmatch(r"[0-9a-f]{64}", getattr(self, name)):
                msg = f"{name} is a SHA-256 in hexadecimal digits, got {getattr(self, name)!r}"
                raise InputError(msg)
        if self.runtime not in KINDS:
            msg = f"runtime is one of {', '.join(KINDS)}, got {self.runtime!r}"
            raise InputError(msg)
        if not self.targets or not all(re.fullmatch(r"sm\d{2,3}", target) for target in self.targets):
            msg = f"targets are compute capabilities, such as sm86, got {self.targets!r}"
            raise InputError(msg)
        if not 0 <= self.build_seconds < math.inf:
            msg = f"build_seconds is a duration, got {self.build_seconds}"
            raise InputError(msg)

    def to_json(self) -> str:
        """As the text of the file."""
        return json.dumps({"format": FORMAT} | asdict(self), indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes) -> "SideCar":
        """Read back ``to_json``.

        Raises:
            InputError: saying what is wrong with it.
        """
        try:
            value = json.loads(text)
            if not isinstance(value, dict) or value.pop("format", None) != FORMAT:
                msg = f"it is not of format {FORMAT}"
                raise ValueError(msg)
            names = {item.name for item in fields(cls)}
            if value.keys() != names:
                msg = f"missing or unknown are {', '.join(sorted(value.keys() ^ names))}"
                raise ValueError(msg)
            return cls(**{name: _read(name, _READERS[name], value[name]) for name in names})
        except LkdnError as error:
            msg = f"the side-car is damaged: {error.message}"
            raise InputError(msg, _AGAIN) from error
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            msg = f"the side-car is damaged: {error}"
            raise InputError(msg, _AGAIN) from error


_AGAIN = "build the engine again"


def _read(name: str, reader: Callable[[Any], Any], value: Any) -> Any:
    try:
        return reader(value)
    except (ValueError, TypeError, KeyError) as error:
        msg = f"{name}: {error}"
        raise ValueError(msg) from error


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.isprintable():
        msg = f"expected a text, got {value!r}"
        raise ValueError(msg)
    return value


def _integer(value: Any) -> int:
    if type(value) is not int:
        msg = f"expected an integer, got {value!r}"
        raise ValueError(msg)
    return value


def _number(value: Any) -> float:
    if type(value) not in (int, float):
        msg = f"expected a number, got {value!r}"
        raise ValueError(msg)
    return float(value)


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        msg = f"expected a list of texts, got {value!r}"
        raise TypeError(msg)
    return tuple(map(_text, value))


def _table(value: Any) -> dict[str, str]:
    return {_text(name): _text(entry) for name, entry in _mapping(value).items()}


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        msg = f"expected a table, got {value!r}"
        raise TypeError(msg)
    return value


def _size(value: Any) -> Size:
    height, width = value
    return _integer(height), _integer(width)


def _profile(value: Any) -> Profile:
    sizes = {name: _size(value[name]) for name in ("minimum", "optimum", "maximum")}
    return Profile(**sizes, batch=_integer(value["batch"]))


def _tensor(value: Any) -> Tensor:
    return Tensor(_text(value["name"]), _text(value["dtype"]))


def _audit(value: Any) -> Audit | None:
    return None if value is None else Audit(_integer(value["convolutions"]), _integer(value["half"]), value["source"])


_READERS: Mapping[str, Callable[[Any], Any]] = {
    "metadata": lambda value: ArtifactMetadata(**_mapping(value)),
    "input": _tensor,
    "output": _tensor,
    "profile": _profile,
    "runtime": _text,
    "runtime_version": _text,
    "targets": _texts,
    "gpu": _text,
    "driver": _text,
    "system": _text,
    "artefact_sha256": _text,
    "engine_sha256": _text,
    "key": _text,
    "audit": _audit,
    "options": _table,
    "fallbacks": _texts,
    "build_seconds": _number,
    "made": _text,
}

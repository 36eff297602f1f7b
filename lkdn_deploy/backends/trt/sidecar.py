"""What is known of an engine: the JSON file beside it. The engine itself tells nothing until a device opens it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from lkdn_deploy.core.artifact import ArtifactMetadata
from lkdn_deploy.core.errors import UsageError

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

    def __post_init__(self) -> None:
        for axis, name in enumerate(("heights", "widths")):
            sizes = [size[axis] for size in (self.minimum, self.optimum, self.maximum)]
            if not 1 <= sizes[0] <= sizes[1] <= sizes[2] <= 1 << 14 or self.batch < 1:
                msg = f"{name} of a profile go from least to most and lie in 1..{1 << 14}, got {sizes}, batch {self.batch}"
                raise UsageError(msg, "give MIN:OPT:MAX, such as 64x64:256x256:512x512")

    @classmethod
    def fixed(cls, size: Size, batch: int = 1) -> "Profile":
        """Of one size."""
        return cls(size, size, size, batch)

    @property
    def fixed_size(self) -> Size | None:
        """The one size; ``None``: there are more."""
        return self.optimum if self.minimum == self.maximum else None


@dataclass(frozen=True, slots=True)
class Tensor:
    """An engine's input or output."""

    name: str
    dtype: str
    """``float32``, ``float16`` or ``uint8``."""


@dataclass(frozen=True, slots=True)
class Audit:
    """In which precision the convolutions are."""

    convolutions: int
    half: int
    """Of these, with FP16 inputs."""
    source: str
    """``network``: the types of the parsed network, which need no GPU; ``engine``: what the inspector says."""


@dataclass(frozen=True, slots=True)
class SideCar:
    """Facts about an engine."""

    metadata: ArtifactMetadata
    """Of the ``.onnx`` file that it was built from."""
    input: Tensor
    output: Tensor
    profile: Profile
    runtime: str
    """``tensorrt`` or ``tensorrt-rtx``."""
    runtime_version: str
    """In full."""
    targets: tuple[str, ...]
    """Compute capabilities as ``sm86``, of TensorRT for RTX; of TensorRT the one of the GPU that it was built on."""
    gpu: str
    """Name of that GPU; empty if built without one."""
    driver: str
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

"""The specification of an engine: everything that it is built from and for."""

import hashlib
import json
import re
from dataclasses import asdict, dataclass

from lkdn_deploy.backends.trt.runtimes import RUNTIMES, RuntimeName
from lkdn_deploy.core.errors import UsageError

DEFAULT_WORKSPACE = 4096
"""MiB. LKDN takes 800 for 512x512 pixels in FP32. Without a limit, TensorRT for RTX plans with all of the GPU's
memory."""

MAX_AUX_STREAMS = 16

Size = tuple[int, int]
"""Height and width in low-resolution pixels."""


@dataclass(frozen=True, slots=True)
class Profile:
    """The range of input sizes that an engine accepts.

    Raises:
        UsageError: if the sizes are out of order or out of range.
    """

    minimum: Size
    optimum: Size
    """Size that kernels are chosen for."""
    maximum: Size

    def __post_init__(self) -> None:
        for axis, name in ((1, "widths"), (0, "heights")):
            sizes = [size[axis] for size in (self.minimum, self.optimum, self.maximum)]
            if not 1 <= sizes[0] <= sizes[1] <= sizes[2] <= 1 << 14:
                msg = f"the {name} of a profile must rise and lie in 1..{1 << 14}, got {sizes}"
                raise UsageError(msg, "give MIN:OPT:MAX, such as 64x64:256x256:512x512")

    @classmethod
    def fixed(cls, size: Size) -> "Profile":
        """Return the profile of a single size."""
        return cls(size, size, size)

    @property
    def fixed_size(self) -> Size | None:
        """The only size, or ``None`` if there are several."""
        return self.optimum if self.minimum == self.maximum else None

    def text(self, separator: str = ":") -> str:
        """Return the size as WxH, or the three sizes."""
        sizes = (self.optimum,) if self.fixed_size else (self.minimum, self.optimum, self.maximum)
        return separator.join(f"{width}x{height}" for height, width in sizes)


DEFAULT_PROFILE = Profile((32, 32), (256, 256), (512, 512))
"""For artefacts of any size. The minimum is raised to what the network accepts."""


@dataclass(frozen=True, slots=True)
class EngineSpec:
    """Everything that an engine is built from and for; if any of it changes, ``digest`` changes.

    Raises:
        UsageError: if a value is out of range.
    """

    runtime: RuntimeName
    runtime_version: str
    """Full version."""
    targets: tuple[str, ...]
    """Compute capabilities such as ``sm86``; for TensorRT only that of the GPU at hand."""
    system: str
    """Operating system and architecture."""
    gpu: str = ""
    """Name of the GPU that the engine is bound to; empty for TensorRT for RTX, which builds for targets."""
    driver: str = ""
    """Version of that GPU's driver."""
    profile: Profile | None = None
    """Chosen sizes; ``None``, before the artefact is known, for its fixed size or else ``DEFAULT_PROFILE``."""
    batch: int = 1
    """Images at once."""
    workspace: int = DEFAULT_WORKSPACE
    """MiB of GPU memory that the engine may use for what lies between its layers."""
    aux_streams: int | None = None
    """Most streams beside the main one on which the engine may run layers at once; ``None``: the builder's choice.
    Layers on several streams wait for each other, so 0 may be faster."""
    tf32: bool = True
    """Whether products in FP32 may be computed of factors rounded to TF32, as is both runtimes' default."""
    precision: str = "fp32"
    """Precision of the artefact."""
    artefact_sha256: str = ""
    """SHA-256 of the ``.onnx`` file; empty before it is known."""
    rewrites: tuple[str, ...] = ()
    """Rewrites of the artefact's graph before the build, see ``form``; empty before it is known."""
    builder: int = 3
    """Version of the rewrites and of the settings that ``build`` chooses, raised whenever one of them changes."""

    def __post_init__(self) -> None:
        if self.runtime not in RUNTIMES:
            msg = f"no such runtime: {self.runtime}"
            raise UsageError(msg, f"choose from {', '.join(RUNTIMES)}")
        if not self.targets or not all(re.fullmatch(r"sm\d{2,3}", target) for target in self.targets):
            msg = f"targets must be compute capabilities such as sm86, got {self.targets}"
            raise UsageError(msg, "name the GPUs to build for: --sm 89")
        if len(set(self.targets)) < len(self.targets):
            msg = f"each target must be named once, got {', '.join(self.targets)}"
            raise UsageError(msg)
        if len(self.targets) > 1 and not RUNTIMES[self.runtime].builds_ahead:
            msg = f"{RUNTIMES[self.runtime].title} builds for the GPU at hand only, got {', '.join(self.targets)}"
            raise UsageError(msg, "use --runtime tensorrt-rtx, or build on each GPU")
        for name, limit in (("batch", 1 << 10), ("workspace", 1 << 20)):
            if not 1 <= getattr(self, name) <= limit:
                msg = f"the {name} must lie in 1..{limit}, got {getattr(self, name)}"
                raise UsageError(msg)
        if self.aux_streams is not None and not 0 <= self.aux_streams <= MAX_AUX_STREAMS:
            msg = f"auxiliary streams must lie in 0..{MAX_AUX_STREAMS}, got {self.aux_streams}"
            raise UsageError(msg)
        if not re.fullmatch(r"([0-9a-f]{64})?", self.artefact_sha256):
            msg = f"artefact_sha256 must be 64 hexadecimal digits, got {self.artefact_sha256!r}"
            raise UsageError(msg)

    @property
    def sizes(self) -> Profile:
        """The profile, or the default one."""
        return self.profile or DEFAULT_PROFILE

    @property
    def half(self) -> bool:
        """Whether the engine must compute in FP16."""
        return self.precision == "fp16"

    @property
    def inputs(self) -> str:
        """Input sizes and batch, for people."""
        return f"{self.sizes.text()} pixels" + (f", batch {self.batch}" if self.batch > 1 else "")

    @property
    def digest(self) -> str:
        """SHA-256 over all fields as JSON."""
        text = json.dumps(asdict(self), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(text.encode()).hexdigest()

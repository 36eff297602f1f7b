"""The differences between TensorRT and TensorRT for RTX in one table; whatever is not in it works alike in both.

Sources: TensorRT's Python API and its migration pages from 10 to 11; of TensorRT for RTX, "Building on the CPU",
"Working with Runtime Cache", "Timing Cache Migration" and "Engine Compatibility". Neither has a precision to choose
when building: the types of the graph decide.
"""

import importlib
import importlib.util
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from lkdn_deploy.core.errors import MissingError, UsageError
from lkdn_deploy.core.optional import install, needs

RuntimeName = Literal["tensorrt", "tensorrt-rtx"]
"""Two runtimes with the same Python names; neither opens the other's engines."""


@dataclass(frozen=True, slots=True)
class RuntimeTraits:
    """The properties of a runtime that our code depends on."""

    title: str
    module: str
    extra: str
    """Extra of this package that installs the runtime."""
    backend: str
    """Name that sessions report."""
    builds_ahead: bool
    """Whether it builds for chosen compute capabilities on any machine, rather than for the GPU that it finds."""
    timing_cache: bool
    """Whether kernel timings of one build can be kept for the next. TensorRT for RTX requires a GPU as soon as its
    timing cache is touched, and has no use for it."""
    runtime_cache: bool
    """Whether kernels are compiled on the machine that runs them, and can be kept there."""


RUNTIMES: Mapping[RuntimeName, RuntimeTraits] = {
    "tensorrt": RuntimeTraits(
        title="TensorRT",
        module="tensorrt",
        extra="trt",
        backend="trt",
        builds_ahead=False,
        timing_cache=True,
        runtime_cache=False,
    ),
    "tensorrt-rtx": RuntimeTraits(
        title="TensorRT for RTX",
        module="tensorrt_rtx",
        extra="trt-rtx",
        backend="trt-rtx",
        builds_ahead=True,
        timing_cache=False,
        runtime_cache=True,
    ),
}

# Keys in the inspector's JSON and in the builder's list of layers. TensorRT 11 and TensorRT for RTX use the first, with
# the memory layout under "Format"; TensorRT 10 uses the second for both.
TYPE_KEYS = ("Datatype", "Format/Datatype")

_ALONE = "sm75"
"""Target that TensorRT for RTX does not combine with others."""


def open_runtime(name: RuntimeName) -> Any:
    """Import and return the runtime's module.

    Raises:
        MissingError: if it is not installed; the hint names the extra.
    """
    with needs(RUNTIMES[name].extra):
        return importlib.import_module(RUNTIMES[name].module)


def installed() -> tuple[RuntimeName, ...]:
    """Return the installed runtimes, without importing them."""
    return tuple(name for name, runtime in RUNTIMES.items() if importlib.util.find_spec(runtime.module))


def default_runtime(has_gpu: bool) -> RuntimeName:
    """Return the runtime to build with where none is named: TensorRT if both it and a GPU are available.

    Raises:
        MissingError: if none is installed.
    """
    found = installed()
    if not found:
        msg = "neither TensorRT nor TensorRT for RTX is installed"
        hint = (
            f"in a checkout of this project: {install('trt-rtx')} builds on any machine, '.[trt]' for the GPU at hand"
        )
        raise MissingError(msg, hint)
    return next((name for name in found if has_gpu or RUNTIMES[name].builds_ahead), found[0])


def creation_flags(module: Any) -> int:
    """Return the flags of a network. TensorRT 10 needs this one to obey the graph's types; later versions always do."""
    return 1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def known_targets(module: Any) -> tuple[str, ...]:
    """Return the compute capabilities that the module builds for, such as ``sm86``, in rising order."""
    names = module.ComputeCapability.__members__
    numbers = sorted(int(match[1]) for name in names if (match := re.fullmatch(r"SM(\d+)", name)))
    return tuple(f"sm{number}" for number in numbers)


def check_targets(module: Any, targets: tuple[str, ...]) -> None:
    """Refuse targets that a runtime which builds ahead does not support.

    Raises:
        UsageError: if the module does not build for one of them, or not for all of them in one engine.
    """
    known = known_targets(module)
    if unknown := [target for target in targets if target not in known]:
        msg = f"TensorRT for RTX {module.__version__} does not build for {', '.join(unknown)}"
        raise UsageError(msg, f"choose from {', '.join(known)}; for other GPUs use TensorRT, on the GPU itself")
    if _ALONE in targets and len(targets) > 1:
        msg = f"an engine for {_ALONE} serves no other GPUs, but {', '.join(targets)} were given"
        raise UsageError(msg, "build two engines")


def set_targets(module: Any, config: Any, targets: tuple[str, ...]) -> None:
    """Make a builder ``config`` build for ``targets``, whatever GPU the machine has.

    Args:
        module: the package ``tensorrt_rtx``.
        config: the builder's configuration, which is changed.
        targets: compute capabilities, such as ``sm86``.

    Raises:
        UsageError: if the builder refuses a target.
    """
    # Without the count every call below returns False, and the engine would be for this machine's GPU.
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        if not config.set_compute_capability(module.ComputeCapability.__members__[target.upper()], index):
            msg = f"TensorRT for RTX {module.__version__} refuses the target {target}"
            raise UsageError(msg, f"choose from {', '.join(known_targets(module))}, one at a time")


def system() -> str:
    """Return operating system and architecture, to which engines are bound."""
    return f"{platform.system()} {platform.machine()}"

"""TensorRT and TensorRT for RTX: where they differ, in one table. What is not in it they have alike.

Read in their documents: TensorRT's Python API and its migration pages from 10 to 11; of TensorRT for RTX, "Building on
the CPU", "Working with Runtime Cache", "Timing Cache Migration" and "Engine Compatibility". Neither has a precision to
choose when building: it is in the types of the graph.
"""

import importlib
import importlib.util
import platform
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from lkdn_deploy.backends.trt.record import Kind
from lkdn_deploy.core.errors import MissingError, UsageError
from lkdn_deploy.core.optional import needs


@dataclass(frozen=True, slots=True)
class RuntimeKind:
    """What is particular about a runtime."""

    name: Kind
    title: str
    module: str
    extra: str
    """Of this package, which installs it."""
    builds_ahead: bool
    """Builds for compute capabilities that are chosen, on any machine; else for the GPU that it finds."""
    timing_cache: bool
    """Whether what was measured in a build may be kept for the next. TensorRT for RTX asks for a GPU as soon as its
    timing cache is touched, and has no use for it."""
    runtime_cache: bool
    """Whether kernels are compiled on the machine that runs them, and may be kept there."""
    tells_validity: bool
    """Whether an engine's header can be asked if the engine will run here."""


RUNTIMES: Mapping[Kind, RuntimeKind] = {
    "tensorrt": RuntimeKind(
        name="tensorrt",
        title="TensorRT",
        module="tensorrt",
        extra="trt",
        builds_ahead=False,
        timing_cache=True,
        runtime_cache=False,
        tells_validity=False,
    ),
    "tensorrt-rtx": RuntimeKind(
        name="tensorrt-rtx",
        title="TensorRT for RTX",
        module="tensorrt_rtx",
        extra="trt-rtx",
        builds_ahead=True,
        timing_cache=False,
        runtime_cache=True,
        tells_validity=True,
    ),
}

# Of the inspector's JSON and of the builder's list of layers: the first name is that of TensorRT 11 and TensorRT for
# RTX, which have the layout under "Format"; the second, of TensorRT 10, holds both.
TYPE_KEYS = ("Datatype", "Format/Datatype")

_ALONE = "sm75"
"""TensorRT for RTX builds for it only without others."""


def open_runtime(kind: Kind) -> Any:
    """The runtime's module.

    Raises:
        MissingError: naming the extra that installs it.
    """
    with needs(RUNTIMES[kind].extra):
        return importlib.import_module(RUNTIMES[kind].module)


def installed() -> tuple[Kind, ...]:
    """The runtimes that are there, without importing them."""
    return tuple(kind for kind, runtime in RUNTIMES.items() if importlib.util.find_spec(runtime.module))


def creation_flags(module: Any) -> int:
    """Of a network. TensorRT 10 has the types of the graph mean something only with this; later ones always do."""
    return 1 << int(module.NetworkDefinitionCreationFlag.STRONGLY_TYPED)


def known_targets(module: Any) -> tuple[str, ...]:
    """The compute capabilities that the module builds for, as ``sm86``, in rising order."""
    names = module.ComputeCapability.__members__
    numbers = sorted(int(match[1]) for name in names if (match := re.fullmatch(r"SM(\d+)", name)))
    return tuple(f"sm{number}" for number in numbers)


def check_targets(module: Any, targets: tuple[str, ...]) -> None:
    """Refuse targets that a runtime which builds ahead is known not to build for.

    Raises:
        UsageError: if the module does not build for them, or not for all in one engine.
    """
    known = known_targets(module)
    if unknown := [target for target in targets if target not in known]:
        msg = f"TensorRT for RTX {module.__version__} does not build for {', '.join(unknown)}"
        raise UsageError(msg, f"it does for {', '.join(known)}; for other GPUs use TensorRT, on the GPU itself")
    if _ALONE in targets and len(targets) > 1:
        msg = f"an engine for {_ALONE} serves no other GPUs, asked for are {', '.join(targets)}"
        raise UsageError(msg, "build two engines")


def choose_targets(module: Any, config: Any, targets: tuple[str, ...]) -> None:
    """Have ``config`` build for ``targets``, on whatever machine.

    Raises:
        UsageError: as ``check_targets``, or if the builder refuses one.
    """
    check_targets(module, targets)
    # Without the count each call answers False, and the engine would be for this machine's GPU.
    config.num_compute_capabilities = len(targets)
    for place, target in enumerate(targets):
        if not config.set_compute_capability(module.ComputeCapability.__members__[target.upper()], place):
            msg = f"TensorRT for RTX {module.__version__} refuses the target {target}"
            raise UsageError(msg, f"it knows {', '.join(known_targets(module))}; try it alone")


def validity(kind: Kind, runtime: Any, module: Any, engine: bytes) -> str | None:
    """What the engine's header says of running here: ``valid``, ``suboptimal`` or ``invalid``; ``None``: not told.

    It is to be logged, not to be acted upon: TensorRT for RTX has called engines invalid that ran, and without a GPU it
    calls every engine so. Deserialisation decides.
    """
    if not RUNTIMES[kind].tells_validity:
        return None
    verdict, _ = runtime.get_engine_validity(engine[: runtime.engine_header_size])
    names = {value: name.lower() for name, value in module.EngineValidity.__members__.items()}
    return names.get(verdict)


def system() -> str:
    """Operating system and architecture, to which engines are bound."""
    return f"{platform.system()} {platform.machine()}"


def default_kind(gpu_here: bool) -> Kind:
    """The runtime to build with where none is named: TensorRT where it and a GPU are there.

    Raises:
        MissingError: if none is installed.
    """
    found = installed()
    if not found:
        msg = "neither TensorRT nor TensorRT for RTX is installed"
        hint = "pip install 'lkdn-deploy[trt-rtx]' builds on any machine, 'lkdn-deploy[trt]' for the GPU at hand"
        raise MissingError(msg, hint)
    fitting = [kind for kind in found if gpu_here or RUNTIMES[kind].builds_ahead]
    return (fitting or list(found))[0]

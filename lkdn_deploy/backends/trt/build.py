"""An artefact's bytes -> an engine's bytes."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lkdn_deploy.backends.trt.audit import (
    audit_engine,
    audit_network,
    check_half,
    convolutions,
    inspected,
    listed,
)
from lkdn_deploy.backends.trt.logger import attached_logger
from lkdn_deploy.backends.trt.record import KINDS, Audit, Kind, Profile, Tensor
from lkdn_deploy.backends.trt.runtimes import (
    RUNTIMES,
    RuntimeKind,
    choose_targets,
    creation_flags,
    open_runtime,
)
from lkdn_deploy.core.errors import InputError, UsageError

DEFAULT_WORKSPACE = 4096
"""MiB. LKDN takes 800 of 512x512 pixels in FP32. Untold, TensorRT for RTX would plan with the whole GPU's memory."""

Progress = Callable[[str, int, int], None]
"""Called with a phase, the steps done and their number. Phases lie within each other."""
Say = Callable[[str, str], None]
"""Called with the severity (``error``, ``warning``) and the text of what the builder complains of."""

_COMPLAINTS = ("internal_error", "error", "warning")
_NO_KERNEL = "No low-precision conv kernel available"
_DTYPES = {"FLOAT": "float32", "HALF": "float16", "UINT8": "uint8"}


@dataclass(frozen=True, slots=True)
class BuildSettings:
    """For what to build.

    Raises:
        UsageError: if a value is out of range.
    """

    kind: Kind
    profile: Profile
    targets: tuple[str, ...]
    """Compute capabilities, as ``sm86``; for TensorRT that of the GPU at hand."""
    workspace: int = DEFAULT_WORKSPACE
    """MiB of the GPU's memory that the engine may take for what is between its layers."""

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            msg = f"no such runtime: {self.kind}"
            raise UsageError(msg, f"known are {', '.join(KINDS)}")
        if not self.targets or not all(re.fullmatch(r"sm\d{2,3}", target) for target in self.targets):
            msg = f"targets are compute capabilities, such as sm86 and sm89, got {self.targets}"
            raise UsageError(msg, "name the GPUs to build for: --sm 89")
        if len(set(self.targets)) < len(self.targets):
            msg = f"each target is named once, got {', '.join(self.targets)}"
            raise UsageError(msg)
        if len(self.targets) > 1 and not RUNTIMES[self.kind].builds_ahead:
            msg = f"{RUNTIMES[self.kind].title} builds for the GPU at hand only, got {', '.join(self.targets)}"
            raise UsageError(msg, "use --runtime tensorrt-rtx, or build on each GPU")
        if not 1 <= self.workspace <= 1 << 20:
            msg = f"the workspace lies in 1..{1 << 20} MiB, got {self.workspace}"
            raise UsageError(msg)

    @property
    def options(self) -> dict[str, str]:
        """What the builder is told beside profile and targets."""
        return {"workspace": f"{self.workspace} MiB", "verbosity": "detailed"}


@dataclass(frozen=True, slots=True)
class Built:
    """An engine and how it came to be."""

    engine: bytes
    input: Tensor
    output: Tensor
    audits: tuple[Audit, ...]
    """Of the network; of the engine too, if its layers can be seen."""
    log: str
    """All that the builder said, a line each message, ``severity: text``."""
    seconds: float
    timing: bytes = field(default=b"", repr=False)
    """The timing cache afterwards, of a runtime that has one."""


class BuildError(InputError):
    """The builder gave no engine.

    ``log`` is all that it said.
    """

    def __init__(self, message: str, hint: str | None = None, log: str = "") -> None:
        super().__init__(message, hint)
        self.log = log


class NoHalfKernelError(BuildError):
    """The builder has no FP16 kernel for a convolution, usually a grouped one (NVIDIA/TensorRT issue 4838, of 11.2).

    ``layers`` are the names that it tells, if it does.
    """

    def __init__(self, layers: tuple[str, ...], log: str) -> None:
        of = f" {', '.join(layers)}" if layers else "s"
        super().__init__(f"this version of the builder has no FP16 kernel for the convolution{of}", log=log)
        self.layers = layers


def build(
    artefact: bytes,
    settings: BuildSettings,
    *,
    half: bool = False,
    excused: int = 0,
    progress: Progress | None = None,
    say: Say | None = None,
    timing: bytes = b"",
) -> Built:
    """Build an engine; of TensorRT for RTX on any machine.

    Args:
        artefact: an ``.onnx`` file; the types in it are the engine's.
        settings: for what.
        half: whether it must be in FP16.
        excused: how many of its convolutions are in FP32 because there is no kernel.
        progress: is called after each step; what it raises ends the build and is raised here.
        say: is told what the builder complains of while it works.
        timing: ``Built.timing`` of an earlier build on the same GPU, which makes this one shorter.

    Raises:
        MissingError: if the runtime is not installed.
        UsageError: if it does not build for the targets, or the artefact has another fixed size than the profile.
        InputError: if it does not take the graph, with all its reasons; ``BuildError`` if it then gives no engine,
            ``NoHalfKernelError`` where the cure is known.
        VerificationError: if ``half`` and less than ``LEAST_HALF`` of the convolutions are in FP16.
    """
    kind = RUNTIMES[settings.kind]
    module = open_runtime(settings.kind)
    started = time.perf_counter()
    with _guarded() as guard, attached_logger(module, listener := _Listener(guard, say)) as logger:
        builder = module.Builder(logger)
        network = _parse(module, builder, logger, artefact)
        received, given = _tensors(network)
        config = builder.create_builder_config()
        config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, settings.workspace << 20)
        if kind.builds_ahead:
            choose_targets(module, config, settings.targets)
        _set_sizes(builder, config, network.get_input(0), settings.profile)
        monitor = _monitor(module, guard, progress)  # it must outlive the build: the builder keeps no reference
        if monitor is not None:
            config.progress_monitor = monitor
        kept = _timing_cache(kind, config, timing)
        found = convolutions(network, module)
        audits = [audit_network(found)]
        if half:
            check_half(audits[0], excused)
        plan = builder.build_serialized_network(network, config)
        guard.raise_again()
        if plan is None:
            raise _failure(kind, listener)
        engine = bytes(plan)
        seconds = time.perf_counter() - started
        log = listener.log
        listener.say = None  # that a machine without the GPU cannot open the engine is no complaint
        layers = inspected(_inspect(module, logger, engine)) or listed(log)
    if seen := audit_engine(layers, found):
        audits.append(seen)
        if half:
            check_half(seen, excused)
    serialised = bytes(kept.serialize()) if kept is not None else b""
    return Built(engine, received, given, tuple(audits), log, seconds, serialised)


def _parse(module: Any, builder: Any, logger: Any, artefact: bytes) -> Any:
    network = builder.create_network(creation_flags(module))
    parser = module.OnnxParser(network, logger)
    if not parser.parse(artefact):
        reasons = [_reason(parser.get_error(place)) for place in range(parser.num_errors)]
        why = "; ".join(reasons) or "it gives no reason"
        msg = f"{module.__name__} {module.__version__} does not take this graph: {why}"
        raise InputError(msg, "export the checkpoint with lkdn-export")
    if network.num_inputs != 1 or network.num_outputs != 1 or len(network.get_input(0).shape) != 4:
        msg = "expected one input (N, 3, H, W) and one output"
        raise InputError(msg, "export the checkpoint with lkdn-export")
    return network


def _reason(error: Any) -> str:
    """``Conv node_Conv_182: ...``, as far as the parser tells."""
    node = " ".join(text for text in (error.node_operator(), error.node_name()) if text)
    return f"{node}: {error.desc()}" if node else str(error.desc())


def _tensors(network: Any) -> tuple[Tensor, Tensor]:
    received, given = network.get_input(0), network.get_output(0)
    return _tensor(received), _tensor(given)


def _tensor(tensor: Any) -> Tensor:
    return Tensor(tensor.name, _DTYPES.get(tensor.dtype.name, tensor.dtype.name))


def _set_sizes(builder: Any, config: Any, tensor: Any, profile: Profile) -> None:
    """Tell what sizes the engine shall take; what is of one size becomes part of the network, which is faster."""
    channels = tensor.shape[1]
    wanted = (profile.batch, channels, *profile.maximum)
    if -1 not in tensor.shape:
        if profile.fixed_size is None or tuple(tensor.shape) != wanted:
            size = "x".join(map(str, tensor.shape))
            msg = f"the artefact is of the fixed size {size}, the engine cannot be for {profile}"
            raise UsageError(msg, "export it without --static, or build for its size")
        return
    if profile.fixed_size:
        tensor.shape = wanted
        return
    sizes = builder.create_optimization_profile()
    shapes = [(profile.batch, channels, *size) for size in (profile.minimum, profile.optimum, profile.maximum)]
    sizes.set_shape(tensor.name, *shapes)
    if config.add_optimization_profile(sizes) < 0:
        msg = f"the builder refuses the sizes {profile}"
        raise UsageError(msg)


def _timing_cache(kind: RuntimeKind, config: Any, before: bytes) -> Any:
    """Give ``config`` a timing cache; of other bytes than this builder's it makes none, and an empty one serves."""
    if not kind.timing_cache:
        return None
    cache = config.create_timing_cache(before) or config.create_timing_cache(b"")
    config.set_timing_cache(cache, False)
    return cache


def _inspect(module: Any, logger: Any, engine: bytes) -> str:
    """The inspector's JSON; nothing where no device opens the engine."""
    opened = module.Runtime(logger).deserialize_cuda_engine(engine)
    if opened is None:
        return ""
    return str(opened.create_engine_inspector().get_engine_information(module.LayerInformationFormat.JSON))


def _failure(kind: RuntimeKind, listener: "_Listener") -> BuildError:
    """Why there is no engine, as far as the log tells."""
    log = listener.log
    if _NO_KERNEL in log:
        return NoHalfKernelError(tuple(dict.fromkeys(re.findall(r"Failing node: (\S+)", log))), log)
    errors = [text for severity, text in listener.lines if severity in ("error", "internal_error")]
    hint = None
    if re.search(r"workspace (size|limit)", " ".join(errors)) or "increasing the workspace size" in log:
        hint = "give the engine more memory with --workspace, or build for smaller sizes"
    return BuildError(f"{kind.title} built no engine: {'; '.join(errors[-3:]) or 'it gave no reason'}", hint, log)


class _Guard:
    """Keeps what our code raises inside the builder, which must not be left by an exception."""

    def __init__(self) -> None:
        self.raised: BaseException | None = None

    @contextmanager
    def hold(self) -> Iterator[None]:
        try:
            yield
        except BaseException as error:  # Ctrl-C too: it is raised wherever Python code runs
            self.raised = self.raised or error

    def raise_again(self) -> None:
        if self.raised is not None:
            raise self.raised


@contextmanager
def _guarded() -> Iterator[_Guard]:
    """A guard; what it holds is raised at the end, and instead of what follows from it."""
    guard = _Guard()
    try:
        yield guard
    except Exception:
        guard.raise_again()
        raise
    guard.raise_again()


class _Listener:
    """Keeps what the builder says, as (severity, text), and passes its complaints on."""

    def __init__(self, guard: _Guard, say: Say | None) -> None:
        self.lines: list[tuple[str, str]] = []
        self.say = say
        self._guard = guard

    def __call__(self, severity: str, text: str) -> None:
        with self._guard.hold():
            self.lines.append((severity, text))
            if self.say is not None and severity in _COMPLAINTS:
                self.say("error" if "error" in severity else severity, text)

    @property
    def log(self) -> str:
        """All of it, a line each."""
        return "".join(f"{severity}: {text}\n" for severity, text in self.lines)


def _monitor(module: Any, guard: _Guard, progress: Progress | None) -> Any:
    """What the builder tells its steps, and asks whether to go on; ``None`` of a builder that knows no such thing."""
    base = getattr(module, "IProgressMonitor", None)
    if base is None:
        return None

    class Monitor(base):  # type: ignore[misc, valid-type]
        def __init__(self) -> None:
            module.IProgressMonitor.__init__(self)
            self.steps: dict[str, int] = {}

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            with guard.hold():
                self.steps[phase] = steps
                if progress is not None:
                    progress(phase, 0, steps)

        def step_complete(self, phase: str, step: int) -> bool:
            with guard.hold():
                if progress is not None:
                    progress(phase, step + 1, self.steps.get(phase, step + 1))
            return guard.raised is None  # else the builder stops

        def phase_finish(self, phase: str) -> None:
            with guard.hold():
                self.steps.pop(phase, None)

    return Monitor()

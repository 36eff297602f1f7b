"""Builds an engine from the bytes of an ``.onnx`` file."""

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from lkdn_deploy.backends.trt.audit import audit_engine, check_half, convolutions, inspected, listed
from lkdn_deploy.backends.trt.engine_spec import EngineSpec
from lkdn_deploy.backends.trt.logger import attached_logger
from lkdn_deploy.backends.trt.record import Audit, Tensor
from lkdn_deploy.backends.trt.runtimes import RUNTIMES, creation_flags, open_runtime, set_targets
from lkdn_deploy.core.errors import InputError, UsageError

Progress = Callable[[str, int, int], None]
"""Called with a phase, the number of steps done and of all steps. Phases may be nested."""
OnComplaint = Callable[[str, str], None]
"""Called with a severity (``error``, ``warning``) and a message of the builder."""

_COMPLAINTS = ("internal_error", "error", "warning")
_NO_KERNEL = "No low-precision conv kernel available"
_DTYPES = {"FLOAT": "float32", "HALF": "float16", "UINT8": "uint8"}


@dataclass(frozen=True, slots=True)
class BuiltEngine:
    """A serialised engine and facts about its build."""

    engine: bytes
    input: Tensor
    output: Tensor
    audits: tuple[Audit, ...]
    """Audits of the network, then of the engine if its layers can be seen."""
    log: str
    """Everything that the builder logged, one ``severity: message`` a line."""
    seconds: float
    timings: bytes = field(default=b"", repr=False)
    """The timing cache after the build, for a runtime that has one."""


class BuildError(InputError):
    """The builder returned no engine; ``log`` is everything that it logged."""

    def __init__(self, message: str, hint: str | None = None, log: str = "") -> None:
        super().__init__(message, hint)
        self.log = log


class NoHalfKernelError(BuildError):
    """The builder has no FP16 kernel for a convolution, usually a grouped one (NVIDIA/TensorRT issue 4838, in 11.2).

    ``layers`` are the names that the log gives, if any.
    """

    def __init__(self, layers: tuple[str, ...], log: str) -> None:
        of = f" {', '.join(layers)}" if layers else "s"
        super().__init__(f"this version of the builder has no FP16 kernel for the convolution{of}", log=log)
        self.layers = layers


def build(
    artefact: bytes,
    spec: EngineSpec,
    *,
    excused: int = 0,
    progress: Progress | None = None,
    on_complaint: OnComplaint | None = None,
    timings: bytes = b"",
) -> BuiltEngine:
    """Build an engine; with TensorRT for RTX on any machine.

    Args:
        artefact: content of an ``.onnx`` file, whose types become the engine's.
        spec: what to build for.
        excused: number of convolutions in FP32 because there is no FP16 kernel for them.
        progress: called after each step; an exception from it ends the build and is raised here.
        on_complaint: called with the builder's errors and warnings while it works.
        timings: ``BuiltEngine.timings`` of an earlier build on the same GPU, which shortens this one.

    Raises:
        MissingError: if the runtime is not installed.
        UsageError: if it does not build for the targets, or the artefact has a fixed size other than the profile's.
        InputError: if it rejects the graph; ``BuildError`` if it accepts the graph but returns no engine,
            ``NoHalfKernelError`` if ``excused`` convolutions would cure that.
        VerificationError: if fewer than ``LEAST_HALF`` of an FP16 artefact's convolutions are computed in FP16.
    """
    traits, module = RUNTIMES[spec.runtime], open_runtime(spec.runtime)
    started = time.perf_counter()
    with _guarded() as guard, attached_logger(module, listener := _Listener(guard, on_complaint)) as logger:
        try:
            builder = module.Builder(logger)
        except (RuntimeError, TypeError) as error:  # the latter is how the bindings report a null pointer
            msg = f"the builder of {traits.title} does not start: {listener.last_errors() or error}"
            raise BuildError(msg, "check the GPU and its driver: nvidia-smi", listener.log) from error
        network = _parse(module, builder, logger, artefact)
        received, given = _tensor(network.get_input(0)), _tensor(network.get_output(0))
        config = builder.create_builder_config()
        config.profiling_verbosity = module.ProfilingVerbosity.DETAILED
        config.set_memory_pool_limit(module.MemoryPoolType.WORKSPACE, spec.workspace << 20)
        if spec.aux_streams is not None:
            config.max_aux_streams = spec.aux_streams
        if not spec.tf32:
            config.clear_flag(module.BuilderFlag.TF32)
        if traits.runtime_cache:
            # Contexts get their memory from the session. An engine that may take memory itself cannot be captured.
            config.set_flag(module.BuilderFlag.REQUIRE_USER_ALLOCATION)
        if traits.builds_ahead:
            set_targets(module, config, spec.targets)
        _set_sizes(builder, config, network.get_input(0), spec)
        monitor = _monitor(module, guard, progress)  # it must outlive the build; no document says who keeps it
        if monitor is not None:
            config.progress_monitor = monitor
        timing_cache = None
        if traits.timing_cache:  # none is created from another builder's bytes
            timing_cache = config.create_timing_cache(timings) or config.create_timing_cache(b"")
            config.set_timing_cache(timing_cache, False)
        found = convolutions(network, module)
        audits = [Audit(len(found), sum(found.values()), "network")]
        if spec.half:
            check_half(audits[0], excused)
        serialised = builder.build_serialized_network(network, config)
        guard.raise_again()
        if serialised is None:
            raise _failure(traits.title, listener)
        engine = bytes(serialised)
        seconds, log = time.perf_counter() - started, listener.log
        listener.on_complaint = None  # a machine without the GPU cannot open the engine: that is no complaint
        layers = inspected(_inspect(module, logger, engine)) or listed(log)
    if seen := audit_engine(layers, found):
        audits.append(seen)
        if spec.half:
            check_half(seen, excused)
    timings = bytes(timing_cache.serialize()) if timing_cache is not None else b""
    return BuiltEngine(engine, received, given, tuple(audits), log, seconds, timings)


def _parse(module: Any, builder: Any, logger: Any, artefact: bytes) -> Any:
    network = builder.create_network(creation_flags(module))
    parser = module.OnnxParser(network, logger)
    if not parser.parse(artefact):
        reasons = [_reason(parser.get_error(index)) for index in range(parser.num_errors)]
        why = "; ".join(reasons) or "it gives no reason"
        msg = f"{module.__name__} {module.__version__} rejects this graph: {why}"
        raise InputError(msg, "export the checkpoint with lkdn-export")
    if network.num_inputs != 1 or network.num_outputs != 1 or len(network.get_input(0).shape) != 4:
        msg = "expected one input (N, 3, H, W) and one output"
        raise InputError(msg, "export the checkpoint with lkdn-export")
    return network


def _reason(error: Any) -> str:
    """Return ``Conv node_Conv_182: ...`` from a parser's error, as far as it names the node."""
    node = " ".join(text for text in (error.node_operator(), error.node_name()) if text)
    return f"{node}: {error.desc()}" if node else str(error.desc())


def _tensor(tensor: Any) -> Tensor:
    return Tensor(tensor.name, _DTYPES.get(tensor.dtype.name, tensor.dtype.name))


def _set_sizes(builder: Any, config: Any, tensor: Any, spec: EngineSpec) -> None:
    """Set the input sizes; a single size becomes part of the network, which makes the engine faster."""
    profile, channels = spec.sizes, tensor.shape[1]
    largest = (spec.batch, channels, *profile.maximum)
    if -1 not in tensor.shape:
        if profile.fixed_size is None or tuple(tensor.shape) != largest:
            msg = f"the artefact has the fixed shape {tuple(tensor.shape)}, an engine for {spec.inputs} is impossible"
            raise UsageError(msg, "export it without --static, or build for its size")
        return
    if profile.fixed_size:
        tensor.shape = largest
        return
    sizes = builder.create_optimization_profile()
    shapes = [(spec.batch, channels, *size) for size in (profile.minimum, profile.optimum, profile.maximum)]
    sizes.set_shape(tensor.name, *shapes)
    if config.add_optimization_profile(sizes) < 0:
        msg = f"the builder refuses the sizes {spec.inputs}"
        raise UsageError(msg)


def _inspect(module: Any, logger: Any, engine: bytes) -> str:
    """Return the inspector's JSON, or nothing where no device opens the engine."""
    opened = module.Runtime(logger).deserialize_cuda_engine(engine)
    if opened is None:
        return ""
    return str(opened.create_engine_inspector().get_engine_information(module.LayerInformationFormat.JSON))


def _failure(title: str, listener: "_Listener") -> BuildError:
    """Return why there is no engine, as far as the log says."""
    log = listener.log
    if _NO_KERNEL in log:
        return NoHalfKernelError(tuple(dict.fromkeys(re.findall(r"Failing node: (\S+)", log))), log)
    errors = listener.last_errors()
    hint = None
    if re.search(r"workspace (size|limit)", errors) or "increasing the workspace size" in log:
        hint = "give the engine more memory with --workspace, or build for smaller sizes"
    return BuildError(f"{title} built no engine: {errors or 'it gave no reason'}", hint, log)


class _Guard:
    """Holds exceptions of our callbacks, which must not leave the builder that calls them."""

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
    """Yield a guard, and raise what it holds at the end, instead of any error that follows from it."""
    guard = _Guard()
    try:
        yield guard
    except Exception:
        guard.raise_again()
        raise
    guard.raise_again()


class _Listener:
    """Keeps the builder's messages as (severity, text), and passes its complaints on."""

    def __init__(self, guard: _Guard, on_complaint: OnComplaint | None) -> None:
        self.lines: list[tuple[str, str]] = []
        self.on_complaint = on_complaint
        self._guard = guard

    def __call__(self, severity: str, text: str) -> None:
        with self._guard.hold():
            self.lines.append((severity, text))
            if self.on_complaint is not None and severity in _COMPLAINTS:
                self.on_complaint("error" if "error" in severity else severity, text)

    def last_errors(self) -> str:
        """Return the builder's last errors, or nothing."""
        return "; ".join([text for severity, text in self.lines if severity in ("error", "internal_error")][-3:])

    @property
    def log(self) -> str:
        """All messages, one a line."""
        return "".join(f"{severity}: {text}\n" for severity, text in self.lines)


def _monitor(module: Any, guard: _Guard, progress: Progress | None) -> Any:
    """Return the object that receives the builder's steps and can stop it; ``None`` if the builder supports none."""
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

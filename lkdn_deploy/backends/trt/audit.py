"""Checks that an FP16 engine computes in FP16, since builders have silently made FP32 engines from FP16 graphs."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lkdn_deploy.backends.trt.record import Audit
from lkdn_deploy.backends.trt.runtimes import TYPE_KEYS
from lkdn_deploy.core.errors import VerificationError

LEAST_HALF = 0.9
"""Least share of an FP16 artefact's convolutions with FP16 inputs. The others may have been kept in FP32 for their
weights or values."""


@dataclass(frozen=True, slots=True)
class EngineLayer:
    """A layer of an engine, which may be several of the network's."""

    origins: frozenset[str]
    """Names of the network's layers."""
    half: bool
    """Whether an input is in FP16. Weights are not inputs."""


def convolutions(network: Any, module: Any) -> dict[str, bool]:
    """Return a parsed network's convolutions, transposed ones too: name -> whether the input is in FP16."""
    types = (module.LayerType.CONVOLUTION, module.LayerType.DECONVOLUTION)
    layers = (network.get_layer(index) for index in range(network.num_layers))
    return {layer.name: layer.get_input(0).dtype == module.DataType.HALF for layer in layers if layer.type in types}


def audit_engine(layers: Iterable[EngineLayer], names: Iterable[str]) -> Audit | None:
    """Count the convolutions in FP16 by the types of the engine's layers.

    Args:
        layers: from ``inspected`` or ``listed``.
        names: the network's convolutions. One counts as FP16 if the layer that it became part of has such an input.

    Returns:
        ``None`` if the layers do not name their origins.
    """
    halves: dict[str, bool] = {}
    for layer in layers:
        for name in layer.origins:
            halves[name] = halves.get(name, False) or layer.half
    found = [halves[name] for name in names if name in halves]
    return Audit(len(found), sum(found), "engine") if found else None


def check_half(audit: Audit, excused: int = 0) -> None:
    """Refuse an engine that computes less than ``LEAST_HALF`` of its convolutions in FP16.

    Args:
        audit: of all convolutions.
        excused: number of convolutions put back to FP32 because there is no FP16 kernel for them.

    Raises:
        VerificationError: with the count.
    """
    if audit.half < LEAST_HALF * (audit.convolutions - excused):
        msg = f"the engine of an FP16 artefact must compute in FP16: {audit}, at least {LEAST_HALF:.0%} are expected"
        raise VerificationError(msg, "no engine was written; export the artefact again with --fp16")


def inspected(text: str) -> list[EngineLayer]:
    """Parse the JSON of an engine's inspector, of TensorRT 10 or 11.

    Without ``ProfilingVerbosity.DETAILED`` layers are names only, and the list is empty.
    """
    try:
        layers = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError):
        return []
    return [
        EngineLayer(_origins(str(layer.get("Metadata", ""))), any(map(_is_half, layer.get("Inputs", ()))))
        for layer in layers
        if isinstance(layer, dict)
    ]


def listed(log: str) -> list[EngineLayer]:
    """Parse the list of layers that a builder logs at ``ProfilingVerbosity.DETAILED``, one a line.

    It allows an audit on a machine that cannot open the engine.
    """
    return [
        EngineLayer(_origins(match["metadata"]), any(map(_names_half, _TYPE.findall(match["inputs"]))))
        for match in _LINE.finditer(log)
    ]


@dataclass(frozen=True, slots=True)
class LayerCount:
    """The number of layers that an engine launches for each run."""

    kernels: int
    events: int
    """Signals between streams, and waits for them."""


def count_layers(log: str) -> LayerCount:
    """Count the layers that a builder logs at ``ProfilingVerbosity.DETAILED``."""
    types = [match["type"] for match in _LINE.finditer(log)]
    events = sum(each in _EVENTS for each in types)
    return LayerCount(len(types) - events, events)


_EVENTS = ("signal", "wait")
_LINE = re.compile(
    r"^(?:\w+: )?Name: [^,\n]*, LayerType: (?P<type>[^,\n]*), Inputs: \[(?P<inputs>[^\n]*?)\], "
    r"(?:Constants|Outputs): \[[^\n]*"
    r"Metadata: (?P<metadata>[^\n]*)$",
    re.M,
)
_TYPE = re.compile(rf"(?:{'|'.join(map(re.escape, TYPE_KEYS))}): ([^,}}]*)")
_ORIGIN = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


def _origins(metadata: str) -> frozenset[str]:
    return frozenset(_ORIGIN.findall(metadata))


def _is_half(tensor: Any) -> bool:
    return isinstance(tensor, dict) and any(_names_half(str(tensor.get(key, ""))) for key in TYPE_KEYS)


def _names_half(text: str) -> bool:
    """Recognise ``Half``, or the older ``Channel major FP16 format where channel % 8 == 0``."""
    return "half" in text.lower() or "fp16" in text.lower()

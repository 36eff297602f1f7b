"""Is an FP16 engine in FP16? Counted, since builders have made FP32 engines of FP16 requests without a word."""

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from lkdn_deploy.backends.trt.record import Audit
from lkdn_deploy.backends.trt.runtimes import TYPE_KEYS
from lkdn_deploy.core.errors import VerificationError

LEAST_HALF = 0.9
"""Of an FP16 artefact's convolutions, those with FP16 inputs. The rest may have been kept in FP32 for their weights or
values."""


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer of an engine; it may be several of the network's."""

    made_of: frozenset[str]
    """Names of the network's layers."""
    half: bool
    """Whether an input is in FP16. Weights are no inputs."""


def convolutions(network: Any, module: Any) -> dict[str, bool]:
    """A parsed network's convolutions, transposed ones too: name -> whether the input is in FP16."""
    types = (module.LayerType.CONVOLUTION, module.LayerType.DECONVOLUTION)
    layers = (network.get_layer(place) for place in range(network.num_layers))
    return {layer.name: layer.get_input(0).dtype == module.DataType.HALF for layer in layers if layer.type in types}


def audit_network(found: dict[str, bool]) -> Audit:
    """By the types that the network was given, of ``convolutions``."""
    return Audit(len(found), sum(found.values()), "network")


def audit_engine(layers: Iterable[Layer], names: Iterable[str]) -> Audit | None:
    """By the types that the engine's layers have.

    Args:
        layers: of ``inspected`` or ``listed``.
        names: of the network's convolutions. One counts as FP16 if the layer that it became part of has such an input.

    Returns:
        ``None`` if the layers do not say what they were made of.
    """
    halves: dict[str, bool] = {}
    for layer in layers:
        for name in layer.made_of:
            halves[name] = halves.get(name, False) or layer.half
    found = [halves[name] for name in names if name in halves]
    return Audit(len(found), sum(found), "engine") if found else None


def check_half(audit: Audit, excused: int = 0) -> None:
    """Refuse an engine for FP16 of which less than ``LEAST_HALF`` is.

    Args:
        audit: of all convolutions.
        excused: how many of them were put back to FP32 because there is no kernel.

    Raises:
        VerificationError: with the count.
    """
    if audit.half < LEAST_HALF * (audit.convolutions - excused):
        msg = f"an engine of an FP16 artefact must be in FP16: {audit}, at least {LEAST_HALF:.0%} are expected"
        raise VerificationError(msg, "no engine was written; export the artefact again with --fp16")


def inspected(text: str) -> list[Layer]:
    """Layers from the JSON of an engine's inspector, by the names of TensorRT 10 and of 11.

    Without ``ProfilingVerbosity.DETAILED`` layers are names only, and the list is empty.
    """
    try:
        layers = json.loads(text)["Layers"]
    except (ValueError, KeyError, TypeError):
        return []
    return [
        Layer(_origins(str(layer.get("Metadata", ""))), any(_is_half(item) for item in layer.get("Inputs", ())))
        for layer in layers
        if isinstance(layer, dict)
    ]


def listed(log: str) -> list[Layer]:
    """Layers from the list that a builder writes into its log at ``ProfilingVerbosity.DETAILED``, a line each.

    With it an engine is audited on a machine that cannot open it.
    """
    return [
        Layer(_origins(match["metadata"]), any(_names_half(kind) for kind in _TYPE.findall(match["inputs"])))
        for match in _LINE.finditer(log)
    ]


_LINE = re.compile(
    r"^Name: [^,\n]*, LayerType: [^,\n]*, Inputs: \[(?P<inputs>[^\n]*?)\], (?:Constants|Outputs): \[[^\n]*"
    r"Metadata: (?P<metadata>[^\n]*)$",
    re.M,
)
_TYPE = re.compile(rf"(?:{'|'.join(map(re.escape, TYPE_KEYS))}): ([^,}}]*)")
_ORIGIN = re.compile(r"\[ONNX Layer: ([^\]]*)\]")


def _origins(metadata: str) -> frozenset[str]:
    return frozenset(_ORIGIN.findall(metadata))


def _is_half(tensor: Any) -> bool:
    return isinstance(tensor, dict) and any(_names_half(str(tensor.get(key, ""))) for key in TYPE_KEYS)


def _names_half(kind: str) -> bool:
    """``Half``, or the older ``Channel major FP16 format where channel % 8 == 0``."""
    return "half" in kind.lower() or "fp16" in kind.lower()

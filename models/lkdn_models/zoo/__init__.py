"""The networks: what they take and cost, how good they are, where their published weights are.

Plain facts: importing this needs no torch. ``table`` has an entry a network and scale; a new network is its file in
``lkdn_models`` and its entries there.
"""

from collections.abc import Iterator
from dataclasses import replace

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_models.zoo.facts import Input, Network, Printed, Weights, ZooEntry
from lkdn_models.zoo.table import ENTRIES

__all__ = [
    "ENTRIES",
    "Input",
    "Network",
    "Printed",
    "Weights",
    "ZooEntry",
    "entries",
    "find",
    "name_of",
    "names",
    "published_scale",
]


def names() -> list[str]:
    """Every network once."""
    return list(dict.fromkeys(entry.name for entry in ENTRIES))


def entries(name: str) -> Iterator[ZooEntry]:
    """One network at all its scales.

    Raises:
        UsageError: if there is none of this name.
    """
    if name not in names():
        msg = f"no network is called {name}"
        raise UsageError(msg, f"known are {', '.join(names())}")
    return (entry for entry in ENTRIES if entry.name == name)


def find(name: str, scale: int) -> ZooEntry:
    """One network at one scale.

    Raises:
        UsageError: if there is none.
    """
    for entry in entries(name):
        if entry.scale == scale:
            return entry
    msg = f"{name} has no x{scale}"
    raise UsageError(msg, f"it has {', '.join(f'x{entry.scale}' for entry in entries(name))}")


def published_scale(sha256: str) -> int | None:
    """The scale of the published weights with this hash; ``None`` if there are none, or they serve several."""
    scales = [entry.scale for entry in ENTRIES if entry.weights and entry.weights.sha256 == sha256]
    return scales[0] if len(scales) == 1 else None


def name_of(spec: LkdnSpec) -> str:
    """The zoo's name of an LKDN in whatever form, or one made of its widths."""
    # First those in this very training form: the ablations differ in nothing else.
    for alike in (lambda own: replace(own, scale=1) == replace(spec, scale=1), lambda own: _shape(own) == _shape(spec)):
        for entry in ENTRIES:
            if entry.spec is not None and alike(entry.spec):
                return entry.name
    return f"lkdn-b{spec.blocks}-c{spec.channels}-a{spec.attention_channels}"


def _shape(spec: LkdnSpec) -> LkdnSpec:
    """What training form, fusion and scale do not change."""
    return replace(spec, scale=1, block=Block.BSB, upsampler=Upsampler.PLAIN, input_copies=1)

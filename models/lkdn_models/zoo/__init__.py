"""The networks: what they take and cost, how good they are, where their published weights are. Needs no torch.

A new network is its file in ``lkdn_models.nets`` and its table in ``networks.toml``.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from difflib import get_close_matches
from functools import cache

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.spec import Block, LkdnSpec, Upsampler
from lkdn_models.zoo.facts import Input as Input
from lkdn_models.zoo.facts import Network as Network
from lkdn_models.zoo.facts import Printed as Printed
from lkdn_models.zoo.facts import Variant as Variant
from lkdn_models.zoo.facts import Weights as Weights
from lkdn_models.zoo.facts import ZooEntry as ZooEntry
from lkdn_models.zoo.networks import NETWORKS, read_bicubic, read_networks


@cache
def all_entries() -> tuple[ZooEntry, ...]:
    """Return every network at every scale."""
    return read_networks(NETWORKS.read_text(encoding="utf-8"))


@cache
def bicubic() -> dict[int, dict[str, tuple[str, str]]]:
    """Return PSNR in dB and SSIM of bicubic enlargement by scale and test set, as the LKDN paper prints them."""
    return read_bicubic(NETWORKS.read_text(encoding="utf-8"))


def names() -> list[str]:
    """Return the name of every network."""
    return list(dict.fromkeys(entry.name for entry in all_entries()))


def entries(name: str) -> Iterator[ZooEntry]:
    """Return one network, named in any case, at all its scales.

    Raises:
        UsageError: if no network has this name.
    """
    if name.lower() not in names():
        msg = f"no network is called {name}"
        near = get_close_matches(name.lower(), names())
        meant = f"{' or '.join(near)} may be meant; " if near else ""
        raise UsageError(msg, f"{meant}lkdn-zoo list shows all networks")
    return (entry for entry in all_entries() if entry.name == name.lower())


def find(name: str, scale: int) -> ZooEntry:
    """Return one network, named in any case, at one scale.

    Raises:
        UsageError: if no network has this name, or it lacks this scale.
    """
    found = list(entries(name))
    for entry in found:
        if entry.scale == scale:
            return entry
    msg = f"{found[0].name} has no x{scale}"
    raise UsageError(msg, f"it has {', '.join(f'x{entry.scale}' for entry in found)}")


def families() -> list[Network]:
    """Return a network of each family whose members are recognised in any widths."""
    examples = {entry.network.make: entry.network for entry in reversed(all_entries()) if entry.network.settings}
    return list(reversed(examples.values()))


def member(family: Network, settings: Mapping[str, int], scale: int, trained: int = 0) -> ZooEntry | Variant:
    """Return a network of a family: an entry, or a variant that is named after its widths.

    Args:
        family: a network of the family.
        settings: its widths and depths.
        scale: enlargement factor.
        trained: width of the branches of the training form; 0: merged.
    """
    named = [entry for entry in all_entries() if entry.network.make == family.make]
    same = [entry for entry in named if entry.network.settings == settings]
    if not trained and (exact := [entry for entry in same if entry.scale == scale]):
        return exact[0]
    widths = "".join(f"-{name[0]}{value}" for name, value in settings.items())
    name = same[0].name if same else family.make.partition(":")[0] + widths
    return Variant(name, replace(family, name=name, settings=settings), scale, trained)


def published_scale(sha256: str) -> int | None:
    """Return the scale of the published weights with this hash; ``None`` if there are none, or they serve several."""
    scales = [entry.scale for entry in all_entries() if entry.weights and entry.weights.sha256 == sha256]
    return scales[0] if len(scales) == 1 else None


def name_of(spec: LkdnSpec) -> str:
    """Return the zoo's name of an LKDN in any form and at any scale, or a name made of its widths."""
    specs = [(entry.name, entry.network.spec) for entry in all_entries() if entry.network.spec]
    # First those in this very training form: the ablations differ in nothing else.
    for shape in (lambda each: replace(each, scale=1), _widths):
        for name, own in specs:
            if shape(own) == shape(spec):
                return name
    return f"lkdn-b{spec.blocks}-c{spec.channels}-a{spec.attention_channels}"


def _widths(spec: LkdnSpec) -> LkdnSpec:
    """Return the part of a specification that training form, fusion and scale do not change."""
    return replace(spec, scale=1, block=Block.BSB, upsampler=Upsampler.PLAIN, input_copies=1)

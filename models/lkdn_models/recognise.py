"""Recognise a network by the names and shapes of its weights."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import cache
from itertools import takewhile

import torch
from torch import Tensor, nn

from lkdn_deploy.core.errors import InputError, UsageError
from lkdn_deploy.core.files import printable
from lkdn_deploy.core.spec import MAX_SCALE, Block, LkdnSpec, Upsampler
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.zoo import Input, Variant, ZooEntry, all_entries, entries, families, member, names

State = Mapping[str, Tensor]
Layout = dict[str, tuple[int, ...]]

ALIKE = 0.5
"""Share of common names above which weights are reported as similar to those of a network."""


def recognise(state: State, scale: int | None = None) -> LkdnSpec | ZooEntry | Variant:
    """Return the network that these weights fit: an LKDN or a member of another family in any widths, or another one.

    ``scale`` chooses where they fit a network at several scales. Without it, weights that serve every scale are taken
    for the largest.

    Raises:
        InputError: if they fit no network, with the differences to the most similar one; or if their scale is unknown.
    """
    if all(name in state and state[name].ndim == 4 for name in _telling(state)):
        return _recognise_lkdn(state)
    found = _layout(state)
    if known := _recognise_member(found):
        return known
    for name in names():
        # No two networks have the same layout.
        if fitting := [entry for entry in entries(name) if entry.spec is None and _layout_of(entry) == found]:
            break
    else:
        raise _no_network(found)
    wanted = [entry for entry in fitting if entry.scale == scale]
    if wanted or len(fitting) == 1 or fitting[0].network.shared_weights:
        return (wanted or fitting)[-1]
    scales = ", ".join(f"x{entry.scale}" for entry in fitting)
    if scale is not None:
        msg = f"these weights of {fitting[0].name} may be for {scales}, but not for x{scale}"
        raise InputError(msg, "give another --scale, or convert the file again if its header has this scale")
    msg = f"these weights of {fitting[0].name} may be for {scales}: their shapes are the same"
    raise InputError(msg, "give the scale with --scale")


def _recognise_member(found: Layout) -> ZooEntry | Variant | None:
    """Return the member of a family that has this layout.

    Raises:
        InputError: if it looks like one, but does not fit it.
    """
    near: tuple[float, InputError] | None = None
    for family in families():
        try:
            settings = family.constructor.settings_of(found)  # type: ignore[attr-defined]
        except (KeyError, IndexError, ZeroDivisionError):  # names or axes that all members have are missing
            continue
        made, trained = settings.pop("scale"), settings.pop("trained", 0)
        if not (1 <= made <= MAX_SCALE and all(size > 0 for shape in found.values() for size in shape)):
            continue
        luma = settings.get("colours") == 1
        known = member(replace(family, input=Input.LUMA) if luma else family, settings, made, trained)
        expected = _built(known.build)
        if found == expected:
            return known
        alike = _alike(found, expected)[0]
        if alike >= ALIKE and (near is None or alike > near[0]):
            msg = f"looks like {known.name} x{known.scale}, but does not fit it"
            near = alike, InputError(msg, _some(_misfits(found, expected)))
    if near:
        raise near[1]
    return None


def _recognise_lkdn(state: State) -> LkdnSpec:
    # BSB and BSRB have the same weights; without branches, BSB is assumed, as every published checkpoint has it.
    first, block, up = (state[name] for name in _telling(state))
    channels, copied = first.shape[:2]
    try:
        spec = LkdnSpec(
            scale=round((len(up) / 3) ** 0.5),
            blocks=max(int(match[1]) for name in state if (match := re.match(r"B(\d{1,4})\.", name))),
            channels=channels,
            attention_channels=len(block),
            block=Block.RBSB if "B1.c1_r.rep1x1.weight" in state else Block.BSB,
            upsampler=Upsampler.REP if "upsampler.conv3.weight" in state else Upsampler.PLAIN,
            input_copies=copied // 3,
        )
    except UsageError as error:
        msg = f"not an LKDN checkpoint: {error.message}"
        raise InputError(msg) from error
    if problems := _misfits(_layout(state), _built(lambda: LKDN(spec))):
        msg = f"looks like an LKDN ({spec.blocks} blocks, {channels} channels, x{spec.scale}), but does not fit one"
        raise InputError(msg, _some(problems))
    return spec


def _telling(state: State) -> tuple[str, str, str]:
    """Return the names of the convolutions that have an LKDN's widths."""
    rep = "upsampler.conv3.weight" in state
    return "fea_conv.pw.weight", "B1.c5.weight", "upsampler.conv3.weight" if rep else "upsampler.0.weight"


def _no_network(found: Layout) -> InputError:
    nearest = max(all_entries(), key=lambda entry: _alike(found, _layout_of(entry)))
    if _alike(found, _layout_of(nearest))[0] < ALIKE:
        # What the first and the last name in order share, all share.
        pairs = zip(min(found).split(".")[:-1], max(found).split("."), strict=False)
        shared = "".join(f"{one}." for one, _ in takewhile(lambda pair: pair[0] == pair[1], pairs))
        way = f"if the prefix {printable(shared)[:80]} is in the way, save them without it; " if shared else ""
        return InputError("no network of lkdn-zoo has weights with these names", f"{way}its keys: {_some(list(found))}")
    msg = f"looks like {nearest.name} x{nearest.scale}, but does not fit it"
    return InputError(msg, _some(_misfits(found, _layout_of(nearest))))


def _alike(one: Layout, other: Layout) -> tuple[float, float]:
    """Return the share of common names, and the share of names whose shapes agree too."""
    either = len(one.keys() | other.keys())
    return len(one.keys() & other.keys()) / either, len(one.items() & other.items()) / either


def _layout(state: State) -> Layout:
    return {name: tuple(value.shape) for name, value in state.items()}


@cache
def _layout_of(entry: ZooEntry) -> Layout:
    return _built(entry.build)


def _built(make: Callable[[], nn.Module]) -> Layout:
    """Return the layout of a network, which is built without memory for its weights."""
    with torch.device("meta"):
        return _layout(make().state_dict())


def _misfits(found: Layout, expected: Layout) -> list[str]:
    """Return the differences, one for each name."""
    return sorted(
        [f"{name} is missing" for name in expected.keys() - found.keys()]
        + [f"{name} is unknown" for name in found.keys() - expected.keys()]
        + [
            f"{name} is {found[name]}, not {expected[name]}"
            for name in found.keys() & expected.keys()
            if found[name] != expected[name]
        ]
    )


def _some(lines: Sequence[str], limit: int = 8) -> str:
    """Return the first few lines, and the number of the others."""
    rest = len(lines) - limit
    return printable(", ".join(lines[:limit])) + (f" and {rest} more" if rest > 0 else "")

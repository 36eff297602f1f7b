"""Check the zoo's facts about its networks by counting."""

from dataclasses import dataclass

from lkdn_deploy.bench.complexity.count import count
from lkdn_deploy.core.optional import needs

with needs("train"):
    import torch

    from lkdn_models.rgb import as_rgb
    from lkdn_models.zoo import ZooEntry
    from lkdn_models.zoo.facts import CHALLENGE

DIGITS = 4
"""Decimals of the Multi-Adds, in G, in the zoo's table."""


@dataclass(frozen=True, slots=True)
class Checked:
    """An entry of the zoo with the figures counted from its network."""

    entry: ZooEntry
    parameters: int
    multi_adds: float
    """Multi-Adds in G by the entry's rule."""
    challenge_macs: float | None
    """Multiply-accumulates in G at the challenges' size, where the entry has them."""
    problems: tuple[str, ...]
    """One line for each figure that differs from the entry."""


def recount(entry: ZooEntry) -> Checked:
    """Build the network in its deployed form, without values, and count it at the entry's input size."""
    with torch.device("meta"):
        network = entry.build(deployed=True)
    channels = 1 if entry.input.luma_only else 3
    complexity = count(network, (1, channels, *entry.input_size))
    multi_adds = complexity.multi_adds(entry.network.rule) / 1e9
    challenge = None
    if entry.challenge_macs is not None:
        challenge = count(network, (1, channels, *CHALLENGE)).macs / 1e9
    radius = as_rgb(network, entry.input, entry.scale).receptive_radius
    where, problems = f"{entry.name} x{entry.scale}", []
    if complexity.parameters != entry.parameters:
        problems.append(f"{where} has {complexity.parameters:,} parameters, not {entry.parameters:,}")
    if round(multi_adds, DIGITS) != entry.multi_adds:
        problems.append(f"{where} has {multi_adds:.{DIGITS}f} G Multi-Adds, not {entry.multi_adds:.{DIGITS}f}")
    if challenge is not None and round(challenge, DIGITS) != entry.challenge_macs:
        stated = f"{entry.challenge_macs:.{DIGITS}f}"
        problems.append(f"{where} has {challenge:.{DIGITS}f} G multiply-accumulates at 256x256, not {stated}")
    if radius != entry.receptive_radius:
        problems.append(f"{where} has receptive radius {radius}, not {entry.receptive_radius}")
    if printed := entry.printed:
        differing = [
            f"{where}: the paper prints {paper} {unit}, counted: {here}"
            for paper, here, unit in (
                (printed.parameters, complexity.parameters / 1e3, "K parameters"),
                (printed.multi_adds, multi_adds, "G Multi-Adds"),
            )
            if paper is not None and f"{here:.{len(paper.partition('.')[2])}f}" != paper
        ]
        if not printed.remark:
            problems += differing
        elif not differing:
            problems.append(f"{where}: a remark explains a difference that does not exist")
    return Checked(entry, complexity.parameters, multi_adds, challenge, tuple(problems))

"""Whether what the zoo says of its networks is so."""

from dataclasses import dataclass

from lkdn_deploy.bench.complexity.count import count
from lkdn_deploy.core.optional import needs

with needs("train"):
    import torch

    from lkdn_models.rgb import as_rgb
    from lkdn_models.zoo import ZooEntry

DIGITS = 4
"""Of Multi-Adds in G that the zoo's table has."""


@dataclass(frozen=True, slots=True)
class Checked:
    """An entry of the zoo and what was counted of its network."""

    entry: ZooEntry
    parameters: int
    multi_adds: float
    """In G, under the entry's rule."""
    problems: tuple[str, ...]
    """A line for each figure that is not as written down."""


def recount(entry: ZooEntry) -> Checked:
    """Build the network as it is deployed and count, at the entry's input size. Nothing is computed."""
    with torch.device("meta"):
        network = entry.build(deployed=True)
    channels = 1 if entry.input.luma_only else 3
    complexity = count(network, (1, channels, *entry.input_size))
    multi_adds = complexity.multi_adds(entry.network.rule) / 1e9
    radius = as_rgb(network, entry.input, entry.scale).receptive_radius
    where, problems = f"{entry.name} x{entry.scale}", []
    if complexity.parameters != entry.parameters:
        problems.append(f"{where} has {complexity.parameters:,} parameters, not {entry.parameters:,}")
    if round(multi_adds, DIGITS) != entry.multi_adds:
        problems.append(f"{where} has {multi_adds:.{DIGITS}f} G Multi-Adds, not {entry.multi_adds:.{DIGITS}f}")
    if radius != entry.receptive_radius:
        problems.append(f"{where} has receptive radius {radius}, not {entry.receptive_radius}")
    problems += [f"{where}: {text}" for text in _unexplained(entry, complexity.parameters, multi_adds)]
    return Checked(entry, complexity.parameters, multi_adds, tuple(problems))


def _unexplained(entry: ZooEntry, parameters: int, multi_adds: float) -> list[str]:
    """Where the paper prints something else and no remark says why; or a remark has nothing to explain."""
    if entry.printed is None:
        return []
    differing = [
        f"the paper prints {paper} {unit}, counted are {here}"
        for paper, here, unit in (
            (entry.printed.parameters, parameters / 1e3, "K parameters"),
            (entry.printed.multi_adds, multi_adds, "G Multi-Adds"),
        )
        if _as_printed(here, paper) != paper
    ]
    if entry.printed.remark:
        return [] if differing else ["a remark explains a difference that is not there"]
    return differing


def _as_printed(value: float, like: str) -> str:
    """With as many decimals."""
    return f"{value:.{len(like.partition('.')[2])}f}"

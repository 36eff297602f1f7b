"""Figures derived from a report's rows, the same in every form of the report."""

from collections import Counter
from collections.abc import Iterable

from lkdn_deploy.bench.measure.statistics import CONFIDENCE
from lkdn_deploy.bench.results import Latency, Protocol, Row

INTERVAL = f"{100 * CONFIDENCE:g} %"
"""Confidence of the intervals of ratios."""


def statistic(protocol: Protocol) -> str:
    """Return the name of the statistic that stands for a latency: median or mean."""
    return "mean" if protocol is Protocol.NTIRE_2023 else "median"


def typical(latency: Latency, protocol: Protocol) -> float:
    """Return the statistic that stands for a latency, in ms."""
    return latency.mean if protocol is Protocol.NTIRE_2023 else latency.median


def roofline_share(row: Row, protocol: Protocol) -> float | None:
    """Return the least time that the device allows with pointwise operations fused, over the measured time."""
    measured = typical(row.latency, protocol) if row.latency else 0.0
    return row.bounds.pointwise / measured if row.bounds and measured else None


def size(height_width: tuple[int, int]) -> str:
    """Format a size as WxH."""
    return "{1}x{0}".format(*height_width)


def model(row: Row) -> str:
    """Return the network's name with its scale."""
    return f"{row.model} x{row.scale}"


def operations(protocol: Protocol) -> str:
    """Return the protocol's name for the operations that it counts."""
    return "FLOPs" if protocol is Protocol.NTIRE_2023 else "Multi-Adds"


def by_name(rows: Iterable[Row]) -> dict[str, Row]:
    """Return rows by title; rows with the same title also get their weights, and then a number, in their names."""
    rows = tuple(rows)
    titles = Counter(row.title for row in rows)
    result: dict[str, Row] = {}
    for row in rows:
        name = row.title if titles[row.title] == 1 else f"{row.title} ({row.weights})"
        same = sum(each == name or each.startswith(f"{name} #") for each in result)
        result[f"{name} #{same + 1}" if same else name] = row
    return result

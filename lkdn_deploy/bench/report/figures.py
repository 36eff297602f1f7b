"""What is derived of a report's rows, the same in every form of it."""

from collections import Counter
from collections.abc import Iterable

from lkdn_deploy.bench.measure.statistics import CONFIDENCE
from lkdn_deploy.bench.results import Latency, Protocol, Report, Row

INTERVAL = f"{100 * CONFIDENCE:g} %"
"""How sure the intervals of ratios are."""


def typical(latency: Latency, protocol: Protocol) -> float:
    """The one figure that stands for a latency, in ms: the median, or the mean where the protocol says so."""
    return latency.mean if protocol is Protocol.NTIRE_2023 else latency.median


def roofline_share(row: Row, protocol: Protocol) -> float | None:
    """The least time that the device allows with pointwise operations fused, over the measured one."""
    measured = typical(row.latency, protocol) if row.latency else 0.0
    return row.bounds.pointwise / measured if row.bounds and measured else None


def size(height_width: tuple[int, int]) -> str:
    """As people write it: width first."""
    return "{1}x{0}".format(*height_width)


def model(row: Row) -> str:
    """The network and its scale."""
    return f"{row.model} x{row.scale}"


def operations(protocol: Protocol) -> str:
    """What the protocol calls the operations that it counts."""
    return "FLOPs" if protocol is Protocol.NTIRE_2023 else "Multi-Adds"


def by_name(rows: Iterable[Row]) -> dict[str, Row]:
    """Rows by their titles; with their weights, and then a number, where the title alone is another's too."""
    rows = tuple(rows)
    titles = Counter(row.title for row in rows)
    result: dict[str, Row] = {}
    for row in rows:
        name = row.title if titles[row.title] == 1 else f"{row.title} ({row.weights})"
        same = sum(each == name or each.startswith(f"{name} #") for each in result)
        result[f"{name} #{same + 1}" if same else name] = row
    return result


def not_told_apart(report: Report) -> list[str]:
    """Names of the rows whose difference from the first is within the noise."""
    return [
        name
        for name, row in by_name(report.rows).items()
        if row.latency and row.latency.ratio and not row.latency.ratio.told_apart
    ]

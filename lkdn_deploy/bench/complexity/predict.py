"""Least times by the roofline on a GPU that need not be present, as text."""

from collections.abc import Sequence

from lkdn_deploy.bench.complexity.devices import PAPER_LATENCY, DevicePeaks
from lkdn_deploy.bench.complexity.roofline import bounds
from lkdn_deploy.bench.complexity.trace import trace
from lkdn_deploy.bench.models import Model
from lkdn_deploy.bench.report.table_layout import Column, Table, aligned, wrapped
from lkdn_models.zoo.facts import LR

PAPER_DEVICE = "rtx3080"


def predict(models: Sequence[Model], device: DevicePeaks, precisions: Sequence[str], size: tuple[int, int]) -> str:
    """Write the least times as a table of at most 80 columns, beside the latencies measured in the LKDN paper.

    Args:
        models: models of one scale.
        device: an entry of ``devices.DEVICES``.
        precisions: precisions for which the device has a peak.
        size: height and width of the input.

    Raises:
        UsageError: if the device has no peak for a precision, or a network does not take that size.
    """
    (height, width), scale = size, models[0].scale
    peaks = ", ".join(f"{device.flops[precision] / 1e12:g} TFLOPS {precision}" for precision in precisions)
    # The paper's latencies are assumed to be for the usual output of 1280x720 in FP32.
    with_paper = device.name == PAPER_DEVICE and scale == 4 and size == LR[scale] and "fp32" in precisions
    rows = []
    for model in models:
        model.check_size(height, width)
        operations = trace(model.build(), (1, 3, height, width))
        for precision in precisions:
            least = bounds(operations, device, precision)
            times = (f"{ms:.3f}" for ms in (least.layers, least.pointwise, least.network))
            paper = PAPER_LATENCY.get(model.name) if with_paper and precision == "fp32" else None
            rows.append((f"{model.name} x{scale}", precision, *times, "-" if paper is None else f"{paper:.2f}"))
    columns = (Column("model", name=True), Column(""), *map(Column, ("layers", "pointwise", "network", "paper")))
    lines = [
        f"Least time in ms by the roofline: {device.title}",
        f"{peaks}, {device.bandwidth / 1e9:g} GB/s",
        *wrapped(device.source),
        f"Input {width}x{height}, output {width * scale}x{height * scale}",
        "",
        *aligned(Table("", columns, tuple(rows))),
        "",
        *wrapped(
            "layers: each layer alone; pointwise: pointwise operations fused with the layer before; network: the whole "
            "network fused; paper: measured in the LKDN paper"
        ),
    ]
    if with_paper:
        lines += wrapped(
            "The paper does not state the conditions of its latencies on this GPU; they are assigned to networks by "
            "the order of its tables. No such GPU was used here."
        )
    return "\n".join(lines)

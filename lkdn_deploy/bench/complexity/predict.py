"""What the roofline allows on a device that is not here."""

import textwrap
from collections.abc import Sequence

from lkdn_deploy.bench.complexity.devices import PAPER_LATENCY, DevicePeaks
from lkdn_deploy.bench.complexity.operations import trace
from lkdn_deploy.bench.complexity.roofline import bounds
from lkdn_deploy.bench.models import Model
from lkdn_models.zoo.facts import LR

PAPER_DEVICE = "rtx3080"


def predict(models: Sequence[Model], device: DevicePeaks, precisions: Sequence[str], size: tuple[int, int]) -> str:
    """The least times as a table of at most 80 columns, the LKDN paper's measured ones beside where it has them.

    Args:
        models: of one scale.
        device: of the table.
        precisions: that the device has a peak for.
        size: height and width of the input.

    Raises:
        UsageError: if the device has no peak for a precision, or a network does not take that size.
    """
    height, width = size
    scale = models[0].scale
    peaks = ", ".join(f"{device.flops[precision] / 1e12:g} TFLOPS {precision}" for precision in precisions)
    lines = [
        f"Least time in ms by the roofline: {device.title}",
        f"{peaks}, {device.bandwidth / 1e9:g} GB/s",
        *textwrap.wrap(device.source, 80),
        f"Input {width}x{height}, output {width * scale}x{height * scale}",
        "",
        f"{'model':<22} {'':<2} {'':<5} {'layer by':>9} {'pointwise':>9} {'whole':>9} {'paper':>9}",
        f"{'':<22} {'':<2} {'':<5} {'layer':>9} {'ops fused':>9} {'network':>9} {'measured':>9}",
    ]
    # The paper's is taken for the usual output of 1280x720 in FP32.
    with_paper = device.name == PAPER_DEVICE and scale == 4 and size == LR[scale] and "fp32" in precisions
    for model in models:
        model.check_size(height, width)
        operations = trace(model.build(), (1, 3, height, width))
        for precision in precisions:
            least = bounds(operations, device, precision)
            times = (f"{ms:>9.3f}" for ms in (least.layers, least.pointwise, least.network))
            paper = PAPER_LATENCY.get(model.name) if with_paper and precision == "fp32" else None
            cell = "-" if paper is None else f"{paper:.2f}"
            lines.append(f"{model.name[:22]:<22} x{model.scale} {precision:<5} {' '.join(times)} {cell:>9}")
    if with_paper:
        lines += [
            "",
            "The paper gives its latencies on this GPU without what they were measured on;",
            "which is whose follows the order of its tables. No such GPU was here.",
        ]
    return "\n".join(lines)

"""The cost of a benchmark's models: counted operations, and least times by the roofline."""

from contextlib import suppress
from functools import cache

from lkdn_deploy.bench.complexity.count import count
from lkdn_deploy.bench.complexity.devices import measure_cpu, recognise
from lkdn_deploy.bench.complexity.roofline import bounds
from lkdn_deploy.bench.complexity.trace import trace
from lkdn_deploy.bench.machine import gpus
from lkdn_deploy.bench.models import Model
from lkdn_deploy.bench.results import Bounds, Cost, Protocol, Settings
from lkdn_deploy.core.counting import Rule
from lkdn_deploy.core.errors import UsageError

NTIRE_SIZE = (256, 256)


class Costs:
    """Costs and roofline bounds by the settings of a benchmark; each model is counted once.

    Args:
        settings: the benchmark's settings. Without an input size there are no bounds.
        cpu: whether the peak rates of this machine's CPU, which take seconds to measure, are needed.
    """

    def __init__(self, settings: Settings, *, cpu: bool) -> None:
        size = settings.input_size
        self.cost = cache(lambda model: cost(model, settings.protocol))
        self._trace = cache(lambda model: trace(model.build(), (1, 3, *(size or ()))))
        self._cpu = measure_cpu(settings.threads) if cpu and size else None
        names = [found["name"] for found in gpus()] if size else []
        self._gpu = recognise(names[0]) if names else None

    def bounds(self, model: Model, precision: str, *, on_cpu: bool) -> Bounds | None:
        """Return the least times of a model, or ``None`` if the device's peak rate is not known.

        Args:
            model: the model.
            precision: of its arithmetic, ``fp32`` or ``fp16``.
            on_cpu: whether it runs on the CPU, else on the first GPU.
        """
        device = self._cpu if on_cpu else self._gpu
        with suppress(UsageError):  # the device has no peak for this precision
            return bounds(self._trace(model), device, precision) if device else None
        return None


def cost(model: Model, protocol: Protocol) -> Cost:
    """Count a model's parameters, operations, activations and convolutions as the protocol defines them."""
    network, channels = model.build_core()
    size = NTIRE_SIZE if protocol.is_challenge else model.paper_size
    counted = count(network, (1, channels, *(model.core_size(*size) if protocol.is_challenge else size)))
    operations = counted.multi_adds(Rule.C)
    if protocol.is_challenge:
        operations = counted.ntire_flops if protocol is Protocol.NTIRE_2023 else counted.fvcore_flops
    return Cost(counted.parameters, operations, counted.activations, counted.convolutions, input_size=size)

"""The figures of the service in the text format of Prometheus."""

from collections.abc import Callable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4 as MEDIA_TYPE

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60, 120)


class ServiceMetrics:
    """The figures since the service was started.

    Args:
        running: gives the number of requests in progress, those that wait included.
        alive: gives the number of workers that are ready or at work.
        lost: gives the number of workers that were replaced.
    """

    def __init__(self, running: Callable[[], float], alive: Callable[[], float], lost: Callable[[], float]) -> None:
        self._registry = registry = CollectorRegistry()
        self.requests = Counter(
            "lkdn_requests", "Requests for pictures by the status of their answer.", ["status"], registry=registry
        )
        self.seconds = Histogram(
            "lkdn_request_seconds", "Time from head to answer.", buckets=_SECONDS, registry=registry
        )
        self.network = Histogram(
            "lkdn_network_seconds", "Time in the network for a picture.", buckets=_SECONDS, registry=registry
        )
        self.pixels = Counter("lkdn_pixels", "Pixels of the pictures that were upscaled.", registry=registry)
        for name, text, value in (
            ("lkdn_requests_in_progress", "Requests for pictures in progress, waiting ones included.", running),
            ("lkdn_workers", "Worker processes that are ready or at work.", alive),
            ("lkdn_workers_replaced", "Worker processes that ended or took too long.", lost),
        ):
            Gauge(name, text, registry=registry).set_function(value)

    def text(self) -> bytes:
        """Return all figures as text."""
        return generate_latest(self._registry)


__all__ = ["MEDIA_TYPE", "ServiceMetrics"]

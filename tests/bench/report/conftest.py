"""Reports that were not measured."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from lkdn_deploy.bench.results import (
    Bounds,
    Copies,
    Cost,
    Latency,
    Memory,
    Protocol,
    Ratio,
    Report,
    Row,
    SetQuality,
    Settings,
    WarmUp,
)

COST = Cost(129_177, 6_412_345_678, 61_234_567, 84, (180, 320))
"""The cost of a model at 320x180."""


def latency(typical: float = 200.0, **given: Any) -> Latency:
    """Thirty rounds with a noise of 2 %."""
    samples = typical * np.random.default_rng(round(typical)).normal(1, 0.02, 30)
    p5, p95 = np.quantile(samples, [0.05, 0.95])
    values = {
        "samples": tuple(map(float, samples)),
        "median": typical,
        "p5": float(p5),
        "p95": float(p95),
        "mean": 1.5 * typical,
        "copies": Copies.NONE,
        "first": 2 * typical,
        "opening": 321.0,
        "warm_up": WarmUp(12, 1.5, stable=True),
    }
    return Latency(**(values | given))


def row(model: str = "lkdn-s", backend: str = "ort-cpu", typical: float | None = 200.0, **given: Any) -> Row:
    """A row that was only timed, if that: the rest as given."""
    values = {"scale": 4, "precision": "fp32", "weights": "bundled"}
    times = {} if typical is None else {"latency": latency(typical)}
    return Row(model=model, backend=backend, **(values | times | given))


def report(*rows: Row, protocol: Protocol = Protocol.STEADY, **given: Any) -> Report:
    """A report of these rows, with nothing that would need a note."""
    values: dict[str, Any] = {
        "settings": Settings(protocol, (180, 320), 2, 30, 0),
        "machine": {"cpu": "P", "cores": 2, "load before": [0.25, 0.5, 1.0], "versions": {"numpy": "2.4.6"}},
        "made": "2026-01-02T03:04:05Z",
    }
    return Report(rows=rows, **(values | given))


@pytest.fixture
def full() -> Report:
    """Two models on two engines, with all that can be measured of them."""
    times = (
        ("lkdn-s", "torch cpu", 311.0, 32.05),
        ("lkdn-s", "ort-cpu", 199.0, 32.05),
        ("lkdn", "torch cpu", 640.0, 32.24),
        ("lkdn", "ort-cpu", 405.0, 32.24),
    )
    return report(
        *(
            row(
                model,
                backend,
                cost=COST,
                latency=latency(typical, ratio=Ratio(value, value - 0.02, value + 0.03) if value != 1 else None),
                quality=(SetQuality("Set5", 5, psnr, 0.8936), SetQuality("Set14", 14, psnr - 3.6, 0.7812)),
                memory=Memory(typical / 2, "host"),
                bounds=Bounds("P", typical / 2, typical / 3, typical / 5),
                kinds={"Conv": 0.8 * typical, "Gelu": 0.15 * typical, "LayerNorm": 0.03 * typical},
            )
            for model, backend, typical, psnr in times
            for value in [typical / 311]
        )
    )


def hostile(word: str) -> Report:
    """Every word of the report is the given one."""
    one = row(
        word,
        word,
        precision=word,
        weights=word,
        problem=word,
        cost=COST,
        quality=(SetQuality(word, 5, 32.0, 0.9),),
        memory=Memory(100.0, word),
        bounds=Bounds(word, 150.0, 90.0, 60.0),
        kinds={word: 100.0},
    )
    other = row(word + "2", word, typical=100.0, kinds={word + "2": 50.0})
    return report(one, other, machine={word: {word: word}, "cpu": word}, made=word)


@pytest.fixture
def make() -> SimpleNamespace:
    """The functions that make rows, reports and latencies."""
    return SimpleNamespace(row=row, report=report, latency=latency, hostile=hostile)

"""Sessions on the stand-ins, and the results that the small artefact must have."""

import gc
from pathlib import Path
from typing import Any

import numpy as np
from device_fake import FakeDevice
from engine_fake import PROFILE, record_of, runtime_module

from lkdn_deploy.backends.trt.engine_spec import Profile
from lkdn_deploy.backends.trt.session import TrtSession

random = np.random.default_rng(0)


def opened(
    artefact: Path,
    device: FakeDevice,
    *,
    jit: bool = True,
    profile: Profile = PROFILE,
    module: Any = None,
    **changes: Any,
) -> TrtSession:
    module = module or runtime_module(device, profile, jit=jit)
    record = record_of(artefact, profile=profile, jit=jit, **changes)
    return TrtSession(artefact.read_bytes(), record, module, device)


def windows(count: int, shape: tuple[int, ...] = (1, 3, 9, 12)) -> list[np.ndarray]:
    return [random.random(shape, np.float32) for _ in range(count)]


def large(batch: np.ndarray) -> np.ndarray:
    """The result of ``twice``."""
    return (batch * np.float32(0.5)).repeat(2, axis=2).repeat(2, axis=3)


def check(session: TrtSession, batches: list[np.ndarray]) -> None:
    """Run all batches and compare the results, which must stay as they are when buffers are used again."""
    results = list(session.run_many(iter(batches)))
    assert len(results) == len(batches)
    assert all(np.array_equal(large(batch), result) for batch, result in zip(batches, results, strict=True))


def nothing_left(device: FakeDevice) -> bool:
    gc.collect()
    return not any(device.counts().values())

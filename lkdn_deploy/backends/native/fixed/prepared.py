"""Networks prepared for fixed point: their ranges, and the integers of a trial. These are kept in the user's cache."""

import hashlib
import io
import logging
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from zipfile import ZIP_STORED, ZipFile

import numpy as np
from threadpoolctl import threadpool_limits

from lkdn_deploy.backends.native.compile import CompiledNetwork
from lkdn_deploy.backends.native.fixed.fixed_ir import FixedConv, FixedProgram
from lkdn_deploy.backends.native.fixed.measured import measure
from lkdn_deploy.backends.native.fixed.pictures import shipped_pictures
from lkdn_deploy.backends.native.fixed.quantise import quantise
from lkdn_deploy.backends.native.fixed.storage import Ranges
from lkdn_deploy.backends.native.fixed.trial import ATTEMPTS, Trial, tried
from lkdn_deploy.backends.native.ir import ConvOp, DepthwiseOp, Program, UnsupportedError
from lkdn_deploy.core.cache import Store
from lkdn_deploy.jit.compiler import Processor

log = logging.getLogger(__name__)

_VERSION = b"2"
"""Changes whenever ranges, integers or trials do."""

STORE = Store("fixed-point", ".npz", most=64, most_bytes=256 << 20)

_BYTES_A_WEIGHT, _BYTES_BESIDE = 8, 4 << 20
"""Limits of the size of a file: weights are stored more than once where sums are split."""

_NUMBERS = ("weight", "bias", "shift", "factor")
"""Fields of a `FixedConv`."""


@dataclass(frozen=True, slots=True)
class Preparation:
    """The result of a trial, and what it was made of.

    Attributes:
        ranges: the ranges of the program's values, without moments.
        trial: the result of the trial.
        convs: the convolutions of the program in fixed point, by output; none where pixels differ too much.
    """

    ranges: Ranges
    trial: Trial
    convs: Mapping[int, FixedConv]


def prepared(
    program: Program, data: bytes, exact: CompiledNetwork, target: Processor, threads: int = 1
) -> FixedProgram:
    """Return a program in fixed point that was tried, now or earlier.

    Args:
        program: the program of an artefact.
        data: the artefact, which determines the rest.
        exact: the program in float32, as code.
        target: the processor at hand.
        threads: number of threads to use.

    Raises:
        UnsupportedError: if pixels differ too much with any margin, or as ``quantise`` does.
    """
    name = hashlib.sha256(_VERSION + data).hexdigest()
    content, fixed = STORE.read(name), None
    found = None if content is None else _unpacked(content, program)
    if found is not None and found.convs:
        try:
            fixed = quantise(program, found.ranges, *found.trial.attempt, found.convs)
        except UnsupportedError as error:
            log.info("what is in the cache is not used: %s", error)
            found = None
    if found is None:
        log.info("measuring the ranges of the network's values, and comparing fixed point with FP32, once")
        with threadpool_limits(1, "blas"):  # its threads would poll for the next small matrix while ours compute
            ranges = measure(program, shipped_pictures(), target, threads)
            trial, fixed = tried(program, ranges, exact, target, threads)
        convs = {value: it for value, it in fixed.ops.items() if isinstance(it, FixedConv)} if trial.fits else {}
        found = Preparation(ranges, trial, convs)
        STORE.keep(name, _packed(found))
    levels = f"{found.trial.difference:.1f} of 255 levels"
    if fixed is None or not found.trial.fits:
        msg = f"fixed point for a network whose pixels would differ by {levels} from FP32"
        raise UnsupportedError(msg)
    log.info("with fixed point, pixels of drawn pictures differ by at most %s from FP32", levels)
    return fixed


def _packed(found: Preparation) -> bytes:
    arrays: dict[str, Any] = {
        "low": np.concatenate(found.ranges.low),
        "high": np.concatenate(found.ranges.high),
        "trial": np.array([*found.trial.attempt, found.trial.difference]),
    }
    for value, conv in found.convs.items():
        numbers = ((name, getattr(conv, name)) for name in _NUMBERS)
        arrays |= {f"{value} {name}": it for name, it in numbers if it is not None}
    file = io.BytesIO()
    np.savez(file, **arrays)
    return file.getvalue()


def _unpacked(content: bytes, program: Program) -> Preparation | None:
    """Return what ``_packed`` was given, or ``None`` if that does not fit the program. Convolutions may not fit yet."""
    ends = np.cumsum(program.channels)
    weights = sum(op.weight.size for op in program.ops if isinstance(op, ConvOp | DepthwiseOp))
    if len(content) > _BYTES_A_WEIGHT * weights + _BYTES_BESIDE:
        return None
    try:
        _check_sizes(content)
        with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
            low, high, trial = (np.asarray(arrays[name]) for name in ("low", "high", "trial"))
            convs: dict[int, dict[str, Any]] = {}
            for value, name in (it.split() for it in arrays.files if " " in it):
                convs.setdefault(int(value), dict.fromkeys(_NUMBERS))[name] = arrays[f"{value} {name}"]
            found = {value: FixedConv((), value, *map(it.pop, _NUMBERS)) for value, it in convs.items()}
            if any(convs.values()):
                msg = "unknown numbers"
                raise ValueError(msg)
    except Exception as error:  # damaged archives make zipfile and NumPy raise whatever they trip over
        log.info("what is in the cache is not used: %s", error)
        return None
    fit = all(it.dtype == np.float32 and it.shape == (ends[-1],) and np.isfinite(it).all() for it in (low, high))
    if not fit or (low > high).any() or trial.shape != (4,) or trial.dtype != np.float64:
        return None
    margin, damping, least, difference = trial.tolist()
    result = Trial((margin, damping, least), difference)
    if result.attempt not in ATTEMPTS or not difference >= 0 or result.fits != bool(convs):
        return None
    lows, highs = (tuple(np.split(it, ends[:-1])) for it in (low, high))
    return Preparation(Ranges(lows, highs), result, found)


def _check_sizes(content: bytes) -> None:
    """Check that what an archive holds is in it as it is, so that it takes no more memory.

    Raises:
        ValueError: if not.
    """
    with ZipFile(io.BytesIO(content)) as archive:
        members = archive.infolist()
    stored = all(it.compress_type == ZIP_STORED for it in members)
    if not stored or sum(it.file_size for it in members) > len(content):
        msg = "compressed numbers"
        raise ValueError(msg)

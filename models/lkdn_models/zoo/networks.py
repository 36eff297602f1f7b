"""Read ``networks.toml`` into dataclasses; every key, type and hash is checked."""

import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from lkdn_deploy.core.errors import UsageError
from lkdn_models.schema import build
from lkdn_models.zoo.facts import SETS, Network, ZooEntry

NETWORKS = Path(__file__).with_name("networks.toml")
BICUBIC = "bicubic"
"""The table that is no network's."""


def read_networks(text: str) -> tuple[ZooEntry, ...]:
    """Return every network at every scale, in the order of the file.

    Raises:
        UsageError: if a key is unknown, missing or of the wrong type, or a value is malformed.
    """
    tables = tomllib.loads(text)
    return tuple(entry for name, table in tables.items() if name != BICUBIC for entry in _entries(name, table))


def read_bicubic(text: str) -> dict[int, dict[str, tuple[str, str]]]:
    """Return PSNR in dB and SSIM of bicubic enlargement by scale and test set, as the LKDN paper prints them.

    Raises:
        UsageError: if a row is malformed.
    """
    rows = tomllib.loads(text)[BICUBIC]
    return {
        int(key[1:]): {data: (psnr, ssim) for data, (psnr, ssim) in _by_set(row, f"{BICUBIC}.{key}")}
        for key, row in rows.items()
    }


def _entries(name: str, table: Mapping[str, Any]) -> Iterator[ZooEntry]:
    scales = {key: value for key, value in table.items() if re.fullmatch("x[234]", key)}
    common = {key: value for key, value in table.items() if key not in scales}
    weights = common.pop("weights", {})
    if "spec" in common:
        common["spec"] = {"scale": 1, **common["spec"]}
    network = build(Network, {"name": name, **common}, f"{name}.")
    for key, facts in scales.items():
        where = f"{name}.{key}."
        merged = {**facts, "network": network, "scale": int(key[1:])}
        if "measured" in facts:
            merged["measured"] = {
                data: [float(value) for value in pair] for data, pair in _by_set(facts["measured"], where)
            }
        if printed := dict(facts.get("printed", {})):
            if "quality" in printed:
                printed["quality"] = dict(_by_set(printed["quality"], where))
            printed["trials"] = {table: dict(_by_set(row, where)) for table, row in printed.get("trials", {}).items()}
            merged["printed"] = printed
        if "weights" in facts or "sha256" in weights:
            merged["weights"] = {**weights, **facts.get("weights", {})}
        yield build(ZooEntry, merged, where)


def _by_set(text: str, where: str) -> Iterator[tuple[str, list[str]]]:
    """Yield test set and [PSNR, SSIM] from ``"38.12/0.9611 33.90/0.9202 - - -"``; a dash stands for no figure."""
    if not re.fullmatch(r"(?:(?:\d\d\.\d+/0\.\d+|-)(?: |$)){5}", text):
        msg = f"{where} needs PSNR/SSIM or a dash for each of {', '.join(SETS)}, got {text!r}"
        raise UsageError(msg)
    return ((data, item.split("/")) for data, item in zip(SETS, text.split(), strict=True) if item != "-")

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


def read_networks(text: str) -> tuple[ZooEntry, ...]:
    """Return every network at every scale, in the order of the file.

    Raises:
        UsageError: if a key is unknown, missing or of the wrong type, or a value is malformed.
    """
    return tuple(entry for name, table in tomllib.loads(text).items() for entry in _entries(name, table))


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
        if "quality" in facts.get("printed", {}):
            merged["printed"] = {**facts["printed"], "quality": dict(_by_set(facts["printed"]["quality"], where))}
        if "weights" in facts or "sha256" in weights:
            merged["weights"] = {**weights, **facts.get("weights", {})}
        yield build(ZooEntry, merged, where)


def _by_set(text: str, where: str) -> Iterator[tuple[str, list[str]]]:
    """Yield test set and [PSNR, SSIM] from ``"38.12/0.9611 33.90/0.9202 - - -"``; a dash stands for no figure."""
    if not re.fullmatch(r"(?:(?:\d\d\.\d+/0\.\d+|-)(?: |$)){5}", text):
        msg = f"{where} needs PSNR/SSIM or a dash for each of {', '.join(SETS)}, got {text!r}"
        raise UsageError(msg)
    return ((data, item.split("/")) for data, item in zip(SETS, text.split(), strict=True) if item != "-")

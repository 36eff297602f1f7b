"""What a report says of the machine, as words. What it may say is in ``lkdn_deploy.bench.machine``."""

from collections.abc import Mapping
from typing import Any

NONE = "-"
"""Of what is not known."""


def facts(machine: Mapping[str, Any]) -> dict[str, str]:
    """Every fact by its name, those in mappings by both names: ``versions numpy``."""
    found: dict[str, str] = {}
    for name, value in machine.items():
        if isinstance(value, Mapping):
            found |= {f"{name} {inner}": text for inner, text in facts(value).items()}
        elif isinstance(value, list | tuple) and any(isinstance(each, Mapping) for each in value):
            for index, each in enumerate(value):
                numbered = name if len(value) == 1 else f"{name} {index}"
                found |= facts({numbered: each})
        else:
            found[name] = _words(value)
    return found


def brief(machine: Mapping[str, Any]) -> list[str]:
    """What must stand beside every latency: the processor, the GPUs if there are any, the load of the last minute."""
    known = facts(machine)
    gpus = [words for name, words in known.items() if name.startswith("gpus ") and name.endswith(" name")]
    found = {"CPU": known.get("cpu", ""), "GPU": ", ".join(gpus), "load": known.get("load before", "").split(",")[0]}
    return [f"{label} {words}" for label, words in found.items() if words not in ("", NONE)]


def _words(value: Any) -> str:
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{round(value, 2):g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(_words, value)) or NONE
    return str(value)

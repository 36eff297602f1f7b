"""The facts about the machine in a report, as words."""

from collections.abc import Mapping
from typing import Any

NONE = "-"
"""Text for what is not known."""


def facts(machine: Mapping[str, Any]) -> dict[str, str]:
    """Return every fact of ``machine.machine_facts`` by name; nested ones have both names: ``versions numpy``."""
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
    """Return the facts that belong beside every latency: processor, GPUs if present, and load of the last minute."""
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

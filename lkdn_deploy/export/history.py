"""What the log of a training run tells of the weights that came of it. Nothing is guessed: what it lacks is None."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_TERMS = ("SOURCES.MD", "LICENSE", "LICENCE", "CREDITS", "COPYING", "COPYRIGHT")


@dataclass(frozen=True, slots=True)
class Quality:
    """How near upscaled pictures are to their originals, on luma, as a mean over a set.

    Attributes:
        psnr: in dB.
        ssim: of which 1 is equal.
    """

    psnr: float
    ssim: float | None = None


Qualities = Mapping[str, Quality]
"""By the names of the validation sets, in the run's order: it picks its best weights by the first."""


@dataclass(frozen=True, slots=True)
class History:
    """How a training run went.

    Attributes:
        recipe: its keys and tables, as it was started with.
        planned: number of iterations that it was last given.
        replanned: step and number of iterations before, for each time that another number moved the learning rate's
            schedule.
        tools: versions of what it ran with.
        init: path of the weights that it started from; empty: random ones.
        folders: of photographs, as they were named to it.
        images: photographs that it trained on.
        megapixels: of them in all.
        bicubic: what bicubic reaches.
        validations: steps, and what the averaged weights reached there.
    """

    recipe: Mapping[str, Any] | None = None
    planned: int | None = None
    replanned: tuple[tuple[int, int], ...] = ()
    tools: Mapping[str, str] | None = None
    init: str | None = None
    folders: tuple[str, ...] | None = None
    images: int | None = None
    megapixels: float | None = None
    bicubic: Qualities | None = None
    validations: tuple[tuple[int, Qualities], ...] = ()

    def reached(self, step: int | None) -> Qualities | None:
        """What was measured at ``step``."""
        return next((figures for at, figures in self.validations if at == step), None)


def read_history(log: Sequence[Mapping[str, Any]]) -> History:
    """What the lines of a log tell, as ``RunFolder.read_log`` gives them.

    Values that are not as a training run writes them count as absent.
    """
    start = next((entry for entry in log if isinstance(entry.get("recipe"), Mapping)), {})
    data = start.get("data")
    data = data if isinstance(data, Mapping) else {}
    folders = data.get("folders")
    recipe = start.get("recipe")
    settings = recipe.get("optimisation") if isinstance(recipe, Mapping) else None
    # A run that goes on can be told another number.
    told = [settings.get("iterations")] if isinstance(settings, Mapping) else []
    told += [entry["iterations"] for entry in log if "iterations" in entry]
    return History(
        recipe=recipe,
        planned=_if(int, told[-1]) if told else None,
        replanned=tuple(
            (e["step"], e["iterations_before"]) for e in log if isinstance(e.get("iterations_before"), int)
        ),
        tools=_if(Mapping, start.get("tools")),
        init=_if(str, start.get("init")),
        folders=tuple(map(str, folders)) if isinstance(folders, list) else None,
        images=_if(int, data.get("images")),
        megapixels=_if((int, float), data.get("megapixels")),
        bicubic={name: figures for entry in log for name, figures in _qualities(entry.get("bicubic")).items()} or None,
        validations=tuple((entry["step"], found) for entry in log if (found := _qualities(entry.get("validation")))),
    )


@dataclass(frozen=True, slots=True)
class Terms:
    """Where the licences of the photographs may be told.

    Attributes:
        files: in the folders of photographs, those that by their names tell sources or licences.
        absent: folders of photographs that cannot be looked into.
    """

    files: tuple[str, ...] = ()
    absent: tuple[str, ...] = ()


def find_terms(history: History) -> Terms:
    """Look into the folders of photographs, by their names as a card may tell them."""
    files, absent = [], []
    for name in history.folders or ():
        try:
            found = sorted(path.name for path in Path(name).iterdir() if path.name.upper().startswith(_TERMS))
        except OSError:
            absent.append(public(name))
        else:
            files += [f"{public(name)}/{file}" for file in found]
    return Terms(tuple(files), tuple(absent))


def public(path: str) -> str:
    """A path as a card may tell it: of an absolute one, which tells of a machine and its users, the last two parts."""
    whole = Path(path)
    return "/".join(whole.parts[1:][-2:]) or "/" if whole.is_absolute() else whole.as_posix()


def _qualities(table: Any) -> dict[str, Quality]:
    found = {}
    for name, row in table.items() if isinstance(table, Mapping) else ():
        match row:
            case {"psnr_y": int() | float() as psnr} if math.isfinite(psnr):
                found[str(name)] = Quality(float(psnr), _if((int, float), row.get("ssim_y")))
    return found


def _if(kind: type[Any] | tuple[type[Any], ...], value: Any) -> Any:
    """The value, if it is of this kind."""
    return value if isinstance(value, kind) else None

"""The picture files of an evaluation: upscaled pictures, difference maps, and figures of details."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from lkdn_deploy.bench.opening import BICUBIC
from lkdn_deploy.bench.quality.crops import Crop, Panel, draw
from lkdn_deploy.bench.quality.evaluation import Levels, Seen, Subject, bicubic
from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.imaging.files.picture import Picture
from lkdn_deploy.imaging.files.read import read_size
from lkdn_deploy.imaging.files.write import write_picture
from lkdn_deploy.imaging.metrics import luma
from lkdn_deploy.imaging.testsets import ImagePair, TestSet

DIFFERENCE_GAIN = 4
"""Factor of the luma difference in the maps."""


@dataclass(slots=True)
class _Figure:
    """A figure of a crop at a scale, with the original and the details collected so far."""

    crop: Crop
    scale: int
    test_set: str
    picture: ImagePair
    path: Path
    high: Levels | None = None
    panels: list[Panel] = field(default_factory=list)


class Gallery:
    """The picture files of an evaluation, which are all checked before it begins.

    Args:
        sets: test sets by scale.
        subjects: subjects that will be evaluated.
        crops: details to draw.
        save: folder for all pictures; ``None``: draw details only, into the current folder.
        overwrite: whether existing files may be replaced.

    Raises:
        UsageError: if a file exists, two files would have the same name, or a crop does not name one picture, or
            reaches beyond it.
        InputError: if the picture of a crop cannot be read.
    """

    def __init__(
        self,
        sets: Mapping[int, Sequence[TestSet]],
        subjects: Sequence[Subject],
        crops: Sequence[Crop],
        *,
        save: Path | None = None,
        overwrite: bool = False,
    ) -> None:
        if save is not None and save.exists() and not save.is_dir():
            msg = f"{save} is a file, but pictures are saved in a folder"
            raise UsageError(msg, "give the name of a folder with --output")
        self._save = save
        self._figures = _plan(sets, crops, Path() if save is None else save)
        files = [figure.path for figure in self._figures]
        for subject in subjects if save is not None else ():
            for one in sets[subject.scale]:
                files += [path for picture in one.pictures for path in self._files(subject, one, picture)]
        if twice := len(files) - len(set(files)):
            msg = f"{twice} of the {len(files)} pictures to save would have the same name as another"
            raise UsageError(msg, "rename the pictures that end in _diff, or evaluate the sets one by one")
        existing = [] if overwrite else [path for path in files if path.exists() or path.is_symlink()]
        if existing:
            more = f" (and {len(existing) - 1} more)" if len(existing) > 1 else ""
            msg = f"{existing[0]}{more} exists"
            raise UsageError(msg, "choose another folder, or allow overwriting with --overwrite")

    def watch(self, subject: Subject, test_set: TestSet) -> Seen:
        """Return the function to call with every picture of a set that a subject upscaled.

        Raises:
            InputError: from that function, if a picture cannot be written.
        """
        figures = [one for one in self._figures if (one.scale, one.test_set) == (subject.scale, test_set.name)]

        def seen(picture: ImagePair, low: Levels, high: Levels, image: Levels) -> None:
            for figure in figures:
                if figure.picture != picture:
                    continue
                if figure.high is None:
                    figure.high = high
                    figure.panels.append((BICUBIC, figure.crop.cut(bicubic(figure.scale).pixels(low))))
                if subject.name != BICUBIC:
                    figure.panels.append((subject.name, figure.crop.cut(image)))
            if self._save is not None:
                made, differing = self._files(subject, test_set, picture)
                made.parent.mkdir(parents=True, exist_ok=True)
                write_picture(made, Picture(image))
                write_picture(differing, Picture(difference(image, high)))

        return seen

    def draw(self) -> list[Path]:
        """Write the figures of the details that were seen, and return their paths.

        Raises:
            InputError: if a figure cannot be written.
        """
        paths = []
        for figure in self._figures:
            if figure.high is not None:
                title = f"{figure.test_set}/{figure.picture.name}, x{figure.scale}"
                figure.path.parent.mkdir(parents=True, exist_ok=True)
                write_picture(figure.path, Picture(draw(title, figure.high, figure.crop, figure.panels)))
                paths.append(figure.path)
        return paths

    def _files(self, subject: Subject, test_set: TestSet, picture: ImagePair) -> tuple[Path, Path]:
        folder = (self._save or Path()) / subject.title / test_set.name
        return folder / f"{picture.name}.png", folder / f"{picture.name}_diff.png"


def difference(image: Levels, original: Levels) -> Levels:
    """Return ``DIFFERENCE_GAIN`` times the absolute luma difference of two (H, W, 3) RGB pictures as (H, W, 1) grey."""
    differing = DIFFERENCE_GAIN * np.abs(luma(image) - luma(original))
    grey: Levels = np.rint(differing).clip(0, 255).astype(np.uint8)
    return grey[..., None]


def _plan(sets: Mapping[int, Sequence[TestSet]], crops: Sequence[Crop], folder: Path) -> list[_Figure]:
    found = [(crop, scale, *_find(crop, those)) for scale, those in sets.items() for crop in dict.fromkeys(crops)]
    names = Counter((scale, f"{picture.name}_{crop.place}") for crop, scale, _, picture in found)
    figures = []
    for crop, scale, test_set, picture in found:
        width, height = read_size(picture.high)
        crop.check((width - width % scale, height - height % scale))
        name = f"{picture.name}_{crop.place}"
        if names[scale, name] > 1:
            name = f"{test_set.name}_{name}"
        if len(sets) > 1:
            name += f"_x{scale}"
        figures.append(_Figure(crop, scale, test_set.name, picture, folder / f"{name}.png"))
    return figures


def _find(crop: Crop, sets: Sequence[TestSet]) -> tuple[TestSet, ImagePair]:
    """Find the picture of a crop by its name or its file's name, each optionally after ``SET/``."""
    every = [(one, picture, f"{one.name}/{picture.name}") for one in sets for picture in one.pictures]
    found = [each for each in every if crop.image.removeprefix(f"{each[0].name}/") in (each[1].name, each[1].high.name)]
    if len(found) == 1:
        return found[0][:2]
    if found:
        msg = f"{len(found)} pictures are called {crop.image}"
        raise UsageError(msg, f"name one of {', '.join(name for *_, name in found)}")
    some = ", ".join(name for *_, name in every[:8])
    msg = f"--crop names {crop.image}, but no picture is called so"
    raise UsageError(msg, f"the pictures are {some}{', ...' if len(every) > 8 else ''}")

"""Recipes: TOML files with everything that decides a training run but for the photographs.

A recipe has the tables ``network`` (`LkdnSpec`), ``data`` (`CropSettings`) and ``optimisation`` (`Optimisation`), and
the keys of `Recipe` at its top. Recipes that come with the package are found by name (``tiny``, ``lkdn_x4``, ...).
"""

import json
import math
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from lkdn_deploy.core.errors import UsageError
from lkdn_deploy.core.files import read_bounded, reading
from lkdn_deploy.core.spec import LkdnSpec
from lkdn_models.data import CropSettings
from lkdn_models.schema import build

MAX_BYTES = 1 << 20
"""Largest size of a recipe's file."""
FOLDER = Path(__file__).parents[1] / "recipes"


class Optimiser(StrEnum):
    """A rule that turns gradients into steps."""

    ADAN = "adan"
    ADAM = "adam"


class Loss(StrEnum):
    """A loss, averaged over all pixels and channels of RGB in 0..1."""

    L1 = "l1"
    """Absolute error."""
    L2 = "l2"
    """Squared error."""
    MIXED = "mixed"
    """Absolute error plus five times the squared error, which makes large errors at sharp edges count more."""


BETAS = {Optimiser.ADAN: (0.98, 0.92, 0.99), Optimiser.ADAM: (0.9, 0.999)}
"""Share that each moving average keeps in a step (Adan: Xie et al., 2022; Adam: Kingma and Ba, 2015)."""


@dataclass(frozen=True, slots=True)
class Optimisation:
    """The length, learning rate and optimiser of a training.

    Attributes:
        iterations: number of batches.
        learning_rate: learning rate after the warm-up and before it falls.
        optimiser: Adan or Adam.
        betas: betas of the optimiser, in its paper's order; empty: its paper's values.
        loss: loss to minimise.
        warm_up: iterations in which the rate grows linearly to ``learning_rate``.
        milestones: iterations at each of which the rate is multiplied by ``factor``.
        factor: factor at the milestones.
        tail: share of the iterations, at the end, in which the rate falls to zero along a cosine.
        ema: share that the average of the weights keeps in each step.
        max_grad_norm: largest norm of the gradients; larger ones are scaled down to it.
        flat: weight of a second loss: the mean squared error on flat pictures of 1 to 16 pixels a side, in colours of
            the batch. Border pixels are few in crops, and small pictures consist of them.
        bf16: whether to run the network in bfloat16 where PyTorch's autocast does; weights and their updates stay
            float32.
        compile: whether to run the network through ``torch.compile``.

    Raises:
        UsageError: if a value is out of range.
    """

    iterations: int
    learning_rate: float
    optimiser: Optimiser = Optimiser.ADAN
    betas: tuple[float, ...] = ()
    loss: Loss = Loss.L1
    warm_up: int = 0
    milestones: tuple[int, ...] = ()
    factor: float = 0.5
    tail: float = 0.0
    ema: float = 0.999
    max_grad_norm: float = math.inf
    flat: float = 0.0
    bf16: bool = False
    compile: bool = False

    def __post_init__(self) -> None:
        wanted = len(BETAS[self.optimiser])
        for name, fits, what in (
            ("iterations", 1 <= self.iterations <= 10**8, "from 1 to 100 million"),
            ("learning_rate", 0 < self.learning_rate <= 1, "above 0 and at most 1"),
            (
                "betas",
                len(self.betas) in (0, wanted) and all(0 <= beta < 1 for beta in self.betas),
                f"{wanted} shares from 0 to below 1",
            ),
            ("warm_up", 0 <= self.warm_up <= 10**8, "0 or more"),
            (
                "milestones",
                all(0 < milestone <= 10**8 for milestone in self.milestones)
                and list(self.milestones) == sorted(set(self.milestones)),
                "growing numbers of iterations above 0",
            ),
            ("factor", 0 < self.factor <= 1, "above 0 and at most 1"),
            ("tail", 0 <= self.tail <= 1, "a share from 0 to 1"),
            ("ema", 0 <= self.ema < 1, "a share from 0 to below 1"),
            ("max_grad_norm", self.max_grad_norm > 0, "above 0"),
            ("flat", 0 <= self.flat <= 100, "from 0 to 100"),
        ):
            if not fits:
                msg = f"{name} must be {what}, got {getattr(self, name)}"
                raise UsageError(msg)

    def rate(self, step: int) -> float:
        """Return the learning rate of step number ``step`` (from 0)."""
        warm = min(1.0, (step + 1) / (self.warm_up + 1))
        steps_down: float = self.factor ** sum(milestone <= step for milestone in self.milestones)
        tail = self.tail * self.iterations
        left = self.iterations - step
        cosine = 0.5 - 0.5 * math.cos(math.pi * left / tail) if left < tail else 1.0
        return self.learning_rate * warm * steps_down * cosine


@dataclass(frozen=True, slots=True)
class Distillation:
    """The part of the loss that comes from a teacher.

    Attributes:
        output: share of the loss that compares with the teacher's output; the rest compares with the original.
        features: weight of a further loss: the error of what each block gives, in the network as a whole, against what
            the teacher's block gives, relative to what that adds to its input.
        blocks: whether each part of the network learns the teacher's part instead, given the teacher's features.

    Raises:
        UsageError: if a value is out of range.
    """

    output: float = 0.0
    features: float = 0.0
    blocks: bool = False

    def __post_init__(self) -> None:
        if not 0 <= self.output <= 1:
            msg = f"output must be a share from 0 to 1, got {self.output}"
            raise UsageError(msg)
        if not 0 <= self.features <= 100:
            msg = f"features must be from 0 to 100, got {self.features}"
            raise UsageError(msg)
        if self.blocks and (self.output or self.features):
            msg = "blocks excludes output and features: with blocks, all is learned from the teacher alone"
            raise UsageError(msg)

    @property
    def active(self) -> bool:
        """Whether there is a teacher at all."""
        return self.blocks or self.output > 0 or self.features > 0


@dataclass(frozen=True, slots=True)
class Recipe:
    """Everything that decides a training run but for the photographs.

    Attributes:
        network: network in training form.
        data: choice of crops.
        optimisation: length, learning rate and optimiser.
        distillation: what is learned from a teacher; by default nothing.
        seed: seed of the first weights, the crops and the held-out photographs.
        log_every: iterations between two lines of the log.
        save_every: iterations between two saved states.
        keep: number of the last states to keep.
        validate_every: iterations between two measurements on the validation sets; 0: only at the end.

    Raises:
        UsageError: if a value is out of range.
    """

    network: LkdnSpec
    data: CropSettings
    optimisation: Optimisation
    distillation: Distillation = Distillation()
    seed: int = 0
    log_every: int = 50
    save_every: int = 500
    keep: int = 2
    validate_every: int = 0

    def __post_init__(self) -> None:
        for name, low in (("seed", 0), ("log_every", 1), ("save_every", 1), ("keep", 1), ("validate_every", 0)):
            if getattr(self, name) < low:
                msg = f"{name} must be {low} or more, got {getattr(self, name)}"
                raise UsageError(msg)
        if self.seed >= 1 << 63:
            msg = f"seed must be below 2^63, got {self.seed}"
            raise UsageError(msg)
        if self.data.hard and not self.distillation.active:
            msg = f"hard is {self.data.hard}, but there is no teacher to be behind of"
            raise UsageError(msg, "set output in the table distillation, or leave hard out of the table data")


def shipped() -> list[str]:
    """Return the names of the recipes that come with the package."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def find_recipe(name: str) -> Path:
    """Return the file of a recipe that comes with the package, named in any case, or ``name`` itself as a path.

    Raises:
        UsageError: if there is neither.
    """
    path = Path(name)
    if name.lower() in shipped():
        return FOLDER / f"{name.lower()}.toml"
    if path.suffix == ".toml" or path.exists():
        return path
    msg = f"no recipe is called {name}"
    raise UsageError(msg, f"give a .toml file, or one of {', '.join(shipped())}")


def read_recipe(path: Path) -> Recipe:
    """Read a recipe's TOML file.

    Raises:
        InputError: if it cannot be read, or is not TOML.
        UsageError: if a key is unknown, missing, of the wrong type or out of range.
    """
    with reading(path, "a TOML file"):
        return from_table(tomllib.loads(read_bounded(path, MAX_BYTES).decode()))


def from_table(table: Mapping[str, Any]) -> Recipe:
    """Return a recipe from its keys and values, as TOML or ``as_table`` give them.

    Raises:
        UsageError: if a key is unknown, missing, of the wrong type or out of range.
    """
    return build(Recipe, table)


def as_table(recipe: Recipe) -> dict[str, Any]:
    """Return the recipe as plain JSON values, as a run records it."""
    table: dict[str, Any] = json.loads(json.dumps(asdict(recipe)))
    return table

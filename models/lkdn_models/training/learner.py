"""The part of a training run that changes: weights, the optimiser's state, averaged weights."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from lkdn_deploy.core.errors import InputError, LkdnError
from lkdn_models.checkpoint import Checkpoint
from lkdn_models.nets.lkdn import LKDN
from lkdn_models.training.distillation import Teacher
from lkdn_models.training.online import OnlineLKDN, merger
from lkdn_models.training.optim import Adan, Ema
from lkdn_models.training.recipe import BETAS, Loss, Optimisation, Optimiser, Recipe
from lkdn_models.training.upsampler import fit_upsampler

ERRORS: Mapping[Loss, Callable[[Tensor], Tensor]] = {
    Loss.L1: torch.abs,
    Loss.L2: torch.square,
    Loss.MIXED: lambda error: error.abs() + 5 * error.square(),
}


class Learner:
    """A network in training. Its weights follow from the recipe, the first weights and the batches."""

    def __init__(
        self, recipe: Recipe, device: torch.device, init: Checkpoint | None = None, teacher: Teacher | None = None
    ) -> None:
        """Draw the first weights, or take them from a checkpoint.

        Args:
            recipe: network, optimiser and loss.
            device: device to compute on.
            init: weights to start from; of another scale, all but the up-sampler's are taken, see `fit_upsampler`.
            teacher: network to learn from, if the recipe asks for one.

        Raises:
            InputError: if ``init`` does not fit the recipe's network.
        """
        torch.manual_seed(recipe.seed)
        network = LKDN(recipe.network)
        if init is not None:
            _initialise(network, init)
        self._recipe = recipe
        self.weights = dict(network.to(device).named_parameters())
        self.ema = Ema(self.weights, recipe.optimisation.ema)
        self._optimiser = _optimiser(self.weights.values(), recipe.optimisation)
        self._device = device
        self._error = ERRORS[recipe.optimisation.loss]
        self._network = OnlineLKDN(recipe.network)
        self._teacher = teacher
        self._run = torch.compile(self._measure, dynamic=False) if recipe.optimisation.compile else self._measure

    def differentiate(self, low: Tensor, high: Tensor) -> float:
        """Return the loss of a batch, and leave its gradients on the weights.

        Args:
            low: RGB in 0..1, (N, 3, H, W).
            high: RGB in 0..1, (N, 3, scale * H, scale * W).

        Raises:
            LkdnError: if ``torch.compile`` fails.
        """
        self._optimiser.zero_grad()
        low, high = (batch.to(self._device, non_blocking=True) for batch in (low, high))
        try:
            loss = self._run(low, high)
            loss.backward()  # type: ignore[no-untyped-call]
        except torch._dynamo.exc.TorchDynamoException as error:
            msg = f"torch.compile failed: {str(error).partition(chr(10))[0]}"
            raise LkdnError(msg, "train without --compile: the result is the same but for rounding") from error
        return float(loss.item())

    def update(self, step: int, rate: float) -> float:
        """Take one optimiser step, unless a gradient is not finite.

        Args:
            step: number of the step, from 0.
            rate: learning rate.

        Returns:
            The norm of the gradients before it is bounded.
        """
        norm = nn.utils.clip_grad_norm_(self.weights.values(), self._recipe.optimisation.max_grad_norm)
        if not norm.isfinite():
            return norm.item()
        self._optimiser.param_groups[0]["lr"] = rate
        self._optimiser.step()
        self.ema.update(self.weights, step + 1)
        return norm.item()

    def averaged(self) -> LKDN:
        """Return the network with the averaged weights and merged branches, in evaluation mode."""
        with torch.no_grad():
            network = LKDN(self._recipe.network.deployed).to(self._device)
            network.load_state_dict(merger(self._recipe.network)(self.ema.average))
        return network.eval()

    def fit_upsampler(self, crops: Iterable[tuple[Tensor, Tensor]]) -> None:
        """Replace the up-sampler by the one with the least squared error on batches of low- and high-resolution crops.

        It is for a start from weights of another scale, which leaves the up-sampler random.
        """
        network = LKDN(self._recipe.network).to(self._device)
        network.load_state_dict(self.weights)
        fit_upsampler(network, ((low.to(self._device), high.to(self._device)) for low, high in crops))
        with torch.no_grad():
            for name, value in network.named_parameters():
                self.weights[name].copy_(value)
                self.ema.average[name].copy_(value)

    def state(self) -> dict[str, Any]:
        """Return everything that ``restore`` needs."""
        return {
            "weights": {name: value.detach() for name, value in self.weights.items()},
            "optimiser": self._optimiser.state_dict(),
            "ema": self.ema.average,
        }

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take over what ``state`` returned.

        Raises:
            InputError: if it does not fit the recipe's network.
        """
        mine = {name: value.shape for name, value in self.weights.items()}
        for kind in ("weights", "ema"):
            if {name: getattr(value, "shape", None) for name, value in state[kind].items()} != mine:
                msg = f"the saved state does not fit the recipe's network: its {kind} have other names or sizes"
                raise InputError(msg, "it was not written by this run; start another run with --output")
        with torch.no_grad():
            for name, value in self.weights.items():
                value.copy_(state["weights"][name])
                self.ema.average[name].copy_(state["ema"][name])
        try:
            self._optimiser.load_state_dict(state["optimiser"])
        except Exception as error:  # whatever a damaged state makes it trip over
            msg = "the saved state of the optimiser does not fit the recipe's network"
            raise InputError(msg, "it was not written by this run; start another run with --output") from error

    def _measure(self, low: Tensor, high: Tensor) -> Tensor:
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._recipe.optimisation.bf16):
            if self._teacher and self._recipe.distillation.blocks:
                return self._teacher.block_loss(self.weights, low)
            features, output = self._network.run(self.weights, low)
            flat = self._flat_error(low) if self._recipe.optimisation.flat else 0.0
        error = self._error(output.float() - high)
        taught: Tensor | float = 0.0
        if self._teacher:
            settings, lesson = self._recipe.distillation, self._teacher.lesson(low, high)
            share = settings.output * lesson.counts
            error = share * self._error(output.float() - lesson.output.float()) + (1 - share) * error
            taught = settings.features * lesson.feature_error(features) if settings.features else 0.0
        return error.mean() + self._recipe.optimisation.flat * flat + taught

    def _flat_error(self, low: Tensor) -> Tensor:
        """Return the mean squared error on a flat picture for each crop, in the colour of its corner.

        The side, 1 to 16 pixels, follows from the batch too: a resumed run draws what it would have drawn.
        """
        colours, side = low[:, :, :1, :1], 1 + int(255 * low[0, 0, 0, 0].item()) % 16
        return (self._network(self.weights, colours.expand(-1, -1, side, side)).float() - colours).square().mean()


def _optimiser(weights: Iterable[Tensor], settings: Optimisation) -> torch.optim.Optimizer:
    betas: Any = settings.betas or BETAS[settings.optimiser]
    if settings.optimiser is Optimiser.ADAM:
        return torch.optim.Adam(weights, settings.learning_rate, betas)
    return Adan(weights, settings.learning_rate, betas)


def _initialise(network: LKDN, init: Checkpoint) -> None:
    """Take over the weights of ``init``, without the up-sampler's if its scale differs."""
    mine = network.state_dict()
    wanted = {
        name: value.shape
        for name, value in mine.items()
        if init.spec.scale == network.spec.scale or not name.startswith("upsampler.")
    }
    for name, shape in wanted.items():
        if name not in init.state or init.state[name].shape != shape:
            msg = f"{init.path} does not fit the recipe's network: {name} is missing or of another size"
            raise InputError(msg, f"expected {network.spec}, got {init.spec}")
    network.load_state_dict({**mine, **{name: init.state[name] for name in wanted}})

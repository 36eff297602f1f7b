"""The optimiser and the weight average of the training recipes."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import torch
from torch import Tensor

from lkdn_deploy.core.errors import UsageError


class Adan(torch.optim.Optimizer):
    """Adaptive Nesterov momentum ("Adan", Xie et al., 2022, algorithm 1).

    With the gradient g, its change d = g - g_previous (0 in the first step) and ``betas`` = (b1, b2, b3), each the
    share that a moving average keeps (the paper writes 1 - b)::

        m = b1 m + (1 - b1) g
        v = b2 v + (1 - b2) d
        n = b3 n + (1 - b3) (g + b2 d)^2
        step = (m / (1 - b1^t) + b2 v / (1 - b2^t)) / (sqrt(n / (1 - b3^t)) + eps)
        weight = (weight - lr step) / (1 + lr weight_decay)

    The averages start at 0 and are corrected for it, as in Adam; t counts steps from 1.

    Raises:
        UsageError: if a setting is out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor],
        lr: float,
        betas: tuple[float, float, float] = (0.98, 0.92, 0.99),
        eps: float = 1e-8,
        weight_decay: float = 0.0,
    ) -> None:
        if not lr >= 0 or not eps > 0 or not weight_decay >= 0 or not all(0 <= b < 1 for b in betas):
            msg = (
                "Adan needs lr and weight_decay >= 0, eps > 0 and betas in [0, 1), "
                f"got {lr}, {weight_decay}, {eps}, {betas}"
            )
            raise UsageError(msg)
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Update every parameter that has a gradient once."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [p for p in group["params"] if p.grad is not None]
            if weights:
                group["t"] = group.get("t", 0) + 1
                self._update(group, weights, [p.grad for p in weights])
        return loss

    def _update(self, group: dict[str, Any], weights: list[Tensor], gradients: list[Tensor]) -> None:
        states = [self.state[p] for p in weights]
        for state, gradient in zip(states, gradients, strict=True):
            if not state:
                state["m"], state["v"], state["n"] = (torch.zeros_like(gradient) for _ in range(3))
                state["previous"] = gradient.clone()
        m, v, n, previous = ([state[name] for state in states] for name in ("m", "v", "n", "previous"))
        b1, b2, b3 = group["betas"]
        t, lr = group["t"], group["lr"]

        change = torch._foreach_sub(gradients, previous)
        torch._foreach_copy_(previous, gradients)
        torch._foreach_lerp_(m, gradients, 1 - b1)
        torch._foreach_lerp_(v, change, 1 - b2)
        ahead = torch._foreach_mul(change, b2)
        torch._foreach_add_(ahead, gradients)
        torch._foreach_mul_(n, b3)
        torch._foreach_addcmul_(n, ahead, ahead, 1 - b3)

        scale = torch._foreach_sqrt(n)
        torch._foreach_div_(scale, (1 - b3**t) ** 0.5)
        torch._foreach_add_(scale, group["eps"])
        direction = torch._foreach_div(m, 1 - b1**t)
        torch._foreach_add_(direction, v, alpha=b2 / (1 - b2**t))
        torch._foreach_addcdiv_(weights, direction, scale, -lr)
        if group["weight_decay"]:
            torch._foreach_div_(weights, 1 + lr * group["weight_decay"])


class Ema:
    """Exponential moving average of named weights.

    The share that is kept grows to ``decay`` as (1 + t) / (10 + t), so that a short run soon forgets its start.
    """

    def __init__(self, weights: Mapping[str, Tensor], decay: float) -> None:
        self.decay = decay
        self.average = {name: value.detach().clone() for name, value in weights.items()}

    @torch.no_grad()
    def update(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Average in the weights after step number ``step`` (from 1)."""
        keep = min(self.decay, (1 + step) / (10 + step))
        torch._foreach_lerp_(list(self.average.values()), [weights[name] for name in self.average], 1 - keep)

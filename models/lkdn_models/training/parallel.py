"""Processes that train together, started by ``torchrun``; a single process is a team of one."""

import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta

import torch
from torch import Tensor, distributed


@dataclass(frozen=True, slots=True)
class Team:
    """The processes that train together, as one of them sees it.

    Attributes:
        rank: number of this process.
        size: number of processes.
        device: device that this process computes on.
    """

    rank: int
    size: int
    device: torch.device

    @property
    def leads(self) -> bool:
        """Whether this process is the one that writes files and prints."""
        return self.rank == 0

    def wait(self) -> None:
        """Wait until all processes have come this far."""
        if self.size > 1:
            distributed.barrier()

    def share(self, weights: Iterable[Tensor], loss: float, stop: bool) -> tuple[float, bool]:
        """Replace each process's gradients by their mean.

        Args:
            weights: weights with their gradients.
            loss: loss of this process.
            stop: whether this process is to stop.

        Returns:
            The mean loss, and whether any process is to stop.
        """
        if self.size == 1:
            return loss, stop
        gradients = [value.grad for value in weights if value.grad is not None]
        facts = torch.tensor([loss, float(stop)], device=self.device)
        # One message for all of them: these networks have hundreds of small tensors.
        flat = torch.cat([facts, *(gradient.reshape(-1) for gradient in gradients)]) / self.size
        distributed.all_reduce(flat)
        start = len(facts)
        for gradient in gradients:
            gradient.copy_(flat[start : start + gradient.numel()].view_as(gradient))
            start += gradient.numel()
        return flat[0].item(), flat[1].item() > 0


@contextmanager
def start_team() -> Iterator[Team]:
    """Join the processes that ``torchrun`` started, or be a team of one; each has a GPU of its own if there are any."""
    gpu = torch.cuda.is_available()
    device = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0"))) if gpu else torch.device("cpu")
    if "WORLD_SIZE" not in os.environ:
        yield Team(0, 1, device)
        return
    if gpu:
        torch.cuda.set_device(device)
    # The others wait while the first decodes the photographs, which takes a while for thousands of them.
    distributed.init_process_group("nccl" if gpu else "gloo", timeout=timedelta(hours=6))
    try:
        yield Team(distributed.get_rank(), distributed.get_world_size(), device)
    finally:
        distributed.destroy_process_group()

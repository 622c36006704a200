"""Splits one network over a trial's processes: each holds a part of every block's weights, gradients and moments.

Owns joining these processes, splitting a network's blocks among them, and what a training loop does otherwise where
tensors are split. Every process runs the whole trial on the same rows: what is not split is equal in each, and a block
comes together where it runs. In bfloat16 its matrices stay in each process, narrow, from there to its gradients.
Source: Zhao et al. 2023, https://arxiv.org/abs/2304.11277 (fully sharded data parallel), by PyTorch's `fully_shard`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import nn

LONGEST_WAIT = timedelta(days=30)
"""That a process waits for the others, between trials too: whoever started them ends those that stall."""


def join(rank: int, processes: int, meeting: Path) -> None:
    """Join the processes of a trial, as the one of this rank; `meeting` is a file that is not there yet."""
    on_gpus = torch.cuda.is_available()
    if on_gpus:
        torch.cuda.set_device(rank)
    backend = "cpu:gloo,cuda:nccl" if on_gpus else "gloo"
    dist.init_process_group(
        backend, init_method=meeting.as_uri(), rank=rank, world_size=processes, timeout=LONGEST_WAIT
    )


def tell(what: object) -> None:
    """Tell the other processes something, as the first one; waits until each of them hears it."""
    dist.broadcast_object_list([what], src=0, device=torch.device("cpu"))


def hear() -> Any:
    """What the first process tells next."""
    heard: list[Any] = [None]
    dist.broadcast_object_list(heard, src=0, device=torch.device("cpu"))
    return heard[0]


def is_split() -> bool:
    """Whether networks are split: this process runs its trials with others."""
    return dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1


def split_blocks(blocks: Iterable[nn.Module], device: torch.device) -> None:
    """Keep a part of each block's tensors here, a copy; the blocks' parameters are other objects afterwards."""
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    mesh = init_device_mesh(device.type, (dist.get_world_size(),))
    for block in blocks:
        fully_shard(block, mesh=mesh, reshard_after_forward=True)


def agree(value: float) -> float:
    """The first process's value, in each of them: what is decided by it is decided alike."""
    if not is_split():
        return value
    held = torch.tensor([value], dtype=torch.float64)
    dist.broadcast(held, src=0)
    return float(held)


@torch.no_grad()
def clip_gradients(parameters: Iterable[nn.Parameter], most: float) -> None:
    """Scale gradients to a norm of at most this, over all tensors, split or whole; whole ones are averaged first.

    Processes differ in them by rounding alone, where a GPU adds in no fixed order.
    """
    from torch.distributed.tensor import DTensor

    gradients = [p.grad for p in parameters if p.grad is not None]
    for gradient in gradients:
        if not isinstance(gradient, DTensor):
            dist.all_reduce(gradient)
            gradient.div_(dist.get_world_size())
    norms = [gradient.norm() for gradient in gradients]
    norms = [float(norm.full_tensor() if isinstance(norm, DTensor) else norm) for norm in norms]
    factor = most / (math.hypot(*norms) + 1e-6)
    if not factor >= 1:  # or no number, as where a gradient is none
        for gradient in gradients:
            gradient.mul_(factor)

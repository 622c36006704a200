"""A network's blocks, split among two processes: each holds half of them, before a pass and after it."""

from __future__ import annotations

import multiprocessing
from multiprocessing.queues import Queue
from pathlib import Path
from typing import Any

import pytest
import torch

from fewtune.engine import splitting
from fewtune.engine.loading import load_model
from fewtune.models import find_model


def count_held(blocks: Any) -> int:
    return sum(parameter.to_local().numel() for block in blocks for parameter in block.parameters())


def hold(rank: int, folder: Path, meeting: Path, told: Queue[Any]) -> None:
    splitting.join(rank, 2, meeting)
    splitting.tell("a word") if rank == 0 else told.put(splitting.hear())
    model = load_model(find_model(str(folder)), "float32")
    network = model.trainable_copy()
    blocks = model.architecture.find_blocks(network)
    whole = sum(parameter.numel() for block in blocks for parameter in block.parameters())
    before = count_held(blocks)
    forward = model.forward(network)
    forward.hidden_states(forward.pack([[1, 2, 3]])).sum().backward()
    gradients = [parameter.grad for parameter in network.parameters() if parameter.grad is not None]
    splitting.clip_gradients(network.parameters(), 0.5)
    norms = [gradient.norm() for gradient in gradients]
    norm = torch.stack([each.full_tensor() if hasattr(each, "full_tensor") else each for each in norms]).norm()
    told.put((whole, before, count_held(blocks), float(norm)))
    torch.distributed.destroy_process_group()


def test_each_process_holds_half_and_gradients_are_clipped_together(
    model_folders: dict[str, Path], tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    told = context.Queue()
    processes = [
        context.Process(target=hold, args=(rank, model_folders["llama"], tmp_path / "m", told)) for rank in (0, 1)
    ]
    for process in processes:
        process.start()
    heard = [told.get(timeout=120) for _ in range(3)]
    for process in processes:
        process.join(60)
        assert process.exitcode == 0
    assert "a word" in heard
    for whole, before, after, norm in (each for each in heard if each != "a word"):
        assert before == after == whole / 2
        assert norm == pytest.approx(0.5, rel=1e-4)

"""Embeddings that train by row end where AdamW on all of their rows would have led them."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from fewtune.engine.language_model import LanguageModel
from fewtune.engine.sparse_embeddings import RowOptimiser, gradients_by_row

STEPS = [[1, 2, 3, 2], [3, 4], [9, 1, 7], [2]]
"""Tokens read at each step: some again, some for the first time, some not."""


def train(
    embedding: nn.Embedding, head: nn.Linear, weight_decay: float, by_row: bool, whole_at: tuple[int, ...] = ()
) -> list[float]:
    """Losses of a few clipped steps of an embedding under a linear layer; all rows have gradients at some of them."""
    embedding.sparse = by_row
    parameters = [embedding.weight, head.weight]
    optimiser = torch.optim.AdamW(parameters, lr=0.05, weight_decay=weight_decay, fused=True)
    rows, losses = RowOptimiser(optimiser), []
    for step, tokens in enumerate(STEPS):
        loss = head(embedding(torch.tensor(tokens))).square().sum()
        if step in whole_at:
            loss = loss + head(embedding.weight).square().mean()
        loss.backward()
        rows.gather()
        torch.nn.utils.clip_grad_norm_([p for g in optimiser.param_groups for p in g["params"]], 1.0)
        optimiser.step()
        rows.put_back()
        optimiser.zero_grad()
        losses.append(loss.item())
    return losses


@pytest.mark.parametrize("weight_decay", [0.0, 0.1])
def test_every_row_ends_where_dense_gradients_lead(weight_decay: float) -> None:
    torch.manual_seed(0)
    embedding, head = nn.Embedding(12, 4), nn.Linear(4, 3, bias=False)
    start = embedding.weight.detach().clone()
    others = copy.deepcopy(embedding), copy.deepcopy(head)
    by_row = train(embedding, head, weight_decay, by_row=True)
    dense = train(*others, weight_decay, by_row=False)
    torch.testing.assert_close(by_row, dense)
    torch.testing.assert_close(embedding.weight, others[0].weight)
    torch.testing.assert_close(head.weight, others[1].weight)
    untouched = torch.equal(embedding.weight[5], start[5])
    assert untouched == (weight_decay == 0.0)


@pytest.mark.parametrize("whole_at", [(0,), (2,), (1, 3)])
def test_dense_gradients_may_come_between_those_by_row(whole_at: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    embedding, head = nn.Embedding(12, 4), nn.Linear(4, 3, bias=False)
    others = copy.deepcopy(embedding), copy.deepcopy(head)
    torch.testing.assert_close(
        train(embedding, head, 0.0, True, whole_at), train(*others, weight_decay=0.0, by_row=False, whole_at=whole_at)
    )
    torch.testing.assert_close(embedding.weight, others[0].weight)


def test_networks_have_gradients_by_row_inside_alone(model: LanguageModel) -> None:
    network = model.trainable_copy()
    weight = network.get_input_embeddings().weight
    with gradients_by_row([network, nn.Linear(1, 1)]):
        (inside,) = torch.autograd.grad(network.get_input_embeddings()(torch.tensor([3, 5])).sum(), weight)
    assert inside.is_sparse and inside.coalesce().indices().tolist() == [[3, 5]]
    (outside,) = torch.autograd.grad(network.get_input_embeddings()(torch.tensor([3, 5])).sum(), weight)
    assert not outside.is_sparse

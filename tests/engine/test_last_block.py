"""States of the tokens that are read equal those of a whole pass, and the last block runs no others."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from fewtune.engine.forward import Forward
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.layers import find_outer_linear
from fewtune.engine.packing import Prefix
from fewtune.methods.trainable import LoraShape, train_lora

ROWS = [[5, 9, 200, 31, 7, 64], [17], [90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100], [8, 8, 8]]
TOKENS_READ = torch.tensor([5, 6, 17, 20, 6])  # each row's end, one of them twice


def test_states_and_gradients_equal_those_of_a_whole_pass(model: LanguageModel) -> None:
    forward = Forward(model.trainable_copy(), "float32")
    batch = forward.pack(ROWS)
    parameters = list(forward.network.base_model.parameters())
    alone, whole = forward.hidden_states(batch, TOKENS_READ), forward.hidden_states(batch)[TOKENS_READ]
    torch.testing.assert_close(alone, whole, atol=1e-6, rtol=1e-5)
    gradients = [torch.autograd.grad(s.square().sum(), parameters, allow_unused=True) for s in (alone, whole)]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("shape", [LoraShape(4, 8.0), LoraShape(4, 8.0, dora=True)])
def test_adapters_are_read_alike(model: LanguageModel, shape: LoraShape) -> None:
    made = train_lora(model, shape, 1e-3, np.random.default_rng(0))
    network, (group,) = made.network, made.groups
    with torch.no_grad():
        for parameter in group.parameters:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    forward = Forward(network, "float32")
    batch = forward.pack(ROWS)
    alone, whole = forward.hidden_states(batch, TOKENS_READ), forward.hidden_states(batch)[TOKENS_READ]
    torch.testing.assert_close(alone, whole, atol=1e-5, rtol=1e-4)


def test_rows_behind_virtual_tokens_are_found(model: LanguageModel) -> None:
    forward = Forward(model.frozen, "float32")
    words = model.frozen.get_input_embeddings()(torch.tensor([50, 51, 52]))
    batch = forward.pack(ROWS, Prefix(3, embeddings=words))
    with torch.no_grad():
        torch.testing.assert_close(
            forward.hidden_states(batch, TOKENS_READ), forward.hidden_states(batch)[TOKENS_READ], atol=1e-6, rtol=1e-5
        )


def test_the_last_linear_layer_runs_what_is_read_alone(model: LanguageModel) -> None:
    blocks = model.architecture.find_blocks(model.frozen)
    layers = [find_outer_linear(blocks[block])[place] for block in (0, -1) for place in (0, -1)]
    counts: list[int] = []
    hooks = [
        layer.register_forward_hook(lambda layer, inputs, output: counts.append(inputs[0].shape[-2]))
        for layer in layers
    ]
    forward = Forward(model.frozen, "float32")  # now, for it looks for hooks
    with torch.no_grad():
        forward.hidden_states(forward.pack(ROWS), TOKENS_READ)
    for hook in hooks:
        hook.remove()
    assert counts == [21, 21, 21, 4]  # 21 tokens; four different tokens

"""Blocks below all that trains run once a sequence, and what is fitted above them is the same as without that."""

from __future__ import annotations

from functools import partial

import pytest
import torch

import tiny_models
from fewtune.engine.forward import Forward
from fewtune.engine.frozen import count_frozen_blocks, find_memory_bytes
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.options import DEFAULTS, EngineOptions
from fewtune.engine.packing import pack, run_packed, run_to_block
from fewtune.methods.trainable import train_all, train_last_blocks
from fewtune.models.architectures import architecture_of

ROWS = [[5, 9, 200, 31, 7, 64], [17], [90, 91, 92, 93, 94, 95], [5, 9, 200, 31, 7, 64]]


@pytest.mark.parametrize("name", [*tiny_models.CONFIGS, *tiny_models.ENCODERS])
def test_states_and_gradients_equal_those_of_whole_passes(name: str, models: dict[str, LanguageModel]) -> None:
    model = models[name]
    made = train_last_blocks(model, 1, 1e-3)
    network, groups = made.network, made.groups
    parameters = [p for group in groups for p in group.parameters]
    forward = Forward(network, "float32")
    for rows in (ROWS, ROWS[1:3], ROWS):  # none kept, all kept, all kept
        batch = forward.pack(rows)
        ours = forward.hidden_states(batch)
        whole = run_packed(network, batch)
        torch.testing.assert_close(ours, whole, atol=1e-6, rtol=1e-5)
        for one, other in zip(
            torch.autograd.grad(ours.square().sum(), parameters),
            torch.autograd.grad(whole.square().sum(), parameters),
            strict=True,
        ):
            torch.testing.assert_close(one, other, atol=1e-4, rtol=1e-4)


def test_a_sequence_runs_through_frozen_blocks_once_while_there_is_room(model: LanguageModel) -> None:
    network = train_last_blocks(model, 1, 1e-3).network
    forward = Forward(network, "float32")
    batch = forward.pack(ROWS)
    first = forward.hidden_states(batch)
    row_bytes = first.element_size() * run_to_block(network, batch, forward.frozen.count).states.shape[1]
    assert forward.frozen.kept_bytes == row_bytes * 13  # the last row is the first again
    cramped = Forward(network, "float32")
    cramped.frozen.most_bytes = 8 * row_bytes
    nothing = Forward(network, "float32")
    nothing.frozen.most_bytes = 0
    assert torch.equal(forward.hidden_states(batch), first)
    for other, kept in ((cramped, 7), (nothing, 0)):
        for _ in range(2):
            torch.testing.assert_close(other.hidden_states(batch), first, atol=1e-6, rtol=1e-5)
        assert other.frozen.kept_bytes == kept * row_bytes


def test_options_say_how_much_is_kept(models: dict[str, LanguageModel]) -> None:
    network = train_last_blocks(models["llama"], 1, 1e-3).network
    default = Forward(network, "float32").frozen.most_bytes
    assert default == int(DEFAULTS.kept_states_share * find_memory_bytes(torch.device("cpu"))) > 0
    assert Forward(network, "float32", options=EngineOptions(kept_states_share=0.0)).frozen.most_bytes == 0


def test_scoring_keeps_nothing(model: LanguageModel) -> None:
    network = train_last_blocks(model, 1, 1e-3).network
    forward = Forward(network, "float32")
    with torch.no_grad():
        forward.hidden_states(forward.pack(ROWS))
    assert forward.frozen.kept_bytes == 0


def test_frozen_blocks_are_those_below_all_that_trains(model: LanguageModel) -> None:
    network = train_last_blocks(model, 1, 1e-3).network
    blocks = len(architecture_of(network).find_blocks(network))
    assert count_frozen_blocks(network) == blocks - 1
    assert count_frozen_blocks(model.frozen) == blocks
    assert count_frozen_blocks(train_all(model, 1e-3, True).network) == 0
    network.get_input_embeddings().requires_grad_(True)
    assert count_frozen_blocks(network) == 0


def test_frozen_blocks_are_in_evaluation_mode_while_the_others_train(model: LanguageModel) -> None:
    network = train_last_blocks(model, 1, 1e-3).network
    for module in network.modules():
        if isinstance(getattr(module, "dropout", None), float):
            module.dropout = 0.5
    forward = Forward(network.train(), "float32")
    with torch.no_grad():
        evaluated = run_to_block(network.eval(), forward.pack(ROWS), forward.frozen.count)
    network.train()
    torch.testing.assert_close(
        forward.frozen.run(forward.pack(ROWS), partial(run_to_block, network)).states, evaluated.states
    )
    blocks = list(architecture_of(network).find_blocks(network))
    assert blocks[-1].training and not any(block.training for block in blocks[:-1])


@pytest.mark.parametrize("name", ["opt", "gpt2", "bert"])
def test_frozen_blocks_have_no_dropout_run_apart_or_not(name: str, models: dict[str, LanguageModel]) -> None:
    def fit(options: EngineOptions) -> list[float]:
        torch.manual_seed(0)
        made = train_last_blocks(models[name], 1, 1e-2)
        for module in made.network.modules():
            if isinstance(module, torch.nn.Dropout):
                module.p = 0.3
            elif isinstance(getattr(module, "dropout", None), float):
                module.dropout = 0.3
        forward = Forward(made.network.train(), "float32", options=options)
        optimiser = torch.optim.SGD([p for group in made.groups for p in group.parameters], lr=1e-2)
        losses = []
        for _ in range(3):
            loss = forward.hidden_states(forward.pack(ROWS)).square().mean()
            loss.backward()
            optimiser.step()
            optimiser.zero_grad()
            losses.append(loss.item())
        return losses

    apart = fit(DEFAULTS)
    assert apart == pytest.approx(fit(EngineOptions(separate_frozen_blocks=False)), rel=1e-5)
    assert len(set(apart)) == 3


@pytest.mark.parametrize("besides", [None, 1])
def test_blocks_that_put_out_a_tuple_are_resumed_with_one(
    models: dict[str, LanguageModel], besides: int | None
) -> None:
    model = models["llama"]
    network = train_last_blocks(model, 1, 1e-3).network
    batch = pack(ROWS, model.device)
    plain = run_packed(network, batch)

    class Wrapping(torch.nn.Module):
        """A block that hands on attention weights besides its states, and expects its predecessor to."""

        def __init__(self, block: torch.nn.Module) -> None:
            super().__init__()
            self.block = block

        def forward(self, states: object, **named: object) -> object:
            if isinstance(states, tuple):
                states, weights = states
                assert weights is None
            return self.block(states, **named), None

    if besides is not None:
        blocks = architecture_of(network).find_blocks(network)
        last = len(blocks) - 1
        for index in range(last):
            blocks[index] = Wrapping(blocks[index])
        final = blocks[last].forward
        blocks[last].forward = lambda states, **named: final(states[0], **named)
    forward = Forward(network, "float32")
    torch.testing.assert_close(forward.hidden_states(batch), plain)
    assert forward.frozen.run(batch, partial(run_to_block, network)).besides == besides
    torch.testing.assert_close(forward.hidden_states(batch), plain)

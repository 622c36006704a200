"""Packed rows score as single, left-padded and right-padded rows do in Transformers' own attention."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from fewtune.engine.forward import Forward
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.packing import Prefix, group_by_tokens, pack, run_packed, shared_prefix_length

ROWS = [[5, 9, 200, 31, 7, 64], [17], [90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100], [8, 8, 8]]


@pytest.fixture
def plain_states(model: LanguageModel) -> list[torch.Tensor]:
    """Each row alone through Transformers' scaled-dot-product attention."""
    network = copy.deepcopy(model.frozen)
    network.set_attn_implementation("sdpa")
    with torch.no_grad():
        return [network.base_model(input_ids=torch.tensor([row])).last_hidden_state[0] for row in ROWS]


def test_packed_rows_equal_single_rows(model: LanguageModel, plain_states: list[torch.Tensor]) -> None:
    with torch.no_grad():
        states = run_packed(model.frozen, pack(ROWS, model.device))
    torch.testing.assert_close(states, torch.cat(plain_states), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("side", ["left", "right"])
def test_padded_rows_equal_packed_rows(model: LanguageModel, plain_states: list[torch.Tensor], side: str) -> None:
    network = copy.deepcopy(model.frozen)
    network.set_attn_implementation("sdpa")
    width = max(map(len, ROWS))
    tokens = torch.zeros(len(ROWS), width, dtype=torch.long)
    mask = torch.zeros_like(tokens)
    for i, row in enumerate(ROWS):
        place = slice(width - len(row), None) if side == "left" else slice(0, len(row))
        tokens[i, place], mask[i, place] = torch.tensor(row), 1
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    with torch.no_grad():
        padded = network.base_model(input_ids=tokens, attention_mask=mask, position_ids=positions).last_hidden_state
        packed = run_packed(model.frozen, pack(ROWS, model.device))
    torch.testing.assert_close(padded[mask.bool()], packed, atol=1e-5, rtol=1e-4)


def test_rows_behind_a_prefix_equal_whole_rows(model: LanguageModel) -> None:
    forward = Forward(model.frozen, "float32")
    opening = [50, 51, 52, 53]
    prefix = forward.compute_prefix(opening)
    with torch.no_grad():
        behind = forward.hidden_states(forward.pack(ROWS, prefix))
        whole = forward.hidden_states(forward.pack([opening + row for row in ROWS]))
    kept = torch.cat([part[len(opening) :] for part in whole.split([len(opening) + len(r) for r in ROWS])])
    torch.testing.assert_close(behind, kept, atol=1e-5, rtol=1e-4)
    assert forward.tokens_run == len(opening) + 2 * sum(map(len, ROWS)) + len(ROWS) * len(opening)


def test_embeddings_before_rows_are_run_once_and_equal_their_tokens_before_each_row(model: LanguageModel) -> None:
    opening = [50, 51, 52, 53]
    embeddings = model.frozen.get_input_embeddings()(torch.tensor(opening)).detach().requires_grad_(True)
    forward = Forward(model.frozen, "float32")
    behind = forward.hidden_states(forward.pack(ROWS, Prefix(len(opening), embeddings=embeddings)))
    assert forward.tokens_run == len(opening) + sum(map(len, ROWS))
    with torch.no_grad():
        whole = forward.hidden_states(forward.pack([opening + row for row in ROWS]))
    kept = torch.cat([part[len(opening) :] for part in whole.split([len(opening) + len(r) for r in ROWS])])
    torch.testing.assert_close(behind, kept, atol=1e-5, rtol=1e-4)
    (gradient,) = torch.autograd.grad(behind.square().sum(), embeddings)
    alone = torch.zeros_like(embeddings)
    for row in ROWS:
        states = forward.hidden_states(forward.pack([row], Prefix(len(opening), embeddings=embeddings)))
        alone += torch.autograd.grad(states.square().sum(), embeddings)[0]
    torch.testing.assert_close(gradient, alone, atol=1e-3, rtol=1e-3)


def test_soft_tokens_come_before_a_shared_prefix_and_both_before_the_rows(model: LanguageModel) -> None:
    soft, opening = [60, 61, 62], [50, 51, 52, 53]

    class Soft:
        def make_prefix(self) -> Prefix:
            words = model.frozen.get_input_embeddings()(torch.tensor(soft))
            return Prefix(len(soft), embeddings=words)

    class SoftKeys:
        def make_prefix(self) -> Prefix:
            return Forward(model.frozen, "float32").compute_prefix(soft)

    plain = Forward(model.frozen, "float32")
    with torch.no_grad():
        whole = plain.hidden_states(plain.pack([soft + opening + row for row in ROWS]))
    cut = len(soft + opening)
    kept = torch.cat([part[cut:] for part in whole.split([cut + len(r) for r in ROWS])])
    for made in (Soft(), SoftKeys()):
        forward = Forward(model.frozen, "float32", made)
        prefix = forward.compute_prefix(opening)
        assert prefix.length == cut and prefix.layers[0][0].shape[2] == cut
        with torch.no_grad():
            states = forward.hidden_states(forward.pack(ROWS, prefix))
        torch.testing.assert_close(states, kept, atol=1e-5, rtol=1e-4)


def test_gradients_of_packed_rows_equal_those_of_single_rows(model: LanguageModel) -> None:
    together, alone = model.trainable_copy(), model.trainable_copy()
    run_packed(together, pack(ROWS, model.device)).square().sum().backward()
    for row in ROWS:
        run_packed(alone, pack([row], model.device)).square().sum().backward()
    for (name, one), other in zip(together.named_parameters(), alone.parameters(), strict=True):
        if other.grad is not None:
            torch.testing.assert_close(one.grad, other.grad, atol=1e-3, rtol=1e-3, msg=name)


def test_a_network_set_up_for_packing_refuses_unpacked_rows(model: LanguageModel) -> None:
    with pytest.raises(RuntimeError, match="set up for packed rows"):
        model.frozen(input_ids=torch.tensor([[1, 2, 3]]))


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 120))
def test_groups_keep_order_and_budget(lengths: list[int], budget: int) -> None:
    groups = group_by_tokens(lengths, budget)
    assert [i for group in groups for i in group] == list(range(len(lengths)))
    assert all(sum(lengths[i] for i in group) <= budget or len(group) == 1 for group in groups)


@pytest.mark.parametrize(
    ("rows", "shared"),
    [([[1, 2, 3], [1, 2, 4]], 2), ([[1, 2], [1, 2, 4]], 1), ([[1], [1]], 0), ([[2, 1], [1, 2]], 0)],
)
def test_shared_prefix_leaves_every_row_a_token(rows: list[list[int]], shared: int) -> None:
    assert shared_prefix_length(rows) == shared

"""Llama's blocks in few large operations give the states and gradients of Transformers' own, as the weights are now."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from fewtune.engine.branches import STEM, Branches
from fewtune.engine.forward import Forward
from fewtune.engine.fused_llama import FusedLlama
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.options import DEFAULTS, EngineOptions
from fewtune.engine.packing import Packed
from fewtune.methods.trainable import LoraShape, Trained, train_all, train_last_blocks, train_lora
from fewtune.models import Precision

PLAIN = EngineOptions(fused_blocks=False)
ROWS = [[5, 9, 200, 31, 7, 64], [17], [90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100], [8, 8, 8]]
ENDS = torch.tensor([5, 6, 17, 20])
LONG = EngineOptions(longest_written_out=0)
"""Every row is too long for attention that is written out."""


@pytest.fixture
def llama(models: dict[str, LanguageModel]) -> LanguageModel:
    return models["llama"]


def adapt(model: LanguageModel, shape: LoraShape) -> Trained:
    made = train_lora(model, shape, 1e-3, np.random.default_rng(0))
    with torch.no_grad():
        for parameter in made.groups[0].parameters:
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1)))
    return made


TRAINED: dict[str, Callable[[LanguageModel], Trained]] = {
    "all weights": lambda model: train_all(model, 1e-3, body_only=True),
    "last block": lambda model: train_last_blocks(model, 1, 1e-3),
    "adapters": lambda model: adapt(model, LoraShape(4, 8.0)),
    "two adapters": lambda model: adapt(model, LoraShape(4, 8.0, query_value_only=True)),
}


def find_states(
    made: Trained, options: EngineOptions, pack: Callable[[Forward], Packed], precision: Precision = "float32"
) -> tuple[Tensor, tuple[Tensor | None, ...]]:
    """What a forward pass reads, and the gradients of all that trains."""
    forward = Forward(made.network, precision, options=options)
    assert (forward.fused is not None) == options.fused_blocks
    batch = pack(forward)
    states = forward.hidden_states(batch, ENDS)
    trained = [p for group in made.groups for p in group.parameters]
    weights = torch.randn(states.shape, generator=torch.Generator().manual_seed(2))
    return states.detach(), torch.autograd.grad((states * weights).sum(), trained, allow_unused=True)


PACKS: dict[str, Callable[[Forward], Packed]] = {
    "rows": lambda forward: forward.pack(ROWS),
    "behind a prefix": lambda forward: forward.pack(ROWS, forward.compute_prefix([11, 12, 13, 14])),
    "with branches": lambda forward: forward.pack(ROWS, branches=Branches((71, 73, 75), (STEM, 0, STEM))),
}


@pytest.mark.parametrize("options", [DEFAULTS, LONG], ids=["short", "long"])
@pytest.mark.parametrize("packed", list(PACKS))
@pytest.mark.parametrize("trained", list(TRAINED))
def test_states_and_gradients_are_those_of_transformers(
    trained: str, packed: str, options: EngineOptions, llama: LanguageModel
) -> None:
    made = TRAINED[trained](llama)
    ours, found = find_states(made, options, PACKS[packed])
    theirs, wanted = find_states(made, PLAIN, PACKS[packed])
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    for one, other in zip(found, wanted, strict=True):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            torch.testing.assert_close(one, other, atol=1e-5 * max(1.0, float(other.abs().max())), rtol=1e-5)


@pytest.mark.parametrize("trained", list(TRAINED))
def test_bfloat16_is_no_further_from_float32_than_transformers(trained: str, llama: LanguageModel) -> None:
    made = TRAINED[trained](llama)
    exact, wanted = find_states(made, PLAIN, PACKS["rows"])
    (ours, found), (theirs, plain) = (
        find_states(made, options, PACKS["rows"], "bfloat16") for options in (DEFAULTS, PLAIN)
    )
    assert ours.dtype == torch.float32
    assert find_distance([ours], [exact]) < 1.2 * find_distance([theirs], [exact])
    assert {each.dtype for each in found if each is not None} == {torch.float32}
    assert find_distance(found, wanted) < 1.2 * find_distance(plain, wanted)


def find_distance(some: Sequence[Tensor | None], exact: Sequence[Tensor | None]) -> float:
    """How far some are off, as a share of the exact ones' length."""
    pairs = [(one, other) for one, other in zip(some, exact, strict=True) if one is not None and other is not None]
    off = sum(float((one - other).square().sum()) for one, other in pairs)
    return float((off / sum(float(other.square().sum()) for _, other in pairs)) ** 0.5)


@pytest.mark.parametrize("trained", ["all weights", "adapters"])
def test_the_next_pass_reads_the_weights_that_a_step_has_left(trained: str, llama: LanguageModel) -> None:
    made = TRAINED[trained](llama)
    forward = Forward(made.network, "bfloat16")
    before = forward.hidden_states(forward.pack(ROWS), ENDS)
    with torch.no_grad():
        for parameter in made.groups[0].parameters:
            parameter.mul_(1.1)
    after = forward.hidden_states(forward.pack(ROWS), ENDS)
    fresh = Forward(made.network, "bfloat16")
    assert not torch.equal(after, before)
    assert torch.equal(after, fresh.hidden_states(fresh.pack(ROWS), ENDS))


def test_networks_that_do_more_run_as_transformers_runs_them(
    llama: LanguageModel, models: dict[str, LanguageModel]
) -> None:
    assert FusedLlama.find(llama.frozen, DEFAULTS) is not None
    assert FusedLlama.find(llama.frozen, PLAIN) is None
    for name in ("opt", "gpt2"):
        assert FusedLlama.find(models[name].frozen, DEFAULTS) is None
    for shape in (LoraShape(4, 8.0, dora=True), LoraShape(4, 8.0, dropout=0.1)):
        assert FusedLlama.find(adapt(llama, shape).network, DEFAULTS) is None
    adapted = adapt(llama, LoraShape(4, 8.0)).network
    assert FusedLlama.find(adapted, EngineOptions(fused_adapters=False)) is None
    network = llama.trainable_copy()
    block: nn.Module = llama.architecture.find_blocks(network)[0]
    hook = block.register_forward_hook(lambda *inputs: None)
    assert FusedLlama.find(network, DEFAULTS) is None
    hook.remove()
    assert FusedLlama.find(network, DEFAULTS) is not None
    block.self_attn.attention_dropout = 0.1
    assert FusedLlama.find(network, DEFAULTS) is None

"""Bfloat16 copies of 32-bit masters train to the bit as autocast alone does, and are gone after a fit."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from fewtune.engine import fit as fit_module
from fewtune.engine.fit import fit
from fewtune.engine.layers import find_blocks, find_outer_linear
from fewtune.engine.master_weights import MasterWeights
from fewtune.engine.plan import Plan
from fewtune.errors import TrialFailure
from fewtune.models import LanguageModel, find_model, load_model
from fewtune.tasks.base import Draw, Task
from reference_loop import FIT_SEED, fit_losses, make_plan

SETTINGS: dict[str, Any] = {"epochs": 4, "batch_size": 4, "learning_rate": 1e-3}
METHODS: dict[str, dict[str, Any]] = {
    "vanilla": {},
    "pattern": {"validation_fraction": 0.25},
    "adaptive": {"blocks": 2, "unfreeze_every": 1},
}


@pytest.fixture(scope="module")
def loaded(model_folders: dict[str, Path]) -> dict[str, LanguageModel]:
    """Tiny models loaded in bfloat16."""
    return {name: load_model(find_model(str(model_folders[name])), "bfloat16") for name in ("llama", "gpt2", "opt")}


def dtypes_of_blocks(plan: Plan) -> set[torch.dtype]:
    assert plan.forward is not None
    linear = [layer for block in find_blocks(plan.forward.network) for layer in find_outer_linear(block)]
    return {layer.weight.dtype for layer in linear}  # type: ignore[misc]


def weights_of(plan: Plan) -> dict[str, Tensor]:
    assert plan.forward is not None
    return {name: p.detach() for name, p in plan.forward.network.named_parameters()}


@pytest.mark.parametrize("tokens_a_pass", [4096, 1])
@pytest.mark.parametrize("name", ["llama", "gpt2", "opt"])
@pytest.mark.parametrize("method", METHODS)
def test_fits_equal_those_under_autocast_alone(
    loaded: dict[str, LanguageModel],
    task: Task,
    draw: Draw,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    name: str,
    tokens_a_pass: int,
) -> None:
    monkeypatch.setattr(fit_module, "TOKENS_A_PASS", tokens_a_pass)
    with_copies = make_plan(method, loaded[name], task, draw, **SETTINGS, **METHODS[method])
    losses = fit_losses(with_copies)
    monkeypatch.setattr(fit_module, "MasterWeights", lambda networks, trained: MasterWeights((), trained))
    alone = make_plan(method, loaded[name], task, draw, **SETTINGS, **METHODS[method])
    assert losses == fit_losses(alone)
    assert losses[-1] != losses[0]
    expected = weights_of(alone)
    assert all(torch.equal(weight, expected[key]) for key, weight in weights_of(with_copies).items())


def test_copies_stand_in_while_a_fit_lasts_and_its_masters_after(
    loaded: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = make_plan("vanilla", loaded["llama"], task, draw, **SETTINGS)
    assert plan.fitting is not None and plan.forward is not None
    before = dict(plan.forward.network.named_parameters())
    seen: set[torch.dtype] = set()
    fit(plan.fitting, np.random.default_rng(FIT_SEED), lambda *step: seen.update(dtypes_of_blocks(plan)))
    assert seen == {torch.bfloat16}
    after = dict(plan.forward.network.named_parameters())
    assert all(after[key] is parameter for key, parameter in before.items())
    assert {p.dtype for p in after.values()} == {torch.float32}


def test_a_fit_that_fails_gives_the_masters_back(
    loaded: dict[str, LanguageModel], task: Task, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    plan = make_plan("vanilla", loaded["llama"], task, draw, **SETTINGS)
    monkeypatch.setattr(fit_module, "_step_gradients", lambda fitting, batch: float("nan"))
    with pytest.raises(TrialFailure, match="the loss became nan"):
        fit_losses(plan)
    assert dtypes_of_blocks(plan) == {torch.float32}


def test_adapters_and_frozen_blocks_have_no_copies(loaded: dict[str, LanguageModel], task: Task, draw: Draw) -> None:
    plan = make_plan("lora", loaded["llama"], task, draw, **SETTINGS)
    assert plan.fitting is not None and plan.forward is not None
    trained = plan.fitting.groups[0].parameters
    with MasterWeights(plan.fitting.modules, trained):
        assert {p.dtype for p in plan.forward.network.parameters() if p.requires_grad} == {torch.float32}
        assert all(any(p is mine for mine in plan.forward.network.parameters()) for p in trained)

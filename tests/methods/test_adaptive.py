"""Adaptive fine-tuning trains what it says, at the rates it says, and leaves the rest bit-identical."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from fewtune.engine import fit as fit_module
from fewtune.engine.fit import FitReport, fit
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.engine.schedule import Optimisation, Plateau
from fewtune.errors import DataError, ModelError, TrialFailure
from fewtune.methods import get_method
from fewtune.methods.plan import Plan
from fewtune.models import find_model
from fewtune.running.trial import _note_fit
from fewtune.tasks.base import Draw, Task
from reference_loop import make_plan


def run(model: LanguageModel, task: Task, draw: Draw, **settings: Any) -> tuple[Plan, FitReport]:
    method = get_method("adaptive")
    rng = np.random.default_rng(0)
    chosen = method.resolve(method.settings(**settings), task, len(draw.support), len(draw.pool))
    plan = method.plan(chosen, model, task, draw, rng)
    assert plan.fitting is not None
    return plan, fit(plan.fitting, rng, lambda step, steps, loss: None)


def test_all_but_the_last_block_norm_and_head_stay_bit_identical(model: LanguageModel, task: Task, draw: Draw) -> None:
    plan, report = run(model, task, draw, blocks=1, epochs=3, learning_rate=1e-2, readout="head")
    assert plan.forward is not None
    network = plan.forward.network
    blocks, norm = model.architecture.find_blocks(network), model.architecture.find_final_norm(network)
    trained = {id(p) for m in (blocks[-1], norm) if m is not None for p in m.parameters()}
    before = dict(model.frozen.named_parameters())
    moved = 0
    for name, parameter in network.named_parameters():
        if id(parameter) in trained:
            moved += int(not torch.equal(parameter, before[name]))
        else:
            assert torch.equal(parameter, before[name]), name
    assert moved > 0
    assert [g.name for g in report.groups] == [
        "head",
        *(["final norm"] if norm is not None else []),
        f"block {len(blocks) - 1}",
    ]
    assert all(g.tensors > 0 and g.parameters > 0 for g in report.groups)


@pytest.mark.parametrize("name", ["adaptive", "bitfit"])
def test_what_trains_in_bfloat16_starts_from_the_files_own_weights(
    name: str, model_folders: dict[str, Path], task: Task, draw: Draw
) -> None:
    """Where the frozen network's are rounded, to eight bits: what trains keeps all that the file has."""
    model = load_model(find_model(str(model_folders["gpt2"])), "bfloat16")
    plan = make_plan(name, model, task, draw)
    assert plan.forward is not None and plan.fitting is not None
    as_read, frozen = model.read_weights(), dict(model.frozen.named_parameters())
    trained = {n: p for n, p in plan.forward.network.named_parameters() if p.requires_grad}
    assert sum(len(group.parameters) for group in plan.fitting.groups) == len(trained) > 4
    for tensor, parameter in trained.items():
        torch.testing.assert_close(parameter.detach(), as_read[tensor].detach(), rtol=0, atol=0, msg=tensor)
    assert any(frozen[tensor].dtype == torch.bfloat16 for tensor in trained), "some of them are rounded there"


def test_rates_decay_block_by_block_and_follow_the_schedule(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    _, report = run(
        models["llama"], task, draw, blocks=3, decay=0.5, epochs=4, batch_size=8, warmup_fraction=0.0, learning_rate=0.8
    )
    peaks = {g.name: g.peak_learning_rate for g in report.groups}
    assert peaks == pytest.approx({"final norm": 0.8, "block 2": 0.4, "block 1": 0.2, "block 0": 0.1})
    for group in report.groups:
        assert group.rates == pytest.approx([group.peak_learning_rate * f for f in (1.0, 0.75, 0.5, 0.25)])


def test_blocks_unfreeze_from_the_top_down(models: dict[str, LanguageModel], task: Task, draw: Draw) -> None:
    plan, report = run(models["llama"], task, draw, blocks=3, unfreeze_every=2, epochs=4, schedule="constant")
    rates = {g.name: [rate > 0 for rate in g.rates] for g in report.groups}
    assert rates["block 2"] == [True] * 4
    assert rates["block 1"] == [False, False, True, True]
    assert rates["block 0"] == [False] * 4
    assert plan.forward is not None
    before = dict(models["llama"].frozen.named_parameters())
    for name, parameter in plan.forward.network.named_parameters():
        if ".layers.0." in name:
            assert torch.equal(parameter, before[name]), name


def test_the_plateau_halves_the_rate_after_epochs_that_bring_nothing() -> None:
    plateau = Plateau(Optimisation(9, 1, schedule="plateau", plateau_patience=2, plateau_factor=0.5))
    factors = []
    for loss in (1.0, 0.9, 0.95, 0.9, 0.8, 0.85, 0.85, 0.85, 0.85):
        plateau.observe(loss)
        factors.append(plateau.factor)
    assert factors == [1.0, 1.0, 1.0, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]
    steady = Plateau(Optimisation(9, 1, schedule="linear"))
    for _ in range(9):
        steady.observe(1.0)
    assert steady.factor == 1.0


@pytest.mark.parametrize(("blocks", "trained"), [(2, [2, 1]), (0.5, [2, 1]), (0.9, [2, 1, 0]), (0.01, [2])])
def test_blocks_may_be_a_share_of_the_models(
    models: dict[str, LanguageModel], task: Task, draw: Draw, blocks: float, trained: list[int]
) -> None:
    method = get_method("adaptive")
    settings = method.resolve(method.settings(blocks=blocks), task, len(draw.support), len(draw.pool))
    assert method.skip_reason(settings, models["llama"].config, task) is None
    plan = method.plan(settings, models["llama"], task, draw, np.random.default_rng(0))
    assert plan.fitting is not None
    assert [g.name for g in plan.fitting.groups] == ["final norm", *(f"block {index}" for index in trained)]


def test_more_blocks_than_the_model_has_is_a_reason_to_skip(models: dict[str, LanguageModel], task: Task) -> None:
    method = get_method("adaptive")
    assert method.skip_reason(method.settings(blocks=3), models["llama"].config, task) is None
    reason = method.skip_reason(method.settings(blocks=4), models["llama"].config, task)
    assert reason == "blocks is 4 and the model has 3 blocks: set 3 or fewer"


def test_a_network_without_a_list_of_blocks_is_told_with_its_parameters(models: dict[str, LanguageModel]) -> None:
    network = models["llama"].trainable_copy()
    network.config.num_hidden_layers = 7
    with pytest.raises(ModelError, match=r"no list of 7 blocks.*model\.embed_tokens\.weight"):
        models["llama"].architecture.find_blocks(network)


def test_the_epoch_with_the_lowest_validation_loss_is_kept(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan, report = run(models["llama"], task, draw, blocks=3, epochs=6, learning_rate=0.05, validation_fraction=0.5)
    assert plan.fitting is not None
    assert len(report.validation_losses) == 6
    assert report.kept_epoch == int(np.argmin(report.validation_losses))
    with torch.no_grad():
        now = float(plan.fitting.loss(plan.fitting.validation).mean())
    assert now == pytest.approx(min(report.validation_losses), abs=1e-5)
    assert len(plan.fitting.examples) == len(plan.fitting.validation) == 4


@pytest.mark.parametrize(("losses", "kept"), [((math.nan, 0.7, math.inf), 1), ((0.7, math.nan, 0.9), 0)])
def test_an_epoch_whose_validation_loss_is_no_number_is_not_kept(
    losses: tuple[float, ...],
    kept: int,
    models: dict[str, LanguageModel],
    task: Task,
    draw: Draw,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    given = iter(losses)
    monkeypatch.setattr(fit_module, "_mean_loss", lambda fitting, examples: next(given))
    _, report = run(models["llama"], task, draw, blocks=1, epochs=3, validation_fraction=0.5)
    assert report.kept_epoch == kept
    notes = _note_fit(report, None, 0)
    assert notes.validation_losses == [loss if math.isfinite(loss) else None for loss in losses]


def test_a_fit_without_any_epoch_to_keep_diverged(
    models: dict[str, LanguageModel], task: Task, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fit_module, "_mean_loss", lambda fitting, examples: math.nan)
    with pytest.raises(TrialFailure, match="no number after any epoch") as caught:
        run(models["llama"], task, draw, blocks=1, epochs=2, validation_fraction=0.5)
    assert caught.value.kind == "diverged"


def test_validation_rows_that_leave_a_label_bare_are_told(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    with pytest.raises(DataError, match=r"validation_fraction 0\.1 of the 4 support rows of one label"):
        run(models["llama"], task, draw, validation_fraction=0.1, blocks=1)

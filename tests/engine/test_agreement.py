"""All optimisations at once give the answers and losses of a plain float32 path over Transformers' own network."""

from __future__ import annotations

from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812

from benchmarks.agreement import plain
from fewtune.engine.forward import Forward
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.engine.readouts import LabelWordReadout
from fewtune.engine.score import score_prompts
from fewtune.models import Precision, find_model
from fewtune.predictors.temperature import normalise
from fewtune.tasks.base import Draw, Task
from reference_loop import draw_batches, fit_losses, make_plan, train_plainly

ROWS = 320
WORDS = [70, 71, 72]
SCORES_WITHIN: dict[Precision, float] = {"float32": 2e-5, "bfloat16": 0.12}
"""Nats of a label's log-probability. The tiny models' weights are ten times as large as a real model's, and so is what
rounding to 8 bits does to their scores."""
LOSSES_WITHIN: dict[Precision, float] = {"float32": 1e-4, "bfloat16": 0.03}
TEN_STEPS: dict[str, Any] = {"epochs": 5, "batch_size": 4, "schedule": "constant", "warmup_fraction": 0.0}
LEARNING_RATE = 1e-3


def load(model: LanguageModel, precision: Precision) -> LanguageModel:
    return load_model(find_model(model.name), precision)


def load_plain(model: LanguageModel) -> Any:
    return plain.load_network(find_model(model.name))


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("opening", [0, 30])
def test_answers_are_those_of_the_plain_float32_path(model: LanguageModel, opening: int, precision: Precision) -> None:
    fast = load(model, precision)
    generator = torch.Generator().manual_seed(opening)

    def draw(count: int) -> list[int]:
        return [int(t) for t in torch.randint(2, 400, (count,), generator=generator)]

    before = draw(opening)
    prompts = [before + draw(length) for length in torch.randint(1, 60, (ROWS,), generator=generator).tolist()]
    ours = normalise(score_prompts(Forward(fast.frozen, precision), prompts, LabelWordReadout([[w] for w in WORDS])))
    theirs = plain.score_rows(load_plain(model), prompts, WORDS)
    within = SCORES_WITHIN[precision]
    np.testing.assert_allclose(ours, theirs, atol=within)
    # Of labels closer than the tolerance either may be ahead.
    ordered = np.sort(theirs, axis=1)
    clear = ordered[:, -1] - ordered[:, -2] > within
    assert clear.sum() >= 200
    assert np.mean(ours.argmax(1)[clear] == theirs.argmax(1)[clear]) >= 0.98


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("method", ["pattern", "adaptive"])
def test_losses_follow_the_plain_float32_loop(
    method: str, precision: Precision, model: LanguageModel, task: Task, draw: Draw
) -> None:
    last = {"adaptive": {"blocks": 1, "decay": 1.0}}.get(method, {})
    plan = make_plan(method, load(model, precision), task, draw, learning_rate=LEARNING_RATE, **last, **TEN_STEPS)
    assert plan.fitting is not None and plan.forward is not None
    trained = {name for name, p in plan.forward.network.named_parameters() if p.requires_grad}
    network = load_plain(model)
    for name, parameter in network.named_parameters():
        parameter.requires_grad_(name in trained)
    examples, words = plan.fitting.examples, [t for (t,) in plan.report().prompt.label_word_tokens]

    def loss_of(batch: list[int]) -> torch.Tensor:
        scores = plain.read_words(network, [examples[i].prompt for i in batch], words)
        return F.cross_entropy(scores, torch.tensor([examples[i].label for i in batch]))

    parameters = [p for p in network.parameters() if p.requires_grad]
    expected = train_plainly(parameters, LEARNING_RATE, draw_batches(len(examples), TEN_STEPS), loss_of)
    losses = fit_losses(plan)
    assert len(losses) == 10 and losses[-1] < losses[0]
    np.testing.assert_allclose(losses, expected, atol=LOSSES_WITHIN[precision])


@pytest.mark.parametrize("unfreeze_every", [0, 1])
def test_what_is_kept_of_frozen_blocks_moves_no_loss_of_a_fit(
    unfreeze_every: int, models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    curves, kept = [], []
    row_bytes = 12 * 32 * 4  # about what one row's states take
    for most_bytes in (1 << 30, 0, 3 * row_bytes, None):
        settings = {"blocks": 2, "unfreeze_every": unfreeze_every, "epochs": 4, "batch_size": 4}
        plan = make_plan("adaptive", models["llama"], task, draw, learning_rate=LEARNING_RATE, **settings)
        assert plan.forward is not None and plan.forward.frozen.count == 1
        if most_bytes is None:
            plan.forward.frozen.count = 0
        else:
            plan.forward.frozen.most_bytes = most_bytes
        curves.append(fit_losses(plan))
        kept.append(plan.forward.frozen.kept_bytes)
    assert kept[0] > kept[2] > kept[1] == kept[3] == 0
    for curve in curves[1:]:
        np.testing.assert_allclose(curve, curves[0], atol=1e-6)


@pytest.mark.parametrize("pattern", ["feeling", "verdict"])
def test_demonstrations_run_once_or_for_every_row_give_equal_answers(
    pattern: str, model: LanguageModel, task: Task, draw: Draw
) -> None:
    rows = [row.without_label() for test in task.test_sets for row in test.rows]
    plan = make_plan("in_context", model, task, draw, demonstrations=4, pattern=pattern)
    assert plan.forward is not None
    shared = plan.score(rows)
    tokens = plan.forward.tokens_run
    with patch.object(Forward, "share_opening", lambda forward, prompts, opening=(): (None, 0)):
        every_time = plan.score(rows)
    assert plan.forward.tokens_run > 2 * tokens, "the demonstrations did run once"
    np.testing.assert_allclose(shared, every_time, atol=1e-4)

"""The one training loop does what a plain Transformers or PEFT loop does, and fails loudly."""

from __future__ import annotations

import ast
import itertools
import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from peft import LoraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification, AutoTokenizer

from fewtune import engine
from fewtune.engine import fit as fit_module
from fewtune.engine.fit import fit
from fewtune.engine.fitting import FitExample, Fitting, ParameterGroup
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.options import EngineOptions
from fewtune.engine.schedule import Optimisation, rate_factor
from fewtune.errors import TrialFailure
from fewtune.methods.plan import Plan
from fewtune.tasks.base import Draw, Task
from plain_prompts import PlainReader
from reference_loop import draw_batches, fit_losses, make_plan, train_plainly

TEN_STEPS: dict[str, Any] = {"epochs": 5, "batch_size": 4, "schedule": "constant", "warmup_fraction": 0.0}
LEARNING_RATE = 1e-3
ONE = FitExample((1, 2), 0)


def plain_losses(
    parameters: list[torch.nn.Parameter], draw: Draw, loss_of: Callable[[list[int]], torch.Tensor]
) -> list[float]:
    """Ten steps of a loop as its users write it."""
    return train_plainly(parameters, LEARNING_RATE, draw_batches(len(draw.support), TEN_STEPS), loss_of)


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "opt-350m-shaped"])
def test_vanilla_losses_equal_a_plain_sequence_classifier_loop(
    name: str, models: dict[str, LanguageModel], model_folders: Any, task: Task, draw: Draw
) -> None:
    plan = make_plan("vanilla", models[name], task, draw, learning_rate=LEARNING_RATE, **TEN_STEPS)
    assert plan.fitting is not None
    head = plan.fitting.groups[1].parameters[0].detach().clone()
    tokenizer = AutoTokenizer.from_pretrained(model_folders[name])
    classifier = AutoModelForSequenceClassification.from_pretrained(
        model_folders[name], num_labels=2, dtype=torch.float32
    )
    classifier.config.pad_token_id = tokenizer.pad_token_id
    classifier.score.weight.data.copy_(head)
    labels = torch.tensor([e.label for e in draw.support])
    texts = [e.fields["text"] for e in draw.support]

    def loss_of(batch: list[int]) -> torch.Tensor:
        inputs = tokenizer([texts[i] for i in batch], padding=True, return_tensors="pt")
        logits = classifier(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).logits
        return F.cross_entropy(logits, labels[batch])

    expected = plain_losses(list(classifier.parameters()), draw, loss_of)
    losses = fit_losses(plan)
    assert len(losses) == 10
    np.testing.assert_allclose(losses, expected, atol=1e-4)


@pytest.mark.parametrize("name", ["llama", "gpt2", "opt", "opt-350m-shaped"])
def test_lora_losses_equal_a_plain_peft_loop(
    name: str, models: dict[str, LanguageModel], model_folders: Any, task: Task, draw: Draw
) -> None:
    plan = make_plan("lora", models[name], task, draw, learning_rate=LEARNING_RATE, **TEN_STEPS)
    assert plan.forward is not None
    ours = {n: p for n, p in plan.forward.network.named_parameters() if p.requires_grad}
    tokenizer = AutoTokenizer.from_pretrained(model_folders[name], padding_side="left")
    base = AutoModelForCausalLM.from_pretrained(model_folders[name], dtype=torch.float32)
    peft = get_peft_model(
        base,
        LoraConfig(
            r=8, lora_alpha=16, target_modules="all-linear", task_type="CAUSAL_LM", fan_in_fan_out=name == "gpt2"
        ),
    )
    theirs = {n.removeprefix("base_model.model."): p for n, p in peft.named_parameters() if p.requires_grad}
    assert set(theirs) == set(ours)
    for key, value in theirs.items():
        value.data.copy_(ours[key].detach())
    pattern = task.patterns[0]
    words = [tokenizer(w, add_special_tokens=False).input_ids[0] for w in pattern.label_words]
    labels = torch.tensor([e.label for e in draw.support])
    prompts = [pattern.template.format(**e.fields) for e in draw.support]

    def loss_of(batch: list[int]) -> torch.Tensor:
        inputs = tokenizer([prompts[i] for i in batch], padding=True, return_tensors="pt")
        positions = (inputs.attention_mask.cumsum(1) - 1).clamp(min=0)
        logits = peft(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask, position_ids=positions).logits[
            :, -1, words
        ]
        return F.cross_entropy(logits, labels[batch])

    expected = plain_losses(list(theirs.values()), draw, loss_of)
    np.testing.assert_allclose(fit_losses(plan), expected, atol=1e-4)


@pytest.mark.parametrize("dora", [False, True])
def test_the_rates_of_lora_plus_are_those_of_pefts_own_optimiser(
    model: LanguageModel, task: Task, draw: Draw, dora: bool
) -> None:
    plan = make_plan("lora", model, task, draw, learning_rate=1e-4, b_rate_ratio=16.0, dora=dora)
    assert plan.fitting is not None and plan.forward is not None
    network = plan.forward.network
    theirs = create_loraplus_optimizer(network, torch.optim.AdamW, lr=1e-4, loraplus_lr_ratio=16.0)
    expected = {id(p): group["lr"] for group in theirs.param_groups for p in group["params"] if p.requires_grad}
    assert {id(p): g.learning_rate for g in plan.fitting.groups for p in g.parameters} == pytest.approx(expected)
    assert [g.name for g in plan.fitting.groups] == ["adapter A", "adapter B"]
    assert fit_losses(plan)[-1] < math.log(2)


@pytest.mark.parametrize(("steps", "epochs", "last"), [(10, 4, 1), (9, 3, 3), (2, 1, 2)])
def test_steps_are_as_many_as_asked_whatever_the_rows(steps: int, epochs: int, last: int) -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    seen: list[int] = []

    def loss(batch: Sequence[FitExample]) -> torch.Tensor:
        seen.append(len(batch))
        return weight.expand(len(batch))

    options, ended = Optimisation(1, 4, steps=steps), list[tuple[int, int]]()
    fitting = Fitting((ParameterGroup("all", (weight,), 0.1),), (ONE,) * 10, loss, options, ())
    report = fit(fitting, np.random.default_rng(0), lambda *step: None, lambda *epoch: ended.append(epoch))
    assert len(report.losses) == steps and len(ended) == len(report.groups[0].rates) == epochs
    assert seen[-last:] == [4, 4, 2][:last], "the last pass is cut short"


def test_accumulated_passes_train_as_one(models: dict[str, LanguageModel], task: Task, draw: Draw) -> None:
    one_row = replace(models["llama"], options=EngineOptions(tokens_per_pass=1))
    whole, parts = (
        fit_losses(make_plan("pattern", model, task, draw, learning_rate=LEARNING_RATE, **TEN_STEPS))
        for model in (models["llama"], one_row)
    )
    np.testing.assert_allclose(whole, parts, atol=1e-4)


def test_a_loss_over_the_vocabulary_is_the_gold_words_own(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    over = make_plan("pattern", models["llama"], task, draw, loss_over="vocabulary", **TEN_STEPS)
    assert over.fitting is not None
    batch, words = over.fitting.examples, [token for (token,) in over.report().prompt.label_word_tokens]
    assert {example.label for example in batch} == {0, 1}
    reader = PlainReader(models["llama"])
    said = [reader.network(torch.tensor([example.prompt])).logits[0, -1].log_softmax(-1) for example in batch]
    expected = [-logs[words[example.label]] for logs, example in zip(said, batch, strict=True)]
    torch.testing.assert_close(over.fitting.loss(batch), torch.stack(expected), atol=1e-4, rtol=1e-4)


def test_a_loss_that_is_not_finite_is_a_divergence() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    group = ParameterGroup("all", (weight,), 0.1)
    fitting = Fitting((group,), (ONE,) * 4, lambda batch: weight * math.nan, Optimisation(1, 2), ())
    with pytest.raises(TrialFailure, match="the loss became nan at step 1 of 2") as caught:
        fit(fitting, np.random.default_rng(0), lambda *step: None)
    assert caught.value.kind == "diverged"


def test_a_group_that_matches_nothing_is_an_error() -> None:
    fitting = Fitting(
        (ParameterGroup("blocks", (), 0.1),), (ONE,), lambda batch: torch.zeros(1), Optimisation(1, 2), ()
    )
    with pytest.raises(TrialFailure, match="'blocks' matched no tensor"):
        fit(fitting, np.random.default_rng(0), lambda *step: None)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        ("constant", [1 / 3, 2 / 3, 1.0, 1.0, 1.0, 1.0]),
        ("linear", [1 / 3, 2 / 3, 1.0, 0.75, 0.5, 0.25]),
        ("cosine", [1 / 3, 2 / 3, 1.0, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2]),
    ],
)
def test_rates_warm_up_then_follow_their_schedule(schedule: Any, expected: list[float]) -> None:
    options = Optimisation(1, 1, warmup_fraction=1 / 3, schedule=schedule)
    np.testing.assert_allclose([rate_factor(step, 6, options) for step in range(6)], expected)


@pytest.fixture
def read_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Losses are read as on a GPU, four at once."""
    of_gpu = partial(fit_module._Losses, at_once=4)
    monkeypatch.setattr(fit_module, "_Losses", lambda steps, on_step, at_once: of_gpu(steps, on_step))


def fit_and_hear(plan: Plan) -> tuple[list[float], list[tuple[int, int, float]]]:
    heard: list[tuple[int, int, float]] = []
    assert plan.fitting is not None
    report = fit(plan.fitting, np.random.default_rng(0), lambda *told: heard.append(told))
    return report.losses, heard


def test_losses_that_are_read_some_at_once_are_the_same(
    models: dict[str, LanguageModel], task: Task, draw: Draw, request: pytest.FixtureRequest
) -> None:
    found = []
    for _ in range(2):
        found.append(fit_and_hear(make_plan("lora", models["llama"], task, draw, epochs=3, batch_size=3)))
        request.getfixturevalue("read_at_once")  # from here on
    assert found[0] == found[1] and len(found[0][0]) == 9
    assert [(step, steps) for step, steps, _ in found[1][1]] == [(step, 9) for step in range(1, 10)]


@pytest.mark.usefixtures("read_at_once")
def test_a_loss_that_is_read_late_is_a_divergence_of_its_own_step(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = make_plan("lora", models["llama"], task, draw, epochs=1, batch_size=2)
    assert plan.fitting is not None
    loss, calls = plan.fitting.loss, itertools.count(1)
    broken = replace(plan.fitting, loss=lambda batch: loss(batch) * (math.nan if next(calls) == 3 else 1.0))
    with pytest.raises(TrialFailure, match="the loss became nan at step 3 of 4"):
        fit(broken, np.random.default_rng(0), lambda *told: None)


class Waits(TorchDispatchMode):
    """Counts operations that a GPU would be waited for: they give values, or sizes, that the processor needs."""

    KINDS = ("_local_scalar_dense", "_unique2", "nonzero", "isin", "_coalesce", "masked_select")

    def __init__(self) -> None:
        super().__init__()
        self.found: Counter[str] = Counter()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self.KINDS:
            self.found[name] += 1
        return func(*args, **(kwargs or {}))


def test_tensors_that_the_processor_makes_are_sent() -> None:
    """Made on a GPU from a list at once, a tensor makes the processor wait: `Waits` cannot see it here."""
    source = Path(engine.__file__).parent
    for path in (*source.glob("*.py"), *(source.parent / "methods").glob("*.py")):
        for call in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(call, ast.Call) and ast.unparse(call.func) in ("torch.tensor", "torch.as_tensor"):
                assert "device" not in {keyword.arg for keyword in call.keywords}, f"{path.name}, line {call.lineno}"


@pytest.mark.usefixtures("read_at_once")
@pytest.mark.parametrize("pattern", ["feeling", "verdict"])
@pytest.mark.parametrize("method", ["pattern", "lora"])
def test_a_pass_waits_for_a_gpu_once(
    method: str, pattern: str, models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = make_plan(method, models["llama"], task, draw, epochs=2, batch_size=4, pattern=pattern)
    assert plan.fitting is not None
    dense = replace(plan.fitting, options=replace(plan.fitting.options, sparse_embedding_gradients=False))
    with Waits() as waits:
        fit(dense, np.random.default_rng(0), lambda *told: None)
    assert waits.found == {"_unique2": 4}, "to know which tokens the last block runs"

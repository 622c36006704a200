"""Encoders run packed rows as they run single ones, pool states as Sentence Transformers, and say words at the mask."""

from __future__ import annotations

import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812
from torch.utils.data import SequentialSampler
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    pipeline,
)

import tiny_models
from fewtune.engine.forward import Forward
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.engine.options import EngineOptions
from fewtune.engine.readouts import StateReadout
from fewtune.engine.score import score_prompts
from fewtune.methods import get_method
from fewtune.methods.answer import answer_by_label_words
from fewtune.methods.base import find_skip_reason
from fewtune.models import find_model
from fewtune.models.configuration import read_config
from fewtune.prompts.template import plain_template
from fewtune.prompts.tokens import Encoder
from fewtune.tasks.base import Draw, Example, Task
from method_cases import ENCODER_CASES
from reference_loop import draw_batches, fit_losses, make_plan, train_plainly

ENCODERS = sorted(tiny_models.ENCODERS)
MASKED = [name for name in ENCODERS if name != "sentence-encoder"]
ROWS = [[3, 9, 200, 31, 7, 3], [3, 44, 3], [3, 17, 18, 19, 300, 21, 22, 23, 3], [3, 80, 81, 3]]  # 0 and 1 fill rows up
TEN_STEPS = {"epochs": 5, "batch_size": 4, "schedule": "constant", "warmup_fraction": 0.0}
LEARNING_RATE = 1e-3


@pytest.fixture(scope="module")
def encoders(model_folders: dict[str, Path]) -> dict[str, LanguageModel]:
    return {name: load_model(find_model(str(model_folders[name])), "float32") for name in ENCODERS}


@pytest.mark.parametrize("options", [EngineOptions(), EngineOptions(padded=True)], ids=["packed", "padded"])
@pytest.mark.parametrize("name", ENCODERS)
@torch.no_grad()
def test_packed_rows_have_the_states_that_they_have_alone(
    name: str, options: EngineOptions, encoders: dict[str, LanguageModel], model_folders: dict[str, Path]
) -> None:
    model = encoders[name]
    config = read_config(model_folders[name])
    plain = model.architecture.choose_class(config).from_pretrained(model_folders[name], dtype=torch.float32).eval()
    forward = Forward(model.frozen, "float32", options=options)
    batch = forward.pack(ROWS)
    states = forward.hidden_states(batch)
    for row, start in zip(ROWS, batch.starts.tolist(), strict=True):
        alone = plain.base_model(torch.tensor([row])).last_hidden_state[0]
        torch.testing.assert_close(states[start : start + len(row)], alone, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("name", ENCODERS)
def test_a_row_as_long_as_the_model_reads_is_read_whole(name: str, encoders: dict[str, LanguageModel]) -> None:
    model = encoders[name]
    taken = {"roberta": 1, "mpnet": 2}.get(name, 0)  # they count from behind their padding token, 0 and 1
    assert model.max_positions == tiny_models.POSITIONS - taken
    encoder = Encoder(model.tokenizer, 1000, model.max_positions)
    [row] = encoder.encode("{text}", [Example("long", {"text": "the cook is kind " * 200}, 0)])
    assert len(row) == model.max_positions
    assert np.isfinite(score_prompts(model.forward(model.frozen), [row], StateReadout())).all()


@pytest.mark.parametrize("name", ENCODERS)
def test_two_texts_are_read_as_the_tokenizer_writes_a_pair(
    name: str, encoders: dict[str, LanguageModel], model_folders: dict[str, Path]
) -> None:
    model = encoders[name]
    encoder = Encoder(model.tokenizer, 1000, model.max_positions)
    fields = {"premise": "the cook was kind", "hypothesis": "a pilot was rude"}
    ours = encoder.encode(plain_template(tuple(fields), encoder.between), [Example("r", fields, 0)])
    assert ours == [AutoTokenizer.from_pretrained(model_folders[name])(*fields.values()).input_ids]


@pytest.mark.parametrize("name", ENCODERS)
def test_a_row_is_read_alike_whatever_it_is_packed_with(name: str, encoders: dict[str, LanguageModel]) -> None:
    forward = encoders[name].forward(encoders[name].frozen)
    together = score_prompts(forward, ROWS, StateReadout())
    alone = np.concatenate([score_prompts(forward, [row], StateReadout()) for row in ROWS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


@pytest.mark.parametrize("name", MASKED)
def test_label_words_are_scored_as_transformers_fills_a_mask(
    name: str, encoders: dict[str, LanguageModel], model_folders: dict[str, Path], task: Task, draw: Draw
) -> None:
    answer = answer_by_label_words(encoders[name], task, draw, "feeling", "vocabulary")
    rows = draw.test_sets[0].rows[:6]
    ours = answer.prompt(encoders[name].forward(encoders[name].frozen)).read(rows)
    tokenizer = AutoTokenizer.from_pretrained(model_folders[name])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the pipeline's own
        fill = pipeline(
            "fill-mask", model=AutoModelForMaskedLM.from_pretrained(model_folders[name]), tokenizer=tokenizer
        )
    words = [tokenizer.decode(tokens) for tokens in answer.readout.label_tokens]  # type: ignore[attr-defined]
    for row, scores in zip(rows, ours, strict=True):
        found = fill(f"{row.fields['text']}. Feeling:{tokenizer.mask_token}", targets=words, top_k=2)
        by_word = {each["token"]: each["score"] for each in found}
        theirs = [np.log(by_word[tokens[0]]) for tokens in answer.readout.label_tokens]  # type: ignore[attr-defined]
        np.testing.assert_allclose(scores, theirs, atol=1e-4)


@pytest.mark.parametrize("name", MASKED)
def test_pattern_losses_equal_a_plain_loop_over_masked_prompts(
    name: str, encoders: dict[str, LanguageModel], model_folders: dict[str, Path], task: Task, draw: Draw
) -> None:
    plan = make_plan("pattern", encoders[name], task, draw, learning_rate=LEARNING_RATE, **TEN_STEPS)
    tokenizer = AutoTokenizer.from_pretrained(model_folders[name])
    network = AutoModelForMaskedLM.from_pretrained(model_folders[name], dtype=torch.float32)
    pattern = task.patterns[0]
    words = [tokenizer(word, add_special_tokens=False).input_ids[0] for word in pattern.label_words]
    prompts = [pattern.template.format(**row.fields) + tokenizer.mask_token for row in draw.support]
    labels = torch.tensor([row.label for row in draw.support])

    def loss_of(batch: list[int]) -> torch.Tensor:
        inputs = tokenizer([prompts[i] for i in batch], padding=True, return_tensors="pt")
        logits = network(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).logits
        at = (inputs.input_ids == tokenizer.mask_token_id).nonzero()
        return F.cross_entropy(logits[at[:, 0], at[:, 1]][:, words], labels[batch])

    batches = draw_batches(len(draw.support), TEN_STEPS)
    expected = train_plainly(list(network.parameters()), LEARNING_RATE, batches, loss_of)
    np.testing.assert_allclose(fit_losses(plan), expected, atol=1e-4)


@pytest.mark.parametrize("name", ENCODERS)
def test_vanilla_losses_equal_a_plain_loop_over_pooled_states(
    name: str, encoders: dict[str, LanguageModel], model_folders: dict[str, Path], task: Task, draw: Draw
) -> None:
    model = encoders[name]
    plan = make_plan("vanilla", model, task, draw, learning_rate=LEARNING_RATE, **TEN_STEPS)
    assert plan.fitting is not None
    head = torch.nn.Parameter(plan.fitting.groups[1].parameters[0].detach().clone())
    config = read_config(model_folders[name])
    network = (
        model.architecture.choose_class(config).from_pretrained(model_folders[name], dtype=torch.float32).base_model
    )
    tokenizer = AutoTokenizer.from_pretrained(model_folders[name])
    texts, labels = [row.fields["text"] for row in draw.support], torch.tensor([row.label for row in draw.support])

    def loss_of(batch: list[int]) -> torch.Tensor:
        inputs = tokenizer([texts[i] for i in batch], padding=True, return_tensors="pt")
        states = network(input_ids=inputs.input_ids, attention_mask=inputs.attention_mask).last_hidden_state
        kept = inputs.attention_mask[..., None]
        pooled = (states * kept).sum(1) / kept.sum(1) if name == "sentence-encoder" else states[:, 0]
        return F.cross_entropy(pooled @ head.T, labels[batch])

    batches = draw_batches(len(draw.support), TEN_STEPS)
    expected = train_plainly([*network.parameters(), head], LEARNING_RATE, batches, loss_of)
    np.testing.assert_allclose(fit_losses(plan), expected, atol=1e-4)


@pytest.mark.parametrize("name", ["bert", "sentence-encoder"])
def test_vanilla_losses_equal_trainers(
    name: str,
    encoders: dict[str, LanguageModel],
    model_folders: dict[str, Path],
    task: Task,
    draw: Draw,
    tmp_path: Path,
) -> None:
    """Over ten steps, the head and the batches alike."""
    model = encoders[name]
    plan = make_plan("vanilla", model, task, draw, learning_rate=LEARNING_RATE, **TEN_STEPS)
    assert plan.fitting is not None
    config = read_config(model_folders[name])
    pooled = Pooled(
        model.architecture.choose_class(config).from_pretrained(model_folders[name], dtype=torch.float32).base_model,
        plan.fitting.groups[1].parameters[0].detach().clone(),
        mean=name == "sentence-encoder",
    )
    tokenizer = AutoTokenizer.from_pretrained(model_folders[name])
    rows = [{**tokenizer(row.fields["text"], return_token_type_ids=False), "labels": row.label} for row in draw.support]
    order = [i for batch in draw_batches(len(rows), TEN_STEPS) for i in batch]
    losses: list[float] = []

    class InOrder(Trainer):
        def training_step(self, *given: Any, **named: Any) -> torch.Tensor:
            loss: torch.Tensor = super().training_step(*given, **named)
            losses.append(float(loss))
            return loss

        def _get_train_sampler(self, *_: Any) -> Any:
            return SequentialSampler([rows[i] for i in order])

    arguments = TrainingArguments(
        output_dir=str(tmp_path),
        per_device_train_batch_size=TEN_STEPS["batch_size"],
        num_train_epochs=1,
        learning_rate=LEARNING_RATE,
        lr_scheduler_type="constant",
        max_grad_norm=1.0,
        report_to=[],
        save_strategy="no",
        logging_strategy="no",
        disable_tqdm=True,
        use_cpu=True,
        remove_unused_columns=False,
    )
    pad = DataCollatorWithPadding(tokenizer)
    InOrder(pooled, arguments, train_dataset=[rows[i] for i in order], data_collator=pad).train()  # type: ignore[arg-type]
    assert len(losses) == 10
    np.testing.assert_allclose(fit_losses(plan), losses, atol=1e-4)


class Pooled(torch.nn.Module):
    """A body, its pooled states and a linear head, as a classifier that Trainer takes."""

    def __init__(self, body: torch.nn.Module, weight: torch.Tensor, mean: bool) -> None:
        super().__init__()
        self.body, self.weight, self.mean = body, torch.nn.Parameter(weight), mean

    def forward(
        self, input_ids: torch.Tensor, attention_mask: torch.Tensor, labels: torch.Tensor
    ) -> dict[str, torch.Tensor]:
        states = self.body(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state
        kept = attention_mask[..., None]
        pooled = (states * kept).sum(1) / kept.sum(1) if self.mean else states[:, 0]
        logits = pooled @ self.weight.T
        return {"loss": F.cross_entropy(logits, labels), "logits": logits}


FITTED = {"vanilla", "adaptive", "lora", "bitfit", "ia3", "contrastive"}
SAYING_WORDS = {"pattern", "self_training"}
"""Methods that fit an encoder, and those that need its words."""


@pytest.mark.parametrize("name", ENCODERS)
def test_fits_of_packed_rows_are_those_of_padded_ones(
    name: str, encoders: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    model, padded, fitted = encoders[name], replace(encoders[name], options=EngineOptions(padded=True)), set()
    for encoder, method, settings in ENCODER_CASES:
        found, given = get_method(method), {**settings, **({"dropout": 0.0} if method == "lora" else {})}
        if encoder != name or find_skip_reason(found, found.settings(**given), model.config, task) is not None:
            continue
        plan = make_plan(method, model, task, draw, **given)
        if plan.fitting is not None:
            fitted.add(method)
            expected = fit_losses(make_plan(method, padded, task, draw, **given))
            np.testing.assert_allclose(fit_losses(plan), expected, atol=1e-5, err_msg=method)
    lacking = {"ia3"} if name in ("modernbert", "mpnet") else set()  # its head has a bias, which bitfit trains
    assert fitted == (FITTED | (SAYING_WORDS if name in MASKED else set())) - lacking


def test_methods_are_skipped_for_what_a_model_cannot_do(encoders: dict[str, LanguageModel], task: Task) -> None:
    def ask(name: str, encoder: str, **settings: object) -> str | None:
        method = get_method(name)
        return find_skip_reason(method, method.settings(**settings), encoders[encoder].config, task)

    assert ask("pattern", "bert") is None and ask("vanilla", "sentence-encoder") is None
    assert (
        ask("lora", "sentence-encoder", readout="head") is None and ask("in_context", "bert", demonstrations=0) is None
    )
    for name in ("pattern", "lora", "zero_shot"):
        assert "says no words" in str(ask(name, "sentence-encoder"))
    for name in ("in_context", "context_distillation", "soft_prompt"):
        assert "cannot go on from what stands before them" in str(ask(name, "bert"))


@pytest.mark.parametrize("asked", ["verdict", "choice"])
@pytest.mark.parametrize("name", MASKED)
def test_label_words_of_several_tokens_are_read_at_as_many_masks(
    name: str, asked: str, encoders: dict[str, LanguageModel], model_folders: dict[str, Path], task: Task, draw: Draw
) -> None:
    """Constrained words at as many as tell them apart, and each token among those that a word goes on with."""
    rows = draw.test_sets[0].rows[:5]
    answer = answer_by_label_words(encoders[name], task, draw, asked, "label_words")
    forward = encoders[name].forward(encoders[name].frozen)
    ours, alone = answer.prompt(forward).read(rows), answer.prompt(forward).read(rows[:1])
    np.testing.assert_allclose(alone[0], ours[0], atol=1e-5)
    words = answer.readout.label_tokens  # type: ignore[attr-defined]
    most = max(map(len, words))
    assert most > 1
    tokenizer = AutoTokenizer.from_pretrained(model_folders[name])
    network = AutoModelForMaskedLM.from_pretrained(model_folders[name], dtype=torch.float32).eval()
    pattern = next(each for each in task.patterns if each.name == asked)
    assert not pattern.constrained or [word[:-1] for word in words[1:]] == [words[0][:-1]], "the last tell them apart"
    for row, scores in zip(rows, ours, strict=True):
        inputs = tokenizer(pattern.template.format(**row.fields) + most * tokenizer.mask_token, return_tensors="pt")
        with torch.no_grad():
            said = network(**inputs).logits[0].log_softmax(-1)
        masks = (inputs.input_ids[0] == tokenizer.mask_token_id).nonzero()[:, 0].tolist()
        theirs = [sum(float(said[masks[place], token]) for place, token in enumerate(word)) for word in words]
        if pattern.constrained:
            last = said[masks[-1], [word[-1] for word in words]]
            theirs = last.log_softmax(-1).tolist()
        np.testing.assert_allclose(scores, theirs, atol=1e-4)

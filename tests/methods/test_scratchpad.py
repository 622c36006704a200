"""A teacher writes about a row before it answers: what it reads, how often it writes, and what is cut."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from distillation_plans import make_plan
from fewtune.engine import generate as generate_module
from fewtune.engine.forward import Forward
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.readouts import NextTokenReadout
from fewtune.engine.score import score_prompts
from fewtune.methods.answer import Answer, answer_by_label_words
from fewtune.methods.scratchpad import Scratchpad
from fewtune.prompts.calibration import CONTENT_FREE
from fewtune.prompts.demonstrations import choose_demonstrations, write_context
from fewtune.tasks.base import Draw, Task

THINKS: dict[str, Any] = {
    "context": ("demonstrations", "instruction", "scratchpad"),
    "instruction": "Good?",
    "demonstrations": 2,
    "scratchpad": "{text}. So:",
    "scratchpad_tokens": 6,
    "separator": "\n",
}


def think_plainly(model: LanguageModel, text: str, tokens: int) -> str:
    """What Transformers' own generation writes after a text, up to a special token or a blank line."""
    network = copy.deepcopy(model.frozen)
    network.set_attn_implementation("sdpa")
    given = model.tokenizer.source(text, return_tensors="pt").input_ids
    options = copy.deepcopy(network.generation_config)
    options.max_new_tokens, options.do_sample, options.pad_token_id = tokens, False, 0
    options.eos_token_id = model.tokenizer.source.all_special_ids
    written = network.generate(given, attention_mask=torch.ones_like(given), generation_config=options)
    answer = model.tokenizer.source.decode(written[0, given.shape[1] :], skip_special_tokens=True)
    return str(answer).split("\n\n")[0].rstrip("\ufffd").rstrip()


def scratchpad_of(
    model: LanguageModel, task: Task, draw: Draw, cue: str = "{text}. So:", tokens: int = 6
) -> tuple[Answer, Scratchpad]:
    answer = answer_by_label_words(model, task, draw, None, "vocabulary")
    return answer, Scratchpad(Forward(model.frozen, "float32"), answer, cue, tokens, "\n")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[int]]:
    """Every prompt that a teacher goes on from, in order."""
    prompts: list[list[int]] = []
    plain = generate_module.generate_greedily

    def watch(forward: Forward, given: Sequence[Sequence[int]], *rest: Any) -> list[list[int]]:
        prompts.extend(list(prompt) for prompt in given)
        return plain(forward, given, *rest)

    monkeypatch.setattr("fewtune.methods.scratchpad.generate_greedily", watch)
    return prompts


def test_a_teachers_prompt_is_context_cue_thoughts_and_the_patterns_end(
    model: LanguageModel, task: Task, draw: Draw
) -> None:
    plan = make_plan(model, task, draw, calibration="none", **THINKS)
    (rng,) = np.random.default_rng(0).spawn(1)
    shown = choose_demonstrations(draw.support, 2, rng)
    words = task.patterns[0].label_words
    before = "Good?\n" + "".join(f"{e.fields['text']}. Feeling:{words[e.label or 0]}\n" for e in shown)
    rows = [row.without_label() for row in draw.test_sets[0].rows]
    thoughts = [think_plainly(model, f"{before}{row.fields['text']}. So:", 6) for row in rows]
    assert len({*thoughts} - {""}) > 3
    texts = [
        f"{before}{row.fields['text']}. So:{thought}\n{row.fields['text']}. Feeling:"
        for row, thought in zip(rows, thoughts, strict=True)
    ]
    answer, scratchpad = scratchpad_of(model, task, draw)
    context = scratchpad.follow(write_context(answer.encoder, task.patterns[0], shown, "\n", "Good?"))
    prompts = answer.encode(rows, context)
    assert prompts == [model.tokenizer.source(text).input_ids for text in texts]
    scores = np.stack([score_prompts(Forward(model.frozen, "float32"), [p], answer.readout)[0] for p in prompts])
    expected = scores - np.logaddexp.reduce(scores, axis=1, keepdims=True)
    np.testing.assert_allclose(plan.reference_scorers["teacher"](rows), expected, atol=1e-4)
    # What trains and what is scored never reads it.
    plain = [tuple(model.tokenizer.source(f"{row.fields['text']}. Feeling:").input_ids) for row in rows]
    student = make_plan(model, task, draw, calibration="none", demonstrations=2)
    np.testing.assert_array_equal(plan.score(rows), student.score(rows))
    assert [tuple(p) for p in answer.encode(rows)] == plain
    assert plan.fitting is not None and student.fitting is not None
    assert [e.prompt for e in plan.fitting.examples] == [e.prompt for e in student.fitting.examples]


@pytest.mark.parametrize("calibration", ["none", "contextual", "batch"])
def test_a_row_is_written_about_once_in_a_context(
    calibration: str, models: dict[str, LanguageModel], task: Task, draw: Draw, asked: list[list[int]]
) -> None:
    plan = make_plan(models["llama"], task, draw, calibration=calibration, contexts=2, **THINKS)
    content_free = 2 * len(CONTENT_FREE) if calibration == "contextual" else 0
    # Pool rows behind both contexts, support rows behind those that do not show them.
    shown = plan.report().teacher.contexts
    support = sum(e.row_id not in rows for rows in shown for e in draw.support)
    assert len(asked) == content_free + 2 * len(draw.pool) + support
    rows = [row.without_label() for row in draw.test_sets[0].rows]
    for _ in range(2):
        plan.reference_scorers["teacher"](rows)
    assert len(asked) == content_free + 2 * len(draw.pool) + support + 2 * len(rows)
    assert len({tuple(prompt) for prompt in asked}) == len(asked)


def test_a_scratchpad_alone_is_a_context_and_is_noted_without_its_texts(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = make_plan(models["llama"], task, draw, context=("scratchpad",), calibration="none", scratchpad_tokens=5)
    teacher = plan.report().teacher
    assert teacher.scratchpad.cue == "{text}\nThoughts:" and teacher.scratchpad.most_tokens == 5
    assert 0 < teacher.scratchpad.mean_tokens <= 5
    assert teacher.rows_taught == len(draw.pool) + len(draw.support)
    assert make_plan(models["llama"], task, draw, demonstrations=2).report().teacher.scratchpad is None


def test_the_vocabulary_is_compared_behind_a_scratchpad(
    models: dict[str, LanguageModel], task: Task, draw: Draw
) -> None:
    plan = make_plan(models["llama"], task, draw, kl_over="vocabulary", calibration="none", top_k=400, **THINKS)
    assert plan.fitting is not None
    answer, scratchpad = scratchpad_of(models["llama"], task, draw)
    (rng,) = np.random.default_rng(0).spawn(1)
    shown = choose_demonstrations(draw.support, 2, rng)
    context = scratchpad.follow(write_context(answer.encoder, task.patterns[0], shown, "\n", "Good?"))
    prompts = answer.encode(draw.pool, context)
    expected = score_prompts(Forward(models["llama"].frozen, "float32"), prompts, NextTokenReadout())
    targets = [e.target for e in plan.fitting.examples if e.label is None]
    for target, scores in zip(targets, expected, strict=True):
        assert target is not None
        np.testing.assert_allclose(target[:-1, 1], scores[target[:-1, 0].astype(int)], atol=1e-4)


def test_thoughts_give_way_to_a_long_row_and_then_the_row_to_the_prompts_end(
    model: LanguageModel, task: Task, draw: Draw
) -> None:
    answer, scratchpad = scratchpad_of(model, task, draw, tokens=100)
    before = scratchpad.follow("Good?\n")
    lengths = []
    for words in (6, 18, 42, 120):
        text = draw.pool[0].fields["text"]
        row = replace(draw.pool[0], fields={"text": " ".join([text] * (words // len(text.split())))})
        (text,) = before([row])
        (prompt,) = answer.encode([row], before)
        assert len(prompt) + answer.readout.answer_tokens <= model.max_positions
        assert text.startswith("Good?\n" + row.fields["text"][:20]) and ". So:" in text and text.endswith("\n")
        read = model.tokenizer.source.decode(prompt)
        assert read.endswith(". Feeling:")
        whole = f"\n{row.fields['text']}. Feeling:"
        assert read.endswith(whole) or text.endswith(". So:\n"), "thoughts give way first"
        lengths.append(len(text.split(". So:", 1)[1]))
    assert lengths[0] > lengths[-1] == 1


def test_thoughts_end_before_a_blank_line_or_a_special_token(
    models: dict[str, LanguageModel], task: Task, draw: Draw, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = models["llama"].tokenizer.source
    said = tokenizer(" a joy.\nKind \n\nand more").input_ids
    stopped: list[int] = []

    def say(
        forward: Forward, prompts: Sequence[Sequence[int]], limits: Sequence[int], stop: Callable[[list[int]], bool]
    ) -> list[list[int]]:
        stopped.append(next(n for n in range(1, len(said) + 1) if stop(said[:n])))
        assert stop([*said[:1], tokenizer.eos_token_id])
        return [said[: stopped[0]], [*said[:1], tokenizer.eos_token_id]]

    monkeypatch.setattr("fewtune.methods.scratchpad.generate_greedily", say)
    _, scratchpad = scratchpad_of(models["llama"], task, draw)
    rows = draw.pool[:2]
    first, second = scratchpad.follow("")(rows)
    assert first == f"{rows[0].fields['text']}. So: a joy.\nKind\n"
    assert second == f"{rows[1].fields['text']}. So:{tokenizer.decode(said[:1])}\n"
    assert tokenizer.decode(said[: stopped[0]]).endswith("\n\n")

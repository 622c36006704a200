"""Branches are what they stand for: each way on, run as a sequence of its own, has the same states and gradients."""

from __future__ import annotations

from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from torch import nn
from transformers import AutoModelForCausalLM, AutoTokenizer

import tiny_models
from fewtune.engine import readouts
from fewtune.engine.branches import STEM, Branches, branch_words, tell_apart
from fewtune.engine.forward import Forward
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.options import EngineOptions
from fewtune.engine.packing import Packed
from fewtune.engine.readouts import LabelWordReadout
from fewtune.engine.score import score_prompts
from fewtune.engine.soft import SoftPrompt, SoftTokens
from fewtune.methods.trainable import train_last_blocks
from fewtune.tasks.base import Draw, Task
from reference_loop import draw_batches, fit_losses, make_plan, train_plainly

WORDS = [[70], [71, 72], [71, 73, 74], [71, 73, 75, 76], [77, 78]]
ROWS = [[5, 9, 200, 31, 7, 64], [17], [90, 91, 92, 93, 94, 95, 96, 97, 98], [5, 9, 200], [8, 8, 8, 8, 8, 8]]
MORE = tuple(tiny_models.MORE_DECODERS)
LEARNING_RATE = 1e-3
TEN_STEPS = {"epochs": 5, "batch_size": 6, "schedule": "constant", "warmup_fraction": 0.0}


def test_a_tree_holds_each_opening_once_and_no_last_token() -> None:
    branches, predicted = branch_words(WORDS)
    assert branches == Branches(tokens=(71, 73, 75, 77), parents=(STEM, 0, 1, STEM))
    assert branches.depths == (1, 2, 3, 1) and branches.readable == ((0,), (0, 1), (0, 1, 2), (3,))
    assert predicted == [[STEM], [STEM, 0], [STEM, 0, 1], [STEM, 0, 1, 2], [STEM, 3]]


def test_words_are_told_apart_by_as_few_tokens_as_can_be() -> None:
    assert tell_apart(WORDS) == [[70], [71, 72], [71, 73, 74], [71, 73, 75], [77]]
    assert tell_apart([[5, 6, 7], [5, 8, 7]]) == [[5, 6], [5, 8]]
    assert tell_apart([[1, 2, 3], [4, 5, 6], [7]]) == [[1], [4], [7]]


def test_words_of_one_token_have_no_branches() -> None:
    assert branch_words([[1], [2]]) == (None, [[STEM], [STEM]])


class _Encoder(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.vectors = nn.Parameter(torch.randn(3, width))

    def forward(self, indices: torch.Tensor) -> torch.Tensor:
        return self.vectors[indices]


def make_soft(model: LanguageModel) -> SoftPrompt:
    embeddings: Any = model.architecture.find_embeddings(model.frozen)
    return SoftPrompt(_Encoder(embeddings.embedding_dim), 3)


def read_branches(states: torch.Tensor, batch: Packed) -> torch.Tensor:
    return states[torch.cat([batch.ends[:, None], batch.branch_indices], 1)]


@pytest.mark.parametrize(
    ("name", "behind"),
    [
        *product(tiny_models.CONFIGS, ("nothing", "soft tokens", "a prefix", "filling")),
        *product(MORE, ("nothing", "a prefix")),
    ],
)
def test_states_and_gradients_are_those_of_sequences_run_one_by_one(
    name: str, behind: str, models: dict[str, LanguageModel]
) -> None:
    model = models[name]
    network = model.trainable_copy()
    soft: SoftTokens | None = make_soft(model) if behind == "soft tokens" else None
    options = EngineOptions(padded=behind == "filling")
    forward = Forward(network, "float32", soft, options=options)
    prefix = forward.compute_prefix([11, 12, 13, 14]) if behind == "a prefix" else None
    branches, _ = branch_words(WORDS)
    assert branches is not None
    batch = forward.pack(ROWS, prefix, branches=branches)
    before = forward.tokens_run
    ours = read_branches(forward.hidden_states(batch), batch)
    filled = len(ROWS) * max(map(len, ROWS)) if behind == "filling" else sum(map(len, ROWS))
    assert forward.tokens_run - before == filled + 4 * len(ROWS) + (3 if soft is not None else 0)
    ways = [[branches.tokens[place] for place in readable] for readable in branches.readable]
    alone = []
    for row in ROWS:
        for way in [[], *ways]:
            one = forward.pack([[*row, *way]], prefix)
            alone.append(forward.hidden_states(one)[one.ends[0]])
    expected = torch.stack(alone).view_as(ours)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=1e-5)
    weights = torch.randn(ours.shape, generator=torch.Generator().manual_seed(2))
    parameters = [p for p in network.parameters() if p.requires_grad]
    parameters += list(soft.encoder.parameters()) if isinstance(soft, SoftPrompt) else []
    found, wanted = (
        torch.autograd.grad((each * weights).sum(), parameters, allow_unused=True) for each in (ours, expected)
    )
    for one, other in zip(found, wanted, strict=True):
        if one is None or other is None:
            assert one is other, "what one way leaves untouched, the other does"
        else:
            torch.testing.assert_close(one, other, atol=1e-5 * max(1.0, float(other.abs().max())), rtol=1e-5)


def test_frozen_blocks_keep_what_branches_from_a_sequence_apart(model: LanguageModel) -> None:
    made = train_last_blocks(model, 1, 1e-3)
    forward, plain = (Forward(made.network, "float32", options=EngineOptions(separate_frozen_blocks=s)) for s in (1, 0))
    few, many = (branch_words(words)[0] for words in (WORDS[:2], WORDS))
    for branches in (few, many, None, few):
        batch = forward.pack(ROWS, branches=branches)
        torch.testing.assert_close(forward.hidden_states(batch), plain.hidden_states(batch), atol=1e-6, rtol=1e-5)


def test_a_prompt_is_run_once_for_all_label_words(model: LanguageModel) -> None:
    forward = Forward(model.frozen, "float32")
    score_prompts(forward, ROWS, LabelWordReadout(WORDS))
    assert forward.tokens_run == sum(map(len, ROWS)) + 4 * len(ROWS)


def test_many_label_words_score_as_each_alone(model: LanguageModel) -> None:
    rng = np.random.default_rng(0)
    words = [[int(t) for t in rng.integers(20, 390, 3)] for _ in range(40)]
    forward = Forward(model.frozen, "float32")
    together = score_prompts(forward, ROWS, LabelWordReadout(words))
    for at in (0, 17, 39):
        alone = score_prompts(forward, ROWS, LabelWordReadout([words[at], [1]], over="vocabulary"))
        np.testing.assert_allclose(together[:, at], alone[:, 0], atol=1e-5)


def list_openings(words: list[list[int]]) -> dict[tuple[int, ...], list[int]]:
    """By each opening of a word: what words go on with."""
    found: dict[tuple[int, ...], set[int]] = {}
    for word in words:
        for end, token in enumerate(word):
            found.setdefault(tuple(word[:end]), set()).add(token)
    return {opening: sorted(ways) for opening, ways in found.items()}


@pytest.mark.parametrize("name", [*tiny_models.CONFIGS, *MORE])
def test_constrained_words_count_each_token_among_those_that_go_on(name: str, models: dict[str, LanguageModel]) -> None:
    model = models[name]
    forward = Forward(model.frozen, "float32")
    ours = score_prompts(forward, ROWS, LabelWordReadout(WORDS, over="continuations"))
    assert forward.tokens_run == sum(map(len, ROWS)) + 2 * len(ROWS), "71 and 73 alone are run behind each row"
    np.testing.assert_allclose(np.exp(ours).sum(1), 1, atol=1e-6)
    openings = list_openings(WORDS)
    for row, scores in zip(ROWS, ours, strict=True):
        for word, score in zip(WORDS, scores, strict=True):
            expected = 0.0
            for end, token in enumerate(word):
                ways = openings[tuple(word[:end])]
                said = score_prompts(forward, [[*row, *word[:end]]], LabelWordReadout([[way] for way in [*ways, 1]]))
                expected += float(said[0, ways.index(token)] - np.logaddexp.reduce(said[0, :-1]))
            assert score == pytest.approx(expected, abs=1e-5)


def test_constrained_words_that_begin_apart_cost_what_words_of_one_token_do(model: LanguageModel) -> None:
    words = [[40 + at, 7, 100 + at] for at in range(30)]
    forward = Forward(model.frozen, "float32")
    ours = score_prompts(forward, ROWS, LabelWordReadout(words, over="continuations"))
    assert forward.tokens_run == sum(map(len, ROWS))
    np.testing.assert_array_equal(ours, score_prompts(forward, ROWS, LabelWordReadout([word[:1] for word in words])))


def test_constrained_words_have_no_mean_over_their_tokens() -> None:
    with pytest.raises(ValueError, match="no mean"):
        LabelWordReadout(WORDS, over="continuations", per_token=True)


@pytest.mark.parametrize("asked", ["verdict", "choice"])
@pytest.mark.parametrize(("name", "at_once"), [("llama", 12), *((name, 256) for name in (*tiny_models.CONFIGS, *MORE))])
def test_ten_steps_equal_a_plain_loop_that_repeats_the_prompt(
    name: str,
    at_once: int,
    asked: str,
    models: dict[str, LanguageModel],
    model_folders: dict[str, Path],
    task: Task,
    draw: Draw,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(readouts, "STATES_AT_ONCE", at_once)  # with 12 a batch is read in parts
    [pattern] = [each for each in task.patterns if each.name == asked]
    plan = make_plan("pattern", models[name], task, draw, learning_rate=LEARNING_RATE, pattern=asked, **TEN_STEPS)
    tokenizer = AutoTokenizer.from_pretrained(model_folders[name])
    network = AutoModelForCausalLM.from_pretrained(model_folders[name], dtype=torch.float32)
    prompts = [tokenizer(pattern.template.format(**e.fields)).input_ids for e in draw.support]
    words = [tokenizer(word, add_special_tokens=False).input_ids for word in pattern.label_words]
    assert min(map(len, words)) > 1
    labels = torch.tensor([e.label for e in draw.support])
    openings = list_openings(words)
    assert not pattern.constrained or len(openings[()]) == 1, "they begin alike"

    def say(logits: torch.Tensor, word: list[int], at: int) -> torch.Tensor:
        if not pattern.constrained:
            return logits.log_softmax(-1)[word[at]]
        ways = openings[tuple(word[:at])]
        return logits[ways].log_softmax(-1)[ways.index(word[at])]

    def score(row: int) -> torch.Tensor:
        each = []
        for word in words:
            logits = network(input_ids=torch.tensor([[*prompts[row], *word]])).logits[0]
            each.append(sum(say(logits[len(prompts[row]) - 1 + at], word, at) for at in range(len(word))))
        return torch.stack(each)

    def loss_of(batch: list[int]) -> torch.Tensor:
        return F.cross_entropy(torch.stack([score(row) for row in batch]), labels[batch])

    batches = draw_batches(len(draw.support), TEN_STEPS)
    expected = train_plainly(list(network.parameters()), LEARNING_RATE, batches, loss_of)
    losses = fit_losses(plan)
    assert len(losses) == len(expected) >= 10
    np.testing.assert_allclose(losses, expected, atol=1e-5)

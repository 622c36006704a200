"""Scores are the log-likelihoods that the definition gives, however rows are batched."""

from __future__ import annotations

import copy

import numpy as np
import torch

from fewtune.engine.forward import Forward
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.options import EngineOptions
from fewtune.engine.readouts import LabelWordReadout
from fewtune.engine.score import score_prompts

PROMPTS = [[40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 60 + i, 9] for i in range(7)]
WORDS = [[70], [71, 72], [73, 74, 75]]


def step_by_step(model: LanguageModel, prompt: list[int], word: list[int]) -> float:
    """Log-likelihood of a word's tokens, one full pass of Transformers' attention for all of them."""
    network = copy.deepcopy(model.frozen)
    network.set_attn_implementation("sdpa")
    with torch.no_grad():
        logs = network(input_ids=torch.tensor([prompt + word])).logits[0].log_softmax(-1)
    return float(sum(logs[len(prompt) - 1 + i, token] for i, token in enumerate(word)))


def test_label_words_of_several_tokens_score_their_whole_log_likelihood(model: LanguageModel) -> None:
    scores = score_prompts(Forward(model.frozen, "float32"), PROMPTS, LabelWordReadout(WORDS))
    expected = [[step_by_step(model, prompt, word) for word in WORDS] for prompt in PROMPTS]
    np.testing.assert_allclose(scores, expected, atol=1e-4)


def test_single_token_words_over_the_vocabulary_score_log_likelihoods(model: LanguageModel) -> None:
    readout = LabelWordReadout([[70], [71]], over="vocabulary")
    scores = score_prompts(Forward(model.frozen, "float32"), PROMPTS, readout)
    np.testing.assert_allclose(scores, [[step_by_step(model, p, [t]) for t in (70, 71)] for p in PROMPTS], atol=1e-4)


def test_label_columns_alone_differ_from_log_likelihoods_by_a_constant_a_row(model: LanguageModel) -> None:
    forward = Forward(model.frozen, "float32")
    columns = score_prompts(forward, PROMPTS, LabelWordReadout([[70], [71]]))
    whole = score_prompts(forward, PROMPTS, LabelWordReadout([[70], [71]], over="vocabulary"))
    np.testing.assert_allclose(columns[:, 0] - columns[:, 1], whole[:, 0] - whole[:, 1], atol=1e-4)


def test_sharing_the_prefix_changes_no_score_and_runs_fewer_tokens(model: LanguageModel) -> None:
    shared = Forward(model.frozen, "float32")
    every_time = Forward(model.frozen, "float32", options=EngineOptions(shared_prefix=False))
    one = score_prompts(shared, PROMPTS, LabelWordReadout(WORDS))
    other = score_prompts(every_time, PROMPTS, LabelWordReadout(WORDS))
    np.testing.assert_allclose(one, other, atol=1e-4)
    assert shared.tokens_run < every_time.tokens_run / 2


def test_batching_changes_no_score(model: LanguageModel) -> None:
    whole, each = EngineOptions(shared_prefix=False), EngineOptions(shared_prefix=False, tokens_per_pass=1)
    together = score_prompts(Forward(model.frozen, "float32", options=whole), PROMPTS, LabelWordReadout(WORDS))
    alone = score_prompts(Forward(model.frozen, "float32", options=each), PROMPTS[::-1], LabelWordReadout(WORDS))
    np.testing.assert_allclose(together, alone[::-1], atol=1e-4)

"""Scores are the log-likelihoods that the definition gives, however rows are batched."""

from __future__ import annotations

import copy

import numpy as np
import torch

from fewtune.engine.forward import MOST_PREFIXES, Forward
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.options import EngineOptions
from fewtune.engine.packing import shared_prefix_length
from fewtune.engine.readouts import LabelWordReadout
from fewtune.engine.score import score_prompts
from fewtune.engine.soft import SoftPrompt

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


def test_prompts_that_come_one_by_one_run_their_opening_once(model: LanguageModel) -> None:
    opening = PROMPTS[0][: shared_prefix_length(PROMPTS)]
    one_by_one, readout = Forward(model.frozen, "float32"), LabelWordReadout([[70], [71]])
    each = [score_prompts(one_by_one, [prompt], readout, opening)[0] for prompt in PROMPTS]
    np.testing.assert_allclose(
        each, score_prompts(Forward(model.frozen, "float32"), PROMPTS, readout), atol=1e-4, rtol=1e-4
    )
    assert one_by_one.tokens_run == len(opening) + sum(len(prompt) - len(opening) for prompt in PROMPTS)
    one_by_one.frozen.most_bytes = 0  # no room: each runs it anew
    before = one_by_one.tokens_run
    score_prompts(one_by_one, PROMPTS[:1], readout, opening)
    assert one_by_one.tokens_run == before + len(PROMPTS[0]) - len(opening), "what is kept is used"
    score_prompts(one_by_one, PROMPTS[:1], readout, opening)
    assert one_by_one.tokens_run == before + 2 * len(PROMPTS[0]) - len(opening)


def test_an_opening_is_not_kept_behind_soft_tokens_that_train(model: LanguageModel) -> None:
    soft = SoftPrompt(torch.nn.Embedding(2, model.frozen.get_input_embeddings().embedding_dim), 2)
    forward, readout = Forward(model.frozen, "float32", soft), LabelWordReadout([[70], [71]])
    before = score_prompts(forward, PROMPTS, readout)
    with torch.no_grad():
        soft.encoder.weight.mul_(3.0)  # type: ignore[operator, union-attr]
    after = score_prompts(forward, PROMPTS, readout)
    np.testing.assert_array_equal(after, score_prompts(Forward(model.frozen, "float32", soft), PROMPTS, readout))
    assert not np.allclose(before, after, atol=1e-3)


def test_few_prompts_keep_the_opening_alone_and_no_more_than_some(model: LanguageModel) -> None:
    opening = PROMPTS[0][:16]
    forward, readout = Forward(model.frozen, "float32"), LabelWordReadout([[70], [71]])
    score_prompts(forward, PROMPTS, readout, opening)
    assert list(forward._prefixes) == [tuple(opening)]
    for first in range(2 * MOST_PREFIXES):
        score_prompts(forward, [[200 + first, *prompt] for prompt in PROMPTS], readout)
    assert len(forward._prefixes) == MOST_PREFIXES


def test_an_opening_is_not_kept_of_a_network_that_trains(model: LanguageModel) -> None:
    network, readout = model.trainable_copy(), LabelWordReadout([[70], [71]])
    forward = Forward(network, "float32")
    before = score_prompts(forward, PROMPTS, readout)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(0.5)
    after = score_prompts(forward, PROMPTS, readout)
    np.testing.assert_allclose(after, score_prompts(Forward(network, "float32"), PROMPTS, readout), atol=1e-6)
    assert not np.allclose(before, after, atol=1e-3)

"""What is written is what Transformers' own greedy generation writes, however rows are batched."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import pytest
import torch

from fewtune.engine.forward import Forward
from fewtune.engine.generate import generate_greedily
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.options import EngineOptions
from fewtune.engine.packing import Prefix, pack

END = 1
OPENING = [40, 41, 42, 43, 44, 45, 46, 47, 48, 49, 50, 51, 52, 53, 54, 55, 56, 57]
ENDINGS = [[60], [61, 62, 63, 64, 65, 66, 67], [200, 31, 7], [90, 91, 92, 93, 94, 95, 96, 97, 98, 99, 100, 101]]
PROMPTS = {"apart": ENDINGS, "behind a shared opening": [OPENING + ending for ending in ENDINGS]}
TOKENS = 20


def never(written: Sequence[int]) -> bool:
    return False


def write_plainly(model: LanguageModel, prompt: list[int], tokens: int, end: int | None) -> list[int]:
    """Transformers' own generation of one row."""
    network = copy.deepcopy(model.frozen)
    network.set_attn_implementation("eager")
    given = torch.tensor([prompt])
    options = copy.deepcopy(network.generation_config)
    options.max_new_tokens, options.do_sample, options.eos_token_id, options.pad_token_id = tokens, False, end, 0
    written = network.generate(given, attention_mask=torch.ones_like(given), generation_config=options)
    return [int(t) for t in written[0, len(prompt) :]]


@pytest.mark.parametrize("where", PROMPTS)
def test_rows_of_any_length_are_written_on_as_transformers_does(where: str, model: LanguageModel) -> None:
    prompts = PROMPTS[where]
    written = generate_greedily(Forward(model.frozen, "float32"), prompts, [TOKENS] * len(prompts), never)
    assert written == [write_plainly(model, prompt, TOKENS, None) for prompt in prompts]


@pytest.mark.parametrize("where", PROMPTS)
def test_a_row_stops_where_it_is_told_and_the_others_go_on(where: str, model: LanguageModel) -> None:
    prompts = PROMPTS[where]
    freely = generate_greedily(Forward(model.frozen, "float32"), prompts, [TOKENS] * len(prompts), never)
    end = freely[1][2]
    written = generate_greedily(
        Forward(model.frozen, "float32"), prompts, [TOKENS] * len(prompts), lambda written: written[-1] == end
    )
    assert written == [write_plainly(model, prompt, TOKENS, end) for prompt in prompts]
    assert len(written[1]) <= 3


def test_each_row_has_a_limit_of_its_own(model: LanguageModel) -> None:
    limits = [0, 5, 1, TOKENS]
    written = generate_greedily(Forward(model.frozen, "float32"), ENDINGS, limits, never)
    freely = generate_greedily(Forward(model.frozen, "float32"), ENDINGS, [TOKENS] * 4, never)
    assert written == [row[:limit] for row, limit in zip(freely, limits, strict=True)]


def test_no_token_is_run_twice(model: LanguageModel) -> None:
    forward = Forward(model.frozen, "float32")
    generate_greedily(forward, PROMPTS["behind a shared opening"], [TOKENS] * len(ENDINGS), never)
    # The last token of each answer is written and not read.
    assert forward.tokens_run == len(OPENING) + sum(map(len, ENDINGS)) + len(ENDINGS) * (TOKENS - 1)


def test_grouping_changes_no_token(model: LanguageModel) -> None:
    prompts = PROMPTS["behind a shared opening"]
    together = generate_greedily(Forward(model.frozen, "float32"), prompts, [TOKENS] * len(prompts), never)
    one_row = Forward(model.frozen, "float32", options=EngineOptions(tokens_per_pass=1))
    alone = generate_greedily(one_row, prompts, [TOKENS] * len(prompts), never)
    assert together == alone


def test_states_behind_caches_equal_those_of_whole_rows(model: LanguageModel) -> None:
    forward = Forward(model.frozen, "float32")
    prefix, cut = forward.share_opening(PROMPTS["behind a shared opening"])
    assert prefix is not None
    caches = [{} for _ in ENDINGS]  # type: ignore[var-annotated]
    with torch.no_grad():
        forward.hidden_states(forward.pack(ENDINGS, prefix, caches))
        for _ in range(2):
            states = forward.hidden_states(forward.pack([[77]] * len(ENDINGS), prefix, caches))
        whole = forward.pack([OPENING + ending + [77, 77] for ending in ENDINGS])
        expected = forward.hidden_states(whole)[whole.ends]
    torch.testing.assert_close(states, expected, atol=1e-5, rtol=1e-4)
    assert cut == len(OPENING)


def test_caches_that_cannot_be_gone_on_from_are_refused(models: dict[str, LanguageModel]) -> None:
    forward = Forward(models["llama"].frozen, "float32")
    caches = [{} for _ in ENDINGS]  # type: ignore[var-annotated]
    with torch.no_grad():
        forward.hidden_states(forward.pack(ENDINGS, None, caches))
    with pytest.raises(ValueError, match="run one token each"):
        forward.pack(ENDINGS, None, caches)
    with pytest.raises(ValueError, match="whose keys and values are known"):
        pack(ENDINGS, forward.device, Prefix(1, embeddings=torch.zeros(1, 32)), caches)

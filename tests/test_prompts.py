"""Prompts keep their end, label words carry no stray tokens, and what is cut is counted."""

from __future__ import annotations

from typing import Any

import pytest

import tiny_models
from fewtune.errors import DataError
from fewtune.models.architectures import DECODERS
from fewtune.prompts.template import plain_template, render
from fewtune.prompts.tokens import Encoder, Surroundings, Tokenizer
from fewtune.records import CutInputs
from fewtune.tasks.base import Example, Pattern

LONG = "the cook works like a charm and never lets us down"


@pytest.fixture(scope="module")
def tokenizers() -> dict[bool, Any]:
    return {opens: tiny_models.make_tokenizer(opens) for opens in (False, True)}


def make_encoder(tokenizer: Any, max_tokens: int, max_positions: int) -> Encoder:
    return Encoder(Tokenizer(tokenizer, Surroundings(DECODERS.find_opening(tokenizer))), max_tokens, max_positions)


def example(**fields: str) -> Example:
    return Example("row", fields, 0)


def test_braces_in_a_text_are_not_a_template() -> None:
    assert render("{text} Sure?", {"text": "a {text} {0} }{"}) == "a {text} {0} }{ Sure?"
    assert plain_template(("premise", "hypothesis")) == "{premise}\n{hypothesis}"


@pytest.mark.parametrize("opens", [False, True])
def test_opening_tokens_stand_once_before_a_prompt_and_never_in_label_words(
    opens: bool, tokenizers: dict[bool, Any]
) -> None:
    encoder = make_encoder(tokenizers[opens], 64, 128)
    assert encoder.opening == ([1] if opens else [])
    (prompt,) = encoder.encode("{text}. Feeling:", [example(text="the cook")])
    assert prompt == tokenizers[opens]("the cook. Feeling:").input_ids
    words = encoder.encode_label_words(Pattern("p", "{text}. Feeling:", (" bad", " good")))
    assert all(1 not in tokens for tokens in words)
    assert prompt + words[1] == tokenizers[opens]("the cook. Feeling: good").input_ids


def test_a_long_row_loses_the_end_of_its_longest_text_and_keeps_the_prompts_end(tokenizers: dict[bool, Any]) -> None:
    encoder = make_encoder(tokenizers[False], 24, 128)
    row = example(premise=LONG * 3, hypothesis="the cook")
    (prompt,) = encoder.encode("{premise}\nQuestion: {hypothesis}. Feeling:", [row], reserve=1)
    text = tokenizers[False].decode(prompt)
    assert len(prompt) <= 23
    assert text.startswith("the cook works") and text.endswith("\nQuestion: the cook. Feeling:")
    cut = encoder.count_cut()
    assert cut.rows == 1 and cut.tokens > 0


def test_two_long_texts_give_until_both_fit(tokenizers: dict[bool, Any]) -> None:
    encoder = make_encoder(tokenizers[False], 40, 128)
    row = example(premise=LONG * 3, hypothesis=LONG * 2)
    (prompt,) = encoder.encode("{premise}\nQuestion: {hypothesis}. Feeling:", [row])
    premise, hypothesis = tokenizers[False].decode(prompt).removesuffix(". Feeling:").split("\nQuestion: ")
    assert len(prompt) <= 40 and premise and hypothesis
    assert abs(len(tokenizers[False](premise).input_ids) - len(tokenizers[False](hypothesis).input_ids)) <= 2


def test_several_texts_of_any_length_are_cut_in_a_few_passes(tokenizers: dict[bool, Any]) -> None:
    passes = 0

    class Counting(Tokenizer):
        def tokenise(self, texts: Any) -> list[list[int]]:
            nonlocal passes
            passes += 1
            return super().tokenise(texts)

    tokenizer = Counting(tokenizers[False], Surroundings([]))
    row = example(premise=LONG * 300, hypothesis=LONG * 299, note="the cook")
    (prompt,) = Encoder(tokenizer, 60, 128).encode("{premise}\nQuestion: {hypothesis}. {note}. Feeling:", [row])
    text = tokenizers[False].decode(prompt)
    premise, hypothesis = text.removesuffix(". the cook. Feeling:").split("\nQuestion: ")
    assert 56 <= len(prompt) <= 60 and text.endswith(". the cook. Feeling:") and passes < 150
    assert abs(len(tokenizers[False](premise).input_ids) - len(tokenizers[False](hypothesis).input_ids)) <= 2


@pytest.mark.parametrize("limit", range(17, 30))
def test_a_text_is_never_cut_within_a_character(limit: int, tokenizers: dict[bool, Any]) -> None:
    encoder = make_encoder(tokenizers[False], limit, 128)
    (prompt,) = encoder.encode("{text}. Feeling:", [example(text="the cook 😀😀😀😀😀😀😀😀")])
    text = tokenizers[False].decode(prompt)
    assert len(prompt) <= limit and text.endswith(". Feeling:") and text.startswith("the cook")
    assert set(text) <= set("the cook. Feeling: 😀")


def test_a_row_that_fits_is_left_alone(tokenizers: dict[bool, Any]) -> None:
    encoder = make_encoder(tokenizers[False], 64, 128)
    (prompt,) = encoder.encode("{text}. Feeling:", [example(text=LONG)])
    assert tokenizers[False].decode(prompt) == LONG + ". Feeling:"
    assert encoder.count_cut() == CutInputs()


def test_a_pattern_longer_than_the_room_is_told(tokenizers: dict[bool, Any]) -> None:
    encoder = make_encoder(tokenizers[False], 4, 128)
    with pytest.raises(DataError, match="the pattern alone is longer than the 4 tokens"):
        encoder.encode("{text}. Is this sentence good or bad? Feeling:", [example(text="a")])


def test_demonstrations_that_leave_no_room_are_told(tokenizers: dict[bool, Any]) -> None:
    encoder = make_encoder(tokenizers[False], 64, 40)
    with pytest.raises(DataError, match=r"Use fewer demonstrations, or lower max_tokens\.$"):
        encoder.encode("{text}. Feeling:", [example(text="a")], before=LONG * 9)


def test_label_words_that_collide_as_tokens_are_refused(tokenizers: dict[bool, Any]) -> None:
    encoder = make_encoder(tokenizers[False], 64, 128)
    with pytest.raises(DataError, match=r"label words ' good' and ' good good' collide"):
        encoder.encode_label_words(Pattern("p", "{text}. Feeling:", (" good", " good good")))


def test_a_text_named_twice_gives_no_more_than_it_must(tokenizers: dict[bool, Any]) -> None:
    encoder = make_encoder(tokenizers[False], 40, 128)
    (prompt,) = encoder.encode("{text}. So: {text}. Feeling:", [example(text=LONG * 3)])
    assert 38 <= len(prompt) <= 40


def test_each_row_may_have_a_text_of_its_own_before_it(tokenizers: dict[bool, Any]) -> None:
    encoder = make_encoder(tokenizers[True], 24, 64)
    rows, before = [example(text=LONG * 3), example(text="the cook"), example(text=LONG)], [LONG, "", "So: "]
    one_by_one = [
        encoder.encode("{text}. Feeling:", [row], text, reserve=1)[0] for row, text in zip(rows, before, strict=True)
    ]
    assert encoder.encode("{text}. Feeling:", rows, before, reserve=1) == one_by_one
    with pytest.raises(DataError, match="leaves no room for a row"):
        encoder.encode("{text}. Feeling:", rows, [LONG, LONG * 9, ""])

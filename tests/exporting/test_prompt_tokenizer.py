"""A tokenizer that holds a prompt gives plain texts the tokens of the whole prompt, and keeps its end when it cuts."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, trainers
from transformers import PreTrainedTokenizerFast

import tiny_models
from fewtune.errors import PredictorError
from fewtune.exporting.prompt_tokenizer import PROBES, build_prompt_tokenizer, split_prompt

PROMPTS = [
    ("", "{text}\nLabel:"),
    ("", "{text} Sentiment:"),
    ("Review: fine\nSentiment: good\n\n", "Review: {text}\nSentiment:"),
    ("", '"{text}" is'),
    ("", "{a}\n{b}\nLabel:"),
    ("", "{text}"),
]


def byte_level() -> Tokenizer:
    return Tokenizer.from_str(tiny_models.make_tokenizer(opens_with_end=False).backend_tokenizer.to_str())


def whole_words() -> Tokenizer:
    """As Gemma's and Llama 2's: spaces become ▁, and merges go over what were words."""
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>", byte_fallback=True))
    tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    letters = sorted({letter for probe in PROBES for letter in probe} | set("▁\nLabel:Sentiment"))
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=["<unk>", *(f"<0x{byte:02X}>" for byte in range(256))], initial_alphabet=letters
    )
    tokenizer.train_from_iterator(
        [f"{probe}\nLabel: good\n\nReview: {probe} Sentiment: bad" for probe in PROBES], trainer
    )
    return tokenizer


TOKENIZERS = {"byte level": byte_level(), "whole words": whole_words()}


def encode_whole(source: Tokenizer, before: str, template: str, texts: tuple[str, ...]) -> list[int]:
    parts = split_prompt(before, template)
    prompt = template
    for name, text in zip(parts.fields, texts, strict=True):
        prompt = prompt.replace("{" + name + "}", text.strip())
    return source.encode(before + prompt, add_special_tokens=False).ids


@pytest.mark.parametrize("kind", TOKENIZERS)
@pytest.mark.parametrize(("before", "template"), PROMPTS)
@settings(max_examples=50, deadline=None)
@given(text=st.text(st.characters(codec="utf-8", exclude_categories=["Cc"]), min_size=1).filter(str.strip))
def test_any_text_has_the_tokens_of_the_whole_prompt(kind: str, before: str, template: str, text: str) -> None:
    source = TOKENIZERS[kind]
    parts = split_prompt(before, template)
    if kind == "whole words" and len(parts.fields) == 2:  # it writes ▁ before each text, and the prompt before one
        with pytest.raises(PredictorError, match="joins the prompt with the texts"):
            build_prompt_tokenizer(source, [7], parts)
        return
    made = build_prompt_tokenizer(source, [7], parts)
    texts = (text, f"x {text}")[: len(parts.fields)]
    bare = json.loads(source.to_str())
    bare["post_processor"] = None
    expected = encode_whole(Tokenizer.from_str(json.dumps(bare)), before, template, texts)
    assert made.encode(*texts).ids == [7, *expected]


def test_what_is_cut_is_the_text_and_never_the_prompt() -> None:
    made = build_prompt_tokenizer(byte_level(), [1], split_prompt("", "{text}. Feeling:"))
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=made, pad_token="<pad>", model_max_length=12)
    long, short = (tokenizer(text, truncation=True).input_ids for text in ("a small hotel " * 20, "a"))
    assert len(long) == 12 and long[0] == 1 and long[-3:] == short[-3:]


@pytest.mark.parametrize("template", ["no text at all", "{text} and again {text}", "{a} {b} {c}"])
def test_prompts_that_no_tokenizer_holds_are_refused(template: str) -> None:
    with pytest.raises(PredictorError, match="does not name one or two texts, each once"):
        split_prompt("", template)


def test_a_prompt_that_joins_with_its_texts_is_refused() -> None:
    with pytest.raises(PredictorError, match="joins the prompt with the texts"):
        build_prompt_tokenizer(byte_level(), [], split_prompt("", "{a} question: {b} True or False?"))

"""Tiny random models, one an architecture, with a tokenizer trained on a few made-up sentences."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable
from pathlib import Path

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    LlamaConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
)

from fewtune.tasks.base import Example, Pattern, Task, TestSet
from fewtune.tasks.build import build_task

VOCABULARY = 400
POSITIONS = 128

CONFIGS: dict[str, PretrainedConfig] = {
    "llama": LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=POSITIONS,
        tie_word_embeddings=True,
    ),
    "gpt2": GPT2Config(
        vocab_size=VOCABULARY,
        n_embd=32,
        n_layer=2,
        n_head=4,
        n_positions=POSITIONS,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
    ),
    "opt": OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
        word_embed_proj_dim=32,
        dropout=0.0,
    ),
    # As OPT-350M: embeddings narrower than the layers, norms after them.
    "opt-350m-shaped": OPTConfig(
        vocab_size=VOCABULARY,
        hidden_size=32,
        ffn_dim=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=POSITIONS,
        word_embed_proj_dim=16,
        do_layer_norm_before=False,
        dropout=0.0,
    ),
}

SUBJECTS = ("the cook", "a pilot", "my neighbour", "the old band", "this kettle", "their garden", "a small hotel")
GOOD = ("is a joy to know", "works like a charm", "never lets us down", "was kind and quick", "made us all smile")
BAD = ("broke on day one", "was rude and slow", "ruined the whole trip", "smells of burnt milk", "let everyone down")


def make_tokenizer(opens_with_end: bool, more: Iterable[str] = ()) -> PreTrainedTokenizerFast:
    """A byte-level BPE, trained on `more` texts too; `opens_with_end` puts </s> before every text, as OPT's does."""
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=["<pad>", "</s>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    sentences = [f"{s} {p}. Feeling: good bad" for s, p in itertools.product(SUBJECTS, (*GOOD, *BAD))]
    tokenizer.train_from_iterator([*sentences, *more], trainer)
    if opens_with_end:
        tokenizer.post_processor = processors.TemplateProcessing(single="</s> $A", special_tokens=[("</s>", 1)])
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", clean_up_tokenization_spaces=False
    )


def save(name: str, folder: Path, times_wider: int = 1, positions: int = POSITIONS, more: Iterable[str] = ()) -> Path:
    """Write the tiny model of that architecture, its weights large enough that scores differ, and return the folder.

    `positions`: tokens it reads at once; `more`: texts its tokenizer is trained on besides its own.
    """
    config = copy.deepcopy(CONFIGS[name])
    if times_wider != 1:
        for key in ("hidden_size", "intermediate_size", "ffn_dim", "word_embed_proj_dim", "head_dim"):
            if config.to_dict().get(key) is not None:
                setattr(config, key, times_wider * getattr(config, key))
    config.max_position_embeddings = positions
    config.pad_token_id, config.eos_token_id, config.bos_token_id = 0, 1, 1
    config.initializer_range = config.init_std = 0.2
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    network.save_pretrained(folder)
    make_tokenizer(name.startswith("opt"), more).save_pretrained(folder)
    return folder


def make_task() -> Task:
    """Good and bad sentences; pattern `feeling` has label words of one token, `verdict` of several."""
    rows = [(f"{s} {p}", 1) for s, p in itertools.product(SUBJECTS, GOOD)]
    rows += [(f"{s} {p}", 0) for s, p in itertools.product(SUBJECTS, BAD)]
    examples = [Example(f"r{i}", {"text": text}, label) for i, (text, label) in enumerate(rows)]
    train, test = tuple(examples[::2]), tuple(examples[1::2])
    labels = ("bad", "good")
    test_sets = (TestSet("in_domain", test[:20], labels, (0, 1)), TestSet("elsewhere", test[20:], labels, (0, 1)))
    task = Task(
        name="made-up",
        source_url="none",
        revision=1,
        fields=("text",),
        labels=labels,
        patterns=(
            Pattern("feeling", "{text}. Feeling:", (" bad", " good")),
            Pattern("verdict", "{text}. Verdict:", (" not at all", " very much so")),
        ),
        primary_metric="accuracy",
        train=train,
        test_sets=test_sets,
    )
    return build_task(task)

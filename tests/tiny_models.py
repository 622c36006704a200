"""Tiny random models of several types, each with a tokenizer trained on a few made-up sentences."""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    DebertaV2Config,
    Gemma3TextConfig,
    GPT2Config,
    GPTNeoXConfig,
    LlamaConfig,
    MistralConfig,
    ModernBertConfig,
    MPNetConfig,
    OPTConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen3Config,
    RobertaConfig,
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

_SHAPE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": POSITIONS,
}
_GROUPED = {**_SHAPE, "num_key_value_heads": 2, "head_dim": 8}
MORE_DECODERS: dict[str, PretrainedConfig] = {
    # Windows in two layers of three, norms of queries and keys, embeddings that are scaled.
    "gemma3": Gemma3TextConfig(
        **_GROUPED,
        sliding_window=64,
        layer_types=["sliding_attention", "sliding_attention", "full_attention"],
        query_pre_attn_scalar=8,
    ),
    "qwen3": Qwen3Config(**_GROUPED, tie_word_embeddings=True),
    "mistral": MistralConfig(**_GROUPED, sliding_window=64),
    # Attention and the layer beside it read the same states; queries, keys and values come from one product.
    "gpt-neox": GPTNeoXConfig(**_SHAPE, attention_dropout=0.0, hidden_dropout=0.0),
}
"""Kinds that a few tests try, as models of theirs are in use; the others stand for them elsewhere."""

_ENCODER = {
    **_SHAPE,
    "hidden_dropout_prob": 0.0,
    "attention_probs_dropout_prob": 0.0,
    "cls_token_id": 1,
    "sep_token_id": 1,
}
ENCODERS: dict[str, PretrainedConfig] = {
    "bert": BertConfig(**_ENCODER),
    "roberta": RobertaConfig(**_ENCODER),
    # Every other block reads no further than two tokens away.
    "modernbert": ModernBertConfig(**_ENCODER, local_attention=4, global_attn_every_n_layers=2),
    "mpnet": MPNetConfig(**_ENCODER),
    # As DeBERTa v3: no positions but distances, in classes beyond four tokens, normed, read by the tokens' matrices.
    "deberta-v3": DebertaV2Config(
        **_ENCODER,
        relative_attention=True,
        position_buckets=8,
        norm_rel_ebd="layer_norm",
        share_att_key=True,
        pos_att_type=["p2c", "c2p"],
        position_biased_input=False,
        type_vocab_size=0,
    ),
    "sentence-encoder": BertConfig(**_ENCODER),
}
"""Encoders; the last pools its states and has no language-model head."""

SUBJECTS = ("the cook", "a pilot", "my neighbour", "the old band", "this kettle", "their garden", "a small hotel")
GOOD = ("is a joy to know", "works like a charm", "never lets us down", "was kind and quick", "made us all smile")
BAD = ("broke on day one", "was rude and slow", "ruined the whole trip", "smells of burnt milk", "let everyone down")


def make_tokenizer(
    opens_with_end: bool, more: Iterable[str] = (), masks: bool = False, padding: int = 0
) -> PreTrainedTokenizerFast:
    """A byte-level BPE, trained on `more` texts too; `opens_with_end` puts </s> before every text, as OPT's does.

    `masks`: it has a mask, and puts </s> behind every text as well, as encoders' do. `padding`, 0 or 1, is the
    number of <pad>, the other that of </s>.
    """
    tokenizer = Tokenizer(models.BPE(unk_token=None))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    first = ["</s>", "<pad>"] if padding else ["<pad>", "</s>"]
    special = [*first, *(["<mask>"] if masks else [])]
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=special, initial_alphabet=pre_tokenizers.ByteLevel.alphabet()
    )
    sentences = [f"{s} {p}. Feeling: good bad" for s, p in itertools.product(SUBJECTS, (*GOOD, *BAD))]
    tokenizer.train_from_iterator([*sentences, *more], trainer)
    if opens_with_end:
        around = "</s> $A </s>" if masks else "</s> $A"
        pair = "</s> $A </s> </s> $B </s>" if masks else "</s> $A $B"
        marks = [("</s>", 1 - padding)]
        tokenizer.post_processor = processors.TemplateProcessing(single=around, pair=pair, special_tokens=marks)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        clean_up_tokenization_spaces=False,
        **({"mask_token": "<mask>"} if masks else {}),
    )


def save(name: str, folder: Path, times_wider: int = 1, positions: int = POSITIONS, more: Iterable[str] = ()) -> Path:
    """Write the tiny model of that architecture, its weights large enough that scores differ, and return the folder.

    `positions`: tokens it reads at once; `more`: texts its tokenizer is trained on besides its own.
    """
    config = copy.deepcopy((CONFIGS | MORE_DECODERS | ENCODERS)[name])
    if times_wider != 1:
        for key in ("hidden_size", "intermediate_size", "ffn_dim", "word_embed_proj_dim", "head_dim"):
            if config.to_dict().get(key) is not None:
                setattr(config, key, times_wider * getattr(config, key))
    config.max_position_embeddings = positions
    padding = int(name == "mpnet")  # its embeddings hold the number, whatever a configuration says
    config.pad_token_id, config.eos_token_id, config.bos_token_id = padding, 1 - padding, 1 - padding
    config.initializer_range = config.init_std = 0.2
    with torch.random.fork_rng():
        torch.manual_seed(7)
        network = choose_class(name).from_config(config, dtype=torch.float32)
    network.save_pretrained(folder)
    around, masks = name.startswith("opt") or name in ENCODERS, name in ENCODERS
    make_tokenizer(around, more, masks, padding).save_pretrained(folder)
    if name == "sentence-encoder":
        kinds = {"Transformer": "", "Pooling": "1_Pooling", "Normalize": "2_Normalize"}
        parts = [
            {"idx": place, "name": str(place), "path": path, "type": f"sentence_transformers.models.{kind}"}
            for place, (kind, path) in enumerate(kinds.items())
        ]
        (folder / "modules.json").write_text(json.dumps(parts))
        (folder / "1_Pooling").mkdir()
        pooling = {"word_embedding_dimension": config.hidden_size, "pooling_mode_mean_tokens": True}
        (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooling))
    return folder


def choose_class(name: str) -> Any:
    """Transformers' class of a tiny model, its head included."""
    if name == "sentence-encoder":
        return AutoModel
    return AutoModelForMaskedLM if name in ENCODERS else AutoModelForCausalLM


def make_task() -> Task:
    """Good and bad sentences; pattern `feeling` has label words of one token, `verdict` of several, `choice` too.

    Those of `choice` begin alike, and are constrained.
    """
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
            Pattern("choice", "{text}. Verdict:", (" not at all", " not rude at all"), constrained=True),
        ),
        primary_metric="accuracy",
        train=train,
        test_sets=test_sets,
    )
    return build_task(task)

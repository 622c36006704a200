"""Encoders: masked language models such as BERT, RoBERTa and ModernBERT, and sentence encoders made of them.

Owns which of them can run packed rows, and how their heads read states. A sentence encoder is one whose folder says how
its states are pooled (Sentence Transformers' files); it says no words. Sources: Devlin et al. 2018,
https://arxiv.org/abs/1810.04805 (whose second text of a pair is another segment: here all tokens are of the first);
Reimers and Gurevych 2019, https://arxiv.org/abs/1908.10084
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from fewtune.errors import ModelError
from fewtune.models.architectures.base import Ability, AttentionKind, Pooling
from fewtune.models.architectures.parts import (
    TransformersParts,
    find_around,
    find_last_norm,
    refuse_own_attention,
    refuse_quantised,
)

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_NEEDLESS = re.compile(
    r"(^|\.)(pooler|seq_relationship|position_ids|discriminator_predictions|lm_predictions|mask_predictions)(\.|$)"
    r"|(^|\.)word_embeddings\._weight$"  # a second copy, in published DeBERTa v3
)
"""Parts that were trained with a masked language model, and that neither words nor states come from."""
_COUNT_FROM_PADDING = {"roberta", "xlm-roberta", "camembert", "data2vec-text"}
WRITTEN_IN = ("deberta-v2", "mpnet")
"""Types whose attention is written into their classes, and that can be run around packed rows all the same
(`engine.own_attention`)."""
TRIED = (
    "bert",
    "camembert",
    "data2vec-text",
    *WRITTEN_IN,
    "distilbert",
    "electra",
    "modernbert",
    "roberta",
    "xlm-roberta",
)
"""Types whose packed rows give what each gives alone (tests/models/test_encoder_types.py). Others look beyond a row in
other ways than by attention: MobileBERT joins neighbouring tokens, ESM scales by the share of masks in all of them."""


class Encoders(TransformersParts):
    """Masked language models and sentence encoders, as `base.Architecture` describes them."""

    name = "encoders"
    revision = 2  # two texts with the tokenizer's tokens between them; positions in frozen blocks
    attention: AttentionKind = "bidirectional"
    peft_task = "FEATURE_EXTRACTION"

    def fits(self, config: PreTrainedConfig) -> bool:
        from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING_NAMES

        return config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES and not config.is_encoder_decoder

    def refuse_unsuited(self, name: str, config: PreTrainedConfig) -> None:
        from transformers.models.auto.modeling_auto import MODEL_FOR_MASKED_LM_MAPPING

        kind = f"model {name!r} is of type {config.model_type!r}"
        refuse_quantised(kind, config)
        if getattr(config, "is_decoder", False):
            raise ModelError(f"{kind}, an encoder that was made a decoder. Use a decoder, or an encoder as it was.")
        network: Any = MODEL_FOR_MASKED_LM_MAPPING.get(type(config), None)
        if network is not None and self.takes_attention(config):
            refuse_own_attention(name, network, "BERT, RoBERTa, MPNet, DeBERTa v3 or ModernBERT")
        if config.model_type not in TRIED:
            raise ModelError(
                f"{kind}, whose rows nobody has seen to stay apart where they are packed. Use one of these types: "
                f"{', '.join(TRIED)}."
            )
        if getattr(config, "conv_kernel_size", 0):
            raise ModelError(
                f"{kind} and joins neighbouring tokens by a convolution (conv_kernel_size): packed rows would read one "
                "another there. Use one without it, such as DeBERTa v3."
            )

    def is_tried(self, config: PreTrainedConfig) -> bool:
        return True  # others are refused

    def takes_attention(self, config: PreTrainedConfig) -> bool:
        return config.model_type not in WRITTEN_IN

    def find_abilities(self, config: PreTrainedConfig) -> frozenset[Ability]:
        return frozenset() if _is_headless(config) else frozenset({"label_words"})

    def find_pooling(self, config: PreTrainedConfig) -> Pooling:
        pooling: Pooling = getattr(config, "sentence_pooling", None) or "first_token"
        return pooling

    def choose_class(self, config: PreTrainedConfig) -> Any:
        from transformers import AutoModel, AutoModelForMaskedLM

        return AutoModel if _is_headless(config) else AutoModelForMaskedLM

    def is_needless(self, weights: str) -> bool:
        return _NEEDLESS.search(weights) is not None

    def find_opening(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        return find_around(tokenizer)[0]

    def find_closing(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        return find_around(tokenizer)[1]

    def find_between(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """The special tokens that the tokenizer puts between the texts of a pair; a new line where it puts none."""
        opening, closing = find_around(tokenizer)
        one = tokenizer("a", add_special_tokens=False).input_ids
        pair = tokenizer("a", "a").input_ids
        inner = pair[len(opening) + len(one) : len(pair) - len(closing) - len(one)]
        return "".join(tokenizer.convert_ids_to_tokens(inner)) or "\n"

    def find_mask(self, tokenizer: PreTrainedTokenizerBase) -> int | None:
        mask: int | None = tokenizer.mask_token_id
        return mask

    def find_first_position(self, config: PreTrainedConfig) -> int:
        if config.model_type == "mpnet":  # its embeddings hold the number, whatever the configuration says
            return 2
        padding = config.pad_token_id if config.model_type in _COUNT_FROM_PADDING else None
        return 0 if padding is None else padding + 1

    def find_final_norm(self, network: PreTrainedModel) -> nn.Module | None:
        """None for DeBERTa: the norm beside its blocks is that of distances, which every block reads."""
        return None if network.config.model_type == "deberta-v2" else find_last_norm(network)

    def find_width(self, network: PreTrainedModel) -> int:
        return int(network.config.hidden_size)

    def transform(self, network: PreTrainedModel, states: Tensor) -> Tensor:
        """What the network makes of its body's states before the last linear layer, whatever stands between them.

        The whole network runs with both replaced: its body gives these states, its last layer what it gets.
        """
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        body, head = self.find_body(network), self.find_head(network)
        assert head is not None
        flat = states.reshape(1, -1, states.shape[-1])
        body.forward = lambda *inputs, **named: BaseModelOutput(last_hidden_state=flat)
        head.forward = lambda given: given
        try:
            found = network(input_ids=torch.zeros(flat.shape[:2], dtype=torch.long, device=flat.device)).logits
        finally:
            del body.forward, head.forward  # the classes' own again
        transformed: Tensor = found.reshape(*states.shape[:-1], -1)
        return transformed


def _is_headless(config: PreTrainedConfig) -> bool:
    """Whether the weights that were saved hold no language-model head."""
    if getattr(config, "sentence_pooling", None) is not None:
        return True
    if config.model_type == "deberta-v2" and not getattr(config, "legacy", True):
        return True  # its head reads the token embeddings, and is no linear layer of its own
    return not any(name.endswith("ForMaskedLM") or name == "BertForPreTraining" for name in config.architectures or [])


ARCHITECTURE = Encoders()

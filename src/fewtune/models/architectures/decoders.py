"""Decoders: causal language models such as Llama, Qwen, OPT and GPT-2.

Owns which of them can run packed rows, and where their parts are, found by structure. Source: Transformers' causal
language models, https://huggingface.co/docs/transformers/tasks/language_modeling
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fewtune.errors import ModelError
from fewtune.models.architectures.base import Ability, AttentionKind, Pooling
from fewtune.models.architectures.parts import (
    TransformersParts,
    find_around,
    refuse_own_attention,
    refuse_quantised,
)

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_ATTENTION_LAYERS = {"full_attention", "sliding_attention"}
_CHANGED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "attn_logit_softcapping")
TRIED = ("gemma3_text", "gpt2", "gpt_neox", "llama", "mistral", "opt", "qwen3")
"""Types whose packed rows the tests hold to what each row gives alone."""


class Decoders(TransformersParts):
    """Causal language models, as `base.Architecture` describes them."""

    name = "decoders"
    revision = 1
    attention: AttentionKind = "causal"
    peft_task = "CAUSAL_LM"

    def fits(self, config: PreTrainedConfig) -> bool:
        from transformers.models.auto.modeling_auto import (
            MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
            MODEL_FOR_MASKED_LM_MAPPING_NAMES,
        )

        # Masked language models have a causal class too in Transformers, which reads their words without sense.
        kind = config.model_type
        causal = kind in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES and kind not in MODEL_FOR_MASKED_LM_MAPPING_NAMES
        return causal and not config.is_encoder_decoder

    def refuse_unsuited(self, name: str, config: PreTrainedConfig) -> None:
        kind = f"model {name!r} is of type {config.model_type!r}"
        others = sorted(set(map(str, getattr(config, "layer_types", None) or ())) - _ATTENTION_LAYERS)
        if others:
            raise ModelError(
                f"{kind} and has layers that are no attention over whole rows ({', '.join(others)}): packed rows would "
                "read one another there. Use a model whose layers are all attention."
            )
        for key in _CHANGED_LOGITS:
            if getattr(config, key, None) not in (None, 1.0):
                raise ModelError(
                    f"{kind} and changes its logits or attention ({key}), which fewtune does not reproduce yet. "
                    "Use a model without it."
                )
        pooling = getattr(config, "sentence_pooling", None)
        if pooling is not None:
            raise ModelError(
                f"{kind}, a decoder whose folder pools its states as a sentence encoder does ({pooling}), which "
                "fewtune does not do. Use an encoder, or the decoder without modules.json."
            )
        if getattr(config, "use_bidirectional_attention", None) in (True, "all"):
            raise ModelError(f"{kind} and reads both ways, which fewtune does not do. Use one that reads forward.")
        refuse_quantised(kind, config)
        from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

        network: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
        if network is not None:  # else told with the rest of what cannot be loaded
            refuse_own_attention(name, network, "Llama, Qwen, OPT or GPT-2")

    def is_tried(self, config: PreTrainedConfig) -> bool:
        return config.model_type in TRIED

    def takes_attention(self, config: PreTrainedConfig) -> bool:
        return True

    def find_abilities(self, config: PreTrainedConfig) -> frozenset[Ability]:
        return frozenset({"label_words", "reads_on"})

    def find_pooling(self, config: PreTrainedConfig) -> Pooling:
        return "last_token"

    def choose_class(self, config: PreTrainedConfig) -> Any:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM

    def is_needless(self, weights: str) -> bool:
        return False

    def find_opening(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        return find_around(tokenizer)[0]

    def find_closing(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        return []  # what a tokenizer puts behind a text would end it, and words are to follow

    def find_between(self, tokenizer: PreTrainedTokenizerBase) -> str:
        return "\n"

    def find_mask(self, tokenizer: PreTrainedTokenizerBase) -> int | None:
        return None

    def find_first_position(self, config: PreTrainedConfig) -> int:
        return 0

    def find_width(self, network: PreTrainedModel) -> int:
        """That of the language-model head's input: OPT-350M projects its states once more."""
        head: Any = network.get_output_embeddings()
        return int(head.weight.shape[1])

    def transform(self, network: PreTrainedModel, states: Tensor) -> Tensor:
        return states


ARCHITECTURE = Decoders()

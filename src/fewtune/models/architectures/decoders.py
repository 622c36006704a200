"""Decoders: causal language models such as Llama, Qwen, OPT and GPT-2.

Owns which of them can run packed rows, and where their parts are, found by structure. Source: Transformers' causal
language models, https://huggingface.co/docs/transformers/tasks/language_modeling
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fewtune.errors import ModelError
from fewtune.models.architectures.base import AnswerPosition, AttentionKind

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

_ATTENTION_LAYERS = {"full_attention", "sliding_attention"}
_CHANGED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "attn_logit_softcapping")


class Decoders:
    """Causal language models, as `base.Architecture` describes them."""

    name = "decoders"
    attention: AttentionKind = "causal"
    answers_at: AnswerPosition = "last_token"

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
        _refuse_quantised(kind, config)
        _refuse_own_attention(name, config)

    def choose_class(self) -> Any:
        from transformers import AutoModelForCausalLM

        return AutoModelForCausalLM

    def find_opening(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        plain = tokenizer("a", add_special_tokens=False).input_ids
        marked = tokenizer("a", add_special_tokens=True).input_ids
        for start in range(len(marked) - len(plain) + 1):
            if marked[start : start + len(plain)] == plain:
                return list(marked[:start])
        raise ModelError(
            f"tokenizer {type(tokenizer).__name__} changes a text when it adds special tokens; fewtune cannot tell "
            "which tokens open a prompt."
        )

    def find_body(self, network: PreTrainedModel) -> nn.Module:
        return network.base_model

    def find_embeddings(self, network: PreTrainedModel) -> nn.Embedding:
        embeddings: Any = network.get_input_embeddings()
        return embeddings  # type: ignore[no-any-return]

    def find_blocks(self, network: PreTrainedModel) -> nn.ModuleList:
        return _find_stack(network)[1]

    def find_final_norm(self, network: PreTrainedModel) -> nn.Module | None:
        """None for OPT-350M, which norms inside its blocks."""
        owner, blocks = _find_stack(network)
        norms = [m for m in owner.children() if m is not blocks and "norm" in type(m).__name__.lower()]
        return norms[-1] if norms else None

    def find_head(self, network: PreTrainedModel) -> nn.Module:
        head: Any = network.get_output_embeddings()
        return head  # type: ignore[no-any-return]


def _find_stack(network: PreTrainedModel) -> tuple[nn.Module, nn.ModuleList]:
    """The module that owns the blocks, and their list: the one as long as the configuration says."""
    from torch import nn

    wanted = network.config.num_hidden_layers
    for owner in network.base_model.modules():
        for child in owner.children():
            if isinstance(child, nn.ModuleList) and len(child) == wanted:
                return owner, child
    names = [name for name, _ in network.named_parameters()]
    raise ModelError(
        f"no list of {wanted} blocks in this network. Its parameters: {', '.join(names[:6])} … {', '.join(names[-3:])}"
    )


def _refuse_quantised(kind: str, config: PreTrainedConfig) -> None:
    quantised = getattr(config, "quantization_config", None)
    if quantised is not None:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise ModelError(
            f"{kind} and its weights are saved quantised ({method or 'quantization_config'}), which fewtune does not "
            "train. Use the model it was made from; `lora: {base: 4bit}` holds it in 4 bits."
        )


def _refuse_own_attention(name: str, config: PreTrainedConfig) -> None:
    from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING

    network: Any = MODEL_FOR_CAUSAL_LM_MAPPING.get(type(config), None)
    if network is None:
        return  # told with the rest of what cannot be loaded
    if not network._supports_attention_backend:
        raise ModelError(
            f"model {name!r} is a {network.__name__}, whose attention is written into it and cannot be replaced: "
            "packed rows would read one another. Use a model of another type, such as Llama, Qwen, OPT or GPT-2."
        )


ARCHITECTURE = Decoders()

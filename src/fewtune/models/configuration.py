"""What a model's configuration says of it, before any weights are read.

Owns reading it, and refusing networks that packed rows cannot run through or that are no causal language models.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from fewtune.errors import ModelError, shorten

if TYPE_CHECKING:
    from transformers import PreTrainedConfig, PreTrainedModel

_POSITION_KEYS = ("max_position_embeddings", "n_positions")
_ATTENTION_LAYERS = {"full_attention", "sliding_attention"}
_CHANGED_LOGITS = ("final_logit_softcapping", "logit_scale", "logits_scaling", "attn_logit_softcapping")


def read_json_object(path: Path) -> dict[str, Any]:
    """The object that a JSON file of a model's folder holds; raises ModelError naming the file."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelError(f"{path}: not readable as JSON ({error}). Save the model again.") from error
    except OSError as error:
        raise ModelError(f"{path}: cannot be read ({error.strerror or error}).") from error
    if not isinstance(content, dict):
        kind = "list" if isinstance(content, list) else type(content).__name__
        raise ModelError(f"{path}: it should hold a JSON object and holds a {kind}. Save the model again.")
    return content


def read_config(path: Path) -> PreTrainedConfig:
    """A model folder's configuration as Transformers reads it, without weights; ModelError where it cannot."""
    from transformers import AutoConfig

    if "model_type" not in read_json_object(path / "config.json"):
        raise ModelError(
            f"{path / 'config.json'}: it has no `model_type`, so that Transformers cannot tell what the network is. "
            "Save the model again with `save_pretrained`."
        )
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(path, trust_remote_code=False, local_files_only=True)
        max_positions(config)
    except Exception as error:  # Transformers computes with what it reads: any type of error can come of it
        raise ModelError(f"{path / 'config.json'}: it cannot be used: {describe_error(error)}") from error
    return config


def describe_error(error: BaseException) -> str:
    """A library's error in one line of bounded length, its type named where the text alone may say nothing."""
    text = shorten(" ".join(str(error).split()), 300)
    return text if len(text) > 40 else f"{type(error).__name__}: {text}".rstrip(": ")


def refuse_unsuited(name: str, config: PreTrainedConfig) -> None:
    """Raise ModelError where a configuration's network cannot run packed rows, or changes what its logits mean."""
    kind = f"model {name!r} is of type {config.model_type!r}"
    if config.is_encoder_decoder:
        raise ModelError(f"{kind}, an encoder with a decoder. fewtune adapts causal language models: use a decoder.")
    _refuse_masked(kind, config)
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
    quantised = getattr(config, "quantization_config", None)
    if quantised is not None:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise ModelError(
            f"{kind} and its weights are saved quantised ({method or 'quantization_config'}), which fewtune does not "
            "train. Use the model it was made from; `lora: {base: 4bit}` holds it in 4 bits."
        )
    _refuse_own_attention(name, config)


def _refuse_masked(kind: str, config: PreTrainedConfig) -> None:
    """Masked language models have a causal class too in Transformers, which reads their words without sense."""
    from transformers.models.auto.modeling_auto import (
        MODEL_FOR_CAUSAL_LM_MAPPING_NAMES,
        MODEL_FOR_MASKED_LM_MAPPING_NAMES,
    )

    if config.model_type in MODEL_FOR_MASKED_LM_MAPPING_NAMES:
        raise ModelError(
            f"{kind}, a masked language model (an encoder): it reads a text from both sides and does not say the next "
            "word. fewtune adapts causal language models: use a decoder, such as Llama, Qwen, OPT or GPT-2."
        )
    if config.model_type not in MODEL_FOR_CAUSAL_LM_MAPPING_NAMES:
        raise ModelError(
            f"{kind}, for which Transformers has no causal language model. Use a decoder, such as Llama, Qwen, OPT or "
            "GPT-2."
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


def max_positions(config: Any) -> int:
    """Tokens a model of that configuration can read at once."""
    limits = (getattr(config, key, None) for key in _POSITION_KEYS)
    return next((int(limit) for limit in limits if limit), 1 << 30)


def draw_up_network(config: PreTrainedConfig, attention: str) -> PreTrainedModel:
    """The network of a configuration without any weights, with the attention that Transformers knows by that name."""
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        network: PreTrainedModel = AutoModelForCausalLM.from_config(
            config, dtype=torch.float32, attn_implementation=attention
        )
    return network

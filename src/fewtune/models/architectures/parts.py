"""Helpers that architectures share: finding blocks by structure, and the features that none supports.

Does not know which family a network is of.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fewtune.errors import ModelError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase


class TransformersParts:
    """Where the parts of Transformers' networks are, as `base.Architecture` asks for them; every family's are there."""

    def find_body(self, network: PreTrainedModel) -> nn.Module:
        return network.base_model

    def find_embeddings(self, network: PreTrainedModel) -> nn.Embedding:
        embeddings: Any = network.get_input_embeddings()
        return embeddings  # type: ignore[no-any-return]

    def find_blocks(self, network: PreTrainedModel) -> nn.ModuleList:
        return find_stack(network)[1]

    def find_final_norm(self, network: PreTrainedModel) -> nn.Module | None:
        """The last norm beside the blocks; None where blocks norm what they give themselves (OPT-350M, BERT)."""
        return find_last_norm(network)

    def find_head(self, network: PreTrainedModel) -> nn.Module | None:
        head: Any = network.get_output_embeddings()
        return head  # type: ignore[no-any-return]


def find_stack(network: PreTrainedModel) -> tuple[nn.Module, nn.ModuleList]:
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


def find_last_norm(network: PreTrainedModel) -> nn.Module | None:
    """The last norm beside the blocks; None where there is none."""
    owner, blocks = find_stack(network)
    norms = [m for m in owner.children() if m is not blocks and "norm" in type(m).__name__.lower()]
    return norms[-1] if norms else None


def find_around(tokenizer: PreTrainedTokenizerBase) -> tuple[list[int], list[int]]:
    """The special tokens that a tokenizer puts before a text and behind it; ModelError where this cannot be told."""
    plain = tokenizer("a", add_special_tokens=False).input_ids
    marked = tokenizer("a", add_special_tokens=True).input_ids
    for start in range(len(marked) - len(plain) + 1):
        if marked[start : start + len(plain)] == plain:
            return list(marked[:start]), list(marked[start + len(plain) :])
    raise ModelError(
        f"tokenizer {type(tokenizer).__name__} changes a text when it adds special tokens; fewtune cannot tell "
        "which tokens open a prompt."
    )


def refuse_quantised(kind: str, config: PreTrainedConfig) -> None:
    """Raise ModelError where weights were saved quantised; `kind` names the model."""
    quantised = getattr(config, "quantization_config", None)
    if quantised is not None:
        method = quantised.get("quant_method") if isinstance(quantised, dict) else None
        raise ModelError(
            f"{kind} and its weights are saved quantised ({method or 'quantization_config'}), which fewtune does not "
            "train. Use the model it was made from; `lora: {base: 4bit}` holds it in 4 bits."
        )


def refuse_own_attention(name: str, network: Any, instead: str) -> None:
    """Raise ModelError where a class's attention cannot be replaced; `instead` names types whose can."""
    if not network._supports_attention_backend:
        raise ModelError(
            f"model {name!r} is a {network.__name__}, whose attention is written into it and cannot be replaced: "
            f"packed rows would read one another. Use a model of another type, such as {instead}."
        )

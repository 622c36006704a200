"""What a family of networks offers the engine: how it is loaded, where its parts are, how it reads and answers.

Owns the contract. The engine and methods ask an architecture and never a class name or a model type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

AttentionKind = Literal["causal"]
"""causal: a token reads itself and those before it."""
AnswerPosition = Literal["last_token"]
"""last_token: the state of a prompt's last token is what heads and label words are read from."""


class Architecture(Protocol):
    """One family of networks; every function takes a network of that family, with or without weights."""

    name: str
    attention: AttentionKind
    answers_at: AnswerPosition

    def fits(self, config: PreTrainedConfig) -> bool:
        """Whether a configuration is of this family."""

    def refuse_unsuited(self, name: str, config: PreTrainedConfig) -> None:
        """Raise ModelError where a network of this family cannot run packed rows, or changes what its logits mean."""

    def choose_class(self) -> Any:
        """Transformers' class whose `from_pretrained` and `from_config` make a network with its language-model head."""

    def find_opening(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Special tokens that stand once before a prompt (OPT: </s>); raises ModelError where this cannot be told."""

    def find_body(self, network: PreTrainedModel) -> nn.Module:
        """All but the language-model head."""

    def find_embeddings(self, network: PreTrainedModel) -> nn.Embedding:
        """The token embeddings."""

    def find_blocks(self, network: PreTrainedModel) -> nn.ModuleList:
        """The transformer blocks, first to last; raises ModelError naming the parameters where they cannot be found."""

    def find_final_norm(self, network: PreTrainedModel) -> nn.Module | None:
        """The norm after the last block; None where there is none."""

    def find_head(self, network: PreTrainedModel) -> nn.Module:
        """The language-model head, a linear layer over the vocabulary: `weight` (tokens, width), perhaps `bias`."""

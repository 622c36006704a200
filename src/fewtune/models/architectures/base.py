"""The interface of an architecture: how it is loaded, where its parts are, how it reads and answers.

Owns the contract. The engine and methods ask an architecture and never a class name or a model type.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, Protocol

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase

AttentionKind = Literal["causal", "bidirectional"]
"""causal: a token reads itself and those before it; bidirectional: all tokens of its row."""
Pooling = Literal["last_token", "first_token", "mean"]
"""Whose state stands for a row: its last token's, its first token's, or the mean over all of its tokens."""
Ability = Literal["label_words", "reads_on"]
"""label_words: it says words, by a language-model head. reads_on: rows read what runs before them (demonstrations,
virtual tokens) and go on from it, as networks do whose attention is causal."""


class Architecture(Protocol):
    """One family of networks; every function takes a network of that family, with or without weights."""

    name: str
    revision: int
    """Raised when trials on its networks come to mean another result."""
    attention: AttentionKind
    peft_task: str
    """What PEFT calls a network whose states or words are read."""

    def fits(self, config: PreTrainedConfig) -> bool:
        """Whether a configuration is of this family."""

    def refuse_unsuited(self, name: str, config: PreTrainedConfig) -> None:
        """Raise ModelError where a network of this family cannot run packed rows, or changes what its logits mean."""

    def is_tried(self, config: PreTrainedConfig) -> bool:
        """Whether packed rows of its type are known to give what each gives alone; else it is checked when loaded."""

    def takes_attention(self, config: PreTrainedConfig) -> bool:
        """Whether its networks take their attention by a name; else it is written into their classes."""

    def find_abilities(self, config: PreTrainedConfig) -> frozenset[Ability]:
        """What a network of that configuration can do beyond giving states."""

    def find_pooling(self, config: PreTrainedConfig) -> Pooling:
        """Whose state stands for a row."""

    def choose_class(self, config: PreTrainedConfig) -> Any:
        """Transformers' class whose `from_pretrained` and `from_config` make the network, its head included."""

    def is_needless(self, weights: str) -> bool:
        """Whether weights of that name, which the network does not know, belong to a part that nothing here uses."""

    def find_opening(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Special tokens that stand once before a prompt (OPT: </s>); raises ModelError where this cannot be told."""

    def find_closing(self, tokenizer: PreTrainedTokenizerBase) -> list[int]:
        """Special tokens that stand once behind a prompt (BERT: [SEP])."""

    def find_between(self, tokenizer: PreTrainedTokenizerBase) -> str:
        """What stands between two texts of a row that are read as they are (BERT: [SEP]), as a text."""

    def find_mask(self, tokenizer: PreTrainedTokenizerBase) -> int | None:
        """The token in whose place a word is said; None where words follow the prompt."""

    def find_first_position(self, config: PreTrainedConfig) -> int:
        """The position of a row's first token (RoBERTa counts from behind its padding token's number)."""

    def find_width(self, network: PreTrainedModel) -> int:
        """Features of the states that its body gives."""

    def find_body(self, network: PreTrainedModel) -> nn.Module:
        """All but the language-model head."""

    def find_embeddings(self, network: PreTrainedModel) -> nn.Embedding:
        """The token embeddings."""

    def find_blocks(self, network: PreTrainedModel) -> nn.ModuleList:
        """The transformer blocks, first to last; raises ModelError naming the parameters where they cannot be found."""

    def find_final_norm(self, network: PreTrainedModel) -> nn.Module | None:
        """The norm after the last block; None where there is none."""

    def find_head(self, network: PreTrainedModel) -> nn.Module | None:
        """The language-model head, a linear layer over the vocabulary: `weight` (tokens, width), perhaps `bias`."""

    def transform(self, network: PreTrainedModel, states: Tensor) -> Tensor:
        """States (…, width) as the head reads them; most heads read the body's own."""

"""Readouts: from the hidden states of packed rows to one score a label.

Owns those that methods are composed of: a linear head at the answer's token, and the language-model head over label
words. Both serve the fitting loop and the scoring loop. Does not know methods or tasks.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from torch import Tensor, nn

from fewtune.engine.forward import Forward
from fewtune.engine.packing import Packed


class Readout(Protocol):
    """Turns prompts into the sequences to run, and their hidden states into scores (rows, labels).

    `answer_tokens` is the most tokens it adds to a prompt.
    """

    answer_tokens: int

    def sequences(self, prompt: Sequence[int]) -> list[Sequence[int]]:
        """The sequences to run for one prompt."""

    def token_indices(self, forward: Forward, batch: Packed) -> Tensor:
        """Which tokens' states are read, as indices among the batch's tokens."""

    def read(self, forward: Forward, states: Tensor, batch: Packed) -> Tensor:
        """Scores (rows, labels), float32, from the states read (token indices, width); softmax gives probabilities."""


class HeadReadout:
    """A linear head on the state of the answer's token."""

    answer_tokens = 0

    def __init__(self, head: nn.Linear) -> None:
        self.head = head

    def sequences(self, prompt: Sequence[int]) -> list[Sequence[int]]:
        return [prompt]

    def token_indices(self, forward: Forward, batch: Packed) -> Tensor:
        return forward.answer_indices(batch)

    def read(self, forward: Forward, states: Tensor, batch: Packed) -> Tensor:
        scores: Tensor = self.head(states)
        return scores


class StateReadout:
    """No head: the state of the answer's token itself, (rows, width)."""

    answer_tokens = 0

    def sequences(self, prompt: Sequence[int]) -> list[Sequence[int]]:
        return [prompt]

    def token_indices(self, forward: Forward, batch: Packed) -> Tensor:
        return forward.answer_indices(batch)

    def read(self, forward: Forward, states: Tensor, batch: Packed) -> Tensor:
        return states


class NextTokenReadout:
    """The language-model head over the whole vocabulary: log-probabilities (rows, vocabulary) of the next token."""

    answer_tokens = 1

    def sequences(self, prompt: Sequence[int]) -> list[Sequence[int]]:
        return [prompt]

    def token_indices(self, forward: Forward, batch: Packed) -> Tensor:
        return forward.answer_indices(batch)

    def read(self, forward: Forward, states: Tensor, batch: Packed) -> Tensor:
        return read_vocabulary(forward, states)


def read_vocabulary(forward: Forward, states: Tensor) -> Tensor:
    """Log-probabilities (states, vocabulary) of the token after each state (states, width), in float32."""
    weight, bias = forward.head_columns()
    return F.linear(states, weight.float(), bias).log_softmax(-1)


class LabelWordReadout:
    """The language-model head's log-likelihood of each label's words after the prompt.

    `over="label_words"` normalises over the label words where every one is a single token (only their columns
    are multiplied, and scores are logits); `over="vocabulary"`, and label words of several tokens, give the
    log-likelihood of all of a label's tokens under the whole vocabulary.
    """

    def __init__(
        self,
        label_tokens: Sequence[Sequence[int]],
        over: Literal["label_words", "vocabulary"] = "label_words",
    ) -> None:
        self.label_tokens = [list(tokens) for tokens in label_tokens]
        self.answer_tokens = max(len(tokens) for tokens in self.label_tokens)
        self.over: Literal["label_words", "vocabulary"] = over
        self.single = all(len(tokens) == 1 for tokens in self.label_tokens)
        self.columns_only = self.single and over == "label_words"

    def sequences(self, prompt: Sequence[int]) -> list[Sequence[int]]:
        if self.single:
            return [prompt]
        return [[*prompt, *tokens[:-1]] for tokens in self.label_tokens]

    def token_indices(self, forward: Forward, batch: Packed) -> Tensor:
        if self.single:
            return forward.answer_indices(batch)
        # The state that predicts token j of a label's n stands n - 1 - j before the sequence's end.
        return torch.cat(
            [
                end - torch.arange(len(w) - 1, -1, -1, device=end.device)
                for end, w in zip(batch.ends, self._wanted(batch), strict=True)
            ]
        )

    def read(self, forward: Forward, states: Tensor, batch: Packed) -> Tensor:
        if self.single:
            ids = torch.tensor([tokens[0] for tokens in self.label_tokens], device=states.device)
            if self.columns_only and forward.options.label_columns_only:
                weight, bias = forward.head_columns(ids)
                return F.linear(states, weight.float(), bias)
            return read_vocabulary(forward, states)[:, ids]
        wanted = self._wanted(batch)
        ids = torch.tensor([t for w in wanted for t in w], device=states.device)
        each = read_vocabulary(forward, states).gather(1, ids[:, None])[:, 0]
        owner = torch.repeat_interleave(
            torch.arange(len(wanted), device=states.device),
            torch.tensor([len(w) for w in wanted], device=states.device),
        )
        totals = torch.zeros(len(wanted), device=states.device).index_add(0, owner, each)
        return totals.view(-1, len(self.label_tokens))

    def _wanted(self, batch: Packed) -> list[list[int]]:
        """The label tokens that each of a batch's sequences is scored for."""
        return self.label_tokens * (len(batch.lengths) // len(self.label_tokens))

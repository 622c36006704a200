"""Readouts: one score a label from the hidden states of packed rows.

Owns those that methods are composed of: a linear head at the answer's token, and the language-model head over label
words. Both serve the fitting loop and the scoring loop. Does not know methods or tasks.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Literal, Protocol

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from fewtune.engine.branches import STEM, Branches, branch_words, find_ways_on, tell_apart
from fewtune.engine.forward import Forward
from fewtune.engine.packing import Packed
from fewtune.engine.to_device import to_device

WordsOver = Literal["label_words", "vocabulary", "continuations"]
"""What the probabilities of label words' tokens are normalised over."""
STATES_AT_ONCE = 256
"""States whose log-probabilities over the whole vocabulary are held in memory at once, or those of one row."""


class Readout(Protocol):
    """Turns the hidden states of prompts, and of what branches from them, into scores (rows, labels).

    `answer_tokens` is the most tokens it adds to a prompt, `branches` what it asks to be run behind each; readouts of
    equal `identity` make the same scores of the same states, and None is like no other.
    """

    answer_tokens: int
    branches: Branches | None
    identity: Hashable

    def token_indices(self, forward: Forward, batch: Packed) -> Tensor:
        """Which tokens' states are read, as indices among the batch's tokens."""

    def read(self, forward: Forward, states: Tensor, batch: Packed) -> Tensor:
        """Scores (rows, labels), float32, from the states read (token indices, width); softmax gives probabilities."""


class HeadReadout:
    """A linear head on the state that stands for a row."""

    answer_tokens = 0
    branches: Branches | None = None
    identity: Hashable = None

    def __init__(self, head: nn.Linear) -> None:
        self.head = head

    def token_indices(self, forward: Forward, batch: Packed) -> Tensor:
        return forward.pooled_indices(batch)

    def read(self, forward: Forward, states: Tensor, batch: Packed) -> Tensor:
        scores: Tensor = self.head(forward.pool(states, batch))
        return scores


class StateReadout:
    """No head: the state that stands for a row itself, (rows, width); `unit`: scaled to length one."""

    answer_tokens = 0
    branches: Branches | None = None

    def __init__(self, unit: bool = False) -> None:
        self.unit = unit
        self.identity: Hashable = ("state", unit)

    def token_indices(self, forward: Forward, batch: Packed) -> Tensor:
        return forward.pooled_indices(batch)

    def read(self, forward: Forward, states: Tensor, batch: Packed) -> Tensor:
        pooled = forward.pool(states, batch)
        return F.normalize(pooled, dim=-1) if self.unit else pooled


class NextTokenReadout:
    """The language-model head over the whole vocabulary: log-probabilities (rows, vocabulary) of the next token."""

    answer_tokens = 1
    branches: Branches | None = None
    identity: Hashable = "next token"

    def token_indices(self, forward: Forward, batch: Packed) -> Tensor:
        return batch.ends

    def read(self, forward: Forward, states: Tensor, batch: Packed) -> Tensor:
        return VocabularyHead(forward).read(states)


class NearnessReadout:
    """How far each row is from labelled ones, (rows, labelled rows): what a vote of the nearest goes by.

    By `vocabulary`, the KL divergence of the row's distribution of the next token from the anchors', given as
    log-probabilities (labelled rows, vocabulary), in the direction that the method's authors take: expected under the
    anchor's. By `states`, 1 less the cosine with states of length one.
    """

    branches: Branches | None = None
    identity: Hashable = None

    def __init__(self, anchors: np.ndarray, by: Literal["vocabulary", "states"]) -> None:
        self.answer_tokens = 1 if by == "vocabulary" else 0  # as the readouts that the anchors come from
        self._anchors = torch.from_numpy(anchors)
        self.by = by

    def token_indices(self, forward: Forward, batch: Packed) -> Tensor:
        return batch.ends

    def read(self, forward: Forward, states: Tensor, batch: Packed) -> Tensor:
        self._anchors = anchors = self._anchors.to(states.device)
        if self.by == "states":
            return 1 - F.normalize(states, dim=-1) @ anchors.T
        expected = anchors.exp()
        own = (expected * anchors).sum(-1)
        head = VocabularyHead(forward)
        each = [own - head.read(part) @ expected.T for part in states.split(STATES_AT_ONCE)]
        return torch.cat(each)


class VocabularyHead:
    """The language-model head over the whole vocabulary, its weights cast to float32 once for all that it reads."""

    def __init__(self, forward: Forward) -> None:
        self._forward = forward
        weight, self._bias = forward.head_columns()
        self._weight = weight.float()

    def read(self, states: Tensor) -> Tensor:
        """Log-probabilities (…, vocabulary) of the token after each state (…, width), in float32."""
        return F.linear(self._forward.format_states(states), self._weight, self._bias).log_softmax(-1)


class LabelWordReadout:
    """The language-model head's log-likelihood of each label's words after the prompt.

    `over="label_words"` normalises over the label words where every one is a single token (only their columns
    are multiplied, and scores are logits); `over="vocabulary"`, and label words of several tokens, give the
    log-likelihood of all of a label's tokens under the whole vocabulary. `over="continuations"` normalises each token
    over those with which a label word goes on, so that words are run only up to the token that tells them apart (the
    probabilities of constrained decoding: De Cao et al. 2021, https://arxiv.org/abs/2010.00904). At masks each token is
    read at a mask of its own, of as many as the longest word has tokens, all in one pass (Schick and Schütze 2021,
    https://arxiv.org/abs/2009.07118, who train so).
    """

    def __init__(
        self,
        label_tokens: Sequence[Sequence[int]],
        over: WordsOver = "label_words",
        behind: int | None = None,
        per_token: bool = False,
    ) -> None:
        """`behind`: how many tokens stand behind a prompt's masks; None: words follow the prompt.

        `per_token`: a label's log-likelihood is the mean of its tokens', and not their sum; not for continuations.
        """
        if per_token and over == "continuations":
            raise ValueError("tokens that tell no labels apart are not scored: there is no mean of all of them")
        constrained = over == "continuations"
        self.label_tokens = tell_apart(label_tokens) if constrained else [list(tokens) for tokens in label_tokens]
        self.answer_tokens = max(len(tokens) for tokens in self.label_tokens)
        self.over: WordsOver = over
        self.behind = behind
        self.per_token = per_token
        if behind is None:
            self.branches, predicted = branch_words(self.label_tokens)
        else:
            self.branches, predicted = None, [[STEM + place for place in range(len(w))] for w in self.label_tokens]
        self.identity: Hashable = (tuple(map(tuple, self.label_tokens)), over, behind, per_token)
        self.columns_only = self.branches is None and self.answer_tokens == 1 and over != "vocabulary"
        # One entry a token of a label: the label, the token, and which of a row's states predicts it.
        self._labels = [label for label, tokens in enumerate(self.label_tokens) for _ in tokens]
        self._tokens = [token for tokens in self.label_tokens for token in tokens]
        self._states = [place - STEM for places in predicted for place in places]
        self._choices = _find_choices(self.label_tokens, predicted) if constrained else None

    def token_indices(self, forward: Forward, batch: Packed) -> Tensor:
        if self.behind is not None:
            masks = torch.arange(self.answer_tokens, device=batch.ends.device) - (self.answer_tokens - 1)
            return ((batch.ends - self.behind)[:, None] + masks).flatten()
        ends = batch.ends
        if self.branches is None:
            return ends
        return torch.cat([ends[:, None], batch.branch_indices], 1).flatten()

    def read(self, forward: Forward, states: Tensor, batch: Packed) -> Tensor:
        ids = to_device(torch.tensor(self._tokens), states.device)
        if self.columns_only and forward.options.label_columns_only:
            weight, bias = forward.head_columns(ids)
            return F.linear(forward.format_states(states), weight.float(), bias)
        if self.answer_tokens == 1:
            return VocabularyHead(forward).read(states)[:, ids]
        by_row = states.unflatten(0, (len(batch.lengths), -1))
        if self._choices is not None:
            return self._choices.score(forward, by_row)
        predicted = to_device(torch.tensor(self._states), states.device)
        head = VocabularyHead(forward)

        def say(part: Tensor) -> Tensor:
            return head.read(part)[:, predicted, ids]

        parts = by_row.split(max(1, STATES_AT_ONCE // by_row.shape[1]))
        # A gradient would keep every part's whole vocabulary until it is worked out: there each is read once more.
        again = torch.is_grad_enabled() and len(parts) > 1
        each = [checkpoint(say, part, use_reentrant=False) if again else say(part) for part in parts]
        labels = to_device(torch.tensor(self._labels), states.device)
        totals = _add_up(torch.cat(each), labels, len(self.label_tokens))
        return totals / torch.bincount(labels) if self.per_token else totals


@dataclass(frozen=True)
class _Choices:
    """Where label words diverge: which of a row's states predicts each choice, and the tokens to choose from."""

    labels: int
    states: list[int]
    tokens: list[list[int]]
    made: list[tuple[int, int]]
    """Pairs of a label and of a token that it takes, as an index into the tokens of all choices end to end."""

    def score(self, forward: Forward, states: Tensor) -> Tensor:
        """Log-probabilities (rows, labels) of states (rows, places, width): of every choice on a label's way."""
        ids = to_device(torch.tensor([token for tokens in self.tokens for token in tokens]), states.device)
        weight, bias = forward.head_columns(ids)
        logits = F.linear(forward.format_states(states), weight.float(), bias).split([*map(len, self.tokens)], -1)
        each = [part[:, place].log_softmax(-1) for place, part in zip(self.states, logits, strict=True)]
        labels, tokens = to_device(torch.tensor(self.made), states.device).T
        return _add_up(torch.cat(each, 1)[:, tokens], labels, self.labels)


def _add_up(each: Tensor, labels: Tensor, count: int) -> Tensor:
    """Sums (rows, count) of the columns of `each` (rows, tokens) by their label, (tokens,).

    Without gradients they are added up in float64: a sum of -40 in float32 is rounded by 2e-6 at each step, and
    differently with other rows in the pass.
    """
    dtype = each.dtype if torch.is_grad_enabled() else torch.float64
    totals = torch.zeros(len(each), count, dtype=dtype, device=each.device)
    return totals.index_add(1, labels, each.to(dtype)).to(each.dtype)


def _find_choices(words: Sequence[Sequence[int]], predicted: Sequence[Sequence[int]]) -> _Choices:
    """The choices among words; `predicted` has the place at which each token of each word is."""
    choices = {opening: ways for opening, ways in find_ways_on(words).items() if len(ways) > 1}
    starts = dict(zip(choices, accumulate(map(len, choices.values()), initial=0), strict=False))
    states: dict[tuple[int, ...], int] = {}
    made = []
    for label, (word, places) in enumerate(zip(words, predicted, strict=True)):
        for end, (token, place) in enumerate(zip(word, places, strict=True)):
            opening = tuple(word[:end])
            if opening in choices:
                states[opening] = place - STEM
                made.append((label, starts[opening] + choices[opening].index(token)))
    return _Choices(len(words), [states[opening] for opening in choices], list(choices.values()), made)

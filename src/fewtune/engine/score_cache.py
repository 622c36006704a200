"""The score cache: a worker keeps scores of frozen networks for later trials that ask for the same ones.

Owns the scores, bounded in bytes, with the tokens, seconds and memory that each took, and the count of seconds that
were saved so: a trial's cost is what it would be alone. Only whole questions are hits: the last bits of a row's scores
depend on the rows beside it, and results may not depend on what ran before.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from fewtune.engine import token_clock
from fewtune.engine.memory import find_watch

MOST_BYTES = 64 * 2**20
"""Scores of a process take no more together; the least recently used go first."""
Prompts = Sequence[Sequence[int]]
"""Tokens of each row."""
LARGEST_SHARE = 1 / 16
"""Of these bytes, for the scores of one question."""

_saved = 0.0


def saved_seconds() -> float:
    """Seconds that hits on earlier trials' scores saved in this process so far."""
    return _saved


@dataclass
class _Kept:
    scores: np.ndarray
    tokens: int
    seconds: float
    memory_bytes: int
    trial: int
    """The last whose cost they are part of."""


class ScoreCache:
    """Scores by what was asked: the network and how it is run, the readout and all prompts."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.held_bytes = 0
        self._kept: dict[Hashable, _Kept] = {}
        """The latest used last."""
        self._trial = 0

    def begin_trial(self) -> None:
        """Another trial begins: of what it hits, the cost is added to its own."""
        self._trial += 1

    def score(self, question: Hashable, work: Callable[[], np.ndarray]) -> np.ndarray:
        """The scores, (rows, outcomes), as they are kept, or by `work`.

        Tokens, seconds and memory of a hit on another trial's scores count in this one, once. What is asked while no
        memory is watched is not kept: nobody knows what it takes.
        """
        global _saved
        watch, kept = find_watch(), self._kept.pop(question, None)
        if kept is None:
            if watch is None:
                return work()
            tokens, began = token_clock.now(), time.perf_counter()
            with watch.stretch() as stretch:
                scores = work()
            seconds = time.perf_counter() - began
            if scores.nbytes > LARGEST_SHARE * self.most_bytes:
                return scores
            kept = _Kept(scores, token_clock.now() - tokens, seconds, stretch.bytes, self._trial)
            self.held_bytes += scores.nbytes
        elif kept.trial != self._trial:
            kept.trial = self._trial
            token_clock.advance(kept.tokens)
            _saved += kept.seconds
            if watch is not None:
                watch.claim(kept.memory_bytes)
        self._kept[question] = kept
        while self.held_bytes > self.most_bytes:
            oldest = self._kept.pop(next(iter(self._kept)))
            self.held_bytes -= oldest.scores.nbytes
        return kept.scores.copy()


@dataclass(frozen=True)
class NetworkScores:
    """The scores of one network that never changes, run in one way; `network` tells both from any other."""

    cache: ScoreCache
    network: Hashable

    def score(self, question: Hashable, prompts: Prompts, work: Callable[[Prompts], np.ndarray]) -> np.ndarray:
        """`ScoreCache.score` of prompts, and of what is asked of them."""
        return self.cache.score((self.network, question, digest(prompts)), partial(work, prompts))


class RowScores:
    """The scores of frozen networks row by row, for whoever asks for many parts of the same rows, as folds do.

    Their last bits depend on the rows that were asked with them the first time. The oldest go first.
    """

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self._held_bytes = 0
        self._kept: dict[Hashable, np.ndarray] = {}

    def score(
        self, network: Hashable, question: Hashable, prompts: Prompts, work: Callable[[Prompts], np.ndarray]
    ) -> np.ndarray:
        """The scores of prompts, (rows, outcomes): those that are kept, and by `work` of the others alone."""
        keys = [(network, question, digest([prompt])) for prompt in prompts]
        missing = {key: prompt for key, prompt in zip(keys, prompts, strict=True) if key not in self._kept}
        found = {key: self._kept[key] for key in keys if key in self._kept}
        if missing:
            found |= zip(missing, work(list(missing.values())), strict=True)
        for key in missing:
            self._kept[key] = found[key].copy()  # a part of a larger array would keep all of it
            self._held_bytes += found[key].nbytes
        while self._held_bytes > self.most_bytes:
            self._held_bytes -= self._kept.pop(next(iter(self._kept))).nbytes
        return np.stack([found[key] for key in keys])


@dataclass(frozen=True)
class NetworkRows:
    """The scores of one network that never changes, row by row; `network` tells it from any other."""

    rows: RowScores
    network: Hashable

    def score(self, question: Hashable, prompts: Prompts, work: Callable[[Prompts], np.ndarray]) -> np.ndarray:
        """`RowScores.score` of prompts, and of what is asked of them."""
        return self.rows.score(self.network, question, prompts, work)


def digest(prompts: Sequence[Sequence[int]]) -> bytes:
    """What tells prompts of tokens, in their order, from all others."""
    lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
    tokens = np.concatenate([np.asarray(prompt, dtype=np.int64) for prompt in prompts])
    return hashlib.sha256(lengths.tobytes() + tokens.tobytes()).digest()

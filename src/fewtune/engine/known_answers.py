"""What networks that never change answered before: a process's later trials that ask the same are given it.

Owns the answers, bounded in bytes, with the tokens, seconds and memory that each took, and the count of seconds that
were spared so: a trial's cost is what it would be alone. Only whole questions are known again: the last bits of a row's
scores depend on the rows beside it, and results may not depend on what ran before.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Hashable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np

from fewtune.engine import token_clock
from fewtune.engine.memory import Stretch, find_watch

MOST_BYTES = 64 * 2**20
"""Answers of a process take no more together; those that were asked for longest ago go first."""

_spared = 0.0


def spared_seconds() -> float:
    """Seconds that answers of earlier trials spared in this process so far."""
    return _spared


@dataclass
class _Answer:
    scores: np.ndarray
    tokens: int
    seconds: float
    memory_bytes: int
    trial: int
    """The last that it counts in."""


class KnownAnswers:
    """Scores by what was asked: the network, the readout and all prompts."""

    def __init__(self, most_bytes: int = MOST_BYTES) -> None:
        self.most_bytes = most_bytes
        self.held_bytes = 0
        self._trial = 0
        self._answers: dict[Hashable, _Answer] = {}
        """The latest used last."""

    def begin_trial(self) -> None:
        """From here on what is known was worked out for others."""
        self._trial += 1

    def answer(self, question: Hashable, work: Callable[[], np.ndarray]) -> np.ndarray:
        """The scores, (rows, outcomes), that are known, or by `work`.

        Tokens, seconds and memory of another trial's answer count in this one, once.
        """
        global _spared
        watch = find_watch()
        answer = self._answers.pop(question, None)
        if answer is None:
            tokens, began = token_clock.now(), time.perf_counter()
            with nullcontext(Stretch()) if watch is None else watch.stretch() as stretch:
                scores = work()
            seconds = time.perf_counter() - began
            answer = _Answer(scores, token_clock.now() - tokens, seconds, stretch.bytes, self._trial)
            self.held_bytes += scores.nbytes
        elif answer.trial != self._trial:
            answer.trial = self._trial
            token_clock.advance(answer.tokens)
            _spared += answer.seconds
            if watch is not None:
                watch.claim(answer.memory_bytes)
        self._answers[question] = answer
        while self.held_bytes > self.most_bytes:
            oldest = self._answers.pop(next(iter(self._answers)))
            self.held_bytes -= oldest.scores.nbytes
        return answer.scores.copy()


def digest(prompts: Sequence[Sequence[int]]) -> bytes:
    """What tells prompts of tokens, in their order, from all others."""
    lengths = np.array([len(prompt) for prompt in prompts], dtype=np.int64)
    tokens = np.concatenate([np.asarray(prompt, dtype=np.int64) for prompt in prompts])
    return hashlib.sha256(lengths.tobytes() + tokens.tobytes()).digest()

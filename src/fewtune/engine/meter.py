"""Measures what a trial costs: seconds by phase, tokens, and its own peak memory (`engine.memory`).

Owns the measuring, the same for every method, and that nothing is counted twice. Does not know what is measured
(`records.PHASES` says what each phase of a trial means), and imports torch only where a GPU is watched.
"""

from __future__ import annotations

import gc
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fewtune.engine import token_clock
from fewtune.engine.memory import PeakMemory
from fewtune.engine.score_cache import saved_seconds

if TYPE_CHECKING:
    import torch

    from fewtune.prompts.tokens import Tokenizer

OTHER = "other"
"""The phase of every moment that no other phase claims."""


@dataclass
class Span:
    """One passage through a phase: its seconds and the tokens that networks ran, known when it ends.

    Phases within it are included, but for those that were set aside; so are the seconds and tokens of scores that an
    earlier trial had worked out, for alone it would take them.
    """

    seconds: float = 0.0
    tokens: int = 0
    shared_seconds: float = 0.0
    """Of the seconds, those of hits in the score cache."""


class Meter:
    """Seconds by phase since the meter was made, every moment in one phase; memory since it was told to watch."""

    def __init__(self) -> None:
        self._device: torch.device | None = None
        self._tokenizers: tuple[Tokenizer, ...] = ()
        self._tokenised = 0.0
        self._memory: PeakMemory | None = None
        self._seconds: defaultdict[str, float] = defaultdict(float)
        self._phase = OTHER
        self._booked = time.perf_counter()
        self._aside = Span()

    def watch(self, device: torch.device, tokenizers: Iterable[Tokenizer] = ()) -> None:
        """From here on measure memory on a device, and give what these tokenizers take to the phase `tokenise`."""
        self._book()
        self._device = device
        self._tokenizers = tuple(set(tokenizers))
        self._tokenised = self._count_tokenising()
        if self._tokenizers:  # a model runs, and memory is its own: what an earlier trial left is freed now
            gc.collect()
        if device.type == "cuda":
            import torch

            torch.cuda.empty_cache()  # the GPU may be shared with other workers
        self.close()
        self._memory = PeakMemory(device)

    def close(self) -> None:
        """Watch memory no longer."""
        if self._memory is not None:
            self._memory.stop()

    @contextmanager
    def phase(self, name: str, aside: bool = False) -> Iterator[Span]:
        """Give a phase the time spent inside, but for what phases within it and the tokenizers take.

        What is done `aside` is no part of the spans around it, such as a look at test rows in the middle of a fit.
        """
        self._finish_work()
        span, outer, started, tokens = Span(), self._phase, self._book(), token_clock.now()
        saved = saved_seconds()
        before = replace(self._aside)
        self._phase = name
        try:
            yield span
        finally:
            self._finish_work()
            span.shared_seconds = saved_seconds() - saved - (self._aside.shared_seconds - before.shared_seconds)
            passed = self._book() - started + saved_seconds() - saved
            span.seconds = passed - (self._aside.seconds - before.seconds)
            span.tokens = token_clock.now() - tokens - (self._aside.tokens - before.tokens)
            if aside:
                self._aside.seconds += span.seconds
                self._aside.tokens += span.tokens
                self._aside.shared_seconds += span.shared_seconds
            self._phase = outer

    def charge(self, phase: str, seconds: float) -> None:
        """Give a phase what another process spent in it."""
        if seconds:
            self._seconds[phase] += seconds

    def seconds(self) -> dict[str, float]:
        """Seconds by phase so far: they add up to all that passed since the meter was made."""
        self._book()
        return dict(self._seconds)

    def _book(self) -> float:
        """Give the time since the last call to the phase under way; what the clock shows now."""
        now, tokenised = time.perf_counter(), self._count_tokenising()
        apart = tokenised - self._tokenised
        self._seconds[self._phase] += now - self._booked - apart
        if self._tokenizers:
            self._seconds["tokenise"] += apart
        self._booked, self._tokenised = now, tokenised
        return now

    def _finish_work(self) -> None:
        """Wait for what a GPU was given, so that it counts where it was asked for."""
        if self._device is not None and self._device.type == "cuda":
            import torch

            torch.cuda.synchronize(self._device)

    def _count_tokenising(self) -> float:
        return sum(tokenizer.seconds for tokenizer in self._tokenizers)

    def peak_memory_bytes(self, shared_bytes: int = 0) -> int | None:
        """Peak memory of the watch, which ends, and of the shared model it used; None where unmeasurable."""
        peak = self._memory.stop() if self._memory is not None else None
        return None if peak is None else peak + shared_bytes

    def resident_memory_bytes(self) -> int | None:
        """The most that was really held during the watch, which ended; None where it could not be found."""
        return self._memory.resident if self._memory is not None else None

"""Every second is in one phase and none is in two, whatever is nested in what."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest
import torch

import tiny_models
from fewtune.engine import token_clock
from fewtune.engine.meter import Meter
from fewtune.prompts.tokens import Surroundings, Tokenizer

CPU = torch.device("cpu")


class Clock:
    """Shows what it was set to; stands for `time.perf_counter`."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    shown = Clock()
    monkeypatch.setattr(time, "perf_counter", shown)
    return shown


@pytest.fixture
def meter(clock: Clock) -> Iterator[Meter]:
    with closing(Meter()) as made:
        yield made


@pytest.fixture
def tokenizer() -> Tokenizer:
    return Tokenizer(tiny_models.make_tokenizer(False), Surroundings([]))


def test_phases_within_phases_are_counted_once_and_add_up(meter: Meter, clock: Clock) -> None:
    clock.now += 1
    with meter.phase("fit") as fitting:
        clock.now += 2
        with meter.phase("prepare") as preparing:
            clock.now += 4
        clock.now += 8
    clock.now += 16
    assert meter.seconds() == {"other": 17.0, "fit": 10.0, "prepare": 4.0}
    assert (fitting.seconds, preparing.seconds) == (14.0, 4.0), "a span is whole, what is within it included"


def test_what_is_done_aside_is_no_part_of_what_is_around_it(meter: Meter, clock: Clock) -> None:
    with meter.phase("fit") as fitting:
        clock.now += 2
        token_clock.advance(20)
        for _ in range(2):
            with meter.phase("score", aside=True) as looking:
                clock.now += 4
                token_clock.advance(100)
        with meter.phase("prepare") as preparing:
            clock.now += 8
            token_clock.advance(3)
    assert meter.seconds() == {"other": 0.0, "fit": 2.0, "score": 8.0, "prepare": 8.0}
    spans = (fitting, looking, preparing)
    assert [span.seconds for span in spans] == [10.0, 4.0, 8.0] and [span.tokens for span in spans] == [23, 100, 3]


def test_a_phase_that_fails_keeps_its_seconds_and_the_outer_one_goes_on(meter: Meter, clock: Clock) -> None:
    with pytest.raises(ValueError), meter.phase("fit"):
        clock.now += 2
        raise ValueError
    clock.now += 1
    assert meter.seconds() == {"fit": 2.0, "other": 1.0}


def test_tokenising_is_taken_out_of_the_phase_it_happens_in(meter: Meter, clock: Clock, tokenizer: Tokenizer) -> None:
    clock.now += 1
    tokenizer.seconds += 0.5  # before the watch: the loading's own
    meter.watch(CPU, [tokenizer, tokenizer])
    with meter.phase("fit"):
        clock.now += 3
        tokenizer.seconds += 2  # as the tokenizer does: 2 of the 3 seconds were its own
        with meter.phase("score"):
            clock.now += 5
            tokenizer.seconds += 1
    assert meter.seconds() == {"other": 1.0, "fit": 1.0, "score": 4.0, "tokenise": 3.0}


def test_a_tokenizer_counts_both_ways(tokenizer: Tokenizer, clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    source = tokenizer.source

    class Slow:
        """Takes a second a text and two seconds to write one out, by the clock that is shown."""

        def __call__(self, texts: list[str], add_special_tokens: bool) -> Any:
            clock.now += len(texts)
            return source(texts, add_special_tokens=add_special_tokens)

        def decode(self, tokens: list[int], skip_special_tokens: bool) -> str:
            clock.now += 2
            return str(source.decode(tokens, skip_special_tokens=skip_special_tokens))

    monkeypatch.setattr(tokenizer, "source", Slow())
    (tokens,) = tokenizer.tokenise(["the cook"])
    assert tokenizer.seconds == 1.0
    assert tokenizer.decode(tokens, skip_special=True) == "the cook"
    assert tokenizer.seconds == 3.0


def test_memory_is_unknown_until_it_is_watched(meter: Meter) -> None:
    assert meter.peak_memory_bytes() is None
    meter.watch(CPU)
    peak = meter.peak_memory_bytes(shared_bytes=7)
    assert peak is None or peak >= 7


def test_a_command_measures_itself_without_torch() -> None:
    code = "import sys; from fewtune.engine.meter import Meter; Meter().seconds(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)

"""Trials of a worker that ask the same of a network that never changes share its scores, and each counts their cost."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from fewtune.engine import score_cache, token_clock
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.memory import PeakMemory, find_counter, find_watch
from fewtune.engine.options import EngineOptions
from fewtune.engine.readouts import LabelWordReadout, Readout, StateReadout
from fewtune.engine.score import score_prompts
from fewtune.engine.score_cache import ScoreCache, saved_seconds
from fewtune.records import Record
from fewtune.running.job import Job
from fewtune.running.prepare import prepare_jobs
from fewtune.running.trial import run_trial
from fewtune.running.worker import WorkerState
from fewtune.study import load_study

PROMPTS = [[11, 12, 13], [14, 15, 16, 17], [18]]
WORDS = LabelWordReadout([[70], [71]])
MEBIBYTE = 1 << 20


@pytest.fixture(autouse=True)
def watched() -> Iterator[None]:
    """Memory is watched, as in a trial."""
    watch = PeakMemory(torch.device("cpu"))
    yield
    watch.stop()


class Asked:
    """A model of which it is counted what its frozen network runs."""

    def __init__(self, model: LanguageModel, most_bytes: int = 1 << 20) -> None:
        self.cache = ScoreCache(most_bytes)
        self.model = replace(model, cache=self.cache)

    def ask(
        self, readout: Readout = WORDS, prompts: list[list[int]] = PROMPTS, model: LanguageModel | None = None
    ) -> int:
        """Tokens that the network really ran for it."""
        model = self.model if model is None else model
        forward = model.forward(model.frozen)
        given = score_prompts(forward, prompts, readout)
        plain = replace(model, cache=None)
        np.testing.assert_array_equal(given, score_prompts(plain.forward(plain.frozen), prompts, readout))
        return forward.tokens_run


def test_a_question_is_worked_out_once(models: dict[str, LanguageModel]) -> None:
    asked = Asked(models["llama"])
    assert [asked.ask() for _ in range(3)] == [8, 0, 0]
    assert asked.ask(prompts=PROMPTS[::-1]) == 8, "in another order its last bits may be others"
    assert asked.ask(prompts=[[11, 12], [13, 14, 15, 16, 17], [18]]) == 8
    assert asked.ask(LabelWordReadout([[70], [72]])) == asked.ask(StateReadout()) == asked.ask(StateReadout(True)) == 8
    assert asked.ask() == asked.ask(StateReadout()) == 0


def test_another_network_or_way_of_running_it_is_asked_anew(models: dict[str, LanguageModel]) -> None:
    asked = Asked(models["llama"])
    asked.ask()
    other = replace(asked.model, options=EngineOptions(tokens_per_pass=4))
    off = replace(asked.model, options=EngineOptions(score_cache=False))
    assert asked.ask(model=other) == 8 and asked.ask(model=off) == asked.ask(model=off) == 8
    opt = replace(models["opt"], cache=asked.cache)
    assert opt.weights_fingerprint != asked.model.weights_fingerprint
    forward = opt.forward(opt.frozen)
    score_prompts(forward, PROMPTS, WORDS)
    assert forward.tokens_run == 8
    training = asked.model.forward(asked.model.trainable_copy())
    for _ in range(2):
        score_prompts(training, PROMPTS, WORDS)
    assert training.tokens_run == 16


def test_the_least_recently_used_goes_first(models: dict[str, LanguageModel], monkeypatch: pytest.MonkeyPatch) -> None:
    size = 3 * 2 * 8
    monkeypatch.setattr(score_cache, "LARGEST_SHARE", 1 / 2)
    asked = Asked(models["llama"], most_bytes=2 * size)
    others = [[[n, n, n], [n, n, n, n], [n]] for n in (21, 22)]
    assert (asked.ask(), asked.ask(prompts=others[0]), asked.ask(), asked.ask(prompts=others[1])) == (8, 8, 0, 8)
    assert asked.cache.held_bytes == 2 * size
    assert (asked.ask(), asked.ask(prompts=others[0])) == (0, 8)
    small = Asked(models["llama"], most_bytes=2 * size - 1)
    assert (small.ask(), small.ask(), small.cache.held_bytes) == (8, 8, 0)


def test_what_is_asked_while_no_memory_is_watched_is_not_kept(models: dict[str, LanguageModel]) -> None:
    asked = Asked(models["llama"])
    watch = find_watch()
    assert watch is not None
    watch.stop()
    assert (asked.ask(), asked.ask(), asked.cache.held_bytes) == (8, 8, 0)


def test_another_trials_answer_counts_in_this_one_once(
    models: dict[str, LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(100))
    # In the cache alone: whatever watches memory reads the real one.
    monkeypatch.setattr(score_cache, "time", SimpleNamespace(perf_counter=lambda: 3.0 * next(clock)))
    cache, forward = ScoreCache(), models["llama"].forward(models["llama"].frozen)

    def work() -> np.ndarray:
        return score_prompts(forward, PROMPTS, WORDS)

    def count() -> tuple[int, float]:
        tokens, seconds = token_clock.now(), saved_seconds()
        cache.score("question", work)
        return token_clock.now() - tokens, saved_seconds() - seconds

    assert count() == (8, 0.0) and count() == (0, 0.0), "the trial that asked first asked twice"
    cache.begin_trial()
    assert count() == (8, 3.0) and count() == (0, 0.0)


@pytest.mark.skipif(find_counter() is None, reason="needs glibc 2.33 or newer as the allocator, on Linux")
def test_another_trials_memory_counts_in_this_one() -> None:
    cache, device = ScoreCache(), torch.device("cpu")

    def work() -> np.ndarray:
        block = torch.ones(32 * MEBIBYTE // 4)
        time.sleep(0.5)
        return block[:2].numpy().copy()

    peaks = []
    for _ in range(2):
        cache.begin_trial()
        watch = PeakMemory(device)
        cache.score("question", work)
        peaks.append(watch.stop())
    assert all(peak is not None and 31 * MEBIBYTE <= peak < 40 * MEBIBYTE for peak in peaks)


STUDY = """\
name: two
models: [{model}]
tasks:
  - own_files: {{train: {data}, text: text}}
methods: {methods}
shots: [8]
data_seeds: [0]
baselines: false
pool_rows: 4
precision: float32
"""


TAUGHT = [
    {"context_distillation": {"demonstrations": 2, "epochs": 1, "alpha": 0.3}},
    {"context_distillation": {"demonstrations": 2, "epochs": 1, "alpha": 0.9, "as": "taught"}},
]
CALIBRATED = [
    {"in_context": {"demonstrations": 4, "calibration": "batch"}},
    {"in_context": {"demonstrations": 4, "calibration": "none", "as": "raw"}},
]


@pytest.mark.parametrize("methods", [TAUGHT, CALIBRATED, CALIBRATED[::-1]], ids=["taught", "raw last", "raw first"])
def test_a_trial_costs_what_it_would_alone_and_says_what_was_shared(
    methods: list[object], study_file: Path, model_folders: dict[str, Path], tmp_path: Path
) -> None:
    """Two trials of one draw whose teachers, or contexts, are the same."""
    path, data = tmp_path / "study.yaml", study_file.parent / "feelings.csv"
    path.write_text(STUDY.format(model=model_folders["llama"], data=data, methods=json.dumps(methods)))
    jobs, together = prepare_jobs(load_study(path), None)[0], WorkerState()
    first, second = [run(job, together) for job in jobs]
    by_itself = run(jobs[1], WorkerState())
    assert first.cost is not None and second.cost is not None and by_itself.cost is not None
    assert first.cost.shared_seconds is None and by_itself.cost.shared_seconds is None
    assert second.cost.fit_seconds is not None and second.cost.shared_seconds is not None
    assert second.cost.predict_seconds is not None
    assert 0 < second.cost.shared_seconds < second.cost.fit_seconds + second.cost.predict_seconds
    assert second.cost.fit_tokens == by_itself.cost.fit_tokens
    assert second.cost.predict_tokens == by_itself.cost.predict_tokens
    assert second.metrics == by_itself.metrics and second.notes.fit.losses == by_itself.notes.fit.losses


def run(job: Job, state: WorkerState) -> Record:
    record, _ = run_trial(job, state)
    assert record.status == "done", record.failure
    return record

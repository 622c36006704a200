"""What trials of one process ask alike of a network that never changes is computed once, and counted in each."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from fewtune.engine import known_answers, token_clock
from fewtune.engine.known_answers import KnownAnswers, spared_seconds
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.options import EngineOptions
from fewtune.engine.readouts import LabelWordReadout, Readout, StateReadout
from fewtune.engine.score import score_prompts
from fewtune.records import Record
from fewtune.running.job import Job
from fewtune.running.prepare import prepare_jobs
from fewtune.running.trial import run_trial
from fewtune.running.worker import WorkerState
from fewtune.study import load_study

PROMPTS = [[11, 12, 13], [14, 15, 16, 17], [18]]
WORDS = LabelWordReadout([[70], [71]])


class Asked:
    """A model of which it is counted what its frozen network runs."""

    def __init__(self, model: LanguageModel, most_bytes: int = 1 << 20) -> None:
        self.known = KnownAnswers(most_bytes)
        self.model = replace(model, known=self.known)

    def ask(
        self, readout: Readout = WORDS, prompts: list[list[int]] = PROMPTS, model: LanguageModel | None = None
    ) -> int:
        """Tokens that the network really ran for it."""
        model = self.model if model is None else model
        forward = model.forward(model.frozen)
        given = score_prompts(forward, prompts, readout)
        plain = replace(model, known=None)
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
    off = replace(asked.model, options=EngineOptions(known_answers=False))
    assert asked.ask(model=other) == 8 and asked.ask(model=off) == asked.ask(model=off) == 8
    opt = replace(models["opt"], known=asked.known)
    assert opt.weights_fingerprint != asked.model.weights_fingerprint
    forward = opt.forward(opt.frozen)
    score_prompts(forward, PROMPTS, WORDS)
    assert forward.tokens_run == 8
    training = asked.model.forward(asked.model.trainable_copy())
    assert [score_prompts(training, PROMPTS, WORDS) is not None for _ in range(2)] and training.tokens_run == 16


def test_what_was_asked_longest_ago_is_forgotten_first(models: dict[str, LanguageModel]) -> None:
    size = 3 * 2 * 8
    asked = Asked(models["llama"], most_bytes=2 * size)
    others = [[[n, n, n], [n, n, n, n], [n]] for n in (21, 22)]
    assert (asked.ask(), asked.ask(prompts=others[0]), asked.ask(), asked.ask(prompts=others[1])) == (8, 8, 0, 8)
    assert asked.known.held_bytes == 2 * size
    assert (asked.ask(), asked.ask(prompts=others[0])) == (0, 8)
    assert Asked(models["llama"], most_bytes=size - 1).ask() == 8


def test_another_trials_answer_counts_in_this_one_once(
    models: dict[str, LanguageModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = iter(range(100))
    monkeypatch.setattr(known_answers.time, "perf_counter", lambda: 3.0 * next(clock))
    known, forward = KnownAnswers(), models["llama"].forward(models["llama"].frozen)

    def work() -> np.ndarray:
        return score_prompts(forward, PROMPTS, WORDS)

    def count() -> tuple[int, float]:
        tokens, seconds = token_clock.now(), spared_seconds()
        known.answer("question", work)
        return token_clock.now() - tokens, spared_seconds() - seconds

    assert count() == (8, 0.0) and count() == (0, 0.0), "the trial that asked first asked twice"
    known.begin_trial()
    assert count() == (8, 3.0) and count() == (0, 0.0)


STUDY = """\
name: two
models: [{model}]
tasks:
  - own_files: {{train: {data}, text: text}}
methods:
  - context_distillation: {{demonstrations: 2, epochs: 1, alpha: 0.3}}
  - context_distillation: {{demonstrations: 2, epochs: 1, alpha: 0.9, as: taught}}
shots: [8]
data_seeds: [0]
floors: false
pool_rows: 4
precision: float32
"""


@pytest.fixture(scope="module")
def jobs(study_file: Path, model_folders: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> list[Job]:
    """Two distillations of one draw that differ in the teacher's weight."""
    path = tmp_path_factory.mktemp("two") / "study.yaml"
    path.write_text(STUDY.format(model=model_folders["llama"], data=study_file.parent / "feelings.csv"))
    return prepare_jobs(load_study(path), None)[0]


def test_a_trial_costs_what_it_would_alone_and_says_what_was_shared(jobs: list[Job]) -> None:
    together = WorkerState()
    first, second = [run(job, together) for job in jobs]
    by_itself = run(jobs[1], WorkerState())
    assert first.cost is not None and second.cost is not None and by_itself.cost is not None
    assert first.cost.shared_seconds is None and by_itself.cost.shared_seconds is None
    assert second.cost.fit_seconds is not None and second.cost.shared_seconds is not None
    assert 0 < second.cost.shared_seconds < second.cost.fit_seconds
    assert second.cost.fit_tokens == by_itself.cost.fit_tokens
    assert second.cost.predict_tokens == by_itself.cost.predict_tokens
    peaks = [record.cost.peak_memory_bytes for record in (second, by_itself) if record.cost is not None]
    assert peaks[0] is not None and peaks[0] == pytest.approx(peaks[1], rel=0.2)
    assert second.metrics == by_itself.metrics and second.notes.fit.losses == by_itself.notes.fit.losses


def run(job: Job, state: WorkerState) -> Record:
    record, _ = run_trial(job, state)
    assert record.status == "done", record.failure
    return record

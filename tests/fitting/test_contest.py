"""Which folds of which candidates are fitted within a budget, and what a killed command leaves to go on with."""

from __future__ import annotations

import errno
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest

from fewtune.engine import heartbeat
from fewtune.engine.resuming import Resumption
from fewtune.errors import FewtuneError, ModelError, UnwrittenError
from fewtune.fitting import clock as clock_module
from fewtune.fitting import contest as module
from fewtune.fitting.candidates import Candidate
from fewtune.fitting.clock import Clock
from fewtune.fitting.contest import Contest
from fewtune.fitting.events import Dropped, FoldEnded
from fewtune.fitting.fold_answers import FoldAnswers, WorkFolder
from fewtune.fitting.terms import ANYTHING, ModelLimits, Terms
from fewtune.predictors.predictor import Predictor
from fewtune.running.fit_rows import OnStep, make_task
from fewtune.tasks.base import Example

ROWS = 80


class Watch:
    """A clock of its own, which fits move on."""

    now = 0.0

    def perf_counter(self) -> float:
        return self.now


class Fits:
    """Fits that take the seconds told, of predictors that are right on the share of rows told; the folds they saw."""

    def __init__(self, watch: Watch, shares: Mapping[str, float], seconds: Mapping[str, float]) -> None:
        self.watch, self.shares, self.seconds = watch, shares, seconds
        self.fitted: list[str] = []

    def __call__(
        self, candidate: Candidate, places: Sequence[int], on_step: OnStep, resumption: Resumption | None
    ) -> Predictor:
        self.fitted.append(candidate.method)
        steps = 10
        for step in range(1, steps + 1):
            self.watch.now += self.seconds[candidate.method] / steps
            on_step(step, steps, 0.5)
        share = self.shares[candidate.method]

        def answer(rows: Sequence[Example]) -> np.ndarray:
            assert all(row.label is None for row in rows), "labels are withheld"
            numbers = [int(row.row_id.removeprefix("train/")) - 1 for row in rows]
            assert not set(numbers) & set(places), "no row is answered by a model that saw it"
            right = [(number * 37 % 100) / 100 < share for number in numbers]
            given = [number % 2 if good else 1 - number % 2 for number, good in zip(numbers, right, strict=True)]
            return np.log(np.where(np.eye(2, dtype=bool)[given], 0.9, 0.1))

        return Mock(log_probabilities=answer)


def hold(
    monkeypatch: pytest.MonkeyPatch,
    shares: Mapping[str, float],
    seconds: Mapping[str, float],
    budget: float | None = None,
    work: WorkFolder | None = None,
    wrap: Callable[[Fits], Any] = lambda fits: fits,
    limits: ModelLimits = ANYTHING,
    longer: Mapping[str, Mapping[int, Mapping[str, Any]]] = {},
) -> tuple[Contest, Fits, list[Any]]:
    watch = Watch()
    monkeypatch.setattr(module, "time", watch)
    monkeypatch.setattr(clock_module, "time", watch)
    monkeypatch.setattr(module, "gc", Mock())  # no network stands here, and looking through all libraries takes long
    task = make_task([f"text {number}" for number in range(ROWS)], ["x", "y"] * (ROWS // 2))
    folds = [np.arange(start, ROWS, 4) for start in range(4)]
    events: list[Any] = []
    candidates = [Candidate(name, longer=longer.get(name, {})) for name in shares]
    held = Contest(
        task, candidates, folds, Terms(limits=limits), Clock(budget, 0.0), work or WorkFolder(), events.append
    )
    held.take_kept(lambda candidate, fold: {"method": candidate.method, "fold": fold})
    fits = Fits(watch, shares, seconds)
    held.hold(wrap(fits))
    return held, fits, events


def test_frozen_features_are_judged_on_all_folds_and_a_clear_loser_that_trains_on_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shares = {"tfidf": 0.7, "lora": 0.95, "pattern": 0.2}
    held, fits, _ = hold(monkeypatch, shares, {"tfidf": 0.1, "lora": 10, "pattern": 10})
    assert fits.fitted[:4] == ["tfidf"] * 4
    assert (fits.fitted.count("lora"), fits.fitted.count("pattern")) == (4, 1)
    assert held.stand().best.name == "lora"
    assert held.join(held.find("lora")).places.tolist() == list(range(ROWS))


def test_whoever_may_be_the_best_is_judged_on_all_rows_before_another_is_begun_where_there_is_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shares = {"tfidf": 0.7, "contrastive": 0.9, "lora": 0.6}
    seconds = {"tfidf": 1, "contrastive": 20, "lora": 20}
    held, fits, _ = hold(monkeypatch, shares, seconds, budget=4 + 4 * 20 + 40)
    assert fits.fitted == ["tfidf"] * 4 + ["contrastive"] * 4
    assert held.stand().best.name == "contrastive" and held.is_whole(held.find("contrastive"))
    _, fits, _ = hold(monkeypatch, shares, seconds, budget=4 + 3 * 20 + 40)
    assert fits.fitted[:6] == ["tfidf"] * 4 + ["contrastive", "lora"], "there is no time for all folds of it"
    _, fits, _ = hold(monkeypatch, {**shares, "contrastive": 0.5}, seconds, budget=4 + 4 * 20 + 40)
    assert fits.fitted[:6] == ["tfidf"] * 4 + ["contrastive", "lora"], "it is clearly below the best"


def test_a_budget_leaves_time_for_the_last_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = {"tfidf": 0.7, "lora": 0.9, "pattern": 0.85}
    held, fits, _ = hold(monkeypatch, shares, {"tfidf": 1, "lora": 20, "pattern": 20}, budget=100)
    best = held.find(held.stand().best.name)
    assert fits.watch.now + held.foresee_last_fit(best) <= 100
    assert best.candidate.method == "lora" and fits.fitted.count("lora") >= 1


def test_a_fit_that_could_not_be_repeated_is_ended_early(monkeypatch: pytest.MonkeyPatch) -> None:
    held, fits, events = hold(monkeypatch, {"tfidf": 0.7, "lora": 0.9}, {"tfidf": 1, "lora": 400}, budget=100)
    [dropped] = [event for event in events if isinstance(event, Dropped)]
    assert (
        "one fit on all rows takes about 5" in dropped.left_out.reason
        and "more than is left" in dropped.left_out.reason
    )
    assert not held.find("lora").answers and fits.watch.now < 400


def test_a_fit_that_goes_on_is_held_to_the_steps_that_are_left_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def go_on(fits: Fits) -> Any:
        def fit(
            candidate: Candidate, places: Sequence[int], on_step: OnStep, resumption: Resumption | None
        ) -> Predictor:
            def hear(step: int, steps: int, loss: float) -> None:
                if step <= 8 and fits.fitted.count("lora") == 1:
                    fits.watch.now -= 10  # an earlier command took that step
                else:
                    on_step(step, steps, loss)

            return fits(candidate, places, hear if candidate.method == "lora" else on_step, resumption)

        return fit

    held, _, events = hold(monkeypatch, {"tfidf": 0.7, "lora": 0.9}, {"tfidf": 1, "lora": 100}, 200, wrap=go_on)
    assert held.find("lora").answers and not [event for event in events if isinstance(event, Dropped)]


def test_what_a_killed_command_took_for_a_fold_is_not_asked_for_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shares, seconds = {"tfidf": 0.7, "lora": 0.9, "pattern": 0.95}, {"tfidf": 1, "lora": 20, "pattern": 20}
    budget = 4 + 20 + 40
    _, fits, _ = hold(monkeypatch, shares, seconds, budget, WorkFolder(tmp_path / "work"))
    assert "pattern" not in fits.fitted
    monkeypatch.setattr(Resumption, "read_seconds", lambda self: 15.0)
    _, fits, _ = hold(monkeypatch, shares, seconds, budget, WorkFolder(tmp_path / "other"))
    assert "pattern" in fits.fitted


def test_what_takes_longer_than_the_saved_model_may_is_left_out_at_its_first_fold(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shares, seconds = {"tfidf": 0.7, "lora": 0.9, "pattern": 0.95}, {"tfidf": 1, "lora": 20, "pattern": 60}
    held, fits, events = hold(monkeypatch, shares, seconds, limits=ModelLimits(fit_seconds=40))
    [dropped] = [event.left_out for event in events if isinstance(event, Dropped)]
    assert (
        dropped.name == "pattern"
        and dropped.reason == "one fit on all rows takes about 80 s: more than the 40 s it may."
    )
    assert fits.watch.now < 4 * 1 + 4 * 20 + 60, "its fit was ended on the way"
    assert held.stand().best.name == "lora" and not held.find("pattern").answers

    def answer_slowly(fits: Fits) -> Any:
        def fit(
            candidate: Candidate, places: Sequence[int], on_step: OnStep, resumption: Resumption | None
        ) -> Predictor:
            predictor: Any = fits(candidate, places, on_step, resumption)
            answer = predictor.log_probabilities

            def read(rows: Sequence[Example]) -> np.ndarray:
                fits.watch.now += len(rows) * (0.5 if candidate.method == "lora" else 0.01)
                return np.asarray(answer(rows))

            return Mock(log_probabilities=read)

        return fit

    held, fits, events = hold(monkeypatch, shares, seconds, wrap=answer_slowly, limits=ModelLimits(row_seconds=0.05))
    [dropped] = [event.left_out for event in events if isinstance(event, Dropped)]
    assert (dropped.name, dropped.reason) == ("lora", "it takes 500 ms a row, above 50 ms.")
    assert fits.fitted.count("lora") == 1 and held.stand().best.name == "pattern"


def test_a_variant_costs_what_the_first_of_its_method_and_model_took_to_read_the_rows() -> None:
    plain = Candidate("embeddings", "encoder")
    task = make_task([f"text {number}" for number in range(ROWS)], ["x", "y"] * (ROWS // 2))
    candidates = [plain, plain.balance(), Candidate("tfidf"), plain.read_apart()]
    held = Contest(task, candidates, [np.arange(ROWS)], Terms(), Clock(None, 0.0), WorkFolder(), lambda event: None)
    for entry, (fit, row) in zip(held.entries, [(4.0, 0.1), (0.01, 0.001), (1.0, 0.002), (8.0, 0.2)], strict=True):
        entry.take(0, FoldAnswers(np.zeros((ROWS, 2)), fit, row))
    assert [entry.count_row_seconds() for entry in held.entries] == [0.1, 0.1, 0.002, 0.2]
    assert [entry.count_alone_seconds() for entry in held.entries] == [4.0, 4.0, 1.0, 8.0], (
        "texts apart are other prompts"
    )


def test_the_first_candidate_is_fitted_whatever_the_budget(monkeypatch: pytest.MonkeyPatch) -> None:
    held, fits, events = hold(monkeypatch, {"tfidf": 0.7, "lora": 0.9}, {"tfidf": 5, "lora": 5}, budget=1)
    assert fits.fitted == ["tfidf"] and held.stand().best.name == "tfidf"
    told = [event.left_out for event in events if isinstance(event, Dropped)]
    assert [(each.name, each.reason) for each in told] == [("lora", "no time was left for it.")]


def test_a_candidate_that_cannot_be_fitted_is_left_out_and_all_of_them_are_an_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(broken: set[str]) -> Callable[[Fits], Any]:
        def wrap(fits: Fits) -> Any:
            def fit(
                candidate: Candidate, places: Sequence[int], on_step: OnStep, resumption: Resumption | None
            ) -> Predictor:
                if candidate.method in broken:
                    raise ModelError("its weights are missing.")
                return fits(candidate, places, on_step, resumption)

            return fit

        return wrap

    shares, seconds = {"tfidf": 0.7, "lora": 0.9}, {"tfidf": 1.0, "lora": 1.0}
    held, _, events = hold(monkeypatch, shares, seconds, wrap=fail({"lora"}))
    assert held.stand().best.name == "tfidf"
    assert [event.left_out.reason for event in events if isinstance(event, Dropped)] == ["its weights are missing."]
    with pytest.raises(FewtuneError, match=r"no candidate could be fitted\. .*: its weights are missing\."):
        hold(monkeypatch, shares, seconds, wrap=fail({"tfidf", "lora"}))


def test_a_killed_command_goes_on_where_it_stopped(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    shares, seconds = {"tfidf": 0.7, "lora": 0.9}, {"tfidf": 1.0, "lora": 10.0}
    work = WorkFolder(tmp_path / "unfinished")

    def kill(fits: Fits) -> Any:
        def fit(
            candidate: Candidate, places: Sequence[int], on_step: OnStep, resumption: Resumption | None
        ) -> Predictor:
            if len(fits.fitted) == 6:
                raise KeyboardInterrupt
            return fits(candidate, places, on_step, resumption)

        return fit

    with pytest.raises(KeyboardInterrupt):
        hold(monkeypatch, shares, seconds, work=work, wrap=kill)
    held, fits, events = hold(monkeypatch, shares, seconds, work=work)
    assert fits.fitted == ["lora", "lora"] and len(held.find("lora").answers) == 4
    alone, _, whole = hold(monkeypatch, shares, seconds)
    assert [event.standings for event in events if isinstance(event, FoldEnded)][-1] == [
        event.standings for event in whole if isinstance(event, FoldEnded)
    ][-1]
    assert alone.stand() == held.stand()


def test_what_was_kept_and_cannot_be_read_is_fitted_again(tmp_path: Path) -> None:
    work, key = WorkFolder(tmp_path / "unfinished"), {"method": "tfidf", "fold": 0}
    answers = FoldAnswers(np.log([[0.2, 0.8]]), 1.5, 0.25)
    work.keep(key, answers)
    found = work.load(key)
    assert (
        found is not None and found.fit_seconds == 1.5 and found.log_probabilities.tolist() == [[*np.log([0.2, 0.8])]]
    )
    assert work.load({**key, "fold": 1}) is None
    [file] = (tmp_path / "unfinished").glob("*.npz")
    file.write_bytes(file.read_bytes()[:40])
    assert work.load(key) is None
    (tmp_path / "unfinished" / ".half.12.part").write_bytes(b"of a command that was killed as it wrote")
    work.remove()
    assert not (tmp_path / "unfinished").exists()
    assert WorkFolder().load(key) is None


def test_what_a_user_has_in_a_folder_of_that_name_stays(tmp_path: Path) -> None:
    mine = tmp_path / "unfinished" / "notes.txt"
    mine.parent.mkdir()
    mine.write_text("mine")
    work = WorkFolder(mine.parent)
    work.keep({"fold": 0}, FoldAnswers(np.log([[0.2, 0.8]]), 1.5, 0.25))
    work.remove()
    assert list(mine.parent.iterdir()) == [mine]


def test_a_budget_counts_what_earlier_commands_spent_on_what_is_taken_over_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    shares, seconds = {"tfidf": 0.7, "lora": 0.9}, {"tfidf": 1.0, "lora": 10.0}
    work = WorkFolder(tmp_path / "unfinished")
    hold(monkeypatch, shares, seconds, work=work)  # 4 folds of either: 44 s
    _, fits, _ = hold(monkeypatch, shares, seconds, budget=50, work=work)
    assert not fits.fitted
    other = {"tfidf": 0.7, "pattern": 0.9}  # another command under the same name: of it tfidf's 4 s count alone
    _, fits, _ = hold(monkeypatch, other, {"tfidf": 1.0, "pattern": 10.0}, budget=70, work=work)
    assert fits.fitted == ["pattern"] * 4


def test_a_clock_goes_on_where_a_killed_command_of_the_same_question_stopped(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    watch = Watch()
    monkeypatch.setattr(clock_module, "time", watch)
    work, asked = WorkFolder(tmp_path / "unfinished"), {"candidates": ["tfidf"]}

    def start(command: dict[str, Any], taken: float) -> Clock:
        clock = Clock(60.0, watch.now)
        clock.go_on(work, command, taken)
        return clock

    first = start(asked, 0.0)
    watch.now += 50.0
    first.keep()
    watch.now += 0.5
    first.keep()  # half a second later: killed before it is kept again
    assert start(asked, 20.0).spent() == 50.0, "folds are a part of what was spent"
    assert start({"candidates": ["lora"]}, 20.0).left() == 40.0, "of another question it is the folds alone"
    assert Clock(None, watch.now).left() == float("inf")


def test_a_fit_that_collapsed_and_is_done_again_is_not_taken_for_a_slow_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def collapse(fits: Fits) -> Any:
        def fit(
            candidate: Candidate, places: Sequence[int], on_step: OnStep, resumption: Resumption | None
        ) -> Predictor:
            if candidate.method == "lora":
                for step in range(1, 11):
                    fits.watch.now += 1.0
                    on_step(step, 10, 0.7)
            return fits(candidate, places, on_step, resumption)

        return fit

    shares, seconds = {"tfidf": 0.7, "lora": 0.9}, {"tfidf": 1.0, "lora": 10.0}
    held, _, events = hold(monkeypatch, shares, seconds, budget=150, wrap=collapse)
    assert not [event for event in events if isinstance(event, Dropped)]
    assert held.stand().best.name == "lora" and held.is_whole(held.find("lora"))


def test_a_first_fit_is_not_begun_in_less_time_than_any_took(monkeypatch: pytest.MonkeyPatch) -> None:
    shares = {"tfidf": 0.7, "lora": 0.9, "pattern": 0.95}
    _, fits, _ = hold(monkeypatch, shares, {"tfidf": 1, "lora": 20, "pattern": 20}, budget=4 + 20 + 4 * 20 + 40)
    assert "pattern" in fits.fitted, "there is time for it"
    _, fits, _ = hold(monkeypatch, shares, {"tfidf": 1, "lora": 20, "pattern": 20}, budget=4 + 20 + 30)
    assert fits.fitted == ["tfidf"] * 4 + ["lora"], "of 30 s one fold and the last fit would take 44"


def test_reading_many_rows_is_not_begun_where_a_few_show_that_it_takes_too_long(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    encoders = ("slow-encoder", "fast-encoder")
    read: list[tuple[str, int]] = []

    def hold_many(seconds_a_row: float, *first: Candidate) -> tuple[Contest, list[Any]]:
        watch, events = Watch(), list[Any]()
        for each in (module, clock_module):
            monkeypatch.setattr(each, "time", watch)
        read.clear()
        rows = 1024
        task = make_task([f"text {number}" for number in range(rows)], ["x"] * (rows - 2) + ["y"] * 2)
        slow, fast = (Candidate("embeddings", name) for name in encoders)
        candidates = [*first, slow, fast]
        folds = [np.arange(start, rows, 4) for start in range(4)]
        held = Contest(task, candidates, folds, Terms(), Clock(100.0, 0.0), WorkFolder(), events.append)
        held.take_kept(lambda candidate, fold: {"name": candidate.name, "fold": fold})
        seen: set[tuple[str, int]] = set()

        def fit(
            candidate: Candidate, places: Sequence[int], on_step: OnStep, resumption: Resumption | None
        ) -> Predictor:
            read.append((candidate.name, len(places)))
            new = {(candidate.name, place) for place in places} - seen
            seen.update(new)
            labels = {task.train[place].label for place in places}
            assert labels == {0, 1}, "a label of two rows is among the few"
            watch.now += 0.1 + len(new) * (seconds_a_row if candidate == slow else 0.0)
            return Mock(log_probabilities=lambda asked: np.log(np.full((len(asked), 2), 0.5)))

        held.hold(fit)
        return held, events

    held, events = hold_many(0.5, Candidate("tfidf"))
    told = [event.left_out.reason for event in events if isinstance(event, Dropped)]
    assert told == ["reading all rows takes about 512 s: more than is left."]
    assert [count for name, count in read if name.endswith(f"({encoders[0]})")] == [64, 128, 128]
    assert held.find(f"embeddings ({encoders[1]})").answers, "what is fast enough is still tried"
    held, events = hold_many(0.001, Candidate("tfidf"))
    assert held.find(f"embeddings ({encoders[0]})").answers
    assert not [event for event in events if isinstance(event, Dropped)]
    held, events = hold_many(0.5)
    assert held.find(f"embeddings ({encoders[0]})").answers, "the first candidate is fitted in any case"


def test_what_has_no_steps_is_ended_where_the_last_fit_needs_what_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(heartbeat, "SECONDS_APART", 0.0)

    def beat_on(fits: Fits) -> Any:
        def fit(
            candidate: Candidate, places: Sequence[int], on_step: OnStep, resumption: Resumption | None
        ) -> Predictor:
            for _ in range(100 if candidate.method == "embeddings" else 0):
                fits.watch.now += 1.0
                heartbeat.beat()
            return fits(candidate, places, on_step, resumption)

        return fit

    shares, seconds = {"tfidf": 0.7, "embeddings": 0.9}, {"tfidf": 1.0, "embeddings": 1.0}
    held, fits, events = hold(monkeypatch, shares, seconds, budget=30, wrap=beat_on)
    [dropped] = [event.left_out for event in events if isinstance(event, Dropped)]
    assert (dropped.name, dropped.reason) == ("embeddings", "no time was left for all of it.")
    assert fits.watch.now <= 30 and held.stand().best.name == "tfidf"


def test_memory_that_does_not_suffice_leaves_a_candidate_out_and_a_fault_of_ours_is_raised(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(error: Exception) -> Callable[[Fits], Any]:
        def wrap(fits: Fits) -> Any:
            def fit(
                candidate: Candidate, places: Sequence[int], on_step: OnStep, resumption: Resumption | None
            ) -> Predictor:
                if candidate.method == "lora" and "lora" in fits.fitted:
                    raise error
                return fits(candidate, places, on_step, resumption)

            return fit

        return wrap

    shares, seconds = {"tfidf": 0.7, "lora": 0.9}, {"tfidf": 1.0, "lora": 1.0}
    held, _, events = hold(monkeypatch, shares, seconds, wrap=fail(RuntimeError("CUDA out of memory.")))
    [reason] = [event.left_out.reason for event in events if isinstance(event, Dropped)]
    assert reason == "memory did not suffice for it."
    assert [each.name for each in held.stand().standings] == ["tfidf"], "what cannot be fitted is not chosen"
    with pytest.raises(ZeroDivisionError):
        hold(monkeypatch, shares, seconds, wrap=fail(ZeroDivisionError()))


def test_a_disk_that_is_full_between_folds_ends_the_command_and_leaves_no_candidate_out(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    work = WorkFolder(tmp_path / "unfinished")
    keep, kept = work.keep, list[FoldAnswers]()

    def fill(key: Mapping[str, Any], answers: FoldAnswers) -> None:
        if len(kept) == 2:
            raise UnwrittenError(errno.ENOSPC, "No space left on device", str(tmp_path), "Make room.")
        kept.append(answers)
        keep(key, answers)

    monkeypatch.setattr(work, "keep", fill)
    shares, seconds = {"tfidf": 0.7, "lora": 0.9}, {"tfidf": 1.0, "lora": 10.0}
    with pytest.raises(UnwrittenError, match=r"could not be written \(No space left on device\)\. Make room\."):
        hold(monkeypatch, shares, seconds, work=work)
    _, fits, events = hold(monkeypatch, shares, seconds, work=WorkFolder(work.path))
    assert fits.fitted[:3] == ["tfidf", "tfidf", "lora"], "the two folds that were kept are not fitted again"
    assert not [event for event in events if isinstance(event, Dropped)]


def test_where_the_best_bet_is_better_the_longer_it_trains_no_other_takes_that_time(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shares = {"tfidf": 0.7, "contrastive": 0.9, "lora": 0.6}
    seconds = {"tfidf": 1, "contrastive": 20, "lora": 20}
    longer = {"contrastive": {2: {"most_pairs": 256}, 4: {"most_pairs": 512}}}
    last = module.SPARE * 20
    held, fits, _ = hold(monkeypatch, shares, seconds, budget=4 + 4 * 20 + 4 * last + 10, longer=longer)
    assert fits.fitted == ["tfidf"] * 4 + ["contrastive"] * 4
    entry = held.find("contrastive")
    assert held.foresee_last_fit(entry) == pytest.approx(last), "it reads as many pairs of all rows as of a fold's"
    assert [held.choose_length(entry, each * last) for each in (0.5, 1.5, 2.5, 9)] == [1, 1, 2, 4]
    assert held.choose_length(held.find("tfidf"), 1000) == 1
    assert entry.candidate.lengthen(4).settings == {"most_pairs": 512}
    _, fits, _ = hold(monkeypatch, shares, seconds, budget=4 + 4 * 20 + 4 * last + 4 * 20 + 10, longer=longer)
    assert fits.fitted == ["tfidf"] * 4 + ["contrastive"] * 4 + ["lora"], "there is time for both"


def test_a_last_fit_is_no_longer_than_the_saved_model_may_take(monkeypatch: pytest.MonkeyPatch) -> None:
    limits, longer = ModelLimits(fit_seconds=50), {"contrastive": {2: {"most_pairs": 256}, 4: {"most_pairs": 512}}}
    held, *_ = hold(monkeypatch, {"contrastive": 0.9}, {"contrastive": 20}, longer=longer, limits=limits)
    assert held.choose_length(held.find("contrastive"), 1000) == 2

"""What is timed: fits, scoring, in-context answers, a distillation teacher, and what a further trial takes anew.

Owns the sizes and where a clock starts and stops. Does not know which lever is switched off.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from benchmarks.race.material import Material
from benchmarks.race.works import METHODS, settings_of
from benchmarks.race.works import Size as RaceSize
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.engine.memory import PeakMemory, give_back_freed_memory
from fewtune.engine.score_cache import ScoreCache
from fewtune.methods import get_method
from fewtune.methods.answer import answer_by_label_words
from fewtune.methods.teacher import make_teacher
from fewtune.running.adapt import fit_plan, make_plan

UNTIMED_ROWS = 4
"""Rows scored before the clock starts: a first pass is slower than all later ones."""


@dataclass(frozen=True)
class Size:
    """How much work there is."""

    steps: int = 10
    """Timed steps of a fit, after `warm_up` that are not."""
    warm_up: int = 2
    shots: int = 32
    batch_size: int = 16
    blocks: int = 4
    test_rows: int = 200
    demonstrations: int = 16
    queries: int = 100
    pool_rows: int = 64

    def of_race(self) -> RaceSize:
        """The same as the race's material and settings take it."""
        return RaceSize(
            shots=self.shots,
            epochs=math.ceil((self.warm_up + self.steps) / math.ceil(self.shots / self.batch_size)),
            batch_size=self.batch_size,
            blocks=self.blocks,
            test_rows=self.test_rows,
            demonstrations=self.demonstrations,
            queries=self.queries,
            pool_rows=self.pool_rows,
        )


@dataclass(frozen=True)
class Outcome:
    """Seconds, and a figure that no lever may move by more than rounding: a loss, or a mean log-probability."""

    seconds: float
    figure: float


Work = Callable[[Material, LanguageModel, Size], Outcome]


def run_fit(work: str, material: Material, model: LanguageModel, on_step: Callable[[int, int, float], None]) -> None:
    """A fit of the race; `on_step(step, steps, loss)` is told of every step."""
    method, rng = get_method(METHODS[work][0]), material.rng()
    # The race's LoRA reads a head; here it reads label words, its default, whose columns are a lever.
    settings = settings_of(work, material.size) | ({"readout": "label_words"} if work == "lora" else {})
    plan = make_plan(method, method.settings(**settings), model, material.task, material.draw, rng)
    fit_plan(plan, rng, on_step)


def time_fit(work: str, material: Material, model: LanguageModel, size: Size) -> Outcome:
    """The timed steps of a fit; the figure is the last one's loss."""
    clock, losses = [time.perf_counter()], [math.nan]

    def note(step: int, steps: int, loss: float) -> None:
        clock.append(time.perf_counter())
        losses.append(loss)

    run_fit(work, material, model, note)
    last = size.warm_up + size.steps
    return Outcome(clock[last] - clock[size.warm_up], losses[last])


def prepare_scoring(material: Material, model: LanguageModel) -> Callable[[], np.ndarray]:
    """What scores the test rows by label words with nothing before them; a few were scored already."""
    answer = answer_by_label_words(model, material.task, material.draw, None, "label_words")
    score = answer.predict_untaught().log_probabilities
    rows = [row.without_label() for row in material.test_rows]
    score(rows[:UNTIMED_ROWS])
    return lambda: score(rows)


def time_scoring(material: Material, model: LanguageModel, size: Size) -> Outcome:
    """The test rows scored by label words with nothing before them."""
    score = prepare_scoring(material, model)
    started = time.perf_counter()
    scores = score()
    return Outcome(time.perf_counter() - started, float(scores[:, 0].mean()))


def time_in_context(material: Material, model: LanguageModel, size: Size) -> Outcome:
    """The first test rows answered behind demonstrations, planning included."""
    method = get_method(METHODS["in-context"][0])
    settings = method.settings(**settings_of("in-context", material.size))
    rows = [row.without_label() for row in material.test_rows[: size.queries]]

    def answer(count: int) -> np.ndarray:
        plan = make_plan(method, settings, model, material.task, material.draw, material.rng())
        return plan.score(rows[:count])

    answer(UNTIMED_ROWS)
    started = time.perf_counter()
    scores = answer(len(rows))
    return Outcome(time.perf_counter() - started, float(scores[:, 0].mean()))


def time_teacher(material: Material, model: LanguageModel, size: Size) -> Outcome:
    """A distillation teacher's answers for the pool's rows, its context included."""
    settings = get_method(METHODS["distillation"][0]).settings(**settings_of("distillation", material.size))

    def answer(count: int) -> list[np.ndarray]:
        teacher = make_teacher(settings, model, material.task, material.draw, material.rng())
        return [target for target in teacher.answer_rows(material.draw.pool[:count]) if target is not None]

    answer(UNTIMED_ROWS)
    started = time.perf_counter()
    targets = answer(len(material.draw.pool))
    return Outcome(time.perf_counter() - started, float(np.mean([target[0] for target in targets])))


def time_further_trial(material: Material, model: LanguageModel, size: Size) -> Outcome:
    """The network that a further trial trains; the figure is its parameters' number."""
    started = time.perf_counter()
    network = model.trainable_copy()
    return Outcome(time.perf_counter() - started, float(sum(p.numel() for p in network.parameters())))


def time_loading(material: Material, model: LanguageModel, size: Size) -> Outcome:
    """The same, read from disk before it is copied."""
    started = time.perf_counter()
    network = load_model(material.place, model.precision).trainable_copy()
    return Outcome(time.perf_counter() - started, float(sum(p.numel() for p in network.parameters())))


def time_further_fit(material: Material, model: LanguageModel, size: Size) -> Outcome:
    """The first steps of a fit of all weights after one that ended, the copy of the model included."""
    short, losses = replace(material, size=replace(size, steps=0).of_race()), list[float]()

    def note(step: int, steps: int, loss: float) -> None:
        losses.append(loss)

    run_fit("all-weights", short, model, note)
    gc.collect()
    give_back_freed_memory()  # as before every trial
    started = time.perf_counter()
    run_fit("all-weights", short, model, note)
    return Outcome(time.perf_counter() - started, losses[-1])


def time_further_scores(material: Material, model: LanguageModel, size: Size) -> Outcome:
    """The test rows scored by label words where the trial before asked for the same."""
    cache = ScoreCache()
    score = prepare_scoring(material, replace(model, cache=cache))
    watch = PeakMemory(model.device)  # scores whose memory nobody counted are not kept
    score()
    cache.begin_trial()
    started = time.perf_counter()
    scores = score()
    seconds = time.perf_counter() - started
    watch.stop()
    return Outcome(seconds, float(scores[:, 0].mean()))


WORKS: Mapping[str, tuple[str, Work]] = {
    "all-weights": ("all weights, {steps} steps", partial(time_fit, "all-weights")),
    "lora": ("LoRA, {steps} steps", partial(time_fit, "lora")),
    "last-blocks": ("last {blocks} blocks, {steps} steps", partial(time_fit, "last-blocks")),
    "score": ("{test_rows} rows scored", time_scoring),
    "in-context": ("in-context, {demonstrations} demonstrations, {queries} rows", time_in_context),
    "teacher": ("distillation teacher, {pool_rows} rows", time_teacher),
    "further-trial": ("the model of a further trial", time_further_trial),
    "further-fit": ("a further fit of all weights, its first steps", time_further_fit),
    "further-scores": ("the same {test_rows} rows scored in a further trial", time_further_scores),
}
"""Each work's title, sizes in braces, and what times it."""

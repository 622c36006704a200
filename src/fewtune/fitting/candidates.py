"""Candidates for the model of a file: each a method, its settings and the language model it adapts.

Owns which are tried where nothing is named, in which order, and with which settings so many rows are fitted. What is
cheap comes first, frozen features; then what trains, in the order of its prior.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from fewtune.errors import FewtuneError, ModelError
from fewtune.fitting.prior import find_prior
from fewtune.fitting.terms import ANYTHING, ModelLimits
from fewtune.methods import get_method
from fewtune.methods.base import find_skip_reason
from fewtune.models import count_parameters, find_model, inspect_model, place_model, resolve_precision
from fewtune.models.architectures import find_architecture
from fewtune.study import build_settings, read_settings
from fewtune.system.sizes import format_bytes
from fewtune.tasks.base import Task

ENCODERS = ("minilm-l6", "mpnet-base")
MODELS = (*ENCODERS, "smollm2-135m")
"""Models that are tried where none is named."""
WITHOUT_MODEL: Mapping[str, Mapping[str, Any]] = {"tfidf": {}}
ON_STATES: Mapping[str, Mapping[str, Any]] = {
    "embeddings": {},
    "contrastive": {"most_pairs": 128, "learning_rate": 2e-4, "inverse_penalty": "auto"},
    "lora": {"readout": "head", "epochs": 10},
}
ON_WORDS: Mapping[str, Mapping[str, Any]] = {"lora": {"epochs": 10}, "pattern": {"epochs": 10}}
"""Methods that are tried where none is named, with their settings: without a model, on models that say no words such
as sentence encoders, and on those that do."""
OF_FEW_ROWS: Mapping[str, Mapping[str, Any]] = {"contrastive": {"learning_rate": 1e-4}}
"""Settings of few rows, in place of those above: of 24 rows one fit in six at 2e-4 failed (docs/log.md, 2026-12-04)."""
LONGER: Mapping[str, Mapping[int, Mapping[str, Any]]] = {
    "contrastive": {times: {"most_pairs": 128 * times} for times in (2, 4)}
}
"""By method, what `Candidate.longer` is of few rows: longer training makes a better model there, which folds can be
judged by shorter fits of (`benchmarks.few_pairs`)."""
MOST_FEW_ROWS = 64
"""Of 128 rows longer training was no better."""
BALANCED = frozenset({"embeddings", "contrastive"})
"""Methods that are tried with balanced weights where labels of unlike numbers of rows count alike: besides plain ones
where that costs next to nothing, and instead of them where a network trains.
"""
BALANCE = "balanced"
"""What such a candidate's name has."""
APART = frozenset({"embeddings"})
"""Methods that are tried with the two texts of a row read apart besides: as one they hardly say how they compare."""
OUTDONE = frozenset({("contrastive", "minilm-l6"), ("lora", "minilm-l6")})
"""Of models that are tried where none is named: what the same method does better on another of them."""
WIDTHS = {"float32": 4, "bfloat16": 2}
"""Bytes of a weight."""
ROWS_SEEN, FEWEST_EPOCHS = 1000, 3
"""A fit goes through so many rows in all its epochs, or through all rows so often."""


@dataclass(frozen=True)
class Candidate:
    """A method with its settings on a model, None where it uses none."""

    method: str
    model: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    variants: tuple[str, ...] = ()
    """What tells it from the same method on the same model."""
    longer: Mapping[int, Mapping[str, Any]] = field(default_factory=dict)
    """Settings of its last fit where time is left, by how many times as long as for a fold that takes."""

    @property
    def name(self) -> str:
        """What it is called wherever candidates stand beside one another."""
        method = ", ".join((self.method, *self.variants))
        return method if self.model is None else f"{method} ({self.model})"

    @property
    def kind(self) -> str:
        """What the table of priors calls it: it has no balanced weights."""
        return replace(self, variants=tuple(each for each in self.variants if each != BALANCE)).name

    def balance(self) -> Candidate:
        """The same with balanced weights."""
        return self._vary(BALANCE, class_weight="balanced")

    def read_apart(self) -> Candidate:
        """The same that reads the two texts of a row apart, and compares them."""
        return self._vary("texts apart", texts="apart")

    @property
    def lengths(self) -> Sequence[int]:
        """How many times as long as for a fold it may be fitted on all rows, ascending."""
        return (1, *self.longer)

    def lengthen(self, times: int) -> Candidate:
        """The same with the settings of a fit that takes so many times as long, one of `lengths`."""
        return self if times == 1 else replace(self, settings={**self.settings, **self.longer[times]}, longer={})

    @property
    def prompts(self) -> tuple[str, str | None, str]:
        """What it reads and by what: of two alike, one finds kept what the other has read."""
        return self.method, self.model, str(self.settings.get("texts"))

    def _vary(self, told: str, **settings: Any) -> Candidate:
        return replace(self, settings={**self.settings, **settings}, variants=(*self.variants, told))

    @property
    def trains(self) -> bool:
        """Whether a network is fitted: seconds or minutes, where frozen features take less."""
        return get_method(self.method).trains


@dataclass(frozen=True)
class CandidateLeftOut:
    """A candidate that is not tried, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Portfolio:
    """What is tried, in this order, and what is not."""

    candidates: tuple[Candidate, ...]
    left_out: tuple[CandidateLeftOut, ...] = ()


def list_candidates(
    task: Task,
    models: Sequence[str] = (),
    methods: Sequence[str] = (),
    only_frozen: bool = False,
    limits: ModelLimits = ANYTHING,
) -> Portfolio:
    """The candidates of a task, what trains no network first: those of named models and methods, or those that suit.

    A model that cannot be used is left out with its reason, and one that is named twice is tried once. Raises
    FewtuneError where nothing is left, or no model that was named can be used.
    """
    methods = tuple(dict.fromkeys(methods))
    rows, named = len(task.train), bool(methods or models)
    found, left_out, usable = _list_without_model(methods, rows), list[CandidateLeftOut](), list[str]()
    needs_model = not methods or any(get_method(method).uses_model for method in methods)
    placed = list(dict.fromkeys(map(place_model, models))) or list(ENCODERS if only_frozen else MODELS)
    for model in placed if needs_model else ():
        try:
            says_words, size = _says_words(model), count_bytes(model)
        except ModelError as error:
            left_out.append(CandidateLeftOut(model, str(error)))
            continue
        if size > limits.model_bytes:
            told = f"its weights take {format_bytes(size)}, above {format_bytes(int(limits.model_bytes))}."
            left_out.append(CandidateLeftOut(model, told))
            continue
        usable.append(model)
        for method in methods or (ON_WORDS if says_words else ON_STATES):
            longer = LONGER.get(method, {}) if rows <= MOST_FEW_ROWS else {}
            candidate = Candidate(method, model, choose_settings(method, rows, says_words), longer=longer)
            reason = _find_skip_reason(candidate, task) if get_method(method).uses_model else None
            if reason is None and only_frozen and candidate.trains:
                reason = "it trains a network, and frozen features alone were asked for."
            if reason is not None and named:
                left_out.append(CandidateLeftOut(candidate.name, reason))
            elif reason is None and get_method(method).uses_model and (named or (method, model) not in OUTDONE):
                found += [candidate] if methods else _list_variants(candidate, task)
    found.sort(key=lambda each: _rank(each, task) if each.trains else -math.inf)
    if not found or (models and needs_model and not usable):
        raise FewtuneError(" ".join(dict.fromkeys(each.reason for each in left_out)))
    return Portfolio(tuple(found), tuple(left_out))


def _list_variants(candidate: Candidate, task: Task) -> list[Candidate]:
    """A candidate, and what is tried besides of its method on a task's rows."""
    found = [candidate]
    if candidate.method in APART and len(task.fields) == 2:
        found.append(candidate.read_apart())
    if candidate.method in BALANCED and _is_uneven(task):
        balanced = [each.balance() for each in found]
        found = balanced if candidate.trains else found + balanced
    return found


def _rank(candidate: Candidate, task: Task) -> float:
    """Less for what did better on other files of so many rows."""
    return -find_prior(candidate.kind, len(task.train), len(task.fields)).mean


def _is_uneven(task: Task) -> bool:
    """Whether labels count alike in a task's metric and have unlike numbers of rows."""
    rows = Counter(row.label for row in task.train)
    return task.primary_metric == "macro_f1" and len(set(rows.values())) > 1


def _list_without_model(methods: Sequence[str], rows: int) -> list[Candidate]:
    named = [method for method in methods if not get_method(method).uses_model] if methods else list(WITHOUT_MODEL)
    return [Candidate(method, settings=choose_settings(method, rows)) for method in named]


def choose_settings(method: str, rows: int, says_words: bool = True) -> dict[str, Any]:
    """A method's settings for so many rows: epochs fewer where many rows make each a long one."""
    settings = dict((ON_WORDS if says_words else ON_STATES).get(method, {}))
    if settings and rows <= MOST_FEW_ROWS:
        settings |= OF_FEW_ROWS.get(method, {})
    if "epochs" in settings:
        settings["epochs"] = min(settings["epochs"], max(FEWEST_EPOCHS, math.ceil(ROWS_SEEN / rows)))
    return settings


def count_bytes(model: str | None) -> int:
    """Bytes of the weights that a model of that name loads to answer on this machine; none without a model."""
    if model is None:
        return 0
    return WIDTHS[resolve_precision("auto")] * count_parameters(find_model(model))


def _says_words(model: str) -> bool:
    config = inspect_model(find_model(model))
    return "label_words" in find_architecture(config).find_abilities(config)


def _find_skip_reason(candidate: Candidate, task: Task) -> str | None:
    method = get_method(candidate.method)
    typed: Any = build_settings(method.settings, read_settings(candidate.method, candidate.settings))
    assert candidate.model is not None
    return find_skip_reason(method, typed, inspect_model(find_model(candidate.model)), task)

"""Candidates: what may become the model of a file, each a method, its settings and the language model it adapts.

Owns which are tried where nothing is named, in which order, and with which settings so many rows are fitted. The order
is that of what is cheap and strong first: frozen features, then what trains.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from fewtune.errors import FewtuneError, ModelError
from fewtune.methods import get_method
from fewtune.methods.base import find_skip_reason
from fewtune.models import find_model, inspect_model, place_model
from fewtune.models.architectures import find_architecture
from fewtune.study import build_settings, read_settings
from fewtune.tasks.base import Task

FROZEN_MODELS = ("minilm-l6", "mpnet-base")
MODELS = (*FROZEN_MODELS, "smollm2-135m")
"""Models that are tried where none is named."""
FROZEN_METHODS = ("tfidf", "embeddings")
"""Methods that train no network, in the order in which they are tried."""
TRAINED_METHODS = ("contrastive", "lora", "pattern")
EXPENSIVE = frozenset({("contrastive", "minilm-l6"), ("pattern", "mpnet-base")})
"""Of the models tried where none is named: what another candidate of the same kind does better as a rule."""
ROWS_SEEN, FEWEST_EPOCHS = 1000, 3
"""A fit goes through so many rows in all its epochs, or through all rows so often."""
_ON_WORDS: Mapping[str, Mapping[str, Any]] = {
    "lora": {"epochs": 10},
    "pattern": {"epochs": 10},
    "contrastive": {"most_pairs": 640},
}
_ON_STATES: Mapping[str, Mapping[str, Any]] = {
    "lora": {"readout": "head", "epochs": 10},
    "contrastive": {"most_pairs": 640},
}
"""Settings on models that say no words, such as sentence encoders."""


@dataclass(frozen=True)
class Candidate:
    """A method with its settings on a model, None where it uses none."""

    method: str
    model: str | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """What it is called wherever candidates stand beside one another."""
        return self.method if self.model is None else f"{self.method} ({self.model})"

    @property
    def trains(self) -> bool:
        """Whether a network is fitted: seconds or minutes, where frozen features take less."""
        return self.method not in (*FROZEN_METHODS, "probe", "zero_shot", "in_context", "knn_prompting", "majority")


@dataclass(frozen=True)
class LeftOut:
    """A candidate that is not tried, and why."""

    name: str
    reason: str


@dataclass(frozen=True)
class Portfolio:
    """What is tried, in this order, and what is not."""

    candidates: tuple[Candidate, ...]
    left_out: tuple[LeftOut, ...] = ()


def list_candidates(
    task: Task, models: Sequence[str] = (), methods: Sequence[str] = (), only_frozen: bool = False
) -> Portfolio:
    """The candidates of a task: those of the models and methods that are named, or those that suit.

    A model that cannot be used is left out with its reason. Raises FewtuneError where nothing is left.
    """
    placed = [place_model(name) for name in models] or list(FROZEN_MODELS if only_frozen else MODELS)
    wanted = list(methods) or [*FROZEN_METHODS, *(() if only_frozen else TRAINED_METHODS)]
    candidates, left_out, failed = [], [], []
    for method in wanted:
        if not get_method(method).uses_model:
            candidates.append(Candidate(method, settings=choose_settings(method, len(task.train))))
            continue
        for model in placed:
            if model in failed or (not models and not methods and (method, model) in EXPENSIVE):
                continue
            try:
                says_words = _says_words(model)
            except ModelError as error:
                failed.append(model)
                left_out.append(LeftOut(model, str(error)))
                continue
            if not methods and method == "embeddings" and says_words:
                continue  # states of a model that says words are no embeddings of texts
            if not methods and method == "contrastive" and says_words:
                continue
            found = Candidate(method, model, choose_settings(method, len(task.train), says_words))
            reason = _find_skip_reason(found, task)
            if reason is None:
                candidates.append(found)
            elif methods or models:
                left_out.append(LeftOut(found.name, reason))
    if not candidates:
        raise FewtuneError(" ".join(dict.fromkeys(each.reason for each in left_out)))
    if failed and len(failed) == len(placed) and models and all(each.model is None for each in candidates):
        raise FewtuneError(" ".join(dict.fromkeys(each.reason for each in left_out)))
    return Portfolio(tuple(candidates), tuple(left_out))


def choose_settings(method: str, rows: int, says_words: bool = True) -> dict[str, Any]:
    """A method's settings for so many rows: its epochs fewer where many rows make each a long one."""
    settings = dict((_ON_WORDS if says_words else _ON_STATES).get(method, {}))
    if "epochs" in settings:
        settings["epochs"] = min(settings["epochs"], max(FEWEST_EPOCHS, math.ceil(ROWS_SEEN / rows)))
    return settings


def _says_words(model: str) -> bool:
    config = inspect_model(find_model(model))
    return "label_words" in find_architecture(config).find_abilities(config)


def _find_skip_reason(candidate: Candidate, task: Task) -> str | None:
    method = get_method(candidate.method)
    typed: Any = build_settings(method.settings, read_settings(candidate.method, candidate.settings))
    assert candidate.model is not None
    return find_skip_reason(method, typed, inspect_model(find_model(candidate.model)), task)

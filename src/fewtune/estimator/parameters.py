"""Checks and reads the classifier's parameters.

Owns what each may be, and the refusal of what does not go together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from sklearn.utils import check_random_state

from fewtune.analysis.decision import WITHIN
from fewtune.errors import ArgumentError, list_names, name_choices, shorten
from fewtune.methods import METHODS
from fewtune.system.durations import parse_seconds

if TYPE_CHECKING:
    from fewtune.fitting.events import FittingEvent
    from fewtune.fitting.terms import ModelLimits

AUTO = "auto"
OF_AUTO = ("metric", "fast", "max_latency", "max_fit_seconds", "max_memory", "none_label", "verbose", "callback")
"""Parameters that say how candidates are chosen among, beside `budget` and `within`, which have a value anyway."""
TEXTS: Mapping[str, str] = {
    "budget": "give a time as text, such as '90s', '10m' or '2h', or None",
    "metric": "give a name such as 'macro_f1', or None",
    "max_latency": "give text such as '50ms' or '1s', or None",
    "max_memory": "give text such as '300MB' or '1GiB', or None",
}
"""Parameters that are text where they are given."""


@dataclass(frozen=True)
class Parameters:
    """What a classifier was asked."""

    method: str
    models: tuple[str, ...]
    settings: Mapping[str, Any]
    seed: int
    seconds: float | None
    within: float
    limits: ModelLimits
    metric: str | None
    fast: bool
    none_label: Any
    verbose: bool
    callback: Callable[[FittingEvent], None] | None


def read_parameters(given: Mapping[str, Any]) -> Parameters:
    """The parameters by name, as they were given to scikit-learn; raises FewtuneError where one cannot be used."""
    from fewtune.fitting.terms import read_limits

    method, settings, model = given["method"], given["settings"], given["model"]
    if not isinstance(method, str) or method not in (AUTO, *METHODS):
        raise ArgumentError(name_choices(str(method), (AUTO, *METHODS), "method"))
    if settings is not None and not isinstance(settings, Mapping):
        raise ArgumentError(f"settings is {shorten(repr(settings))}; give a mapping of the method's settings, or None.")
    models = () if model is None else (model,) if isinstance(model, str) else tuple(model)
    if method == AUTO and settings:
        raise ArgumentError(
            f"settings ({', '.join(map(str, settings))}) belong to one method and method is {AUTO!r}: name "
            "the method, or leave them out."
        )
    if method != AUTO:
        _check_alone(given, method, models)
    _check_types(given)
    return Parameters(
        method=method,
        models=models,
        settings={name: _make_plain(value) for name, value in (settings or {}).items()},
        seed=_draw_seed(given["random_state"]),
        seconds=None if given["budget"] is None else parse_seconds("budget", given["budget"]),
        within=WITHIN if given["within"] is None else float(given["within"]),
        limits=read_limits(given["max_latency"], given["max_fit_seconds"], given["max_memory"]),
        metric=given["metric"],
        fast=bool(given["fast"]),
        none_label=given["none_label"],
        verbose=bool(given["verbose"]),
        callback=given["callback"],
    )


def _check_alone(given: Mapping[str, Any], method: str, models: tuple[str, ...]) -> None:
    """Refuse what a method that is fitted alone takes no notice of."""
    if len(models) > 1:
        raise ArgumentError(
            f"method={method!r} is fitted on one model and {len(models)} are given ({list_names(models)}): "
            f"name one, or method={AUTO!r} to try them all."
        )
    unread = [name for name in OF_AUTO if given[name] is not None and given[name] is not False]
    if unread:
        raise ArgumentError(
            f"{list_names(unread)}: of a choice among candidates, and method={method!r} is fitted alone. Leave "
            f"them out, or give method={AUTO!r}."
        )


def _check_types(given: Mapping[str, Any]) -> None:
    for name, remedy in TEXTS.items():
        if given[name] is not None and not isinstance(given[name], str):
            raise ArgumentError(f"{name} is {given[name]!r}; {remedy}.")
    within, seconds, callback = given["within"], given["max_fit_seconds"], given["callback"]
    if within is not None and not (isinstance(within, int | float | np.number) and 0 <= within < 1):
        raise ArgumentError(f"within is {within!r}; give a share from 0 to below 1 (0.03 is three points), or None.")
    if seconds is not None and not isinstance(seconds, int | float | np.number):
        raise ArgumentError(f"max_fit_seconds is {seconds!r}; give a number of seconds, or None.")
    if callback is not None and not callable(callback):
        raise ArgumentError(f"callback is {callback!r}; give a function of one event, or None.")


def _draw_seed(random_state: Any) -> int:
    """An int as it is, so that fits equal those of `fewtune fit --seed`; else one that the state draws."""
    try:
        state = check_random_state(random_state)
    except ValueError as error:
        raise ArgumentError(f"random_state: {error}") from error
    return int(random_state) if isinstance(random_state, int | np.integer) else int(state.randint(2**31 - 1))


def _make_plain(value: Any) -> Any:
    """A setting as a study holds it: grids are often arrays of NumPy's numbers."""
    return value.item() if isinstance(value, np.generic) else value

"""The sentences that tell which candidate was chosen, what it is expected to lose and what it is expected to score.

Owns their wording, for the terminal, the model's card and the estimator. Reads what a saved model keeps of its choice.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from fewtune.plurals import word_number
from fewtune.report.wording import word_chance, word_lost, word_seconds


def word_choice(choice: Mapping[str, Any], fit_seconds: float | None = None) -> str:
    """Word a choice as a model keeps it: 'Use tfidf: expected to lose 0.2 points to the best of these 4 candidates'."""
    standings = {each["name"]: each for each in choice["candidates"]}
    own = standings[choice["chosen"]]
    seconds = own["fit_seconds"] if fit_seconds is None else fit_seconds
    cost = f"{word_seconds(seconds)} to fit, {word_seconds(own['row_seconds'])} a row"
    folds = f"{word_number(choice['folds'], 'fold')} of {word_number(choice['rows'], 'row')}"
    if len(standings) == 1:
        return f"{own['name']}: the only candidate that was tried, by {folds}; {cost}."
    head = "Use" if choice["settled"] else "Best bet:"
    colon = ":" if choice["settled"] else ","
    chance = f"{word_chance(1 - own['risk'])} to lose {100 * choice['within']:g} at most"
    return (
        f"{head} {own['name']}{colon} expected to lose {word_lost(own['expected_loss'])} to the best of these "
        f"{len(standings)} candidates ({chance}), by {folds}; {cost}."
    )


def word_stated(choice: Mapping[str, Any]) -> str:
    """Word what the model is expected to score on rows like these, beside always answering the commonest label."""
    mean, low, high = choice["stated"]["accuracy"]
    more = [
        f"{name} {value[0]:.3f} [{value[1]:.3f}, {value[2]:.3f}]"
        for name, value in choice["stated"].items()
        if name != "accuracy"
    ]
    also = f"; {', '.join(more)}" if more else ""
    return (
        f"Expected accuracy on rows like these: {mean:.3f} [{low:.3f}, {high:.3f}]{also}. Always answering the "
        f"commonest label: {choice['majority']:.3f}."
    )

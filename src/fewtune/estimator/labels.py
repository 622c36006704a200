"""Reads y: a label a row, in any type that scikit-learn takes for classes.

Owns their order and names, and refusing what is no label. Does not know texts.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from sklearn.utils import assert_all_finite
from sklearn.utils.multiclass import check_classification_targets
from sklearn.utils.validation import column_or_1d

from fewtune.data.row_files import is_text
from fewtune.errors import ArgumentError, list_names, shorten
from fewtune.estimator.texts import as_array, is_missing


@dataclass(frozen=True)
class Labels:
    """Labels of rows: `classes` (labels,), sorted and of y's type, and `codes` (rows,), their places among these."""

    classes: np.ndarray
    codes: np.ndarray
    names: tuple[str, ...]
    """What methods call each of the classes."""

    def name_rows(self) -> list[str]:
        """Each row's label as a method reads it."""
        return [self.names[code] for code in self.codes]

    def name(self, given: Any, parameter: str) -> str:
        """What methods call a class that a parameter names; raises ArgumentError where there is no such class."""
        for value, name in zip(self.classes.tolist(), self.names, strict=True):
            if value == given:
                return name
        classes = list_names(map(repr, self.classes.tolist()))
        raise ArgumentError(f"{parameter} is {shorten(repr(given))}, and the classes are {classes}.")


def read_labels(given: Any) -> Labels:
    """The labels of a list, an array or a series; raises ArgumentError where they are no classes, or only one."""
    if given is None:
        raise ArgumentError("FewtuneClassifier requires y to be passed, but the target y is None: give a label a row.")
    if isinstance(given, list | tuple) and any(isinstance(value, str) for value in given):
        _settle_type(np.array(given, dtype=object))  # in an array of texts a missing label would be one of them
    try:
        # As an array first: of pandas' nullable columns scikit-learn makes floats.
        values = column_or_1d(as_array(given), warn=True)
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"y: {error}") from error
    values = _settle_type(values)
    try:
        assert_all_finite(values, input_name="y")
        check_classification_targets(values)
    except (ValueError, TypeError) as error:
        raise ArgumentError(f"y: {error}") from error
    classes, codes = np.unique(values, return_inverse=True)
    names = tuple(name_label(value) for value in classes.tolist())
    if len(classes) < 2:
        only = f"one class ({names[0]})" if names else "no label"
        raise ArgumentError(f"y holds {only}: give rows of at least two classes.")
    if len(set(names)) < len(names) or not all(name and is_text(name) for name in names):
        shown = list_names(map(repr, names))
        raise ArgumentError(
            f"y holds labels that differ in spaces alone, are empty or hold half a character ({shown}). Give each "
            "class a text of its own."
        )
    return Labels(classes, codes, names)


def _settle_type(values: np.ndarray) -> np.ndarray:
    """Values of one type, none of them missing; objects that are numbers or truth values become an array of these."""
    if values.dtype.kind in "Of":
        missing = [number for number, value in enumerate(values.tolist(), start=1) if is_missing(value)]
        if missing:
            more = f" So it is with {len(missing) - 1} more." if len(missing) > 1 else ""
            raise ArgumentError(
                f"Input y contains NaN. Row {missing[0]} (counted from 1) has no label.{more} Leave such rows out, or "
                "give them as X_unlabelled."
            )
    if values.dtype.kind != "O":
        return values
    kinds = {str if isinstance(value, str) else type(value) for value in values.tolist()}
    if len(kinds) > 1:
        raise ArgumentError(
            f"y mixes labels of several types ({list_names(sorted(kind.__name__ for kind in kinds))}). Give labels of "
            "one."
        )
    return values if kinds <= {str} else np.array(values.tolist())


def name_label(value: Any) -> str:
    """A label as a file of rows would hold it: true and false, whole numbers without a point."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value).strip()

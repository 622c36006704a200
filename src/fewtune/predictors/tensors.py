"""Reads a saved predictor's tensors and checks their names, shapes, types and finiteness.

Owns the comparison, by names and shapes before any value is read, and its wording. What a predictor must have is said
where it is built.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from fewtune.errors import PredictorError, list_names
from fewtune.plurals import pluralise
from fewtune.predictors.manifest import COPY_ANEW

_NAMED = 3
"""Of the tensors that do not fit, how many a message names."""
FLOAT32 = ("F32",)
FLOATS = ("F32", "F64")
"""Types as safetensors calls them."""


@dataclass(frozen=True)
class TensorForm:
    """What a tensor must be: its shape, and one of these types."""

    shape: tuple[int, ...]
    types: tuple[str, ...] = FLOATS


class TensorFile:
    """The tensors of one file, read as far as their names and forms."""

    def __init__(self, place: Path, there: bool = True) -> None:
        """`there` is false of a predictor without tensors, which has no file. Raises PredictorError where it is there
        and no safetensors file.
        """
        self.place = place
        self.forms: Mapping[str, TensorForm] = self._read_header() if there else {}
        """What each is, of one type."""

    def read(self, expected: Mapping[str, TensorForm]) -> dict[str, np.ndarray]:
        """The values; raises PredictorError naming the tensors that are missing, unexpected, or not as expected."""
        missing = [name for name in expected if name not in self.forms]
        if missing:
            raise PredictorError(f"{self.place}: it lacks {_count(missing)}. {COPY_ANEW}")
        unexpected = [name for name in self.forms if name not in expected]
        if unexpected:
            raise PredictorError(f"{self.place}: the model has no place for {_count(unexpected)}. {COPY_ANEW}")
        for name, form in expected.items():
            found = self.forms[name]
            if found.shape != form.shape or found.types[0] not in form.types:
                raise PredictorError(f"{self.place}: {name} is {_word(found)} and must be {_word(form)}. {COPY_ANEW}")
        values = {}
        if expected:
            with self._open() as opened:
                values = {name: np.asarray(opened.get_tensor(name)) for name in expected}
        for name, value in values.items():
            # Neither copies a large array, and what is no number shows in both.
            if value.size and not (np.isfinite(value.min()) and np.isfinite(value.max())):
                raise PredictorError(f"{self.place}: {name} holds values that are not finite. {COPY_ANEW}")
        return values

    def _read_header(self) -> dict[str, TensorForm]:
        with self._open() as opened:
            slices = {name: opened.get_slice(name) for name in opened.keys()}  # noqa: SIM118 - it is no dictionary
            return {name: TensorForm(tuple(s.get_shape()), (s.get_dtype(),)) for name, s in slices.items()}

    def _open(self) -> Any:
        try:
            return safe_open(self.place, framework="np")
        except (SafetensorError, OSError) as error:
            raise PredictorError(f"{self.place}: not readable as safetensors ({error}). {COPY_ANEW}") from error


def _count(names: list[str]) -> str:
    return f"{pluralise(len(names), 'tensor')}: {list_names(names, _NAMED)}"


def _word(form: TensorForm) -> str:
    return f"{' or '.join(form.types)} of shape {list(form.shape)}"

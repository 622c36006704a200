"""TF-IDF features of a row's words and a logistic regression over them; needs no language model.

Source: scikit-learn's text classification, https://scikit-learn.org/stable/modules/feature_extraction.html
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from fewtune.predictors.manifest import Words, WordsPart
from fewtune.predictors.regression import Regression
from fewtune.predictors.tensors import TensorFile, TensorForm
from fewtune.prompts.template import render
from fewtune.prompts.unspaced import SIGNS
from fewtune.tasks.base import Example

WORDS: Mapping[Words, str] = {
    "runs": r"(?u)\w+|[^\w\s]",
    "runs_and_signs": rf"(?u)[{SIGNS}]|[^\W{SIGNS}]+|[^\w\s]",
}
"""What is a word: every character run, so that one-letter words and texts without letters still count; or of scripts
that put no spaces between words each sign, whose neighbours a phrase joins."""


def make_vectoriser(longest_phrase: int, words: Words, vocabulary: Iterable[str] | None = None) -> Any:
    """scikit-learn's vectoriser as this scorer uses it, to be fitted where no vocabulary is given."""
    from sklearn.feature_extraction.text import TfidfVectorizer

    known = None if vocabulary is None else {word: number for number, word in enumerate(vocabulary)}
    return TfidfVectorizer(
        ngram_range=(1, longest_phrase), sublinear_tf=True, token_pattern=WORDS[words], vocabulary=known
    )


@dataclass(frozen=True)
class WordScorer:
    """A template that joins a row's texts, words and phrases with their weights (features,), and the regression."""

    template: str
    longest_phrase: int
    vocabulary: tuple[str, ...]
    inverse_frequencies: np.ndarray
    regression: Regression
    words: Words

    @cached_property
    def _vectoriser(self) -> Any:
        vectoriser = make_vectoriser(self.longest_phrase, self.words, self.vocabulary)
        vectoriser.idf_ = self.inverse_frequencies
        return vectoriser

    def log_probabilities(self, rows: Sequence[Example]) -> np.ndarray:
        texts = [render(self.template, row.fields) for row in rows]
        return self.regression.log_probabilities(self._vectoriser.transform(texts))

    def count_cut(self) -> int:
        return 0  # it reads all of a row

    def count_tokens(self, rows: Sequence[Example]) -> list[int]:
        return [0] * len(rows)

    def describe(self) -> WordsPart:
        return WordsPart(
            template=self.template,
            longest_phrase=self.longest_phrase,
            vocabulary=self.vocabulary,
            regression=self.regression.describe(),
            words=self.words,
        )

    def arrays(self) -> dict[str, np.ndarray]:
        return {"inverse_frequencies": self.inverse_frequencies, **self.regression.arrays()}

    def answers_alone(self) -> bool:
        return True

    def write_more(self, folder: Path) -> None:
        """Nothing but its arrays."""

    @staticmethod
    def rebuild(part: WordsPart, tensors: TensorFile) -> WordScorer:
        """Raises PredictorError where the tensors are not those of the vocabulary and its regression."""
        width = len(part.vocabulary)
        frequencies = {"inverse_frequencies": TensorForm((width,))}
        arrays = tensors.read(frequencies | Regression.list_forms(part.regression, width, tensors.forms))
        return WordScorer(
            part.template,
            part.longest_phrase,
            part.vocabulary,
            arrays["inverse_frequencies"],
            Regression.rebuild(part.regression, arrays),
            part.words,
        )

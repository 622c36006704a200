"""Answers texts by TF-IDF and logistic regression, or always with the majority class; needs numpy.

    python classify.py < texts.txt            a label and its probability a line; no label where the model abstains

    from classify import Classifier
    Classifier("this folder").probabilities(["a text", ...])     # (texts, labels), in the order of `labels`

A row is a text, or a mapping where the model reads several.
"""

from __future__ import annotations

import json
import re
import string
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np


class Classifier:
    """A regression over words and phrases, or one answer for all."""

    def __init__(self, folder: str | Path) -> None:
        self.content: dict[str, Any] = json.loads((Path(folder) / "classifier.json").read_text(encoding="utf-8"))
        self.labels: list[str] = self.content["labels"]
        self._weights, self._offsets = np.array(self.content["weights"]), np.array(self.content["offsets"])
        self._places = {word: place for place, word in enumerate(self.content["vocabulary"])}

    def predict(self, rows: list[Any]) -> list[str | None]:
        """The label of each row; None where the model abstains."""
        least = self.content["abstain_below"] or 0.0
        found = [(each, max(range(len(each)), key=each.__getitem__)) for each in self.probabilities(rows).tolist()]
        return [self.labels[place] if each[place] >= least else None for each, place in found]

    def probabilities(self, rows: list[Any]) -> np.ndarray:
        """Probabilities (rows, labels)."""
        scores = np.array([self._weigh(row) @ self._weights.T + self._offsets for row in rows])
        scores = scores.reshape(-1, len(self.labels))
        scores = np.maximum(self._normalise(scores), self.content["lowest"]) / self.content["temperature"]
        found: np.ndarray = np.exp(self._normalise(scores))
        return found

    def _weigh(self, row: Any) -> np.ndarray:
        fields = self.content["fields"]
        texts = {fields[0]: row} if isinstance(row, str) else row
        parts = string.Formatter().parse(self.content["template"])
        text = "".join(literal + ("" if name is None else texts[name].strip()) for literal, name, _, _ in parts)
        words = re.findall(self.content["token"], text.lower())
        phrases = Counter(
            " ".join(words[start : start + size])
            for size in range(1, self.content["longest_phrase"] + 1)
            for start in range(len(words) - size + 1)
        )
        vector = np.zeros(len(self._places))
        for phrase, times in phrases.items():
            if phrase in self._places:
                place = self._places[phrase]
                vector[place] = (1 + np.log(times)) * self.content["inverse_frequencies"][place]
        length = np.linalg.norm(vector)
        return vector if length == 0 else vector / length

    @staticmethod
    def _normalise(scores: np.ndarray) -> np.ndarray:
        shifted = scores - scores.max(axis=1, keepdims=True)
        normalised: np.ndarray = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
        return normalised


if __name__ == "__main__":
    classifier = Classifier(Path(__file__).parent)
    fields = classifier.content["fields"]
    for number, read in enumerate(sys.stdin.buffer, start=1):
        try:
            line = read.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
        except UnicodeDecodeError:
            sys.exit(f"line {number} is not UTF-8")
        texts = line.split("\t") if len(fields) > 1 else [line]
        if len(texts) != len(fields):
            sys.exit(f"line {number} has {len(texts)} texts; give {', '.join(fields)} with a tab between them")
        if not all(map(str.strip, texts)):
            sys.exit(f"line {number} has an empty text")
        row = [dict(zip(fields, texts, strict=True))]
        [label], [probabilities] = classifier.predict(row), classifier.probabilities(row)
        sys.stdout.write(f"{label or ''}\t{max(probabilities):.6f}\n")

"""Answers texts by pooling several models, each in its own folder here; needs what these need, and numpy.

    python classify.py < texts.txt            a label and its probability a line; no label where the model abstains

    from classify import Classifier
    Classifier("this folder").probabilities(["a text", ...])     # (texts, labels), in the order of `labels`

A row is a text, or a mapping where the models read several. `classifier.json` says how their answers are pooled: a
weighted sum of log-probabilities, and of an offset a label, normalised again.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np


class Classifier:
    """Models whose answers are pooled."""

    def __init__(self, folder: str | Path) -> None:
        self.content: dict[str, Any] = json.loads((Path(folder) / "classifier.json").read_text(encoding="utf-8"))
        self.labels: list[str] = self.content["labels"]
        self._members = [self._load(Path(folder) / name) for name in self.content["members"]]

    def predict(self, rows: list[Any]) -> list[str | None]:
        """The label of each row; None where the model abstains."""
        least = self.content["abstain_below"] or 0.0
        found = [(each, max(range(len(each)), key=each.__getitem__)) for each in self.probabilities(rows).tolist()]
        return [self.labels[place] if each[place] >= least else None for each, place in found]

    def probabilities(self, rows: list[Any]) -> np.ndarray:
        """Probabilities (rows, labels)."""
        scores = np.zeros((len(rows), len(self.labels))) + np.array(self.content["bias"] or 0.0)
        for weight, member in zip(self.content["weights"], self._members, strict=True):
            said = np.array(member.probabilities(rows)).reshape(scores.shape)
            scores += weight * np.log(np.maximum(said, np.exp(self.content["lowest"])))
        found: np.ndarray = np.exp(self._normalise(self._normalise(scores) / self.content["temperature"]))
        return found

    @staticmethod
    def _load(folder: Path) -> Any:
        """The classifier of a member's own program."""
        spec = importlib.util.spec_from_file_location(f"classify_{folder.name}", folder / "classify.py")
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.Classifier(folder)

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

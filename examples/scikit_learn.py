"""Choose a method and its settings by cross-validation in a scikit-learn pipeline, and keep the best as a saved model.

python examples/scikit_learn.py [MODEL]      made-up rows; MODEL is a catalogue name, folder or hub id
"""

from __future__ import annotations

import html
import sys
import tempfile
from pathlib import Path

from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer

import fewtune
from fewtune import FewtuneClassifier

TEXTS = [
    "the parcel came early &amp; whole",
    "they answered within the hour",
    "a pleasure from first to last",
    "works exactly as promised",
    "the box was crushed &amp; wet",
    "nobody picks up the phone",
    "it stopped after one day",
    "charged me twice for nothing",
]
LABELS = ["praise"] * 4 + ["complaint"] * 4


def clean_texts(texts: list[str]) -> list[str]:
    """Texts as they were before a web page wrote them."""
    return [html.unescape(text) for text in texts]


def main(model: str) -> None:
    """Print a line for each candidate, and answer a new row with the best one, saved and loaded."""
    pipeline = Pipeline(
        [("clean", FunctionTransformer(clean_texts)), ("classify", FewtuneClassifier(model=model, random_state=0))]
    )
    grid = [
        {"classify__method": ["tfidf"], "classify__settings": [{"inverse_penalty": 1.0}, {"inverse_penalty": 10.0}]},
        {"classify__method": ["in_context"], "classify__settings": [{"demonstrations": 1}, {"demonstrations": 2}]},
    ]
    search = GridSearchCV(pipeline, grid, cv=2, scoring="accuracy", error_score="raise").fit(TEXTS, LABELS)
    for candidate, accuracy in zip(search.cv_results_["params"], search.cv_results_["mean_test_score"], strict=True):
        print(f"{candidate['classify__method']} {candidate['classify__settings']}: accuracy {accuracy:.2f}")
    with tempfile.TemporaryDirectory() as folder:
        search.best_estimator_["classify"].save(Path(folder) / "model")
        predictor = fewtune.load(Path(folder) / "model")
        print(f"late and broken: {predictor.predict(['late and broken'])[0]}")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "smollm2-135m")

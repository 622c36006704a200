"""One trial as a script of its own, the way peers' studies run: load, fit, score, end.

Owns what such a script does for each method of the study.
python -m benchmarks.race.one_trial METHOD DRAW SIZE THREADS OUT
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModel

from benchmarks.race import classifier, label_words
from benchmarks.race.material import Material, fingerprint, measure_accuracy, read_trial_material
from benchmarks.race.works import PROBE_PENALTY, STUDY_RATES, Size
from fewtune.tasks.base import Example

PRECISION = "float32"
CONTENT_FREE = ("N/A", "", "[MASK]")


def run_trial(method: str, material: Material) -> dict[str, Any]:
    """Fit and score; of the `rows` in-context answers `rows_scored` alone."""
    rows = [row for test in material.draw.test_sets for row in test.rows]
    every = -(-len(rows) // material.size.study_queries_of_peer) if method == "in_context" else 1
    asked = rows[::every]
    score = prepare(method, material)
    started = time.perf_counter()
    scores = score(asked)
    return {
        "scoring_seconds": time.perf_counter() - started,
        "rows_scored": len(asked),
        "rows": len(rows),
        "accuracy": measure_accuracy(scores, asked),
        "rows_sha256": fingerprint([], [*material.draw.support, *rows]),
    }


def prepare(method: str, material: Material) -> Any:
    """The fitted method's scorer: scores (rows, labels) of rows."""
    support = material.draw.support
    settings = {
        "epochs": material.size.study_epochs,
        "batch_size": material.size.batch_size,
        "learning_rate": STUDY_RATES.get(method),
    }
    if method == "vanilla":
        model, tokenizer = classifier.load_classifier(material)
        rows = classifier.tokenise(tokenizer, material.texts("vanilla", support), support)
        trainer = classifier.train(model, tokenizer, rows, settings, PRECISION)
        return lambda asked: classifier.predict(trainer, tokenizer, material.texts("vanilla", asked), asked)
    tokenizer = classifier.load_tokenizer(material, "left")
    if method == "probe":
        return fit_probe(material, tokenizer)
    network = label_words.load_language_model(material)
    words = label_words.find_words(material, tokenizer)
    if method == "in_context":
        return show_demonstrations(material, network, tokenizer, words)
    network = label_words.fit_label_words(network, tokenizer, material, settings, PRECISION, lora=method == "lora")
    return lambda asked: label_words.score_texts(network, tokenizer, material.texts("pattern", asked), words)


def show_demonstrations(material: Material, network: Any, tokenizer: Any, words: Sequence[int]) -> Any:
    """All support rows before the query, scores divided by those of inputs that say nothing."""
    before = material.write_context(material.draw.support)
    empty = [Example(text, dict.fromkeys(material.task.fields, text), None) for text in CONTENT_FREE]

    def read(rows: Sequence[Example]) -> np.ndarray:
        texts = [before + text for text in material.texts("in-context", rows)]
        return label_words.score_texts(network, tokenizer, texts, words)

    prior = np.log(np.exp(read(empty)).mean(axis=0))
    return lambda asked: read(asked) - prior


def fit_probe(material: Material, tokenizer: Any) -> Any:
    """Logistic regression on the frozen model's last hidden state."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    network: Any = AutoModel.from_pretrained(material.place.path, dtype=torch.float32)

    @torch.no_grad()
    def read(rows: Sequence[Example]) -> np.ndarray:
        texts, states = material.texts("probe", rows), []
        for start in range(0, len(texts), label_words.BATCH_ROWS):
            batch = tokenizer(texts[start : start + label_words.BATCH_ROWS], padding=True, return_tensors="pt")
            masked = {key: batch[key] for key in ("input_ids", "attention_mask")}
            states.append(network(**masked).last_hidden_state[:, -1].numpy())
        return np.concatenate(states)

    support = material.draw.support
    pipeline = make_pipeline(StandardScaler(), LogisticRegression(C=PROBE_PENALTY, max_iter=1000))
    pipeline.fit(read(support), [e.label for e in support])
    return lambda asked: pipeline.predict_log_proba(read(asked))


def main(method: str, data_seed: str, size: str, threads: str, out: str) -> None:
    """Run one and write what it found."""
    torch.set_num_threads(int(threads))
    material = read_trial_material(Size(**json.loads(size)), int(data_seed))
    Path(out).write_text(json.dumps(run_trial(method, material)), encoding="utf-8")


if __name__ == "__main__":
    main(*sys.argv[1:])

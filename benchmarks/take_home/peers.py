"""What people write to make a classifier of a few labelled texts, and how fewtune's saved model is asked.

Owns each contender's code, with the settings that its own documentation has. Rows of two texts are joined by a line
break, as all of these take one text. Imports no package before it is used.
"""

from __future__ import annotations

import hashlib
import os
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

Texts = Sequence[Sequence[str]]
"""(rows, fields)"""
Answer = Callable[[Texts], np.ndarray]
"""Probabilities (rows, labels) of texts."""
JOIN = "\n"
AUTOINTENT_PACKAGES = ("autointent", "sentence-transformers", "transformers", "torch")
"""Of its own environment, whose releases are others than fewtune's."""
EARLY = 0.9
"""The share of its cap after which SetFit is told to stop training: a model of fewer steps is better than none."""


@dataclass(frozen=True)
class Made:
    """A fitted model: how it answers many rows, and one."""

    labels: Sequence[str]
    answer: Answer
    answer_one: Answer
    notes: Mapping[str, Any] = field(default_factory=dict)
    decide: Callable[[Texts], list[str | None]] | None = None
    """Its answers, None where it gives none, for a model that does not answer the likeliest label."""


def make_tfidf(texts: Texts, labels: Sequence[str], asked: Mapping[str, Any], folder: Path) -> Made:
    """TF-IDF and logistic regression, scikit-learn's defaults."""
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline

    model = make_pipeline(TfidfVectorizer(), LogisticRegression(max_iter=1000)).fit(join_texts(texts), labels)

    def answer(rows: Texts) -> np.ndarray:
        return np.asarray(model.predict_proba(join_texts(rows)))

    return Made([str(label) for label in model.classes_], answer, answer)


def make_embeddings(texts: Texts, labels: Sequence[str], asked: Mapping[str, Any], folder: Path) -> Made:
    """Sentence embeddings and logistic regression, defaults of both; embeddings that are kept are not made again."""
    from sklearn.linear_model import LogisticRegression

    read = cache(lambda: _read_encoder(asked["encoder"]))

    def embed(rows: Sequence[str]) -> np.ndarray:
        return np.asarray(read().encode(list(rows), normalize_embeddings=True, show_progress_bar=False))

    def find(rows: Texts) -> np.ndarray:
        kept = asked["kept_embeddings"]
        return embed(join_texts(rows)) if kept is None else keep_embeddings(Path(kept), join_texts(rows), embed)

    model = LogisticRegression(max_iter=1000).fit(find(texts), labels)

    def answer(rows: Texts) -> np.ndarray:
        return np.asarray(model.predict_proba(find(rows)))

    return Made([str(label) for label in model.classes_], answer, answer)


def keep_embeddings(file: Path, texts: Sequence[str], embed: Callable[[Sequence[str]], np.ndarray]) -> np.ndarray:
    """Embeddings (rows, width) of texts; those that `file` holds are not made again, and it holds the others then."""
    hashes = [hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest() for text in texts]
    found: dict[str, np.ndarray] = {}
    if file.is_file():
        with np.load(file) as held:
            found = dict(zip(held["hashes"].tolist(), held["embeddings"], strict=True))
    new = {name: text for name, text in zip(hashes, texts, strict=True) if name not in found}
    if new:
        found |= zip(new, embed(list(new.values())), strict=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        part = file.with_suffix(".part.npz")
        np.savez(part, hashes=np.array(list(found)), embeddings=np.stack(list(found.values())))
        part.rename(file)
    return np.stack([found[name] for name in hashes])


def make_setfit(texts: Texts, labels: Sequence[str], asked: Mapping[str, Any], folder: Path) -> Made:
    """SetFit's trainer with its defaults; it is told to stop where the cap is near, and notes how far it came."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports warn
        from datasets import Dataset
        from setfit import SetFitModel, Trainer, TrainingArguments
        from transformers import TrainerCallback

    used, cap = measure_cap(asked), EARLY * asked["cap_seconds"]

    class StopInTime(TrainerCallback):
        """Ends training where most of the cap is used up."""

        def on_step_end(self, args: Any, state: Any, control: Any, **given: Any) -> None:
            control.should_training_stop = control.should_training_stop or used() > cap

    model: Any = SetFitModel.from_pretrained(asked["encoder"], labels=sorted(set(labels)), device="cpu")
    trainer = Trainer(
        model=model,
        args=TrainingArguments(
            output_dir=str(folder / "setfit"), show_progress_bar=False, report_to="none", save_strategy="no"
        ),
        train_dataset=Dataset.from_dict({"text": join_texts(texts), "label": list(labels)}),
        callbacks=[StopInTime()],
    )
    trainer.train()
    state = trainer.st_trainer.state

    def answer(rows: Texts) -> np.ndarray:
        return np.asarray(model.predict_proba(join_texts(rows), as_numpy=True, show_progress_bar=False))

    notes = {"steps": int(state.global_step), "steps_due": int(state.max_steps)}
    return Made(list(model.labels), answer, answer, notes)


def measure_cap(asked: Mapping[str, Any]) -> Callable[[], float]:
    """How much of its cap this process has used, in the seconds that the cap counts."""
    began = time.perf_counter()
    if not asked["cap_by_processor"]:
        return lambda: time.perf_counter() - began
    return lambda: min(time.perf_counter() - began, time.process_time() / asked["cores"])


def make_autointent(texts: Texts, labels: Sequence[str], asked: Mapping[str, Any], folder: Path) -> Made:
    """AutoIntent's light preset, with the encoder of the others for its own, fitted on all rows once it has chosen."""
    os.environ["XDG_CACHE_HOME"] = str(folder / "cache")  # its embeddings are kept for this cell and no later one
    from autointent import Dataset, Pipeline
    from autointent.configs import LoggingConfig, SentenceTransformerEmbeddingConfig

    own = sorted(set(labels))
    rows = [
        {"utterance": text, "label": own.index(label)} for text, label in zip(join_texts(texts), labels, strict=True)
    ]
    dataset = Dataset.from_dict({"train": rows, "intents": [{"id": place} for place in range(len(own))]})
    pipeline = Pipeline.from_preset("classic-light")
    pipeline.set_config(SentenceTransformerEmbeddingConfig(model_name=asked["encoder"], device="cpu"))
    pipeline.set_config(LoggingConfig(project_dir=folder / "autointent"))
    pipeline.fit(dataset, refit_after=True)

    def answer(given: Texts) -> np.ndarray:
        found = pipeline.predict_with_metadata(join_texts(given)).utterances
        scores = np.array([each.score for each in found], dtype=np.float64)
        shares: np.ndarray = scores / np.maximum(scores.sum(axis=1, keepdims=True), np.finfo(np.float64).tiny)
        return shares

    def decide(given: Texts) -> list[str | None]:
        return [None if place is None else own[int(place)] for place in pipeline.predict(join_texts(given))]

    return Made(own, answer, answer, {"versions": {name: version(name) for name in AUTOINTENT_PACKAGES}}, decide)


def open_fewtune(texts: Texts, labels: Sequence[str], asked: Mapping[str, Any], folder: Path) -> Made:
    """A model that `fewtune fit` saved."""
    import fewtune

    predictor, fields = fewtune.load(folder / "model"), asked["fields"]

    def answer(rows: Texts) -> np.ndarray:
        found: np.ndarray = predictor.predict_probabilities([dict(zip(fields, row, strict=True)) for row in rows])
        return found

    return Made(predictor.labels, answer, answer)


def join_texts(texts: Texts) -> list[str]:
    """One text a row."""
    return [JOIN.join(row) for row in texts]


def _read_encoder(folder: str) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports warn
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(folder, device="cpu")


MAKERS: Mapping[str, Callable[[Texts, Sequence[str], Mapping[str, Any], Path], Made]] = {
    "tfidf": make_tfidf,
    "embeddings": make_embeddings,
    "setfit": make_setfit,
    "autointent": make_autointent,
    "fewtune": open_fewtune,
}

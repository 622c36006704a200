"""Both sides of sentence encoders: rows embedded, and contrastive fine-tuning with its regression.

Owns what the peers' users write with Sentence Transformers and SetFit: their own batch sizes, precision and threads;
no progress, logs or files. fewtune's fits of encoders are `ours`, Trainer's `classifier`.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.race.material import Material, Timing, fingerprint, measure_accuracy
from benchmarks.race.ours import adapt, load, score
from benchmarks.race.works import settings_of
from fewtune.methods.embeddings import prompt_plainly
from fewtune.models import Precision
from fewtune.tasks.base import Example


def write_rows(material: Material) -> list[Example]:
    """Rows to embed, none like another: the task's own texts in turn, each with a number behind it."""
    given = [*material.draw.support, *material.test_rows]
    texts = material.texts("embed", given)
    [field] = given[0].fields
    return [
        Example(str(number), {field: f"{texts[number % len(texts)]} {number}"}, None)
        for number in range(material.size.embedded_rows)
    ]


def embed_with_fewtune(material: Material, precision: Precision) -> Timing:
    """All rows embedded, from texts to arrays; a few before the clock starts."""
    model = load(material, precision)
    prompting = prompt_plainly(model, material.task, model.forward(model.frozen))
    return _time_embedding(material, prompting.read)


def embed_with_sentence_transformers(material: Material) -> Timing:
    """The same by `SentenceTransformer.encode`."""
    model: Any = _read_encoder(material)
    texts = {row.row_id: text for row, text in _write_texts(material)}

    def embed(rows: Sequence[Example]) -> np.ndarray:
        asked = [texts.get(row.row_id, "warm") for row in rows]
        return np.asarray(model.encode(asked, normalize_embeddings=True, show_progress_bar=False))

    return _time_embedding(material, embed)


def _write_texts(material: Material) -> list[tuple[Example, str]]:
    rows = write_rows(material)
    return list(zip(rows, material.texts("embed", rows), strict=True))


def _time_embedding(material: Material, embed: Any) -> Timing:
    rows = write_rows(material)
    embed(rows[:64])
    started = time.perf_counter()
    states = embed(rows)
    seconds = time.perf_counter() - started
    assert len(states) == len(rows)
    return Timing(seconds, fingerprint([], rows), notes={"rows": len(rows), "norm": float(np.linalg.norm(states[0]))})


def fit_with_fewtune(material: Material, precision: Precision) -> Timing:
    """From the encoder in memory to the classifier: pairs, all weights, embeddings, regression."""
    model = load(material, precision)
    started = time.perf_counter()
    plan, report = adapt("contrastive", material, model)
    seconds = time.perf_counter() - started
    assert report is not None
    accuracy = measure_accuracy(score(plan, material.test_rows), material.test_rows)
    rows = [*material.draw.support, *material.test_rows]
    return Timing(seconds, fingerprint([], rows), steps=len(report.losses), accuracy=accuracy)


def fit_with_setfit(material: Material) -> Timing:
    """The same by SetFit's trainer."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports warn
        from datasets import Dataset
        from setfit import SetFitModel, Trainer, TrainingArguments

        settings = settings_of("contrastive", material.size)
        model: Any = SetFitModel(model_body=_read_encoder(material), normalize_embeddings=True)
        model.model_head = _make_regression()
        support, rows = material.draw.support, material.test_rows
        texts, labels = material.texts("contrastive", support), [row.label for row in support]
        started = time.perf_counter()
        trainer = Trainer(
            model=model,
            args=TrainingArguments(
                output_dir=str(Path(tempfile.gettempdir()) / "fewtune-race"),
                batch_size=settings["batch_size"],
                num_epochs=settings["epochs"],
                body_learning_rate=settings["learning_rate"],
                show_progress_bar=False,
                report_to="none",
                logging_strategy="no",
                save_strategy="no",
            ),
            train_dataset=Dataset.from_dict({"text": texts, "label": labels}),
        )
        trainer.train()
        seconds = time.perf_counter() - started
        scores = np.asarray(model.predict_proba(material.texts("contrastive", rows), as_numpy=True))
    return Timing(
        seconds,
        fingerprint([], [*support, *rows]),
        steps=int(trainer.st_trainer.state.global_step),
        accuracy=measure_accuracy(scores, rows),
    )


def _read_encoder(material: Material) -> Any:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own imports warn
        from sentence_transformers import SentenceTransformer

        return SentenceTransformer(str(material.place.path), device="cpu")


def _make_regression() -> Any:
    from sklearn.linear_model import LogisticRegression

    return LogisticRegression(max_iter=1000)

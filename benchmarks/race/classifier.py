"""The peer of fine-tuning and scoring: Transformers' Trainer on its sequence classifier, PEFT for LoRA.

Owns that script, written as its users write it: dynamic padding, default optimiser and attention, nothing saved,
logged or evaluated on the way. Does not know fewtune's methods.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    PreTrainedTokenizerBase,
    Trainer,
    TrainingArguments,
)

from benchmarks.race.material import (
    MAX_TOKENS,
    Material,
    Timing,
    draw_head,
    fingerprint,
    measure_accuracy,
    measure_loss,
)
from benchmarks.race.works import settings_of
from fewtune.tasks.base import Example


def run_work(work: str, material: Material, precision: str) -> Timing:
    """Do a work with the model in memory, timed."""
    model, tokenizer = load_classifier(material)
    if work in ("score", "score-encoder"):
        return score_rows(work, material, model, tokenizer, precision)
    return fit(work, material, model, tokenizer, precision)


def load_classifier(material: Material) -> tuple[Any, PreTrainedTokenizerBase]:
    """The model with a fresh head on its last token, in float32."""
    tokenizer = load_tokenizer(material)
    model: Any = AutoModelForSequenceClassification.from_pretrained(
        material.place.path,
        num_labels=len(material.task.labels),
        pad_token_id=tokenizer.pad_token_id,
        dtype=torch.float32,
    )
    return model, tokenizer


def load_tokenizer(material: Material, padding_side: str = "right") -> PreTrainedTokenizerBase:
    """The model's tokenizer; a model without a padding token pads with the one that ends a text."""
    tokenizer = AutoTokenizer.from_pretrained(material.place.path, padding_side=padding_side)
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    return tokenizer


def fit(work: str, material: Material, model: Any, tokenizer: PreTrainedTokenizerBase, precision: str) -> Timing:
    """From the model in memory to the trained one."""
    settings = settings_of(work, material.size)
    support = material.draw.support
    started = time.perf_counter()
    rows = tokenise(tokenizer, material.texts(work, support), support)
    trainer = train(choose_trained(work, model, settings), tokenizer, rows, settings, precision)
    seconds = time.perf_counter() - started
    fitted = [row["input_ids"] for row in rows]
    scores = predict(trainer, tokenizer, material.texts(work, material.test_rows), material.test_rows)
    return Timing(
        seconds=seconds,
        rows_sha256=fingerprint(fitted, material.test_rows),
        steps=trainer.state.global_step,
        accuracy=measure_accuracy(scores, material.test_rows),
        support_loss=measure_loss(predict(trainer, tokenizer, material.texts(work, support), support), support),
        tokens=material.size.epochs * sum(map(len, fitted)),
    )


def score_rows(work: str, material: Material, model: Any, tokenizer: PreTrainedTokenizerBase, precision: str) -> Timing:
    """The test rows predicted by a head that was not fitted, the support before them, untimed."""
    with torch.no_grad():
        head = model.score if work == "score" else model.classifier
        head.weight.copy_(draw_head(*head.weight.shape))
    trainer = make_trainer(model, tokenizer, [], {}, precision)
    support, rows = material.draw.support, material.test_rows
    predict(trainer, tokenizer, material.texts(work, support), support)
    started = time.perf_counter()
    scores = predict(trainer, tokenizer, material.texts(work, rows), rows)
    seconds = time.perf_counter() - started
    return Timing(seconds, fingerprint([], rows), accuracy=measure_accuracy(scores, rows))


def choose_trained(work: str, model: Any, settings: dict[str, Any]) -> Any:
    """Freeze all but what the work trains."""
    if work == "lora":
        config = LoraConfig(
            task_type=TaskType.SEQ_CLS,
            r=settings["rank"],
            lora_alpha=settings["alpha"],
            target_modules="all-linear",
        )
        return get_peft_model(model, config)
    if work == "last-blocks":
        model.requires_grad_(False)
        for module in (*model.model.layers[-settings["blocks"] :], model.model.norm, model.score):
            module.requires_grad_(True)
    return model


def tokenise(tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], rows: Sequence[Example]) -> list[dict[str, Any]]:
    """Rows as a Trainer takes them."""
    encoded = tokenizer(list(texts), truncation=True, max_length=MAX_TOKENS).input_ids
    return [{"input_ids": ids, "labels": row.label} for ids, row in zip(encoded, rows, strict=True)]


def train(
    model: Any, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], settings: dict[str, Any], precision: str
) -> Trainer:
    """Train and give back the trainer, which predicts."""
    trainer = make_trainer(model, tokenizer, rows, settings, precision)
    trainer.train()
    return trainer


def make_trainer(
    model: Any, tokenizer: PreTrainedTokenizerBase, rows: list[dict[str, Any]], settings: dict[str, Any], precision: str
) -> Trainer:
    """A Trainer with dynamic padding."""
    return Trainer(
        model=model,
        args=make_arguments(settings, precision),
        train_dataset=rows,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
    )


def make_arguments(settings: dict[str, Any], precision: str, **more: Any) -> TrainingArguments:
    """Nothing but training: no logs, no files, no evaluation; the schedule that fewtune's methods have by default."""
    return TrainingArguments(
        output_dir=str(Path(tempfile.gettempdir()) / "fewtune-race"),  # it asks for one; nothing is saved
        num_train_epochs=settings.get("epochs", 1),
        per_device_train_batch_size=settings.get("batch_size", 16),
        per_device_eval_batch_size=16,
        learning_rate=settings.get("learning_rate", 5e-5),
        lr_scheduler_type="linear",
        warmup_steps=0.1,
        weight_decay=0.0,
        max_grad_norm=1.0,
        bf16=precision == "bfloat16",
        use_cpu=True,
        dataloader_pin_memory=False,
        save_strategy="no",
        logging_strategy="no",
        eval_strategy="no",
        report_to=[],
        disable_tqdm=True,
        seed=0,
        **more,
    )


def predict(
    trainer: Trainer, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], rows: Sequence[Example]
) -> np.ndarray:
    """Scores (rows, labels)."""
    dataset: Any = tokenise(tokenizer, texts, rows)
    scores: np.ndarray = np.asarray(trainer.predict(dataset).predictions)
    return scores

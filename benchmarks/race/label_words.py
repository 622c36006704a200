"""The peer of label words: a Trainer whose loss reads them off the language-model head, beside a teacher or without.

Owns that script as a competent user writes it over Trainer: prompts padded on the left, so that one column of logits
is computed a row; a teacher with demonstrations runs again at every step. Label words are single tokens here.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - the name the field uses
from peft import LoraConfig, TaskType, get_peft_model
from transformers import (
    AutoModelForCausalLM,
    PreTrainedTokenizerBase,
    Trainer,
    TrainerCallback,
)

from benchmarks.race.classifier import load_tokenizer, make_arguments
from benchmarks.race.material import Material, Timing, fingerprint
from benchmarks.race.works import settings_of
from fewtune.tasks.base import Example

UNLABELLED = -100
BATCH_ROWS = 16


class LabelWordTrainer(Trainer):
    """(1 - alpha) cross-entropy over the label words of labelled rows + alpha KL(teacher || student) of taught ones."""

    def __init__(self, *, words: Sequence[int], teacher: Any = None, alpha: float = 0.0, **rest: Any) -> None:
        super().__init__(**rest)
        self.words, self.teacher, self.alpha = list(words), teacher, alpha

    def compute_loss(
        self, model: Any, inputs: dict[str, Any], return_outputs: bool = False, num_items_in_batch: Any = None
    ) -> Any:
        """Mean over the batch's rows, nats."""
        logits = read_words(model, inputs["prompts"], self.words)
        loss = (1 - self.alpha) * F.cross_entropy(logits, inputs["labels"], ignore_index=UNLABELLED, reduction="sum")
        if self.teacher is not None and len(inputs["taught"]):
            with torch.no_grad():
                target = read_words(self.teacher, inputs["teacher_prompts"], self.words).log_softmax(-1)
            student = logits[inputs["taught"]].log_softmax(-1)
            loss = loss + self.alpha * F.kl_div(student, target, log_target=True, reduction="sum")
        loss = loss / len(logits)
        return (loss, logits) if return_outputs else loss


class StepClock(TrainerCallback):
    """When each step began and ended."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0

    def on_step_begin(self, *given: Any, **rest: Any) -> None:
        self._began = time.perf_counter()

    def on_step_end(self, *given: Any, **rest: Any) -> None:
        self.seconds.append(time.perf_counter() - self._began)


def distil(material: Material, precision: str) -> Timing:
    """A few steps of context distillation after one that warms up, scaled to all steps; it would take hours."""
    settings = settings_of("distillation", material.size)
    tokenizer = load_tokenizer(material, "left")
    student, teacher = load_language_model(material), load_language_model(material).requires_grad_(False)
    shown = material.choose_shown(of_teacher=True)
    rows = write_rows(material, tokenizer, (*material.draw.support, *material.draw.pool), shown)
    clock = StepClock()
    trainer = LabelWordTrainer(
        model=student,
        args=make_arguments(
            settings, precision, remove_unused_columns=False, max_steps=material.size.teacher_steps + 1
        ),
        train_dataset=rows,
        data_collator=Collator(tokenizer),
        callbacks=[clock],
        words=find_words(material, tokenizer),
        teacher=teacher,
        alpha=settings["alpha"],
    )
    trainer.train()
    timed = clock.seconds[1:]
    steps = material.size.epochs * math.ceil(len(rows) / material.size.batch_size)
    return Timing(
        seconds=float(np.mean(timed)) * steps,
        rows_sha256=fingerprint([r["input_ids"] for r in rows], material.test_rows, [e.row_id for e in shown]),
        steps=steps,
        tokens=material.size.epochs * sum(len(r["input_ids"]) for r in rows),
        notes={"scaled_from_steps": len(timed), "seconds_of_steps": [round(s, 3) for s in timed]},
    )


def fit_label_words(
    model: Any,
    tokenizer: PreTrainedTokenizerBase,
    material: Material,
    settings: dict[str, Any],
    precision: str,
    lora: bool,
) -> Any:
    """Train all weights, or LoRA, on the support's label words; the trained model."""
    if lora:
        config = LoraConfig(task_type=TaskType.CAUSAL_LM, r=8, lora_alpha=16, target_modules="all-linear")
        model = get_peft_model(model, config)
    trainer = LabelWordTrainer(
        model=model,
        args=make_arguments(settings, precision, remove_unused_columns=False),
        train_dataset=write_rows(material, tokenizer, material.draw.support),
        data_collator=Collator(tokenizer),
        words=find_words(material, tokenizer),
    )
    trainer.train()
    return trainer.model


def load_language_model(material: Material) -> Any:
    """The model with its language-model head, in float32."""
    return AutoModelForCausalLM.from_pretrained(material.place.path, dtype=torch.float32)


def write_rows(
    material: Material, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Example], shown: Sequence[Example] = ()
) -> list[dict[str, Any]]:
    """Rows as the trainer takes them; behind demonstrations too, where they show something else."""
    texts = material.texts("distillation", rows)
    before, given_away = material.write_context(shown), {e.row_id for e in shown}
    return [
        {
            "input_ids": tokenizer(text).input_ids,
            "teacher_ids": tokenizer(before + text).input_ids if shown and row.row_id not in given_away else None,
            "labels": UNLABELLED if row.label is None else row.label,
        }
        for text, row in zip(texts, rows, strict=True)
    ]


class Collator:
    """Pads a batch's prompts, and the teacher's."""

    def __init__(self, tokenizer: PreTrainedTokenizerBase) -> None:
        self._tokenizer = tokenizer

    def __call__(self, rows: list[dict[str, Any]]) -> dict[str, Any]:
        taught = [i for i, row in enumerate(rows) if row["teacher_ids"] is not None]
        batch = {
            "prompts": pad(self._tokenizer, [row["input_ids"] for row in rows]),
            "labels": torch.tensor([row["labels"] for row in rows]),
            "taught": torch.tensor(taught, dtype=torch.long),
        }
        if taught:
            batch["teacher_prompts"] = pad(self._tokenizer, [rows[i]["teacher_ids"] for i in taught])
        return batch


def pad(tokenizer: PreTrainedTokenizerBase, prompts: Sequence[Sequence[int]]) -> dict[str, torch.Tensor]:
    """Token ids and mask (rows, longest)."""
    return dict(tokenizer.pad({"input_ids": [list(p) for p in prompts]}, return_tensors="pt"))


def read_words(model: Any, prompts: dict[str, torch.Tensor], words: Sequence[int]) -> torch.Tensor:
    """The label words' logits after the prompts, (rows, labels)."""
    logits: torch.Tensor = model(**prompts, logits_to_keep=1).logits[:, -1, list(words)]
    return logits


@torch.no_grad()
def score_texts(
    model: Any, tokenizer: PreTrainedTokenizerBase, texts: Sequence[str], words: Sequence[int]
) -> np.ndarray:
    """Log-probabilities over the label words (rows, labels), sixteen texts a batch."""
    model.eval()
    parts = []
    for start in range(0, len(texts), BATCH_ROWS):
        prompts = tokenizer(list(texts[start : start + BATCH_ROWS]), padding=True, return_tensors="pt")
        masked = {key: prompts[key] for key in ("input_ids", "attention_mask")}
        parts.append(read_words(model, masked, words).log_softmax(-1).numpy())
    return np.concatenate(parts)


def find_words(material: Material, tokenizer: PreTrainedTokenizerBase) -> list[int]:
    """The token of each label word."""
    tokens = [tokenizer(word, add_special_tokens=False).input_ids for word in material.words]
    if any(len(t) != 1 for t in tokens):
        raise ValueError(f"label words {material.words} are not one token each: {tokens}")
    return [t[0] for t in tokens]

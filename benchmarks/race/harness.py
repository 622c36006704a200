"""The peer of in-context learning: lm-evaluation-harness on the same prompts.

Owns the harness's task and the choice of its batch size: each is tried on a few rows, and the fastest is timed.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from benchmarks.race.classifier import load_tokenizer
from benchmarks.race.material import SEPARATOR, Material, Timing, fingerprint
from fewtune.tasks.base import Example

BATCH_SIZES = (1, 4, 16)
NAME = "race"


def answer_in_context(material: Material) -> Timing:
    """The first test rows answered behind fixed demonstrations, by `simple_evaluate` on a loaded model."""
    from lm_eval.models.huggingface import HFLM

    network: Any = AutoModelForCausalLM.from_pretrained(material.place.path, dtype=torch.float32)
    tokenizer: Any = load_tokenizer(material)
    rows, shown = material.test_rows[: material.size.queries], material.choose_shown(of_teacher=False)
    evaluate(HFLM(pretrained=network, tokenizer=tokenizer, batch_size=1), material, rows[:1], shown)  # warms up
    tried = {}
    for size in BATCH_SIZES:
        harness = HFLM(pretrained=network, tokenizer=tokenizer, batch_size=size)
        started = time.perf_counter()
        evaluate(harness, material, rows[: material.size.harness_trial_rows], shown)
        tried[size] = time.perf_counter() - started
    fastest = min(tried, key=tried.__getitem__)
    harness = HFLM(pretrained=network, tokenizer=tokenizer, batch_size=fastest)
    started = time.perf_counter()
    accuracy = evaluate(harness, material, rows, shown)
    return Timing(
        seconds=time.perf_counter() - started,
        rows_sha256=fingerprint([], rows, [e.row_id for e in shown]),
        accuracy=accuracy,
        notes={
            "batch_size": fastest,
            "rows_tried": min(len(rows), material.size.harness_trial_rows),
            "seconds_tried": {str(size): round(seconds, 3) for size, seconds in tried.items()},
        },
    )


def evaluate(harness: Any, material: Material, rows: Sequence[Example], shown: Sequence[Example]) -> float:
    """Accuracy, as the harness reports it."""
    from lm_eval import simple_evaluate
    from lm_eval.tasks import TaskManager

    found: Any = simple_evaluate(
        harness,
        tasks=[describe_task(material, rows, shown)],
        num_fewshot=len(shown),
        bootstrap_iters=0,
        log_samples=False,
        task_manager=TaskManager(include_defaults=False),
    )
    return float(found["results"][NAME]["acc,none"])


def describe_task(material: Material, rows: Sequence[Example], shown: Sequence[Example]) -> dict[str, Any]:
    """The harness's task: these rows behind these demonstrations, in this order."""
    from datasets import Dataset

    def write(examples: Sequence[Example]) -> list[dict[str, Any]]:
        texts = material.texts("in-context", examples)
        return [{"prompt": text, "label": e.label} for text, e in zip(texts, examples, strict=True)]

    def read_prompt(row: dict[str, Any]) -> Any:
        return row["prompt"]

    def read_label(row: dict[str, Any]) -> Any:
        return row["label"]

    documents, examples = Dataset.from_list(write(rows)), write(shown)
    return {
        "task": NAME,
        "custom_dataset": lambda **given: {"test": documents},
        "test_split": "test",
        "output_type": "multiple_choice",
        "doc_to_text": read_prompt,
        "doc_to_target": read_label,
        "doc_to_choice": list(material.words),
        "target_delimiter": "",
        "fewshot_delimiter": SEPARATOR,
        "fewshot_config": {"sampler": "first_n", "samples": examples},
        "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
    }

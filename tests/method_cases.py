"""Every method under the settings that tests try it with, and one run of it: its plan made and fitted."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np

import tiny_models
from fewtune.engine.fit import FitReport
from fewtune.engine.language_model import LanguageModel
from fewtune.methods import METHODS, get_method
from fewtune.methods.base import Method
from fewtune.methods.plan import Plan
from fewtune.running.adapt import fit_plan, make_plan
from fewtune.tasks.base import Draw, Task

VARIANTS: dict[str, list[dict[str, Any]]] = {
    "in_context": [
        {"demonstrations": 0},
        {"demonstrations": 4, "pattern": "verdict", "per_token": True},
        {"demonstrations": 2, "calibration": "contextual", "contexts": 2},
        {"demonstrations": 2, "calibration": "batch"},
        {"demonstrations": 3, "selection": "nearest", "calibration": "contextual"},
        {"demonstrations": 2, "calibration": "domain"},
    ],
    "knn_prompting": [{"demonstrations": 2, "neighbours": 2}, {"demonstrations": 0, "by": "states"}],
    "zero_shot": [{}, {"calibration": "none", "pattern": "verdict"}, {"pattern": "choice"}],
    "context_distillation": [
        {"epochs": 2, "demonstrations": 2, "contexts": 2},
        {"steps": 4, "demonstrations": 2, "contexts": 3, "alpha": "worth"},
        {
            "epochs": 2,
            "context": ("instruction", "demonstrations"),
            "instruction": "Good?",
            "demonstrations": 1,
            "pattern": "verdict",
        },
        {"epochs": 2, "context": ("demonstrations", "scratchpad"), "demonstrations": 1, "scratchpad_tokens": 4},
    ],
    "self_training": [
        {"epochs": 1, "labeller_epochs": 2},
        {"steps": 3, "labeller_epochs": 2, "labels": "hard", "keep": 0.5, "pattern": "verdict"},
    ],
    "contrastive": [{}, {"steps": 3, "most_pairs": 10}],
    "probe": [{}, {"prompted": False}, {"layer": 1}],
    "vanilla": [
        {"epochs": 3},
        {"epochs": 2, "prompted": True, "head_start": "zero", "head_learning_rate": 1e-3},
        {"steps": 5, "head_start": "regression"},
    ],
    "pattern": [{"epochs": 3}, {"epochs": 2, "pattern": "verdict"}, {"epochs": 2, "loss_over": "vocabulary"}],
    "adaptive": [{"epochs": 2, "blocks": 2}, {"epochs": 2, "blocks": 0.4, "readout": "head", "schedule": "plateau"}],
    "lora": [
        {"epochs": 2, "dora": True, "b_rate_ratio": 4.0},
        {"epochs": 2, "rank_stabilised": True, "targets": "query_value"},
        {"epochs": 3},
        {"epochs": 2, "readout": "head"},
        {"epochs": 2, "pattern": "verdict", "dropout": 0.1},
        {"epochs": 2, "pattern": "choice"},
    ],
    "bitfit": [{"epochs": 3}, {"epochs": 2, "readout": "head"}],
    "ia3": [{"epochs": 3}, {"epochs": 2, "readout": "head"}, {"epochs": 2, "pattern": "verdict"}],
    "soft_prompt": [
        {"epochs": 3},
        {"epochs": 2, "readout": "head", "tokens": 3},
        {"epochs": 2, "kind": "prefix"},
        {"epochs": 2, "kind": "prefix", "pattern": "verdict", "tokens": 3},
    ],
}
# What cannot be used on which architecture, and the words of the reason; all else must run on all.
SKIPPED = {
    **{("bitfit", kind): f"model type '{kind}' has no biases" for kind in ("llama", "qwen3", "mistral", "modernbert")},
    ("bitfit", "gemma3_text"): "model type 'gemma3_text' has no biases",
    ("ia3", "mpnet"): "PEFT names no (IA)³ layers for model type 'mpnet'",
    ("ia3", "modernbert"): "PEFT names no (IA)³ layers for model type 'modernbert'",
    ("lora", "mpnet"): "PEFT names no query and value layers for model type 'mpnet'",
    ("lora", "modernbert"): "PEFT names no query and value layers for model type 'modernbert'",
}
CASES = [(name, settings) for name in METHODS for settings in VARIANTS.get(name, [{}])]


def _choose_variant(architecture: str, name: str) -> dict[str, Any]:
    """A method's first settings; on a model that says no words those with a head, where the method has any."""
    variants = VARIANTS.get(name, [{}])
    with_head = [values for values in variants if values.get("readout") == "head"]
    return with_head[0] if architecture == "sentence-encoder" and with_head else variants[0]


ENCODER_CASES = [
    (architecture, name, _choose_variant(architecture, name))
    for architecture in sorted(tiny_models.ENCODERS)
    for name in METHODS
    if get_method(name).uses_model
]
"""Every method on every tiny encoder, skipped or not."""


def _spread_variants() -> list[tuple[str, str, dict[str, Any]]]:
    decoders = sorted(tiny_models.CONFIGS)
    turns = itertools.cycle(decoders)
    return [
        (architecture, name, values)
        for name in METHODS
        for number, values in enumerate(VARIANTS.get(name, [{}]))
        for architecture in ([next(turn for turn in turns if (name, turn) not in SKIPPED)] if number else decoders)
    ]


SAVED_CASES = _spread_variants() + [
    (architecture, name, values)
    for architecture, name, values in ENCODER_CASES
    if architecture not in ("mpnet", "deberta-v3") or name in ("vanilla", "pattern", "lora", "embeddings")
]
"""What is saved and exported: each method's first settings on every tiny decoder, its others on one of them in turn,
and what encoders are tried with; two of these differ by their attention alone, and have one method of each kind."""


def fit(
    method: Method, settings: Any, model: LanguageModel, task: Task, draw: Draw, seed: int = 0
) -> tuple[Plan, FitReport | None]:
    """The plan, fitted where it trains anything, and what the fit did."""
    rng = np.random.default_rng(seed)
    settings = method.resolve(settings, task, len(draw.support), len(draw.pool))
    plan = make_plan(method, settings, model if method.uses_model else None, task, draw, rng)
    return fit_plan(plan, rng)


def run(method: Method, settings: Any, model: LanguageModel, task: Task, draw: Draw, seed: int = 0) -> Plan:
    """The plan, fitted where it trains anything."""
    return fit(method, settings, model, task, draw, seed)[0]

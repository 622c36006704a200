"""What is raced: each work, its peers, and the ratio to reach, peer seconds over fewtune's; imports no torch.

Owns the sizes and the settings that both sides are given. Does not know how a side does its work.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

MODEL, ENCODER, TASK = "smollm2-135m", "minilm-l6", "sentiment"
OURS = "fewtune"


@dataclass(frozen=True)
class Size:
    """How much work there is."""

    shots: int = 32
    epochs: int = 20
    batch_size: int = 16
    blocks: int = 4
    test_rows: int = 200
    demonstrations: int = 16
    queries: int = 100
    """Rows answered behind the demonstrations."""
    pool_rows: int = 256
    teacher_steps: int = 6
    """Steps of the distilling peer that are timed, after one that is not; the others are scaled from them."""
    harness_trial_rows: int = 16
    """Rows on which the harness's batch sizes are tried before the fastest is timed."""
    study_methods: tuple[str, ...] = ("probe", "in_context", "vanilla", "pattern", "lora")
    """Those of studies/seven-methods.yaml that use a model: its two baselines without one cost nobody anything."""
    study_draws: int = 8
    study_draws_of_peer: int = 1
    """Draws whose trials the peer runs; the others are scaled from them."""
    study_shots: int = 16
    study_epochs: int = 40
    study_in_domain_rows: int = 500
    study_out_of_domain_rows: int = 200
    embedded_rows: int = 10_000
    study_queries_of_peer: int = 100
    """Rows of each in-context trial that the peer answers; the others are scaled from them."""


FULL = Size()
SMOKE = Size(
    shots=8,
    epochs=2,
    batch_size=4,
    test_rows=20,
    demonstrations=4,
    queries=20,
    pool_rows=0,
    teacher_steps=1,
    harness_trial_rows=2,
    study_methods=("probe", "pattern"),
    study_draws=1,
    study_shots=8,
    study_epochs=1,
    study_in_domain_rows=20,
    study_out_of_domain_rows=1,
    embedded_rows=200,
    study_queries_of_peer=4,
)


@dataclass(frozen=True)
class Peer:
    """Who else does the work, in which precision, and the ratio to reach."""

    name: str
    precision: str
    at_least: float


@dataclass(frozen=True)
class Work:
    """One piece of work; `repeats` bounds how often it is timed, where once takes very long.

    `share_of_peak`: the share of the machine's matrix-product peak to reach, where that is asked.
    """

    title: str
    """Sizes in braces; `title_of` puts them in."""
    peers: tuple[Peer, ...]
    share_of_peak: float | None = None
    repeats: int | None = None
    model: str = MODEL


WORKS: Mapping[str, Work] = {
    "all-weights": Work(
        "all weights, fit",
        (Peer("Trainer float32", "float32", 3.0), Peer("Trainer bfloat16", "bfloat16", 1.7)),
        share_of_peak=0.55,
    ),
    "lora": Work("LoRA r 8 on all linear layers, fit", (Peer("Trainer + PEFT float32", "float32", 3.5),)),
    "last-blocks": Work("last {blocks} blocks, fit", (Peer("Trainer float32, frozen below", "float32", 6.0),)),
    "score": Work("{test_rows} rows scored", (Peer("Trainer.predict float32", "float32", 4.0),), share_of_peak=0.6),
    "in-context": Work(
        "in-context, {demonstrations} demonstrations, {queries} rows",
        (Peer("lm-evaluation-harness float32", "float32", 20.0),),
    ),
    "distillation": Work(
        "context distillation, {shots} labelled and {pool_rows} pool rows",
        (Peer("Trainer float32, teacher at every step", "float32", 12.0),),
    ),
    "encoder": Work("a sentence encoder, all weights, fit", (Peer("Trainer float32", "float32", 1.5),), model=ENCODER),
    "score-encoder": Work(
        "{test_rows} rows scored by a sentence encoder with a head",
        (Peer("Trainer.predict float32", "float32", 1.5),),
        model=ENCODER,
    ),
    "contrastive": Work(
        "contrastive fine-tuning, {shots} rows", (Peer("SetFit float32", "float32", 2.0),), model=ENCODER
    ),
    "embed": Work(
        "{embedded_rows} rows embedded",
        (Peer("SentenceTransformer.encode float32", "float32", 2.0),),
        model=ENCODER,
    ),
    "study": Work("a study of {trials} trials", (Peer("one process a trial, float32", "float32", 3.0),), repeats=1),
}

PROBE_PENALTY = 0.1
"""The C of the study's probe, on both sides."""
STUDY_RATES: Mapping[str, float] = {"vanilla": 2e-5, "pattern": 2e-5, "lora": 5e-4}
"""Rates of the study's methods, on both sides."""
METHODS: Mapping[str, tuple[str, Mapping[str, Any]]] = {
    "all-weights": ("vanilla", {"learning_rate": 2e-5}),
    "score": ("vanilla", {}),
    "score-encoder": ("vanilla", {}),
    "encoder": ("vanilla", {"learning_rate": 2e-5}),
    "contrastive": ("contrastive", {"learning_rate": 2e-5, "epochs": 1, "batch_size": 16}),
    "lora": ("lora", {"readout": "head", "rank": 8, "alpha": 16.0, "learning_rate": 5e-4}),
    # One rate for all blocks, as Trainer has.
    "last-blocks": ("adaptive", {"readout": "head", "decay": 1.0, "learning_rate": 2e-4}),
    "in-context": ("in_context", {"contexts": 1, "calibration": "none"}),
    "distillation": (
        "context_distillation",
        {"contexts": 1, "calibration": "none", "alpha": 0.5, "learning_rate": 5e-5},
    ),
}
"""fewtune's method for a work, and the settings in which the work differs from another; peers read the same."""


def title_of(work: str, size: Mapping[str, Any]) -> str:
    """What a work is called at a size, given as a result file holds it."""
    return WORKS[work].title.format(trials=len(size["study_methods"]) * size["study_draws"], **size)


def settings_of(work: str, size: Size) -> dict[str, Any]:
    """All settings that a work gives its method."""
    settings = dict(METHODS[work][1])
    if work in ("in-context", "distillation"):
        settings["demonstrations"] = size.demonstrations
    if work == "last-blocks":
        settings["blocks"] = size.blocks
    if work not in ("in-context", "score", "score-encoder", "contrastive"):
        settings |= {"epochs": size.epochs, "batch_size": size.batch_size}
    return settings

"""What a model reads before a query: demonstrations, an instruction, a scratchpad, and the calibration they go with.

Owns the choice of demonstrations, the text before a query, and how label scores behind it are calibrated.
In-context learning answers with it; context distillation teaches with it. Contextual calibration: Zhao et al.
2021, https://arxiv.org/abs/2102.09690; batch calibration: Zhou et al. 2023, https://arxiv.org/abs/2309.17249
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from fewtune.errors import DataError
from fewtune.methods.blocks import Answer
from fewtune.predictors.language import Before, Prompting
from fewtune.tasks.base import Example, Task

Calibration = Literal["none", "contextual", "batch"]

CONTENT_FREE = ("N/A", "", "[MASK]")
"""Texts that say nothing, over which contextual calibration averages (Zhao et al. 2021)."""


def choose_demonstrations(support: Sequence[Example], count: int, rng: np.random.Generator) -> list[Example]:
    """Draw `count` rows, as even over the labels as the support allows, in random order."""
    order = [support[i] for i in rng.permutation(len(support))]
    taken: dict[int, int] = {}
    ranks = []
    for example in order:
        taken[known_label(example)] = taken.get(known_label(example), 0) + 1
        ranks.append(taken[known_label(example)])
    even = sorted(range(len(order)), key=lambda i: ranks[i])[:count]
    return [order[i] for i in rng.permutation(even)]


def write_context(
    answer: Answer,
    label_words: Sequence[str],
    demonstrations: Sequence[Example],
    separator: str,
    instruction: str = "",
) -> str:
    """The text before a query: an instruction where there is one, each demonstration with its label word."""
    shown = [
        answer.encoder.shorten(answer.template, e, answer.encoder.max_tokens) + label_words[known_label(e)]
        for e in demonstrations
    ]
    parts = [part for part in (instruction, *shown) if part]
    return "".join(part + separator for part in parts)


def estimate_prior(
    prompting: Prompting, before: Before, calibration: Calibration, task: Task, pool: Sequence[Example]
) -> np.ndarray | None:
    """The log prior over labels, (labels,), that calibration subtracts behind a context; None where it has none."""
    if calibration == "none":
        return None
    if calibration == "contextual":
        empty = [Example(f"content-free:{text}", dict.fromkeys(task.fields, text), None) for text in CONTENT_FREE]
        prior: np.ndarray = np.log(np.exp(prompting.score(empty, before)).mean(axis=0))
    else:
        prior = prompting.score(pool, before).mean(axis=0)
    return prior


def known_label(example: Example) -> int:
    """The label of a row that has one."""
    if example.label is None:
        raise DataError(f"row {example.row_id!r} has no label and cannot be a demonstration")
    return example.label

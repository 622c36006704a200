"""Every method, fitted on every tiny architecture and saved, and a stack of some: made once a run, for whichever
process asks first.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.methods import get_method
from fewtune.methods.base import find_skip_reason
from fewtune.models import Precision, find_model
from fewtune.predictors.predictor import Predictor
from fewtune.predictors.stack import stack_predictors
from fewtune.tasks.base import Draw, Example, Task
from method_cases import SAVED_CASES, run

ALL: list[tuple[Precision, str, str, dict[str, Any]]] = [("float32", *case) for case in SAVED_CASES]
ALL += [
    ("bfloat16", architecture, name, values)
    for architecture, name, values in SAVED_CASES
    if architecture == "llama" and get_method(name).uses_model
]
ROWS = [
    "a pilot is a joy to know",
    "this kettle broke on day one!",
    "  their garden   ",
    "GOOD",
    "was rude... and slow 🙂",
]
"""What each answers as its users ask it: texts as they come."""
TEMPERATURE = 1.7
STACK = "stack"
"""The folder of a stack of MEMBERS."""
MEMBERS: list[tuple[str, str, dict[str, Any]]] = [
    ("llama", "majority", {}),
    ("llama", "tfidf", {}),
    ("llama", "probe", {"layer": 1}),
    ("llama", "zero_shot", {"pattern": "choice"}),
    ("gpt2", "lora", {"epochs": 3}),
    ("opt", "soft_prompt", {"epochs": 2, "kind": "prefix"}),
    ("bert", "pattern", {"epochs": 1}),
    ("sentence-encoder", "embeddings", {}),
]
"""Of every kind of scorer, readout and network; two read one base model."""


def save_cases(
    root: Path, folders: Mapping[str, Path], models: Mapping[str, LanguageModel], task: Task, draw: Draw
) -> None:
    """A folder for each of `ALL` that its model can run, by number, and STACK: `saved`, and what it answered before.

    `log_probabilities.npy` are those of the draw's test rows, (rows, labels), whose texts `rows.json` keeps;
    `probabilities.npy` those of `ROWS`.
    """
    rows = [row.without_label() for test in draw.test_sets for row in test.rows]
    (root / "rows.json").write_text(json.dumps([[row.row_id, dict(row.fields)] for row in rows]))
    loaded: dict[tuple[Precision, str], LanguageModel] = {("float32", name): model for name, model in models.items()}
    for number, (precision, architecture, name, values) in enumerate(ALL):
        method = get_method(name)
        if (precision, architecture) not in loaded:
            loaded[precision, architecture] = load_model(find_model(str(folders[architecture])), precision)
        model, settings = loaded[precision, architecture], method.settings(**values)
        if find_skip_reason(method, settings, model.config, task) is not None:
            continue
        origin = {"method": name, "settings": json.loads(json.dumps(values))}
        predictor = replace(run(method, settings, model, task, draw).predictor, temperature=TEMPERATURE, origin=origin)
        _save_case(root / f"{number:03}", predictor, rows)
    _save_case(root / STACK, stack_members(models, task, draw), rows)


def stack_members(models: Mapping[str, LanguageModel], task: Task, draw: Draw) -> Predictor:
    """A stack of MEMBERS, each and the whole with a temperature, weights that differ, and an offset a label."""
    members = []
    for number, (architecture, name, values) in enumerate(MEMBERS):
        method = get_method(name)
        found = run(method, method.settings(**values), models[architecture], task, draw).predictor
        members.append(replace(found, temperature=0.5 + 0.25 * number, origin={"method": name}))
    weights = [0.05 * (1 + number) for number in range(len(members))]
    return replace(stack_predictors(members, weights, [0.3, -0.1]), temperature=TEMPERATURE)


def _save_case(folder: Path, predictor: Predictor, rows: Sequence[Example]) -> None:
    folder.mkdir()
    np.save(folder / "log_probabilities.npy", predictor.log_probabilities(rows))
    np.save(folder / "probabilities.npy", predictor.predict_probabilities(ROWS))
    predictor.save(folder / "saved")

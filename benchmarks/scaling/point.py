"""One point of one curve: its seconds, its peak memory, and the bytes that its shapes say.

Owns what a point means. Run in a process of its own: python -m benchmarks.scaling.point REQUEST OUT, both JSON.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.apart import answer_request
from benchmarks.labels import choose_words
from benchmarks.race.material import MAX_TOKENS, Material, read_material
from benchmarks.race.works import METHODS, Size, settings_of
from benchmarks.scaling.curves import SCORING
from fewtune.engine.fit import fit
from fewtune.engine.fitting import FitExample, Fitting
from fewtune.engine.language_model import LanguageModel, SharedNetworks
from fewtune.engine.loading import hold_model, load_model, sketch_network
from fewtune.engine.meter import Meter
from fewtune.engine.readouts import LabelWordReadout
from fewtune.engine.score import score_prompts
from fewtune.methods import get_method
from fewtune.methods.plan import Plan
from fewtune.models import ModelSnapshot, resolve_precision
from fewtune.models.architectures import architecture_of
from fewtune.running.adapt import make_plan

ROWS = BATCH_ROWS = 16
READ_WORDS = ("labels", "words")
LABELS, WORD_TOKENS = 4, 2
"""Where the curve over the other is measured."""
BYTES_A_TRAINED = 16
"""A float32 weight, its gradient and AdamW's two moments; in a token embedding, only rows that are read have all."""


@dataclass(frozen=True)
class Point:
    """What is measured where; of `epochs` the first is timed apart."""

    curve: str
    value: int
    work: str
    epochs: int = 3


def answer_point(request: dict[str, Any]) -> dict[str, Any]:
    """Measure the point of a request on the race's model and task."""
    torch.set_num_threads(request.pop("threads"))
    point = Point(**request)
    shots = point.value if point.curve == "shots" else ROWS
    batch = point.value if point.curve == "batch" else BATCH_ROWS
    material = read_material(Size(shots=shots, batch_size=batch, pool_rows=0, test_rows=1))
    model = load_model(material.place, resolve_precision("auto"))
    if point.curve == "blocks":
        model = cut_blocks(material.place, model, point.value)
    if point.curve in READ_WORDS:
        labels, tokens = (point.value, WORD_TOKENS) if point.curve == "labels" else (LABELS, point.value)
        material = relabel(material, choose_words(), labels, tokens)
    return measure_point(point, material, model)


def relabel(material: Material, words: Sequence[str], labels: int, tokens: int) -> Material:
    """The same rows with so many labels in turn, whose words are so many of these, which have a token each."""
    said = tuple("".join(words[place * tokens : (place + 1) * tokens]) for place in range(labels))
    first = replace(material.task.patterns[0], label_words=said)
    task = replace(material.task, labels=tuple(f"l{place}" for place in range(labels)), patterns=(first,))
    support = tuple(replace(row, label=place % labels) for place, row in enumerate(material.draw.support))
    return replace(material, task=task, draw=replace(material.draw, support=support))


def cut_blocks(place: ModelSnapshot, model: LanguageModel, count: int) -> LanguageModel:
    """The same model with its first blocks alone."""
    network = model.trainable_copy()
    del architecture_of(network).find_blocks(network)[count:]
    network.config.num_hidden_layers = count
    networks = SharedNetworks(partial(copy.deepcopy, network), sketch_network(network.config), model.device)
    return hold_model(place, networks, model.tokenizer.source, model.precision)


def measure_point(point: Point, material: Material, model: LanguageModel) -> dict[str, Any]:
    """Seconds of the first epoch and the median of the others, peak memory, and the bytes computed from shapes."""
    model = replace(model, max_tokens=MAX_TOKENS)
    _ = model.frozen  # made before memory is watched, as for a trial
    meter = Meter()
    meter.watch(model.device)
    rows = draw_rows(point.value, model) if point.curve == "tokens" else None
    if point.work == SCORING:
        assert rows is not None
        seconds = time_scoring(rows, model, point.epochs)
        computed = model.shared_bytes([model.frozen])
        peak = meter.peak_memory_bytes(computed)
    else:
        plan = plan_fit(point, material, model, rows)
        assert plan.fitting is not None
        seconds = time_epochs(plan.fitting, point.epochs, material.rng())
        assert plan.forward is not None
        peak, computed = meter.peak_memory_bytes(model.shared_bytes([plan.forward.network])), compute_bytes(plan)
    return {
        "seconds": float(np.median(seconds[1:])),
        "first_seconds": seconds[0],
        "peak_memory_bytes": peak,
        "computed_bytes": computed,
        "precision": model.precision,
    }


def draw_rows(tokens: int, model: LanguageModel) -> list[list[int]]:
    """Rows of random tokens, so many each."""
    generator = torch.Generator().manual_seed(tokens)
    drawn: list[list[int]] = torch.randint(model.config.vocab_size, (ROWS, tokens), generator=generator).tolist()
    return drawn


def plan_fit(point: Point, material: Material, model: LanguageModel, rows: Sequence[Sequence[int]] | None) -> Plan:
    """The race's plan for a work; on `rows` instead of the support where given."""
    name, given = METHODS[point.work][0], settings_of(point.work, material.size)
    if point.curve in READ_WORDS:  # the race's works read a head
        name, changed = ("pattern", {}) if name == "vanilla" else (name, {"readout": "label_words"})
        given = given | changed
    method = get_method(name)
    settings = method.settings(**given)
    plan = make_plan(method, settings, model, material.task, material.draw, material.rng())
    if rows is None or plan.fitting is None:
        return plan
    examples = tuple(FitExample(row, i % len(material.task.labels)) for i, row in enumerate(rows))
    return replace(plan, fitting=replace(plan.fitting, examples=examples))


def time_epochs(fitting: Fitting, epochs: int, rng: np.random.Generator) -> list[float]:
    """Seconds of each epoch of a fit."""
    clock = [time.perf_counter()]
    fit(
        replace(fitting, optimisation=replace(fitting.optimisation, epochs=epochs)),
        rng,
        lambda step, steps, loss: None,
        lambda done, of: clock.append(time.perf_counter()),
    )
    return np.diff(clock).tolist()


def time_scoring(rows: Sequence[Sequence[int]], model: LanguageModel, times: int) -> list[float]:
    """Seconds of scoring the rows by two tokens' columns, each time."""
    forward, readout = model.forward(model.frozen), LabelWordReadout([[0], [1]])
    clock = [time.perf_counter()]
    for _ in range(times):
        score_prompts(forward, rows, readout)
        clock.append(time.perf_counter())
    return np.diff(clock).tolist()


def compute_bytes(plan: Plan) -> int:
    """Bytes of weights, gradients, AdamW's moments and kept states by shape; activations are left out."""
    assert plan.fitting is not None and plan.forward is not None
    sequences = {tuple(example.prompt) for example in plan.fitting.examples}
    embedding = plan.forward.network.get_input_embeddings().get_parameter("weight")
    trained = {id(p) for group in plan.fitting.groups for p in group.parameters}
    held = {id(p): p for module in plan.fitting.modules for p in module.parameters()}
    whole = trained - {id(embedding)}
    total = sum(p.numel() * (BYTES_A_TRAINED if key in whole else p.element_size()) for key, p in held.items())
    if id(embedding) in trained:
        total += BYTES_A_TRAINED * embedding.shape[1] * len({token for s in sequences for token in s})
    if plan.forward.frozen.count:
        total += sum(map(len, sequences)) * int(plan.forward.network.config.hidden_size) * 4
    return total


if __name__ == "__main__":
    answer_request(answer_point)

"""Computes a trial's cost from its meter.

Owns how the parts of it come together, for a whole trial and for an excerpt alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fewtune.records import Cost
from fewtune.running.trial_inputs import Loaded

if TYPE_CHECKING:
    from collections.abc import Iterable

    from transformers import PreTrainedModel

    from fewtune.engine.language_model import LanguageModel
    from fewtune.engine.meter import Meter, Span
    from fewtune.methods.plan import Plan


def count_shared(model: LanguageModel, networks: Iterable[PreTrainedModel], frozen_bytes: int) -> int:
    """Bytes that a trial held beside those that were allocated while memory was watched.

    It shares frozen tensors with the loaded model, which were there before. On a GPU those were counted as there, so
    that what it freed of their `frozen_bytes` to train made room for as much of its own; a processor's are not counted.
    """
    freed = max(0, frozen_bytes - model.count_frozen_bytes()) if model.device.type == "cuda" else 0
    return model.shared_bytes(networks) + freed


def count_cost(loaded: Loaded, plan: Plan, fitting: Span, predicting: Span, meter: Meter) -> Cost:
    """What a trial cost; the meter watches memory no longer."""
    shared = count_shared(loaded.model, plan.networks, loaded.frozen_bytes) if loaded.model is not None else 0
    return Cost(
        fit_seconds=fitting.seconds,
        predict_seconds=predicting.seconds,
        predict_rows=sum(len(test.rows) for test in loaded.draw.test_sets),
        shared_seconds=fitting.shared_seconds + predicting.shared_seconds or None,
        load_seconds=loaded.load_seconds,
        peak_memory_bytes=meter.peak_memory_bytes(shared),
        resident_memory_bytes=meter.resident_memory_bytes(),
        trainable_parameters=plan.trainable_parameters,
        total_parameters=plan.total_parameters,
        fit_tokens=fitting.tokens,
        predict_tokens=predicting.tokens,
    )

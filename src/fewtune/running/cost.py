"""What a trial cost, from what its meter saw.

Owns how the parts of it come together, for a whole trial and for an excerpt alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fewtune.records import Cost
from fewtune.running.loading import Loaded

if TYPE_CHECKING:
    from fewtune.engine.meter import Meter, Span
    from fewtune.methods.plan import Plan


def count_cost(loaded: Loaded, plan: Plan, fitting: Span, predicting: Span, meter: Meter) -> Cost:
    """What a trial cost; the meter watches memory no longer."""
    # What the trial holds of its own, the meter saw; what it shares of the loaded model was there before.
    shared = loaded.model.shared_bytes(plan.networks) if loaded.model is not None else 0
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

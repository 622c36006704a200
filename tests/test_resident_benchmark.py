"""Growth and pace are a kind's last trials against its first, without the one that loads the model."""

from __future__ import annotations

import pytest

from benchmarks.resident import summarise


def test_a_kinds_last_trials_stand_against_its_first_without_the_very_first() -> None:
    def make(method: str, held: int, seconds: float) -> dict[str, object]:
        recorded = {"recorded_held_bytes": 100, "recorded_bytes": 80}
        return {"method": method, "held_bytes": held, "fit_seconds": seconds, "score_seconds": 1.0, **recorded}

    trials = [make("lora", 110, 99.0), make("other", 40, 1.0)]
    trials += [make("lora", held, seconds) for held, seconds in ((100, 10.0), (100, 12.0), (104, 9.0), (106, 13.2))]
    trials += [make("other", 50, 1.0)] * 4
    lora, other = summarise(trials)
    assert (lora["method"], lora["trials"], lora["held_bytes"]) == ("lora", 5, 110)
    assert lora["over_recorded"] == pytest.approx(1.1) and lora["over_allocated"] == pytest.approx(1.375)
    assert lora["growth"] == pytest.approx(1.05)
    assert lora["fit"] == pytest.approx(11.1 / 11.0) and other["growth"] == pytest.approx(50 / 45)

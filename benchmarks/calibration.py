"""What calibration and abstention do to answers on rows that neither was chosen by.

    python -m benchmarks.calibration [FOLDER]   writes benchmarks/results/calibration.json

Reads the predictions of a committed study (results/sentiment-smollm2 where no folder is given) and fits nothing. Of
each trial's test rows in domain one half, drawn anew for each draw and the same for all methods, finds the temperature
and the threshold for a risk of 5 %; figures are of the other half. A threshold that no rows support is refused.
"""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import binomtest

import fewtune
from benchmarks.apart import ROOT
from benchmarks.markdown import write_markdown
from benchmarks.race.results import describe_moment
from fewtune.errors import DataError
from fewtune.metrics.reliability import describe_calibration
from fewtune.predictors.abstention import choose_abstention
from fewtune.predictors.temperature import fit_temperature, normalise
from fewtune.tasks.base import IN_DOMAIN

RISK = 0.05
FILE = ROOT / "benchmarks" / "results" / "calibration.json"


def measure_half(probabilities: np.ndarray, gold: np.ndarray, seed: int) -> dict[str, Any]:
    """One trial's figures before and after, by the half that nothing was chosen by."""
    order = np.random.default_rng(seed).permutation(len(gold))
    known, new = order[: len(gold) // 2], order[len(gold) // 2 :]
    scores = np.log(np.maximum(probabilities, 1e-12))
    temperature = fit_temperature(scores[known], gold[known])
    after = np.exp(normalise(scores / temperature))
    found: dict[str, Any] = {
        "temperature": temperature,
        "before": dict(describe_calibration(probabilities[new], gold[new])),
        "after": dict(describe_calibration(after[new], gold[new])),
    }
    try:
        abstention = choose_abstention(after[known], gold[known], RISK)
    except DataError:
        return {**found, "answered": None}
    answered = after[new].max(axis=1) >= abstention.threshold
    wrong = after[new].argmax(axis=1) != gold[new]
    return {**found, "answered": int(answered.sum()), "wrong": int((wrong & answered).sum()), "rows": len(new)}


def measure(folder: Path) -> list[dict[str, Any]]:
    """The trials of a study by method, all draws and shots of one together."""
    result = fewtune.analyse(folder)
    each: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for record in result.records:
        rows = result.analysis.reader.probabilities(record).get(IN_DOMAIN) if record.status == "done" else None
        if rows is not None:
            each[record.trial.variant].append(measure_half(*rows, seed=record.trial.data_seed))
    return [_summarise(variant, trials) for variant, trials in sorted(each.items()) if variant != "majority"]


def _summarise(variant: str, trials: list[dict[str, Any]]) -> dict[str, Any]:
    before, after = (np.array([trial[when]["log_loss"] for trial in trials]) for when in ("before", "after"))
    held = [trial for trial in trials if trial["answered"] is not None]
    answered, wrong = sum(trial["answered"] for trial in held), sum(trial["wrong"] for trial in held)
    found: dict[str, Any] = {
        "variant": variant,
        "trials": len(trials),
        "temperature": float(np.median([trial["temperature"] for trial in trials])),
        "log_loss": [float(before.mean()), float(after.mean())],
        "lower": int((after <= before).sum()),
        "ece": [float(np.mean([trial[when]["ece"] for trial in trials])) for when in ("before", "after")],
        "refused": len(trials) - len(held),
    }
    if answered:
        bounds = binomtest(wrong, answered).proportion_ci()
        found |= {
            "coverage": answered / sum(trial["rows"] for trial in held),
            "risk": [wrong / answered, float(bounds.low), float(bounds.high)],
            "over": sum(trial["wrong"] > RISK * trial["answered"] for trial in held),
        }
    return found


def write_table(results: dict[str, Any]) -> str:
    """The table of docs/models.md."""
    rows = []
    for cell in results["methods"]:
        risk = "" if "risk" not in cell else "{:.3f} [{:.3f}, {:.3f}]".format(*cell["risk"])
        rows.append(
            [
                cell["variant"],
                str(cell["trials"]),
                f"{cell['temperature']:.2f}",
                f"{cell['log_loss'][0]:.3f}",
                f"{cell['log_loss'][1]:.3f}",
                f"{cell['lower']}",
                f"{cell['ece'][0]:.3f}",
                f"{cell['ece'][1]:.3f}",
                str(cell["trials"] - cell["refused"]),
                "" if "coverage" not in cell else f"{cell['coverage']:.0%}",
                risk,
            ]
        )
    head = [
        *("method", "trials", "temperature (median)", "log loss before", "after", "not higher in"),
        *("ECE before", "after", "abstains in", "answers", "wrong among them"),
    ]
    return write_markdown(head, rows)


def main() -> None:
    """Measure, print and write."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "results" / "sentiment-smollm2"
    results = {"study": folder.name, "risk": RISK, "methods": measure(folder), **describe_moment()}
    print(write_table(results))
    FILE.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

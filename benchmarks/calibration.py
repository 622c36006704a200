"""What calibration and abstention do to answers on rows that neither was chosen by.

    python -m benchmarks.calibration [FOLDER]   writes benchmarks/results/calibration.json

Reads the predictions of a committed study (results/sentiment-smollm2 where no folder is given) and fits nothing. Of
each trial's test rows in domain one half, drawn anew for each draw and the same for all methods, finds the temperature
and thresholds for risks of 5 and 10 %; figures are of the other half. A threshold that no rows support is refused.
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

RISKS = (0.05, 0.1)
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
    wrong = after[new].argmax(axis=1) != gold[new]
    for risk in RISKS:
        try:
            threshold = choose_abstention(after[known], gold[known], risk).threshold
        except DataError:
            continue
        answered = after[new].max(axis=1) >= threshold
        found[f"at {risk:g}"] = {
            "rows": len(new),
            "answered": int(answered.sum()),
            "wrong": int((wrong & answered).sum()),
        }
    return found


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
    found: dict[str, Any] = {
        "variant": variant,
        "trials": len(trials),
        "temperature": float(np.median([trial["temperature"] for trial in trials])),
        "log_loss": [float(before.mean()), float(after.mean())],
        "lower": int((after <= before).sum()),
        "ece": [float(np.mean([trial[when]["ece"] for trial in trials])) for when in ("before", "after")],
    }
    for risk in RISKS:
        held = [trial[f"at {risk:g}"] for trial in trials if f"at {risk:g}" in trial]
        found[f"at {risk:g}"] = {"trials": len(held)}
        answered, wrong = sum(each["answered"] for each in held), sum(each["wrong"] for each in held)
        if answered:
            bounds = binomtest(wrong, answered).proportion_ci()
            found[f"at {risk:g}"] |= {
                "coverage": answered / sum(each["rows"] for each in held),
                "risk": [wrong / answered, float(bounds.low), float(bounds.high)],
            }
    return found


def write_table(results: dict[str, Any]) -> str:
    """The table of docs/models.md."""
    rows, kept = [], []
    for cell in results["methods"]:
        figures = [cell["temperature"], *cell["log_loss"], *cell["ece"]]
        temperature, *others = (f"{figure:.3f}" for figure in figures)
        rows.append([cell["variant"], temperature, *others[:2], f"{cell['lower']} of {cell['trials']}", *others[2:]])
        kept.append([cell["variant"], *(part for risk in RISKS for part in _format_kept(cell[f"at {risk:g}"]))])
    head = ["method", "temperature (median)", "log loss before", "after", "not higher in", "ECE before", "after"]
    risks = [part for risk in RISKS for part in (f"at {risk:.0%}: trials", "answers", "wrong among them")]
    return f"{write_markdown(head, rows)}\n\n{write_markdown(['method', *risks], kept)}"


def _format_kept(found: dict[str, Any]) -> list[str]:
    if "risk" not in found:
        return [str(found["trials"]), "", ""]
    return [str(found["trials"]), f"{found['coverage']:.0%}", "{:.3f} [{:.3f}, {:.3f}]".format(*found["risk"])]


def main() -> None:
    """Measure, print and write."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "results" / "sentiment-smollm2"
    results = {"study": folder.name, "risks": RISKS, "methods": measure(folder), **describe_moment()}
    print(write_table(results))
    FILE.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()

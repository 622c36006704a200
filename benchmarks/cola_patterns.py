"""CoLA's patterns and label words before any fit: how far the frozen model's answers go the right way.

    python -m benchmarks.cola_patterns DATA_DIR    writes benchmarks/results/cola_patterns.json

SmolLM2 135M scores the label words behind each pattern with nothing shown and nothing calibrated, on development rows
(a half of CoLA's training rows, 600 of them). AUROC tells knowledge whatever the threshold: under .5 the words mean the
opposite to the model. Intervals are of 1,000 resamples of the rows. The task's own patterns come first, then others.
The highest of so many is too high where it was chosen, so the two highest and `minimal`, which was the task's first,
are scored once more, on 600 rows of the other half.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks.apart import ROOT, start_as_worker
from benchmarks.development_rows import load_development_task
from benchmarks.in_context_settings import MODEL
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.race.results import describe_machine, describe_moment, write_results
from fewtune.engine.language_model import LanguageModel
from fewtune.engine.loading import load_model
from fewtune.models import find_model, resolve_precision
from fewtune.predictors.language import Prompting, read_words
from fewtune.prompts.tokens import Encoder
from fewtune.system.processor import usable_cores
from fewtune.tasks.base import Example, Pattern, Task

FILE = ROOT / "benchmarks" / "results" / "cola_patterns.json"
BASE = "minimal"
"""The pattern that others are compared with: the task's first until 2026-11-29."""
RESAMPLES, MOST_TOKENS, ROWS, AGAIN = 1000, 128, 600, 2
OTHERS = (
    Pattern("good_or_bad", "{text}\nThe grammar of this sentence is", (" bad", " good")),
    Pattern("true_or_false", "{text}\nTrue or false: this is correct English.\nAnswer:", (" False", " True")),
    Pattern("quoted", '"{text}" Is this correct English? Answer Yes or No.\nAnswer:', (" No", " Yes")),
    Pattern("mistake", "{text}\nQuestion: Is there a mistake in this sentence?\nAnswer:", (" Yes", " No")),
    Pattern("acceptable", "Sentence: {text}\nAcceptability:", (" unacceptable", " acceptable")),
    Pattern("review", "Student: {text}\nTeacher: This is", (" incorrect", " correct")),
)


def score_pattern(model: LanguageModel, rows: list[Example], pattern: Pattern) -> np.ndarray:
    """Log-odds of the second label's word, (rows,)."""
    encoder = Encoder(model.tokenizer, MOST_TOKENS, model.max_positions)
    readout = read_words(encoder, encoder.encode_label_words(pattern), "vocabulary")
    scores = Prompting(model.forward(model.frozen), encoder, pattern.template, readout).read(rows)
    odds: np.ndarray = scores[:, 1] - scores[:, 0]
    return odds


def judge(odds: np.ndarray, gold: np.ndarray, rng: np.random.Generator) -> dict[str, Any]:
    """AUROC with its 95 % interval, accuracy at even odds and at the threshold that keeps the labels' shares."""
    drawn = rng.integers(len(gold), size=(RESAMPLES, len(gold)))
    resampled = [roc_auc_score(gold[rows], odds[rows]) for rows in drawn if 0 < gold[rows].mean() < 1]
    threshold = np.quantile(odds, 1 - gold.mean())
    return {
        "auroc": float(roc_auc_score(gold, odds)),
        "interval": [float(end) for end in np.quantile(resampled, (0.025, 0.975))],
        "accuracy": float(((odds > 0) == gold).mean()),
        "accuracy_at_shares": float(((odds > threshold) == gold).mean()),
        "answers_second": float((odds > 0).mean()),
    }


def measure(task: Task, model: LanguageModel) -> list[dict[str, Any]]:
    """Every pattern; the two highest and the base on other rows too."""
    patterns = (*task.patterns, *OTHERS)
    found = []
    for pattern in patterns:
        figures = _judge_on(model, task.test_sets[0].rows, pattern)
        words = list(pattern.label_words)
        found.append({"name": pattern.name, "template": pattern.template, "label_words": words, **figures})
        print(found[-1], flush=True)
    highest = sorted(range(len(found)), key=lambda place: -found[place]["auroc"])[:AGAIN]
    for place in {[pattern.name for pattern in patterns].index(BASE), *highest}:
        found[place]["again"] = _judge_on(model, task.train[:ROWS], patterns[place])
    return found


def _judge_on(model: LanguageModel, rows: Sequence[Example], pattern: Pattern) -> dict[str, Any]:
    odds = score_pattern(model, [row.without_label() for row in rows], pattern)
    return judge(odds, np.array([row.label for row in rows]), np.random.default_rng(0))


def write_table(results: dict[str, Any]) -> str:
    """A row a pattern."""
    rows = []
    for each in results["patterns"]:
        template = each["template"].replace("\n", "⏎").replace("|", "\\|")
        rows.append(
            [
                each["name"],
                f"`{template}`",
                " / ".join(word.strip() for word in each["label_words"]),
                _format_auroc(each),
                _format_auroc(each["again"]) if "again" in each else "",
                f"{each['accuracy']:.3f}",
                f"{each['accuracy_at_shares']:.3f}",
                f"{each['answers_second']:.0%}",
            ]
        )
    heads = (
        "pattern",
        "template",
        "words",
        "AUROC",
        "on other rows",
        "accuracy",
        "accuracy at the labels' shares",
        "answers acceptable",
    )
    shares = f"{results['majority']:.3f} of {results['rows']} rows are acceptable."
    return f"{write_markdown(heads, rows)}\n\n{shares} {write_machine(results['machine'])}."


def _format_auroc(figures: dict[str, Any]) -> str:
    low, high = figures["interval"]
    return f"{figures['auroc']:.3f} [{low:.3f}, {high:.3f}]"


def main() -> None:
    """Score every pattern, print and write."""
    start_as_worker("benchmarks.cola_patterns")
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="python -m benchmarks.cola_patterns", description=summary)
    parser.add_argument("data_dir", type=Path, nargs="?", help="where CoLA's files lie; fetched where not given")
    task = load_development_task("cola", parser.parse_args().data_dir)
    model = load_model(find_model(MODEL), resolve_precision("auto"))
    labels = [row.label for row in task.test_sets[0].rows]
    results = {
        "patterns": measure(task, model),
        "rows": len(labels),
        "majority": sum(label == 1 for label in labels) / len(labels),
        "machine": describe_machine(usable_cores()),
        **describe_moment(),
    }
    write_results(FILE, json.loads(json.dumps(results)))
    print(write_table(results))


if __name__ == "__main__":
    main()

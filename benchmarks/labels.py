"""What labels cost: seconds and tokens of fitting and scoring for 2 to 77 labels whose words have 1 to 4 tokens.

    python -m benchmarks.labels                  writes benchmarks/results/labels.json
    python -m benchmarks.labels --before DIR     the same beside another checkout's code, for its fewest labels

Pattern-based fine-tuning of SmolLM2 135M, one epoch of 80 made-up rows, 64 others scored: a study of its own for each
number of labels and tokens, run by the command, three draws, medians. Label words are random words of one token each,
so that few begin alike. Words of several tokens are scored whole, and in a further study constrained to what tells them
apart. The other checkout takes its turn after each study; `MOST_BEFORE` says up to how many labels. What was measured
on this machine, beside that checkout's commit, stays.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from statistics import median
from typing import Any

import yaml

from benchmarks.apart import ROOT
from benchmarks.markdown import write_machine, write_markdown
from benchmarks.predict_rows.material import PHRASES
from benchmarks.race.results import describe_commit, describe_machine, describe_moment, open_results, write_results
from fewtune.system.processor import usable_cores

FILE = ROOT / "benchmarks" / "results" / "labels.json"
MODEL = "smollm2-135m"
LABELS, TOKENS = (2, 4, 20, 77), (1, 2, 4)
THREE = (77, 3)
"""Beside them: as many labels as there are, of three tokens."""
SHOTS, TESTED, DRAWS = 80, 64, 3
MOST_BEFORE = 20
"""Most labels that the other checkout is timed with, on one draw beyond four: it repeats the prompt for each."""
MEASURES = ("fit_seconds", "fit_tokens", "predict_seconds", "predict_tokens")


def choose_words() -> list[str]:
    """Words of one token each, in an order that a seed decides."""
    from transformers import AutoTokenizer

    from fewtune.models import find_model

    tokenizer = AutoTokenizer.from_pretrained(find_model(MODEL).path)
    found = sorted(word for word in (str(tokenizer.decode([i])) for i in range(len(tokenizer))) if is_word(word))
    random.Random(0).shuffle(found)
    return found


def is_word(text: str) -> bool:
    """Whether a token is a whole word of lower-case letters with the space before it."""
    return re.fullmatch(r" [a-z]{4,8}", text) is not None


def write_study(
    folder: Path, words: Sequence[str], labels: int, tokens: int, draws: int, constrained: bool = False
) -> Path:
    """Files and study of so many labels whose words have so many tokens."""
    names = [f"l{number:02}" for number in range(labels)]
    answers = ["".join(words[number * tokens : (number + 1) * tokens]) for number in range(labels)]
    for name, count in (("train", 4 * SHOTS), ("test", TESTED)):
        with (folder / f"{name}.csv").open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream)
            writer.writerow(["text", "label"])
            writer.writerows(
                [f"{PHRASES[number % len(PHRASES)]}, {name} {number}", names[number % labels]]
                for number in range(count)
            )
    pattern: dict[str, Any] = {"name": "topic", "template": "{text}\nTopic:", "label_words": answers}
    if constrained:
        pattern["constrained"] = True
    task = {"train": "train.csv", "tests": {"in_domain": "test.csv"}, "text": "text", "patterns": [pattern]}
    study = {
        "name": f"labels-{labels}-{tokens}",
        "models": [MODEL],
        "tasks": [{"own_files": task}],
        "methods": [{"pattern": {"epochs": 1}}],
        "shots": [SHOTS],
        "data_seeds": {"count": draws},
        "evaluation": {"in_domain_rows": TESTED},
        "baselines": False,
    }
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(study), encoding="utf-8")
    return path


def run_study(source: Path, study: Path, out: Path) -> dict[str, float]:
    """The medians of a study's costs, run by the code of a checkout."""
    command = [
        sys.executable,
        "-m",
        "fewtune.cli",
        "run",
        study.name,
        "--out",
        str(out),
        "--data-dir",
        ".",
        "--workers",
        "1",
    ]
    environment = os.environ | {"PYTHONPATH": str(source / "src")}
    ran = subprocess.run(command, cwd=study.parent, env=environment, capture_output=True, text=True, check=False)
    if ran.returncode != 0:
        raise SystemExit(f"{ran.stdout}{ran.stderr}")
    costs = [json.loads(path.read_text(encoding="utf-8"))["cost"] for path in sorted((out / "trials").glob("*.json"))]
    return {measure: median(cost[measure] for cost in costs) for measure in MEASURES}


def measure(words: Sequence[str], cell: dict[str, Any], before: Path | None) -> bool:
    """Adds to a cell of so many labels and tokens the sides that it lacks; whether there were any."""
    labels, tokens = cell["labels"], cell["tokens"]
    sides = {"now": (ROOT, DRAWS, False)}
    if before is not None and labels <= MOST_BEFORE:
        sides["before"] = before, DRAWS if labels <= 4 else 1, False
    if tokens > 1:
        sides["constrained"] = ROOT, DRAWS, True
    lacking = [side for side in sides if side not in cell]
    for side in lacking:
        source, draws, constrained = sides[side]
        with tempfile.TemporaryDirectory() as scratch:
            folder = Path(scratch)
            cell[side] = run_study(
                source, write_study(folder, words, labels, tokens, draws, constrained), folder / side
            )
    return bool(lacking)


def write_table(results: dict[str, Any]) -> str:
    """The table of docs/performance.md."""
    rows = []
    for cell in results["cells"]:
        now, before, constrained = cell["now"], cell.get("before"), cell.get("constrained")
        rows.append(
            [
                str(cell["labels"]),
                str(cell["tokens"]),
                f"{now['fit_tokens'] / SHOTS:.0f}",
                f"{now['fit_seconds']:.1f} s",
                f"{now['predict_seconds'] / TESTED * 1000:.0f} ms",
                f"{before['fit_seconds'] / now['fit_seconds']:.1f}" if before else "",
                f"{before['predict_seconds'] / now['predict_seconds']:.1f}" if before else "",
                f"{constrained['fit_seconds']:.1f} s" if constrained else "",
                f"{constrained['predict_seconds'] / TESTED * 1000:.0f} ms" if constrained else "",
            ]
        )
    head = ["labels", "tokens a label", "tokens run a fitted row", "fit", "score a row", "fit, times before"]
    head += ["score, times before", "fit, constrained", "score a row, constrained"]
    return f"{write_markdown(head, rows)}\n\n{write_machine(results['machine'])}."


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.labels", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--before", type=Path, help="a checkout of other code to set beside")
    given = parser.parse_args()
    before = given.before.resolve() if given.before is not None else None
    commit = describe_commit(before) if before is not None else None
    if before is not None and commit is None:  # the installed package would be run in its place
        raise SystemExit(f"{before} is no checkout of an earlier commit")
    results = open_results(FILE, describe_machine(usable_cores()), {"before": commit}, cells=[])
    words = choose_words()
    for labels, tokens in [*product(LABELS, TOKENS), THREE]:
        size = {"labels": labels, "tokens": tokens}
        found = [cell for cell in results["cells"] if size.items() <= cell.items()]
        cell = found[0] if found else size
        if measure(words, cell, before):
            results["cells"] += [] if found else [cell]
            write_results(FILE, results | describe_moment())
            print(json.dumps(cell), flush=True)
    print(write_table(results))


if __name__ == "__main__":
    main()

"""`fewtune fit --curve`: what twice the rows would bring, traced on draws that hold every label, or refused."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product
from pathlib import Path

import numpy as np
import pytest

import fewtune
from command_line import run_cli
from fewtune.fitting.growth import CURVE_DRAWS, choose_sizes
from fewtune.running.fit_rows import make_task
from fewtune.tasks.draw import Sampling, make_draw


@pytest.mark.usefixtures("no_workers")
def test_a_learning_curve_says_what_more_rows_would_bring(
    write: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = {"late delivery": "late", "broken": "broken", "praise": "lovely"}
    rows = [f"it was {word} {number},{label}" for number in range(20) for label, word in words.items()]
    file = write("reviews.csv", "\n".join(["review,kind", *rows]) + "\n")
    saved, test = tmp_path / "model", tmp_path / "test.csv"
    test.write_text("review,kind\nlate,late delivery\nlovely,praise\nlovely,late delivery\n", encoding="utf-8")
    given = ("--text", "review", "--label", "kind", "--method", "tfidf", "--test", f"later={test}", "--curve")
    code, told, _ = run_cli("fit", file, *given, "--save", saved, capsys=capsys)
    told = " ".join(told.split())
    assert code == 0
    assert "Mean score with 45 rows: 1.000 (1.000 on the fitted curve). Expected with 90" in told
    assert "Accuracy on later, 3 rows: 0.667" in told
    shots = {record.trial.shots for record in fewtune.analyse(tmp_path / "model-curve").records}
    assert shots == {11, 22, 45}
    card = (saved / "README.md").read_text(encoding="utf-8")
    assert "On later, 3 rows, which chose nothing:" in card and "| accuracy | 0.667 |" in card


@pytest.mark.parametrize("seed", range(6))
def test_every_draw_of_a_learning_curve_holds_every_label(seed: int) -> None:
    labels = ["rare"] * 12 + ["common"] * 588
    np.random.default_rng(seed).shuffle(labels)
    task = make_task([f"text {number}" for number in range(600)], labels)
    for size, draw in product(choose_sizes(task), range(CURVE_DRAWS)):
        make_draw(task, Sampling(size, balanced=False, in_domain_rows=1, out_of_domain_rows=1), draw)


@pytest.mark.usefixtures("no_workers")
def test_a_learning_curve_of_uneven_labels_is_refused_or_traced(
    write: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def write_counts(most: int, least: int) -> Path:
        rows = [f"good {n},praise" for n in range(most)] + [f"bad {n},blame" for n in range(least)]
        return write(f"{most}-{least}.csv", "\n".join(["text,label", *rows]) + "\n")

    given = ("--method", "tfidf", "--folds", "0", "--curve", "--save")
    code, _, told = run_cli("fit", write_counts(40, 4), *given, tmp_path / "few", capsys=capsys)
    assert code == 2
    assert "44 rows, 4 of the rarest of 2 labels, are too few for a learning curve" in " ".join(told.split())
    assert not (tmp_path / "few").exists()
    code, told, _ = run_cli("fit", write_counts(60, 20), *given, tmp_path / "enough", capsys=capsys)
    assert code == 0 and "Expected with 120" in told

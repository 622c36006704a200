"""Studies under two commits: each is one that can be run, and answers are compared row by row."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml

from benchmarks import since
from benchmarks.since import WORKS, compare, keep_draws, write_for, write_table
from fewtune.study import read_study

WORDS = [f" word{chr(97 + i // 26)}{chr(97 + i % 26)}" for i in range(20)]


@pytest.mark.parametrize("work", WORKS)
def test_each_study_can_be_read(work: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(since, "choose_words", lambda: WORDS)
    path = WORKS[work](tmp_path)
    monkeypatch.chdir(tmp_path)
    study = read_study(yaml.safe_load(path.read_text()))
    trials = len(study.methods) * len(study.data_seeds)
    assert trials == {"classes": 6, "derived": 6, "distillation": 2, "demo": 14, "race": 40}[work]
    keep_draws(path, 1)
    first = read_study(yaml.safe_load(path.read_text()))
    assert list(first.data_seeds) == list(study.data_seeds)[:1] and first.methods == study.methods


def test_where_patterns_are_derived_labels_are_named_by_their_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(since, "choose_words", lambda: WORDS)
    study = yaml.safe_load(WORKS["derived"](tmp_path).read_text())
    assert "patterns" not in study["tasks"][0]["own_files"]
    labels = pl.read_csv(tmp_path / "train.csv")["label"]
    assert labels[:3].to_list() == ["wordaa wordab", "wordac wordad", "wordae wordaf"] and labels.n_unique() == 4


@pytest.mark.parametrize(("known", "settings"), [(True, {"contexts": 1, "shown": 2}), (False, {"shown": 2})])
def test_a_study_is_written_as_a_checkout_reads_it(known: bool, settings: dict[str, int], tmp_path: Path) -> None:
    methods = tmp_path / "src" / "fewtune" / "methods"
    methods.mkdir(parents=True)
    (methods / "in_context.py").write_text("class Settings:\n    contexts: int = 1\n" if known else "import contexts\n")
    study = tmp_path / "study.yaml"
    study.write_text("name: made\nmethods: [majority, {in_context: {contexts: 1, shown: 2}}]\n")
    written = yaml.safe_load(write_for(tmp_path, study, tmp_path / "own.yaml").read_text())
    assert written == {"name": "made", "methods": ["majority", {"in_context": settings}]}


def write_side(out: Path, answers: dict[str, list[int]]) -> None:
    (out / "trials").mkdir(parents=True)
    (out / "predictions").mkdir()
    for method, predicted in answers.items():
        record = {"trial": {"method": method, "data_seed": 0}}
        (out / "trials" / f"{method}-id.json").write_text(json.dumps(record))
        rows = {"test_set": ["in_domain"] * len(predicted), "row_id": [str(i) for i in range(len(predicted))]}
        pl.DataFrame({**rows, "predicted": predicted}).write_parquet(out / "predictions" / f"{method}-id.parquet")


def test_answers_are_compared_where_both_sides_have_them(tmp_path: Path) -> None:
    write_side(tmp_path / "before", {"pattern": [0, 1, 1], "lora": [0, 0, 0]})
    write_side(tmp_path / "now", {"pattern": [0, 1, 0], "probe": [1, 1, 1]})
    found = compare(tmp_path / "before", tmp_path / "now")
    assert found == {"trials": 1, "only_one": 2, "rows": 3, "same": 2}
    machine = {"processor": "made-up", "threads": 2, "packages": {"torch": "2.0"}}
    works: dict[str, Any] = {"demo": {"seconds": {"before": 300.0, "now": 150.0}, **found}}
    results = {"before": "c35af61", "works": works, "machine": machine}
    table = write_table(results)
    assert "| demo | 1 | 300 s | 150 s | 2.00 | 2 of 3 |" in table and "products at the peak" not in table
    works["demo"]["spent"] = {"seconds": 150.0, "fit": 70.0, "score": 60.0, "rest": 20.0, "products_at_peak": 80.0}
    assert "| demo | 150.0 | 70.0 | 60.0 | 20.0 | 80.0 |" in write_table(results)

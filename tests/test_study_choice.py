"""`fewtune fit --from`: what a finished study chose becomes a model, with its own pattern, settings and rows."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import fewtune
from command_line import call
from fewtune.errors import FewtuneError
from fewtune.fitting.study_choice import read_choice
from fewtune.predictors.language import LanguageScorer
from fewtune.records import load_records, write_record
from fewtune.running.executors.in_process import InProcess
from fewtune.running.fit_rows import make_task
from fewtune.tasks.base import Task
from labelled_reviews import write_reviews

ROWS = 20


@pytest.fixture(scope="module")
def values(tmp_path_factory: pytest.TempPathFactory, model_folders: dict[str, Path]) -> dict[str, Any]:
    """A study of one method on the user's own pattern, whose words stand in another order than the labels."""
    folder = tmp_path_factory.mktemp("rows")
    lines = [
        f"{word} thing {number},{label}" for number in range(ROWS) for word, label in (("fine", "b"), ("bad", "a"))
    ]
    (folder / "rows.csv").write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    pattern = {"name": "mine", "template": "{text} is", "label_words": {"b": " good", "a": " bad"}}
    return {
        "name": "own-words",
        "models": [str(model_folders["llama"])],
        "tasks": [{"own_files": {"train": str(folder / "rows.csv"), "as": "things", "patterns": [pattern]}}],
        "methods": [{"in_context": {"demonstrations": 2, "contexts": 1, "calibration": "none"}}],
        "baselines": False,
        "shots": [4, 8],
        "data_seeds": [0, 1],
        "max_tokens": 40,
    }


@pytest.fixture(scope="module")
def study(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("study") / "out"
    fewtune.run_study(values, out, executor=InProcess())
    return out


def test_what_a_study_chose_is_fitted_on_all_rows_with_its_pattern_and_settings(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "model"
    assert call("fit", "--from", study, "--folds", "2", "--force", "--save", saved) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "things · 8 shots: Use in_context" in told and "on all 40 rows …" in told
    assert "The study compared methods fitted on 8 rows. This model is fitted on all 40 rows, where" in told
    predictor = fewtune.load(saved)
    assert isinstance(predictor.scorer, LanguageScorer)
    assert predictor.scorer.prompting.template == "{text} is"
    assert predictor.scorer.prompting.encoder.given_tokens == 40
    words = [predictor.scorer.prompting.encoder.tokenise([word])[0] for word in (" bad", " good")]
    assert predictor.scorer.prompting.readout.label_tokens == words, "in the order of the labels"
    [first, *_] = [record for record in load_records(study) if record.trial.shots == 8]
    assert predictor.origin["settings"] == first.trial.settings and predictor.origin["rows"] == 40
    assert r"Use in\_context" in (saved / "README.md").read_text(encoding="utf-8")
    assert 0.2 < predictor.origin["out_of_fold"]["metrics"]["accuracy"][0] < 0.8, "an untaught model guesses"
    alone = read_choice(study, None, None, print)
    assert (alone.method, alone.decision.question.shots) == ("in_context", 8)


def test_what_a_study_says_is_not_given_beside_it(
    study: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file, save = write_reviews(tmp_path / "reviews.csv"), ("--save", tmp_path / "model")
    refused = {
        "the file of rows, --label, --method: not beside --from": (
            file,
            "--from",
            study,
            "--label",
            "x",
            "--method",
            "lora",
        ),
        "--curve: not beside --from": ("--from", study, "--curve"),
        "give the file of labelled rows, or with --from the folder": (),
        "--task: for a study's folder": (file, "--task", "things"),
        "unknown task 'thing'. Did you mean 'things'?": ("--from", study, "--task", "thing"),
        "holds no study": ("--from", tmp_path),
    }
    for message, given in refused.items():
        assert call("fit", *given, *save) == 2, message
        assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "model").exists()


def test_settings_of_most_trials_are_taken_and_other_rows_or_weights_are_told(
    study: Path, values: dict[str, Any], tmp_path: Path
) -> None:
    """As where tuning chose by draw."""
    out, told = tmp_path / "out", list[str]()
    fewtune.run_study(values | {"data_seeds": [0, 1, 2]}, out, executor=InProcess())
    *same, other = [record for record in load_records(out) if record.trial.shots == 8]
    settings = other.trial.settings | {"demonstrations": 1}
    trial = other.trial.model_copy(update={"settings": settings})
    prints = other.fingerprints | {"data": "0" * 64}
    write_record(out, other.model_copy(update={"trial": trial, "fingerprints": prints}))
    for record in same:
        write_record(out, record.model_copy(update={"fingerprints": record.fingerprints | {"data": "0" * 64}}))
    choice = read_choice(out, "things", None, told.append)
    assert choice.settings["demonstrations"] == 2
    assert any("taken is demonstrations 2, of 2 of 3 trials" in line for line in told)
    assert any(line.startswith("things: its rows are others than those that the study ran on") for line in told)
    for record in load_records(out):
        write_record(out, record.model_copy(update={"fingerprints": record.fingerprints | {"weights": "0" * 64}}))
    with pytest.raises(FewtuneError, match="is another model here than when the study ran"):
        read_choice(out, None, None, told.append)


def test_a_study_whose_choice_learns_nothing_gives_no_model(tmp_path: Path, values: dict[str, Any]) -> None:
    rows = tmp_path / "rows.csv"
    rng = np.random.default_rng(0)
    lines = [f"{rng.integers(10**6)},{'odd' if number % 10 == 0 else 'even'}" for number in range(200)]
    rows.write_text("\n".join(["text,label", *lines]) + "\n", encoding="utf-8")
    plain = {
        "name": "nothing",
        "tasks": [{"own_files": {"train": str(rows), "text": "text", "label": "label"}}],
        "methods": ["majority", "tfidf"],
        "shots": [8],
        "data_seeds": {"count": 5},
    }
    fewtune.run_study(plain, tmp_path / "out", executor=InProcess())
    with pytest.raises(FewtuneError, match="no method was shown to have learnt from these rows"):
        read_choice(tmp_path / "out", None, None, print)


def test_a_tasks_own_order_of_labels_is_kept_with_its_words(task: Task) -> None:
    turned = replace(
        task,
        labels=task.labels[::-1],
        patterns=tuple(replace(pattern, label_words=pattern.label_words[::-1]) for pattern in task.patterns),
    )
    names = [task.labels[row.label or 0] for row in task.train]
    for wording in (task, turned):
        made = make_task([row.fields for row in task.train], names, wording)
        assert made.labels == wording.labels and made.patterns == wording.patterns
        assert [made.labels[row.label or 0] for row in made.train] == names

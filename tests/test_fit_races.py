"""The race that `fewtune fit` chooses a method by: what races, on which splits, in whose folder."""

from __future__ import annotations

from pathlib import Path

import pytest

import fewtune
from command_line import call
from fewtune import auto
from fewtune.auto import LabelledFile, choose_shots, name_study
from fewtune.executors.local import LocalProcesses
from fewtune.fit_forecast import foresee_seconds
from fewtune.processor import name_processor
from fewtune.records import load_looks
from fewtune.running.purse import Purse
from labelled_reviews import LABELS, write_reviews
from study_maker import make_study


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_reviews(tmp_path / "reviews.csv")


@pytest.fixture
def short_race(no_workers: None, model_folders: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    """What asks for a race of one quick method; the floors race too, and tell the rows apart."""
    monkeypatch.setattr(auto, "RACED", (("ia3", {"epochs": 1}),))
    return "--model", model_folders["llama"], "--within", "0.2", "--budget", "2m"


def test_auto_races_on_splits_of_the_rows_and_fits_the_choice_on_all(
    file: Path, short_race: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "model"
    assert call("fit", file, "--text", "review", "--label", "kind", *short_race, "--save", saved) == 0
    told = capsys.readouterr().out
    history = load_looks(tmp_path / "model-race")
    assert history is not None and history.plan == (3, 8) and history.looks
    assert (tmp_path / "model-race" / "report.html").is_file()
    chosen = fewtune.analyse(tmp_path / "model-race").decision.choice
    assert chosen is not None and f"Use {chosen.name}: " in told and f"Fitting {chosen.name} on all 60 rows" in told
    limits = "Each trial of the race was fitted on 21 rows, about 7 of each label (" in (" ".join(told.split()))
    card = " ".join((saved / "README.md").read_text(encoding="utf-8").split())
    assert limits and "and the bound is for so many: on all 60" in card
    predictor = fewtune.load(saved)
    assert predictor.origin["method"] == chosen.name and predictor.origin["rows"] == 60
    assert sorted(predictor.labels) == sorted(LABELS)


def test_a_race_of_rows_that_changed_since_is_not_gone_on_with(
    file: Path, short_race: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raced = (*short_race, "--out", tmp_path / "race", "--folds", "0")
    for save in ("first", "again"):
        assert call("fit", file, *raced, "--save", tmp_path / save) == 0
    with file.open("a", encoding="utf-8", newline="") as stream:
        stream.write("one row more,praise\r\n")
    capsys.readouterr()
    assert call("fit", file, *raced, "--save", tmp_path / "changed") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "holds another study ('reviews-" in told and "give another with --out, or delete this one" in told


def test_a_sentence_encoder_races_with_methods_that_need_no_words(model_folders: dict[str, Path]) -> None:
    encoder, decoder = (str(model_folders[name]) for name in ("sentence-encoder", "llama"))
    assert set(auto.list_raced(encoder)) == {"embeddings", "contrastive", "lora"}
    assert set(auto.list_raced(decoder)) == {"in_context", "pattern", "lora"}
    assert auto.choose_settings("lora", 1000, encoder) == {"readout": "head", "epochs": 3}


def test_a_race_leaves_rows_that_its_draws_do_not_share(file: Path) -> None:
    # Twenty of each label: five are held out, and half of the rest are seven, of each.
    assert choose_shots(LabelledFile(file, ("review",), "kind").read()) == 21


def test_a_label_that_is_always_right_enough_is_no_model(
    short_race: tuple[object, ...], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nineteen of twenty rows have one label, and no word tells which."""
    path = tmp_path / "rows.csv"
    rows = [f"{number} {number * 7919 % 1000},{'odd' if number % 20 == 0 else 'even'}" for number in range(1, 161)]
    path.write_text("text,label\n" + "\n".join(rows) + "\n", encoding="utf-8")
    assert call("fit", path, *short_race, "--save", tmp_path / "model") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "always answering one label" in told.lower() and "ompare by another metric, such as macro_f1" in told
    assert not (tmp_path / "model").exists()
    assert LabelledFile(path, metric="macro_f1").read().primary_metric == "macro_f1"


def test_a_budget_that_no_trial_fits_in_is_told_as_one(
    file: Path,
    short_race: tuple[object, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(Purse, "is_spent", True)
    given = ("fit", file, "--text", "review", "--label", "kind", *short_race)
    monkeypatch.setattr(LocalProcesses, "run", lambda self, jobs: (job for job in ()))
    assert call(*given, "--save", tmp_path / "model") == 2
    assert "no method was scored within the budget" in " ".join(capsys.readouterr().err.split())


@pytest.mark.parametrize(
    ("epochs", "settings", "folds", "seconds"),
    [
        (10, {"epochs": 3}, 3, (320 * 3) / (32 * 10) * 30 * 3 + 320 * 0.05),
        (10, {"epochs": 10}, 0, 320 / 32 * 30),
        (None, {}, 2, 30 * 2 + 320 * 0.05),
    ],
)
def test_the_last_fit_is_foreseen_by_the_races_trials(
    epochs: int | None, settings: dict[str, int], folds: int, seconds: float, tmp_path: Path
) -> None:
    records = []
    for record, spent in zip(make_study(tmp_path, {"lora": [0.8, 0.9, 0.7]}), (20.0, 30.0, 90.0), strict=True):
        assert record.cost is not None
        cost = record.cost.model_copy(update={"fit_seconds": spent, "predict_seconds": 5.0, "predict_rows": 100})
        axes = {"shots": 32, "settings": {} if epochs is None else {"epochs": epochs}}
        trial = record.trial.model_copy(update=axes)
        environment = record.environment | {"processor": name_processor()}
        records.append(record.model_copy(update={"cost": cost, "trial": trial, "environment": environment}))
    elsewhere = [record.model_copy(update={"environment": {"processor": "another"}}) for record in records]
    assert foresee_seconds(elsewhere, settings, 320, folds) is None
    assert foresee_seconds(records, settings, 320, folds) == pytest.approx(seconds)
    assert foresee_seconds([], settings, 320, folds) is None


def test_a_file_of_a_long_name_can_be_raced(tmp_path: Path) -> None:
    name = name_study(tmp_path / f"{'rows of Tuesday ' * 12}.csv")
    assert name.startswith("rows-of-Tuesday") and len(f"{name}-curve") <= 100

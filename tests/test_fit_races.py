"""The race that `fewtune fit` chooses a method by: what races, on which splits, in whose folder."""

from __future__ import annotations

from pathlib import Path

import pytest

import fewtune
from command_line import call
from fewtune import auto
from fewtune.auto import LabelledFile, choose_shots, name_study
from fewtune.records import load_looks
from labelled_reviews import LABELS, write_reviews


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
    assert history is not None and history.plan == (3, 5, 8) and history.looks
    assert (tmp_path / "model-race" / "report.html").is_file()
    chosen = fewtune.analyse(tmp_path / "model-race").decision.chosen
    assert chosen is not None and f"Use {chosen.name}: " in told and f"Fitting {chosen.name} on all 60 rows" in told
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


def test_a_file_of_a_long_name_can_be_raced(tmp_path: Path) -> None:
    name = name_study(tmp_path / f"{'rows of Tuesday ' * 12}.csv")
    assert name.startswith("rows-of-Tuesday") and len(f"{name}-curve") <= 100

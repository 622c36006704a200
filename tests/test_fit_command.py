"""One labelled file to a saved model, and that model on new rows, as the command line has it."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

import fewtune
import tiny_models
from command_line import call
from fewtune.fitting.candidates import choose_settings
from fewtune.fitting.events import FittingEvent, LastFitBegun
from fewtune.fitting.panel import FitPanel
from fewtune.fitting.suspects import put_before
from labelled_reviews import LABELS, write_reviews


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_reviews(tmp_path / "reviews.csv")


def test_a_file_becomes_a_model_that_answers_new_rows(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "models" / "reviews"
    assert call("fit", file, "--text", "review", "--label", "kind", "--method", "tfidf", "--save", saved) == 0
    capsys.readouterr()
    assert call("predict", saved, file) == 0
    rows = list(csv.reader(io.StringIO(capsys.readouterr().out)))
    assert rows[0] == ["label", *(f"probability of {label}" for label in sorted(LABELS))]
    assert [row[0] for row in rows[1:4]] == list(LABELS) and len(rows) == 61
    texts = [f'it was "late", order {number} 📦' for number in range(3)]
    in_memory = fewtune.load(saved).predict_probabilities(texts)
    assert np.allclose([[float(cell) for cell in rows[1 + 3 * place][1:]] for place in range(3)], in_memory, atol=1e-6)
    assert call("predict", saved, file, "--out", tmp_path / "answers.csv") == 0
    assert (tmp_path / "answers.csv").read_text(encoding="utf-8").count("\n") == 61
    assert call("evaluate", saved, file, "--label", "kind") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "accuracy 1.000 0.940 to 1.000 0.333" in told and "No row is answered wrong by the model." in told


@pytest.mark.parametrize(("rows", "epochs"), [(32, 10), (100, 10), (171, 6), (374, 3), (10_000, 3)])
def test_the_last_fit_has_fewer_epochs_of_many_rows(rows: int, epochs: int) -> None:
    assert choose_settings("lora", rows) == {"epochs": epochs}
    assert choose_settings("lora", rows, says_words=False) == {"epochs": epochs, "readout": "head"}
    contrastive = choose_settings("contrastive", rows, says_words=False)
    assert contrastive["most_pairs"] == 128 and contrastive["learning_rate"] == (1e-4 if rows <= 64 else 2e-4)
    assert choose_settings("probe", rows) == {} and "epochs" not in choose_settings("in_context", rows)


def test_rows_that_a_model_cannot_read_whole_are_told_after_the_fit(
    file: Path, tmp_path: Path, model_folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    with file.open("a", encoding="utf-8", newline="") as stream:
        stream.write("late " * 2000 + ",late delivery\r\n")
    given = ("--method", "probe", "--model", model_folders["llama"], "--folds", "0")
    assert call("fit", file, *given, "--save", tmp_path / "model") == 0
    assert "1 row was longer than the model was fitted to read" in " ".join(capsys.readouterr().err.split())


def test_a_file_becomes_a_sentence_encoders_model_that_answers_exports_and_is_calibrated(
    file: Path, tmp_path: Path, model_folders: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("--text", "review", "--label", "kind", "--model", model_folders["sentence-encoder"])
    assert call("fit", file, *given, "--method", "embeddings", "--save", tmp_path / "own") == 0
    predictor = fewtune.load(tmp_path / "own")
    assert predictor.origin["method"] == "embeddings" and predictor.temperature != 1.0
    capsys.readouterr()
    assert call("evaluate", tmp_path / "own", file, "--label", "kind") == 0
    assert "accuracy" in capsys.readouterr().out
    assert call("export", tmp_path / "own", tmp_path / "exported") == 0
    assert any((tmp_path / "exported").iterdir())


def test_what_cannot_be_used_is_told_before_anything_runs(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved, other = tmp_path / "model", tmp_path / "other.csv"
    assert call("fit", file, "--text", "review", "--label", "kind", "--method", "tfidf", "--save", saved) == 0
    other.write_text("review,kind\nfine,prase\n", encoding="utf-8")
    refused = {
        "is not empty: give --save a new folder": ("fit", file, "--text", "review", "--label", "kind", "--save", saved),
        "unknown column 'revue'. Did you mean 'review'?": (
            "fit",
            file,
            "--text",
            "revue",
            "--label",
            "kind",
            "--save",
            tmp_path / "a",
        ),
        "unknown method 'tfdf'. Did you mean 'tfidf'?": (
            *("fit", file, "--text", "review", "--label", "kind", "--method", "tfdf", "--save", tmp_path / "a"),
        ),
        "--fast and --method: --fast says which methods are tried": (
            *("fit", file, "--label", "kind", "--method", "tfidf", "--fast", "--save", tmp_path / "a"),
        ),
        "0 folds: several candidates are told apart by folds": (
            *("fit", file, "--label", "kind", "--method", "tfidf", "--method", "majority", "--folds", "0"),
            *("--save", tmp_path / "a"),
        ),
        "--max-latency is 'soon'; give a time such as 50ms or 1s": (
            *("fit", file, "--label", "kind", "--method", "tfidf", "--max-latency", "soon", "--save", tmp_path / "a"),
        ),
        "no candidate could be fitted. tfidf: it takes": (
            *("fit", file, "--label", "kind", "--method", "tfidf", "--max-latency", "0.000001ms"),
            *("--save", tmp_path / "a"),
        ),
        "--max-memory is 'much'; give a number of bytes above 0": (
            *("fit", file, "--label", "kind", "--method", "tfidf", "--max-memory", "much", "--save", tmp_path / "a"),
        ),
        "--test names 'in_domain' twice": (
            *("fit", file, "--label", "kind", "--test", other, "--test", other, "--save", tmp_path / "a"),
        ),
        "Did you mean 'praise' by 'prase'? Write it so, or": ("evaluate", saved, other, "--label", "kind"),
        "exists: give --out a new file": ("predict", saved, file, "--out", other),
        "unknown column 'knd'. Did you mean 'kind'?": ("evaluate", saved, file, "--label", "knd"),
        "there is no such file": ("predict", saved, tmp_path / "none.csv"),
    }
    for message, arguments in refused.items():
        capsys.readouterr()
        assert call(*arguments) == 2, arguments
        assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "a").exists()


def test_what_is_told_of_a_row_keeps_its_column_where_the_file_has_one_of_that_name() -> None:
    told = put_before({"label": "the text", "team": "x"}, row=3, label="blame")
    assert told == {"row": 3, "fewtune label": "blame", "label": "the text", "team": "x"}


def write_file(path: Path, content: str) -> Path:
    path.write_text(content, encoding="utf-8")
    return path


SOUND = "".join(f"row {number} of {label},{label}\n" for number in range(6) for label in ("good", "bad"))

BAD_FILES = {
    "a column misspelt": (
        "text,label\n" + SOUND,
        ("--label", "lable"),
        "unknown column 'lable'. Did you mean 'label'? Allowed: label, text. Name the label column in 'label'.",
    ),
    "no labels": (
        "text\none\ntwo\n",
        (),
        "unknown column 'label'. Allowed: text. Name the label column in 'label'; where no column holds labels, give",
    ),
    "numbers as the only text": (
        "stars,label\n1,good\n2,bad\n3,good\n4,bad\n",
        (),
        "column 'stars' is the only one beside the labels in 'label' and holds numbers alone, no texts.",
    ),
    "a missing text": ("text,label\n" + SOUND + ",good\n", (), "row 13 has no text in column 'text'. Fill the cell in"),
    "a missing label": ("text,label\n" + SOUND + "more,\n", (), "row 13 has no label in column 'label'. Fill the cell"),
    "several empty cells": (
        "text,label\n" + SOUND + ",good\nmore,\n,bad\n",
        (),
        "3 rows (13, 14, 15) have an empty cell in 'text', 'label'. Fill the cells in, or leave the rows out. '--miss",
    ),
    "opposite labels, refused": (
        "text,label\n" + SOUND + "Row 0 of good!,bad\n",
        ("--conflicts", "refuse"),
        "2 rows of one text carry different labels: rows 1 (good) and 13 (bad). Correct their labels;",
    ),
    "opposite labels alone": (
        "text,label\n" + "one,good\none,bad\n" * 3,
        (),
        "all 6 rows are left out, for every text carries different labels.",
    ),
    "a row a label": (
        "text,label\none,good\ntwo,bad\nthree,odd\n",
        (),
        "there is one row alone of the label bad, good, odd: it cannot be fitted and tested on. Give more rows of it",
    ),
    "one label": ("text,label\none,good\ntwo,good\n", (), "every row has the label 'good' in column 'label'."),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_costs_one_message_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    content, options, message = BAD_FILES[name]
    path = write_file(tmp_path / "rows.csv", content)
    assert call("fit", path, *options, "--method", "tfidf", "--save", tmp_path / "model") == 2
    told = " ".join(capsys.readouterr().err.split())
    assert told.startswith(f"fewtune: {path}: {message}")
    assert list(tmp_path.iterdir()) == [path]


def test_rows_without_a_text_or_a_label_are_left_out_where_asked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = "text,label\n,good\n" + SOUND + "more,\n,\nrow 12 of bad,good\n"
    path, saved = write_file(tmp_path / "rows.csv", lines), tmp_path / "model"
    assert call("fit", path, "--missing", "drop", "--method", "tfidf", "--save", saved) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "1 row without any filled cell left out." in told
    assert "2 rows (1, 14) without a text or a label left out." in told
    assert fewtune.load(saved).origin["rows"] == 13
    with (tmp_path / "model-suspects.csv").open(encoding="utf-8-sig") as stream:
        suspects = {row["text"]: row["row"] for row in csv.DictReader(stream)}
    assert suspects["row 12 of bad"] == "16", "numbers are the file's"


def test_labels_that_only_the_test_rows_have_are_refused_in_fit(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_file(tmp_path / "rows.csv", "text,label\n" + SOUND.replace("good\n", "1\n").replace("bad\n", "0\n"))
    test = write_file(tmp_path / "test.csv", "text,label\nfresh,1\nfresher,1.0\n")
    saved = tmp_path / "model"
    assert call("fit", path, "--test", test, "--method", "tfidf", "--save", saved) == 2
    told = " ".join(capsys.readouterr().err.split())
    assert "test.csv: row 2, column 'label': unknown label '1.0'. Did you mean '1'? Allowed: 0, 1. The training" in told
    assert not saved.exists()


def test_columns_that_were_found_and_rows_left_out_are_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rows = SOUND.replace(",", ";") + "Row 0 of good!;bad\nrow 2 of bad;bad\n"
    path = write_file(tmp_path / "rows.csv", "review;kind\n" + rows)
    assert call("fit", path, "--method", "tfidf", "--save", tmp_path / "model") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Columns: text 'review', label 'kind'; cells separated by a semicolon." in told
    assert "Rows left out: 1 repeated, 2 contradictory (a text, several labels)." in told
    assert "that repeats the text" not in told, "each count is told once"
    assert "2 rows of one text carry different labels: rows 1 (good) and 13 (bad). '--conflicts refuse', in a" in told
    assert "each draw is tested" not in told, "nothing is held out of a fit on all rows"
    assert call("evaluate", tmp_path / "model", path) == 0, "its labels are found by the model's"


INTENTS = tuple(
    f"{verb} {noun}"
    for verb in ("cancel", "check", "change", "find", "lost", "report", "renew")
    for noun in ("card", "card payment", "card_payment fee", "cash", "top up", "top up limit", "pin", "pin 2",
                 "refund", "refund 10", "transfer")
)  # fmt: skip


@pytest.mark.parametrize(
    ("method", "settings"),
    [
        ("pattern", {"epochs": 1}),
        ("in_context", {"demonstrations": 0}),
        ("in_context", {"demonstrations": 2, "calibration": "contextual"}),
    ],
)
def test_dozens_of_labels_whose_names_begin_one_another_fit_save_and_predict_alike(
    tmp_path: Path, method: str, settings: dict[str, object]
) -> None:
    assert len(INTENTS) == 77
    base = tiny_models.save("llama", tmp_path / "base", more=INTENTS)
    texts = [f"row {number}" for number in range(77)]
    predictor = fewtune.fit(texts, INTENTS, method, str(base), **settings)
    predictor.save(tmp_path / "model")
    rows = ["my card is gone", "top up 10"]
    probabilities = predictor.predict_probabilities(rows)
    assert probabilities.shape == (2, 77) and np.allclose(probabilities.sum(axis=1), 1)
    assert np.array_equal(fewtune.load(tmp_path / "model").predict_probabilities(rows), probabilities)
    assert set(predictor.labels) == set(INTENTS) and len(set(probabilities[0].tolist())) == 77, (
        "none is told as another"
    )


WRONG = 'it was ""lovely"", order 7 📦",praise'
"""A row of the file, whose label tests make a wrong one."""


def test_a_label_that_looks_wrong_is_listed_with_its_row(file: Path, tmp_path: Path) -> None:
    text = file.read_text(encoding="utf-8")
    assert WRONG in text
    head, first, rest = text.replace(WRONG, WRONG.replace("praise", "late delivery")).split("\n", 2)
    repeated = "\n".join([head, first, first, rest])  # which is left out, and counts in the numbers of rows
    file.write_text(repeated, encoding="utf-8")
    number = next(
        place for place, line in enumerate(csv.reader(io.StringIO(repeated))) if "order 7" in line[0] and place % 3 == 1
    )
    given = ("--text", "review", "--label", "kind", "--method", "tfidf", "--save", tmp_path / "model")
    assert call("fit", file, *given) == 0
    with (tmp_path / "model-suspects.csv").open(encoding="utf-8-sig") as stream:
        [suspect] = csv.DictReader(stream)
    assert (suspect["label"], suspect["likelier"]) == ("late delivery", "praise") and "order 7" in suspect["review"]
    assert int(suspect["row"]) == number


def test_a_fitted_file_is_calibrated_and_says_what_to_label_next(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    text = file.read_text(encoding="utf-8")  # The wrong label is not among the surest answers.
    file.write_text(text.replace(WRONG, 'it was ""lovely"", it was ""broken"", order 7 📦",late delivery'), "utf-8")
    more = tmp_path / "more.csv"
    more.write_text("review\nlovely lovely\nlate but lovely\nbroken\n", encoding="utf-8")
    saved = tmp_path / "model"
    given = ("--text", "review", "--label", "kind", "--method", "tfidf", "--unlabelled", more)
    assert call("fit", file, *given, "--abstain-at", "0.1", "--save", saved) == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Expected accuracy on rows like these: 0.98" in told and "It abstains where its answer" in told
    assert not (tmp_path / "model-suspects.csv").exists(), "between two labels it is not sure of another"
    with (tmp_path / "model-label-next.csv").open(encoding="utf-8-sig") as stream:
        ordered = [row["review"] for row in csv.DictReader(stream)]
    assert ordered[0] == "late but lovely" and len(ordered) == 3
    card = (saved / "README.md").read_text(encoding="utf-8")
    assert """predictor.predict(["A text of yours."])  # None where it abstains""" in card
    assert fewtune.load(saved).predict(["lovely", "tomorrow"]) == ["praise", None]
    assert "| log\\_loss |" in card or "| log_loss |" in card
    assert (saved / "reliability.svg").read_text().startswith("<svg")
    manifest = json.loads((saved / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["temperature"] != 1 and "order 7" not in json.dumps(manifest["origin"])
    assert call("evaluate", saved, file, "--label", "kind") == 0
    assert "and abstained on the rest" in capsys.readouterr().out


def test_a_risk_that_no_threshold_holds_leaves_a_model_that_always_answers(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    saved = tmp_path / "model"
    given = ("--text", "review", "--label", "kind", "--method", "tfidf", "--save", saved)
    assert call("fit", file, *given, "--abstain-at", "0.01") == 1
    assert "The model always answers: no threshold is known to hold a risk of 0.01" in capsys.readouterr().err
    assert fewtune.load(saved).abstention is None and fewtune.load(saved).temperature != 1


def test_a_label_of_one_row_is_kept_and_not_judged(
    write: Callable[[str, str], Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = write(
        "few.csv", "text,label\n" + "".join(f"good {n},praise\nbad {n},blame\n" for n in range(6)) + "hm,other\n"
    )
    assert call("fit", file, "--method", "tfidf", "--save", tmp_path / "one") == 0
    predictor = fewtune.load(tmp_path / "one")
    assert predictor.origin["rows"] == 13 and "other" in predictor.labels
    assert predictor.origin["out_of_fold"]["rows"] == 12, "its only row is in every fold's fit"
    capsys.readouterr()
    assert call("fit", file, "--method", "tfidf", "--folds", "6", "--save", tmp_path / "six") == 0
    assert "fold 6 of 6" in capsys.readouterr().out


def test_where_a_model_goes_is_looked_at_before_anything_runs(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("fit", file, "--text", "review", "--label", "kind", "--method", "tfidf")
    for number in (-1, 2**32):
        assert call(*given, "--seed", number, "--save", tmp_path / "a") == 2
        assert "--seed is" in capsys.readouterr().err
    (tmp_path / "a-suspects.csv").write_text("mine")
    assert call(*given, "--save", tmp_path / "a") == 2
    assert "a-suspects.csv exists, of an earlier fit" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "a-curve").mkdir()
    assert call(*given, "--curve", "--save", tmp_path / "a") == 2
    assert "a-suspects.csv, " in (told := " ".join(capsys.readouterr().err.split())) and "a-curve exist, of" in told
    (tmp_path / "a-curve").rmdir()
    assert (tmp_path / "a-suspects.csv").read_text() == "mine" and not (tmp_path / "a").exists()
    (tmp_path / "file").write_text("")
    assert call(*given, "--save", tmp_path / "file" / "model") == 2
    assert f"{tmp_path / 'file' / 'model'}: it could not be written" in " ".join(capsys.readouterr().err.split())
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    assert call(*given, "--save", ".") == 0 and fewtune.load(tmp_path / "here").labels


def test_killed_before_its_last_fit_the_same_command_goes_on_and_clears_away_what_it_kept(
    file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = ("fit", file, "--text", "review", "--label", "kind", "--method", "tfidf", "--save")
    hear = FitPanel.hear

    def kill(self: FitPanel, event: FittingEvent) -> None:
        if isinstance(event, LastFitBegun):
            raise KeyboardInterrupt
        hear(self, event)

    with monkeypatch.context() as patched:
        patched.setattr(FitPanel, "hear", kill)
        assert call(*given, tmp_path / "model") == 130
    assert len(list((tmp_path / "model-unfinished").glob("*.npz"))) == 4 and not (tmp_path / "model").exists()
    capsys.readouterr()
    assert call(*given, tmp_path / "model") == 0
    assert "4 folds are kept from an earlier command." in " ".join(capsys.readouterr().out.split())
    assert not (tmp_path / "model-unfinished").exists()
    assert call(*given, tmp_path / "straight") == 0
    answers = [fewtune.load(tmp_path / name).predict_probabilities(["late", "new"]) for name in ("model", "straight")]
    assert np.array_equal(*answers)


def test_a_file_where_unfinished_work_would_go_is_told(
    file: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "model-unfinished").write_text("mine")
    given = ("fit", file, "--text", "review", "--label", "kind", "--method", "tfidf", "--save", tmp_path / "model")
    assert call(*given) == 2
    told = capsys.readouterr().err
    assert "model-unfinished" in told and "could not be written" in " ".join(told.split()) and "Traceback" not in told
    assert (tmp_path / "model-unfinished").read_text() == "mine" and not (tmp_path / "model").exists()


def test_test_rows_that_stand_in_the_training_file_are_not_fitted_on_and_counted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_file(tmp_path / "rows.csv", "text,label\n" + SOUND)
    test = write_file(tmp_path / "test.csv", "text,label\nRow 0 of good!,good\nrow 1 of bad,bad\nquite new,good\n")
    assert call("fit", path, "--test", test, "--method", "tfidf", "--save", tmp_path / "model") == 0
    told = " ".join(capsys.readouterr().out.split())
    assert "Rows left out: 2 among the test rows." in told and "Accuracy on in_domain, 3 rows:" in told
    assert fewtune.load(tmp_path / "model").origin["rows"] == 10


def test_rows_of_two_texts_are_judged_by_folds_as_others_are(tmp_path: Path) -> None:
    path, saved = tmp_path / "pairs.csv", tmp_path / "model"
    rows = "".join(f"it {n} is,{'fine' if n % 2 else 'bad'} {n},{'yes' if n % 2 else 'no'}\n" for n in range(16))
    path.write_text("first,second,label\n" + rows)
    given = ("--text", "first", "--text", "second", "--label", "label", "--method", "tfidf", "--method", "majority")
    assert call("fit", path, *given, "--save", saved) == 0
    predictor = fewtune.load(saved)
    assert predictor.fields == ("first", "second") and predictor.origin["choice"]["chosen"].startswith("tfidf")
    assert predictor.predict([{"first": "it is", "second": "bad"}]) == ["no"]

"""`fewtune evaluate`: labels that a model never saw, what it confuses, rows it has wrong, two models side by side."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from sklearn.metrics import accuracy_score, f1_score, log_loss, matthews_corrcoef

import fewtune
from command_line import call
from fewtune.cli import evaluate_display
from fewtune.fitting.evaluation import (
    Confusion,
    LabelScore,
    compare_answers,
    list_confusions,
    measure,
    score_labels,
)
from fewtune.predictors.manifest import AbstentionPart
from fewtune.predictors.predictor import Predictor
from labelled_reviews import LABELS, WORDS, write_reviews

Write = Callable[[str, str | bytes], Path]
LATE, BROKEN, PRAISE = LABELS


def fit_reviews(folder: Path, labels: Sequence[str] = LABELS) -> Predictor:
    with write_reviews(folder / "reviews.csv").open(encoding="utf-8", newline="") as stream:
        rows = [row for row in csv.DictReader(stream) if row["kind"] in labels]
    return fewtune.fit([{"review": row["review"]} for row in rows], [row["kind"] for row in rows], "tfidf")


@pytest.fixture(scope="module")
def predictor(tmp_path_factory: pytest.TempPathFactory) -> Predictor:
    return fit_reviews(tmp_path_factory.mktemp("reviews"))


@pytest.fixture(scope="module")
def saved(predictor: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("saved") / "reviews-model"
    predictor.save(folder)
    return folder


@pytest.fixture
def write_rows(write: Write) -> Callable[..., Path]:
    """Write rows of a word of WORDS, by its label, and the label that they are given, with an id."""

    def write_file(*rows: tuple[str, str], name: str = "rows.csv") -> Path:
        stream = StringIO()
        csv.writer(stream).writerows(
            [
                ("id", "review", "kind"),
                *((f"r{place}", WORDS.get(one, one), label) for place, (one, label) in enumerate(rows, 1)),
            ]
        )
        return write(name, stream.getvalue())

    return write_file


def read_told(capsys: pytest.CaptureFixture[str]) -> str:
    return " ".join(capsys.readouterr().out.split())


# What a model's answers are worth


def test_a_label_that_a_model_never_saw_is_wrong_as_scikit_learn_has_it() -> None:
    rng = np.random.default_rng(0)
    probabilities = rng.dirichlet([1, 1, 1], 80)
    gold = np.where(rng.random(80) < 0.7, probabilities.argmax(1), rng.integers(0, 5, 80))
    known, predicted = gold < 3, probabilities.argmax(1)
    assert set(gold) == {0, 1, 2, 3, 4}
    found = measure(probabilities, gold)
    assert found.metrics["accuracy"].mean == pytest.approx(accuracy_score(gold, predicted))
    assert found.metrics["macro_f1"].mean == pytest.approx(f1_score(gold, predicted, average="macro"))
    assert found.metrics["mcc"].mean == pytest.approx(matthews_corrcoef(gold, predicted))
    assert found.metrics["log_loss"].mean == pytest.approx(log_loss(gold[known], probabilities[known]))
    assert found.known_rows == known.sum() < 80
    assert {name: found.metrics[name] for name in ("ece", "brier", "auroc")} == {
        name: measure(probabilities[known], gold[known]).metrics[name] for name in ("ece", "brier", "auroc")
    }
    commonest = np.bincount(gold[known]).argmax()
    assert found.majority_label == commonest and found.majority == pytest.approx((gold == commonest).mean())
    assert found.majority_scores["macro_f1"] == pytest.approx(
        f1_score(gold, np.full(80, commonest), average="macro", zero_division=0)
    )


def test_one_row_of_a_label_that_no_model_knows_leaves_an_interval_as_long_as_the_rows_make_it() -> None:
    gold = np.arange(200) % 2
    probabilities = np.where((np.arange(200) >= 40)[:, None], np.eye(2)[gold], np.eye(2)[1 - gold]) * 0.8 + 0.1
    before = measure(probabilities, gold).metrics["macro_f1"]
    after = measure(np.vstack([probabilities, [0.9, 0.1]]), np.append(gold, 2)).metrics["macro_f1"]
    assert before.low is not None and before.high is not None and after.low is not None and after.high is not None
    assert after.high - after.low == pytest.approx(2 / 3 * (before.high - before.low), rel=0.1)


def test_each_label_has_its_scores_and_none_where_there_is_nothing_to_score() -> None:
    gold, predicted = np.array([0, 0, 0, 1, 3]), np.array([0, 0, 1, 1, 1])
    assert score_labels(gold, predicted, ["a", "b", "c", "new"]) == [
        LabelScore("a", 3, 2, 1.0, pytest.approx(2 / 3), pytest.approx(0.8)),
        LabelScore("b", 1, 3, pytest.approx(1 / 3), 1.0, pytest.approx(0.5)),
        LabelScore("c", 0, 0, None, None, None),
        LabelScore("new", 1, 0, None, 0.0, 0.0),
    ]


def test_confusions_go_from_the_commonest_each_with_its_first_row() -> None:
    gold, predicted = np.array([1, 0, 2, 0, 0, 1]), np.array([1, 2, 1, 2, 1, 1])
    assert list_confusions(gold, predicted, ["a", "b", "c"]) == [
        Confusion("a", "c", 2, 3, 1),
        Confusion("c", "b", 1, 1, 2),
        Confusion("a", "b", 1, 3, 4),
    ]
    assert list_confusions(gold, gold, ["a", "b", "c"]) == []


# Two models on the same rows


def test_a_model_is_better_where_the_interval_and_the_exact_test_both_say_so() -> None:
    gold = np.arange(60) % 2
    second = np.where(np.arange(60) < 5, 1 - gold, gold)
    found = compare_answers(gold, gold, second, 2)
    assert (found.both_right, found.first_alone, found.second_alone, found.neither_right) == (55, 5, 0, 0)
    accuracy = found.metrics["accuracy"]
    assert found.exact_p == pytest.approx(2 * 0.5**5), "five rows, all of one side"
    assert accuracy.low > 0 and accuracy.better is None, "the normal interval alone would say so"
    more = compare_answers(gold, gold, np.where(np.arange(60) < 6, 1 - gold, gold), 2)
    assert more.exact_p == pytest.approx(2 * 0.5**6) and more.metrics["accuracy"].better == "first"
    swapped = compare_answers(gold, np.where(np.arange(60) < 6, 1 - gold, gold), gold, 2)
    assert swapped.metrics["accuracy"].better == "second" and swapped.second_alone == 6


def test_the_interval_of_a_paired_difference_is_that_of_the_rows() -> None:
    rng = np.random.default_rng(1)
    gold = rng.integers(0, 3, 400)
    first, second = (np.where(rng.random(400) < share, gold, (gold + 1) % 3) for share in (0.85, 0.6))
    found = compare_answers(gold, first, second, 3).metrics["accuracy"]
    each = (first == gold).astype(float) - (second == gold)
    reach = 1.96 * each.std() / 20
    assert (found.difference, found.low, found.high) == pytest.approx(
        (each.mean(), each.mean() - reach, each.mean() + reach), abs=1e-3
    )


def test_equal_models_cannot_be_told_apart() -> None:
    gold = np.arange(40) % 2
    found = compare_answers(gold, gold, gold, 2)
    assert found.exact_p == 1
    for score in found.metrics.values():
        assert score.difference == 0 and score.low < 0 < score.high and score.better is None


def test_two_models_are_set_side_by_side(
    saved: Path, tmp_path: Path, write_rows: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    fit_reviews(tmp_path, (LATE, BROKEN)).save(tmp_path / "two-labels")
    rows = write_rows(*[(label, label) for label in LABELS] * 8, ("lovely", "billing"))
    assert call("evaluate", saved, rows, "--beside", tmp_path / "two-labels") == 0
    told = read_told(capsys)
    assert "The models know different labels (reviews-model knows 3, two-labels knows 2): a row whose label a" in told
    assert '1 row has a label that reviews-model never saw, and counts as wrong: "billing" (1 row).' in told
    assert (
        '9 rows have labels that two-labels never saw, and count as wrong: "praise" (8 rows), "billing" (1 row)' in told
    )
    assert "accuracy 0.960 0.640 +0.320" in told
    assert "By accuracy reviews-model is better than two-labels: +32.0 points [" in told
    assert "reviews-model alone is right in 8 rows, two-labels alone in 0 (McNemar's exact p 0.0078)." in told
    assert call("evaluate", tmp_path / "two-labels", rows, "--beside", saved) == 0
    assert "By accuracy reviews-model is better than two-labels: +32.0 points [" in read_told(capsys)
    assert call("evaluate", saved, rows, "--beside", saved) == 2
    assert "--beside names the same model" in capsys.readouterr().err
    shutil.copytree(saved, tmp_path / "copy")
    assert call("evaluate", saved, rows, "--beside", tmp_path / "copy") == 0
    told = read_told(capsys)
    assert (
        "By accuracy it cannot be told which is better: +0.0 points for reviews-model [" in told
        and "that neither model ever saw, and counts as wrong" in told
    )
    assert "know different labels" not in told


def test_two_models_may_read_other_columns(
    saved: Path, tmp_path: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    notes = [{"note": f"{word} {number}"} for number in range(4) for word in ("swift", "bent", "late")]
    fewtune.fit(notes, [PRAISE, BROKEN, LATE] * 4, "tfidf").save(tmp_path / "notes-model")
    rows = write("rows.csv", f"review,note,label\nlate,swift,{LATE}\nlovely,swift,{PRAISE}\nbroken,bent,{PRAISE}\n")
    assert call("evaluate", saved, rows, "--beside", tmp_path / "notes-model", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)["beside"]
    assert (found["first_alone"], found["second_alone"], found["both_right"], found["neither_right"]) == (1, 0, 1, 1)


def test_a_second_models_answers_stand_in_json_and_beside_the_wrong_rows(
    saved: Path, tmp_path: Path, write_rows: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    fit_reviews(tmp_path, (LATE, BROKEN)).save(tmp_path / "two-labels")
    rows, out = write_rows(*[(label, label) for label in LABELS] * 2), tmp_path / "errors.csv"
    given = ("--beside", saved, "--out", out, "--format", "json")
    assert call("evaluate", tmp_path / "two-labels", rows, *given) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["metrics"]["accuracy"]["value"] == pytest.approx(4 / 6)
    assert found["beside"]["metrics"]["accuracy"]["value"] == 1 and found["beside"]["model"] == str(saved)
    assert found["beside"]["second_alone"] == 2 and found["beside"]["exact_p"] == 0.5
    assert found["beside"]["differences"]["accuracy"]["difference"] == pytest.approx(-2 / 6)
    with out.open(encoding="utf-8-sig", newline="") as stream:
        assert [row["beside"] for row in csv.DictReader(stream)] == [PRAISE, PRAISE]


# What the command says


def test_labels_that_a_model_never_saw_are_counted_named_and_wrong(
    saved: Path, write_rows: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    known = [(label, label) for label in LABELS for _ in range(4)]
    rows = write_rows(
        *known, (PRAISE, "Praise"), (PRAISE, " PRAISE "), ("tomorrow", "billing"), (LATE, "late deliveries")
    )
    assert call("evaluate", saved, rows) == 0, "the column of labels is found all the same"
    told = read_told(capsys)
    assert 'of rows.csv, labels in column "kind".' in told
    assert (
        '4 rows have labels that the model never saw, and count as wrong: "Praise" (1 row; the model has "praise"'
        in told
    )
    assert '"PRAISE" (1 row; the model has "praise": write it so), "billing" (1 row), "late deliveries"' in told
    assert '"late deliveries" (1 row; is "late delivery" meant?).' in told
    assert "Figures of probabilities (auroc to ece) are of the 12 rows whose label is known." in told
    assert "accuracy 0.750" in told
    assert 'takes "Praise" for "praise" in 1 of 1 row, such as row 13: lovely' in told


def test_the_wrong_rows_are_written_with_all_their_columns(
    saved: Path, predictor: Predictor, tmp_path: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = [
        {"row": "mine", "review": "so lovely", "kind": LATE, "tags": ["a", "é"], "seen": None},
        {"row": "yours", "review": "so late", "kind": LATE, "tags": [], "seen": True},
        {"row": "ours", "review": "so\nbroken", "kind": "new", "tags": {"n": 1}, "extra": "=1+1"},
    ]
    rows, out = write("rows.jsonl", "".join(json.dumps(line) + "\n" for line in lines)), tmp_path / "errors.csv"
    assert call("evaluate", saved, rows, "--label", "kind", "--out", out) == 0
    assert "2 rows answered wrong in" in capsys.readouterr().err
    with out.open(encoding="utf-8-sig", newline="") as stream:
        head, *found = csv.reader(stream)
    columns = ["row", "review", "kind", "tags", "seen", "extra"]
    assert head == ["fewtune row", "truth", "answer", "probability", *columns]
    sure = predictor.predict_probabilities([{"review": "so lovely"}]).max()
    assert found == [
        ["1", LATE, PRAISE, f"{sure:.6f}", "mine", "so lovely", LATE, '["a", "é"]', "", ""],
        ["3", "new", BROKEN, found[1][3], "ours", "so\nbroken", "new", '{"n": 1}', "", "=1+1"],
    ]
    before = out.read_bytes()
    assert call("evaluate", saved, rows, "--label", "kind", "--out", out) == 2
    assert "exists: give --out a new file" in capsys.readouterr().err and out.read_bytes() == before
    assert call("evaluate", saved, rows, "--label", "kind", "--out", tmp_path / "errors.jsonl") == 2
    assert "rows are written as CSV. Name the file .csv." in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "errors.jsonl").exists()


def test_a_file_of_wrong_rows_is_there_though_none_is_wrong_and_not_where_a_cell_is_no_text(
    saved: Path, tmp_path: Path, write: Write, write_rows: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert call("evaluate", saved, write_rows((LATE, LATE)), "--out", tmp_path / "none.csv") == 0
    assert (tmp_path / "none.csv").read_text(encoding="utf-8-sig") == "row,truth,answer,probability,id,review,kind\n"
    monkeypatch.setattr(Predictor, "log_probabilities", lambda *given: pytest.fail("hours of answers would be lost"))
    half = write("half.jsonl", '{"review": "so late", "kind": "praise", "note": "\\ud800"}\n')
    assert call("evaluate", saved, half, "--out", tmp_path / "half.csv") == 2
    assert not (tmp_path / "half.csv").exists()


def test_json_is_all_that_stands_on_the_standard_output(
    saved: Path, tmp_path: Path, write_rows: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    rows = write_rows((LATE, LATE), (BROKEN, LATE), (PRAISE, PRAISE), (PRAISE, "Praise"))
    assert call("evaluate", saved, rows, "--out", tmp_path / "errors.csv", "--format", "json") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["rows"], found["label_column"], found["file"]) == (4, "kind", str(rows))
    assert found["metrics"]["accuracy"] == {
        "value": 0.5,
        "low": pytest.approx(0.15, abs=1e-3),
        "high": pytest.approx(0.85, abs=1e-3),
        "rows": 4,
    }
    assert found["metrics"]["log_loss"]["rows"] == 3
    assert found["majority"]["label"] == LATE and found["majority"]["accuracy"] == 0.5
    assert found["unknown_labels"] == [{"label": "Praise", "rows": 1, "known_as": "praise"}]
    late = next(each for each in found["labels"] if each["label"] == LATE)
    assert late.pop("f1") == pytest.approx(2 / 3)
    assert late == {"label": LATE, "rows": 2, "answers": 1, "precision": 1, "recall": 0.5, "known": True}
    assert found["confusions"][0] == {
        "label": "Praise", "taken_for": PRAISE, "count": 1, "rows": 1, "example": {"row": 4, "text": "lovely"},
    }  # fmt: skip
    assert found["beside"] is None and found["abstention"] is None


def test_of_many_labels_the_ten_of_lowest_f1_are_shown_and_all_in_json(
    tmp_path: Path, write: Write, capsys: pytest.CaptureFixture[str]
) -> None:
    words = [f"kind{number:02}" for number in range(30)]
    texts = [f"{word} {word} {number}" for word in words for number in range(4)]
    fewtune.fit([{"text": text} for text in texts], [text[:6] for text in texts], "tfidf").save(tmp_path / "model")
    right = "".join(f"{word} {word} 1,{word}\n" for word in words)
    wrong = "".join(f"kind03 kind03 {number},kind00\n" for number in range(3)) + "kind05 kind05 1,kind07\n"
    rows = write("test.csv", f"text,label\n{right}{wrong}")
    assert call("evaluate", tmp_path / "model", rows) == 0
    lines = capsys.readouterr().out.splitlines()
    shown = [line.split() for line in lines if line.startswith("kind")]
    assert [line[0] for line in shown[:2]] == ["kind00", "kind03"] and len(shown) == 10
    assert shown[0] == ["kind00", "4", "1.000", "0.250", "0.400"]
    assert "The 10 labels of lowest F1, of 30; all: --format json" in lines
    assert 'takes "kind00" for "kind03" in 3 of 4 rows, such as row 31: kind03 kind03 0' in lines
    assert call("evaluate", tmp_path / "model", rows, "--format", "json") == 0
    assert len(json.loads(capsys.readouterr().out)["labels"]) == 30


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> StringIO:
    """What is shown in a terminal of 80 columns that reads markup unless what is printed forbids it."""
    stream = StringIO()
    monkeypatch.setattr(
        evaluate_display, "console", Console(file=stream, width=80, force_terminal=True, color_system=None)
    )
    return stream


def test_texts_and_labels_act_on_no_terminal_and_fit_into_it(tmp_path: Path, write: Write, narrow: StringIO) -> None:
    odd = (
        "[red]odd[/red]",
        "bell\a and \x1b[31mcolour",
        "a label of many words that goes on and on, over the line's end",
    )
    texts = [f"{word} {number}" for number in range(6) for word in ("one", "two", "three")]
    fewtune.fit([{"text": text} for text in texts], list(odd) * 6, "tfidf").save(tmp_path / "model")
    lines = [{"text": "one [b]here[/b]\x1b[2J\r\n" + "and on " * 90, "label": odd[1]}] * 3
    lines += [{"text": "two", "label": label} for label in odd]
    rows = write("rows.jsonl", "".join(json.dumps(line) + "\n" for line in lines))
    assert call("evaluate", tmp_path / "model", rows) == 0
    shutil.copytree(tmp_path / "model", tmp_path / "copy")
    assert call("evaluate", tmp_path / "model", rows, "--beside", tmp_path / "copy") == 0
    told = narrow.getvalue()
    assert "[red]odd[/red]" in told and "\n  one [b]here[/b]\\x1b[2J and on and on" in told
    assert '"bell\\x07 and' in told
    assert not set(told) & {"\x1b", "\a", "\r"}
    assert max(map(len, told.splitlines())) <= 80


def make_sure(predictor: Predictor, threshold: float) -> Predictor:
    part = AbstentionPart(
        risk=0.1,
        confidence=0.95,
        threshold=threshold,
        coverage=0.5,
        coverage_low=0.4,
        coverage_high=0.6,
        rows=60,
        errors=0,
    )
    return replace(predictor, abstention=part)


def test_a_model_that_abstains_is_told_by_what_it_answers(
    predictor: Predictor, tmp_path: Path, write_rows: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    make_sure(predictor, 0.5).save(tmp_path / "some")
    make_sure(predictor, 1.0).save(tmp_path / "none")
    rows, out = (
        write_rows((LATE, LATE), (PRAISE, BROKEN), ("tomorrow", BROKEN), (BROKEN, BROKEN)),
        tmp_path / "errors.csv",
    )
    assert call("evaluate", tmp_path / "some", rows, "--out", out) == 0
    assert "Of 4 rows the model answered 3 and abstained on the rest; 0.333 of its answers are wrong" in read_told(
        capsys
    )
    with out.open(encoding="utf-8-sig", newline="") as stream:
        found = {row["row"]: row["abstained"] for row in csv.DictReader(stream)}
    assert found["2"] == "no" and found.get("3", "yes") == "yes"
    assert call("evaluate", tmp_path / "none", rows) == 0
    assert "On all 4 rows the model abstained: it says nothing here." in read_told(capsys)
    assert call("evaluate", tmp_path / "none", rows, "--format", "json") == 0
    assert json.loads(capsys.readouterr().out)["abstention"] == {"risk": 0.1, "answered": 0, "wrong": 0}


def test_rows_of_one_label_are_scored_and_told(
    saved: Path, write_rows: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("evaluate", saved, write_rows(*[(LATE, LATE)] * 5, (BROKEN, LATE))) == 0
    told = read_told(capsys)
    assert "Every row has one label: how well labels are told apart cannot be judged by these rows." in told
    assert "accuracy 0.833" in told and "auroc" not in told


KNOWN = "it knows 'broken, on arrival', 'late delivery', 'praise'."
BAD_ROWS: dict[str, tuple[str, tuple[str, ...], str]] = {
    "no rows": ("review,kind\n", (), "the file is empty: it holds no rows. Give a file with labelled rows."),
    "no bytes": ("", (), "the file is empty: it holds no rows."),
    "no label column": (
        "review,note\nfine,1\n",
        (),
        "unknown column 'label'. Allowed: note, review. Name the label column with --label.",
    ),
    "a column misspelt": (
        "review,kind\nfine,praise\n",
        ("--label", "knd"),
        "unknown column 'knd'. Did you mean 'kind'?",
    ),
    "a column in other case": (
        "review,kind\nfine,praise\n",
        ("--label", "KIND"),
        "unknown column 'KIND'. Did you mean 'kind'?",
    ),
    "a missing label": (
        "review,kind\nfine,praise\nfine,\n",
        ("--label", "kind"),
        "row 2 is empty in column 'kind'. Fill the cell in",
    ),
    "labels in other case alone": (
        "review,label\nfine,Praise\nslow,Late  Delivery\n",
        (),
        f"{KNOWN} 'Praise' and 'praise', 'Late  Delivery' and 'late delivery' differ in spelling alone: write",
    ),
    "other labels": (
        "review,label\nfine,good\n",
        (),
        f"Column 'label' holds 'good'; {KNOWN} Name the column of labels with --label.",
    ),
    "an id for a label": (
        "review,label\n" + "".join(f"fine,id-{number}\n" for number in range(1500)),
        (),
        "column 'label' holds 1500 labels in 1500 rows",
    ),
}


@pytest.mark.parametrize("name", BAD_ROWS)
def test_bad_rows_cost_one_message_and_no_answers(
    saved: Path, write: Write, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    content, options, message = BAD_ROWS[name]
    monkeypatch.setattr(Predictor, "log_probabilities", lambda *given: pytest.fail("it answers rows that it refuses"))
    rows = write("rows.csv", content)
    assert call("evaluate", saved, rows, *options) == 2
    told = capsys.readouterr()
    assert " ".join(told.err.split()).startswith(f"fewtune: {rows}: ") and " ".join(message.split()) in " ".join(
        told.err.split()
    )
    assert told.out == ""


def test_the_base_of_a_second_model_needs_that_model(
    saved: Path, write_rows: Callable[..., Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert call("evaluate", saved, write_rows((LATE, LATE)), "--beside-base", "x") == 2
    assert "give --beside with it" in " ".join(capsys.readouterr().err.split())


def test_models_of_one_name_are_told_by_their_paths() -> None:
    folders = [Path("/a/model"), Path("/b/model")]
    assert evaluate_display._name_models(folders) == ["/a/model", "/b/model"]
    named = evaluate_display._name_models([Path("/x/short"), Path("/x") / ("a-very-long-name-of-a-model" + "-2026")])
    assert named[0] == "short" and named[1].startswith("...") and named[1].endswith("-2026") and len(named[1]) == 24

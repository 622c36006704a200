"""Anyone's table is read as its columns are named and its cells are written, or refused in plain words."""

from __future__ import annotations

from pathlib import Path

import pytest

from audited_tables import audit_rows
from fewtune.analysis.audit.table import audit_table
from fewtune.errors import RecordError


def test_the_papers_released_columns_are_read_without_renaming(tmp_path: Path) -> None:
    """A file a method: n, run, in_domain_accuracy, out_of_domain_accuracy; ten runs that are two."""
    path = tmp_path / "pbft.csv"
    rows = [f"{n},{run},{(0.5273, 0.5491)[run % 2]},{(0.5012, 0.5133)[run % 2]}" for n in (2, 16) for run in range(10)]
    path.write_text("\n".join(["n,run,in_domain_accuracy,out_of_domain_accuracy", *rows]), encoding="utf-8")
    found = audit_table(path, 0.691).findings
    assert [finding.rule for finding in found] == ["identical runs", "at the majority"]
    assert found[0].where == "2 cells: 2, 16" and "pbft's 10 runs have 2 distinct results" in found[0].reason
    assert "in_domain_accuracy 0.691: pbft 0.538" in found[1].reason, "out of domain has another majority class"


def test_pefts_comparison_is_read_without_renaming(tmp_path: Path) -> None:
    header = "experiment_name,model_id,peft_type,test accuracy,train loss,total time"
    rows = [f"lora/rank{rank},llama,LORA,0.48{rank},0.6,1800" for rank in (32, 64)]
    [finding] = audit_rows(tmp_path, header, *rows)
    assert (finding.rule, finding.where) == ("single draw", "llama")
    assert "2 of 2 methods rest on one seed (lora/rank32, lora/rank64)" in finding.reason


def test_columns_of_other_names_are_read_as_what_is_said(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("approach,trial,Top-1\n" + "\n".join(f"a,{trial},0.7123" for trial in range(4)), encoding="utf-8")
    columns = {"method": "approach", "seed": "trial", "accuracy": "Top-1"}
    assert [finding.rule for finding in audit_table(path, columns=columns).findings] == ["identical runs"]
    with pytest.raises(RecordError, match=r"unknown column 'Top-2'\. Did you mean 'Top-1'"):
        audit_table(path, columns={"accuracy": "Top-2"})
    with pytest.raises(RecordError, match="unknown kind of column 'colour'"):
        audit_table(path, columns={"colour": "Top-1"})


def test_units_are_a_columns_and_not_a_methods(tmp_path: Path) -> None:
    """Of 77 labels the commonest has 1.3 %: a method at 0.8 % is below it, and no share of 80 %."""
    rows = ["good,0,71.2", "good,1,70.9", "bad,0,0.8", "bad,1,0.9"]
    [finding] = audit_rows(tmp_path, "method,seed,accuracy", *rows, majority=1.3)
    assert finding.reason.endswith("accuracy 1.3: bad 0.85")


def test_correlations_in_percent_are_read_beside_runs_that_collapsed(tmp_path: Path) -> None:
    rows = ["a,0,0.0", "a,1,0.0", "a,2,0.0", "b,0,35.2", "b,1,33.1"]
    [finding] = audit_rows(tmp_path, "method,seed,mcc", *rows)
    assert finding.rule == "at the majority" and finding.reason.endswith("mcc 0: a 0")


def test_variants_of_one_method_are_told_apart(tmp_path: Path) -> None:
    """fewtune's own names, and the published case: with and without decayed rates, equal on every seed."""
    scores = ((0, 0.7123), (1, 0.7301), (2, 0.6912))
    for variants in (("decayed", "plain"), ("adaptive-decayed", "adaptive-plain")):
        rows = [f"adaptive,{variant},{seed},{score}" for variant in variants for seed, score in scores]
        [finding] = audit_rows(tmp_path, "method,variant,seed,accuracy", *rows)
        assert finding.rule == "settings without effect"
        assert finding.reason.endswith(", ".join(v if "-" in v else f"adaptive {v}" for v in variants))


def test_a_column_that_is_named_stands_for_the_one_of_that_name(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("method,seed,accuracy,test_acc\na,0,0.99,0.55\na,1,0.98,0.56\n", encoding="utf-8")
    [finding] = audit_table(path, 0.69, {"accuracy": "test_acc"}).findings
    assert finding.reason.endswith("accuracy 0.69: a 0.555")


def test_a_given_majority_stands_where_the_tables_own_is_missing(tmp_path: Path) -> None:
    rows = ["a,0,0.55,", "a,1,0.56,", "b,0,0.75,0.72", "b,1,0.76,0.72"]
    [finding] = audit_rows(tmp_path, "method,seed,accuracy,majority", *rows, majority=0.69)
    assert finding.reason.endswith("accuracy 0.69: a 0.555")


def test_metrics_by_name_and_value_are_cells_of_their_own(tmp_path: Path) -> None:
    shown = [(seed, name, value) for seed in range(3) for name, value in (("f1", 0.7123), ("mcc", 0.4 + seed / 9))]
    rows = [f"a,{seed},{name},{value}" for seed, name, value in shown]
    [finding] = audit_rows(tmp_path, "method,seed,metric,value", *rows)
    assert finding.where == "f1"


@pytest.mark.parametrize(
    ("header", "words"),
    [
        (
            "who,accuracy",
            "method column among who, accuracy. Say which it is, such as --column method=NAME, or name it",
        ),
        (
            "method,result",
            "score column among method, result. Say which it is, such as --column score=NAME, or",
        ),
    ],
)
def test_a_table_that_names_no_method_or_score_is_refused(tmp_path: Path, header: str, words: str) -> None:
    with pytest.raises(RecordError, match=words):
        audit_rows(tmp_path, header, "a,1")


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="not a readable CSV file"):
        audit_table(tmp_path / "missing.csv")


@pytest.mark.parametrize("separator", [";", "\t"])
def test_columns_may_be_parted_otherwise_than_by_commas(tmp_path: Path, separator: str) -> None:
    lines = (
        line.replace(",", separator) for line in ("method,seed,accuracy", "a,0,0.5123", "a,1,0.5123", "a,2,0.5123")
    )
    assert [finding.rule for finding in audit_rows(tmp_path, *lines)] == ["identical runs"]


@pytest.mark.parametrize("mark", ["NA", "n/a", "-", "None", "NULL", "empty", ""])
def test_marks_of_missing_scores_are_read_as_missing(tmp_path: Path, mark: str) -> None:
    rows = [*(f"pbft,{seed},0.5273" for seed in range(3)), f"pbft,3,{mark}"]
    [finding] = audit_rows(tmp_path, "method,seed,accuracy", *rows)
    assert "3 runs have 1 distinct result" in finding.reason


def test_percent_signs_are_read(tmp_path: Path) -> None:
    [finding] = audit_rows(tmp_path, "method,seed,accuracy", "a,0,55.1%", "a,1,56.25%", majority=0.69)
    assert "accuracy 0.69: a 0.55675" in finding.reason


@pytest.mark.parametrize("header", ["Top-1 (%)", "Accuracy [%]", "acc in %", "test accuracy (in percent)", "Top1"])
def test_an_accuracy_in_percent_is_set_beside_the_commonest_label_whatever_it_is_called(
    tmp_path: Path, header: str
) -> None:
    """The published shape: `--column "score=Top-1 (%)"`, its majority a share; one method is below it by a hair."""
    path = tmp_path / "results.csv"
    path.write_text(f"approach,{header}\na,50.2\na,49.9\nb,81.3\nb,82.2\n", encoding="utf-8")
    for columns in ({"score": header, "method": "approach"}, {"accuracy": header, "method": "approach"}):
        [finding] = audit_table(path, 0.509, columns).findings
        assert (finding.rule, finding.severity) == ("at the majority", "error")
        assert finding.reason.endswith("50.9: a 50.05")
        assert "at the majority" not in audit_table(path, 0.509, columns).unasked


def test_a_score_of_a_name_that_tells_nothing_is_no_accuracy(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text("method,Result (%)\na,50.2\na,49.9\n", encoding="utf-8")
    audited = audit_table(path, 0.509, {"score": "Result (%)"})
    assert audited.findings == [] and audited.unasked["at the majority"] == "accuracy or mcc"


def test_percentages_are_told_by_the_columns_name_where_few_are_large(tmp_path: Path) -> None:
    """Of 150 labels: three of four methods are below one percent, and no share of 80 %."""
    rows = ["a,0,0.8", "a,1,0.7", "b,0,0.9", "b,1,35.2"]
    [finding] = audit_rows(tmp_path, "method,seed,Accuracy (%)", *rows, majority=1.3)
    assert finding.reason.endswith("Accuracy (%) 1.3: a 0.75")


@pytest.mark.parametrize("cell", ["55.1%", "55.1"])
def test_a_percent_sign_in_a_column_of_percentages_is_no_hundredth(tmp_path: Path, cell: str) -> None:
    [finding] = audit_rows(tmp_path, "method,seed,Accuracy (%)", f"a,0,{cell}", "a,1,56.3", majority=0.69)
    assert finding.reason.endswith("Accuracy (%) 69: a 55.7")


@pytest.mark.parametrize(
    "cell", ["55.2 ± 0.4", "55.2±0.4", "55.2 +- 0.4", "55.2 +/- 0.4", "$55.2 \\pm 0.4$", "55,2 ± 0,4"]
)
def test_a_mean_with_its_spread_is_read_as_the_mean_and_as_several_runs(tmp_path: Path, cell: str) -> None:
    path = tmp_path / "results.csv"
    path.write_text(f"method;accuracy\na;{cell}\nb;71.0 ± 1.1\n", encoding="utf-8")
    audited = audit_table(path, 69.0)
    [finding] = audited.findings
    assert finding.rule == "at the majority", "no method rests on one seed"
    assert finding.reason.endswith("accuracy 69: a 55.2")
    assert audited.reading.spreads == {"accuracy": cell}


def test_decimal_commas_are_read_where_they_can_be_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "results.csv"
    path.write_text('method,seed,accuracy\na,0,"0,5512"\na,1,"0,561"\n', encoding="utf-8")
    audited = audit_table(path, 0.69)
    assert audited.findings[0].reason.endswith("accuracy 0.69: a 0.5561")
    assert audited.reading.commas == {"accuracy": "0,5512"}
    thousands = "method;seed;accuracy;loss\na;0;0.71;1,234\na;1;0.73;2,345\n"
    path.write_text(thousands, encoding="utf-8")
    assert audit_table(path, 0.69).findings == [], "cells that semicolons part have decimal commas"
    for refused in (thousands.replace("1,234", "1,234\nb;0;0.70;1.5"), 'method,seed,loss\na,0,"1,234"\na,1,"2,345"\n'):
        path.write_text(refused, encoding="utf-8")
        with pytest.raises(RecordError, match="column loss, line 2: '1,234' may have a decimal comma, or one between"):
            audit_table(path)


@pytest.mark.parametrize("cell", ["0.71 ± o.02", "1.234,5", "0.71 ± 0.02 ± 0.03", "o.7123"])
def test_a_score_that_is_no_number_is_told_with_its_place(tmp_path: Path, cell: str) -> None:
    with pytest.raises(RecordError, match=f"column accuracy, line 3: '{cell}' is no number. Write it such as 0.7123"):
        audit_rows(tmp_path, "method;seed;accuracy;loss", "a;0;0.7311;0.1", f"a;1;{cell};0.2")


def test_losses_that_are_named_are_no_scores(tmp_path: Path) -> None:
    assert audit_rows(tmp_path, "method,loss,accuracy", "a,cross-entropy,0.71", "a,hinge,0.72") == []


def test_spaces_about_names_and_cells_are_dropped(tmp_path: Path) -> None:
    found = audit_rows(tmp_path, " Method , seed, accuracy ", "a ,0,0.5123", " a, 1 ,0.5123", "a,2, 0.5123")
    assert [finding.reason for finding in found if "a's 3 runs have 1 distinct result" in finding.reason]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("method,seed,accuracy\na,0,0.5\n,1,0.6\n", "column method, line 3: a run without a method"),
        ("method,accuracy,ACCURACY\na,0.5,0.6\n", "columns accuracy and ACCURACY have one name"),
        ("method,accuracy\na,0.5\n\nb,0.5,0.6\n", "line 4 has 3 cells, the header on line 1 has 2.$"),
        ("# made by us\nmethod,accuracy\na,0.5\n", "line 2 has 2 cells, .* Take out comments such as line 1's"),
        ('method,accuracy\n"a,0.5\n', "a quotation mark too many or too few"),
        ("method,accuracy\n", "no row below the header"),
        ("", "the file is empty"),
        ("PAR1\0", "it is no text in UTF-8"),
    ],
)
def test_files_that_cannot_be_read_are_refused_in_plain_words(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "results.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(RecordError, match=words):
        audit_table(path)


def test_a_folder_is_no_table(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match=r"not a readable CSV file \(is a directory\)"):
        audit_table(tmp_path)


def test_rows_of_commas_alone_are_no_runs(tmp_path: Path) -> None:
    assert audit_rows(tmp_path, "method,seed,accuracy", "a,0,0.71", "a,1,0.72", ",,", "") == []


ATTACKS = {
    "digits": "a,0,0.5,0.6\nb,0," + "9" * 400 + ",0.6",
    "more digits": "a,0," + "9" * 5000 + "%,0.6\nb,0,0.5,0.6",
    "a majority beyond all sums": "\n".join(f"a,{seed},0.5{seed}1,1e308" for seed in range(3)),
    "scores beyond all sums": "\n".join(f"a,{seed},1e308,0.5" for seed in range(3)),
    "not finite": "a,0,nan,nan\nb,0,inf,-inf",
    "NUL": "a\0,0,0.5,0.6",
    "a cell without end": "a,0,0.5," + "6" * 200_000,
    "a name without end": "x" * 100_000 + ",0,0.5,0.6",
    "no number": "a,0," + "x" * 50_000 + ",0.6",
    "ragged": "a,0,0.5,0.6\na",
    "an open quote": '"a,0,0.5,0.6',
}


@pytest.mark.parametrize("attack", sorted(ATTACKS))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16", "utf-16-le", "utf-32"])
def test_a_hostile_table_is_audited_or_refused_in_a_short_line(tmp_path: Path, attack: str, encoding: str) -> None:
    path = tmp_path / "results.csv"
    path.write_bytes(f"method,seed,accuracy,majority\n{ATTACKS[attack]}\n".encode(encoding))
    try:
        said = [finding.reason for finding in audit_table(path).findings]
    except RecordError as error:
        said = [str(error)]
        assert str(path) in said[0]
    assert all(len(line) < 600 for line in said)
    assert encoding == "utf-8" or "it is no text in UTF-8" in said[0]


def test_a_table_of_too_many_columns_names_the_first(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="c29 and 4970 more") as caught:
        audit_rows(tmp_path, ",".join(f"c{i}" for i in range(5000)), ",".join("1" * 5000))
    assert len(str(caught.value)) < 500

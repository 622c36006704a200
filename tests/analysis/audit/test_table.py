"""Anyone's table is audited: the published failures, as rows of a CSV file."""

from __future__ import annotations

from pathlib import Path

import pytest

from fewtune.analysis.audit import table
from fewtune.analysis.audit.finding import Finding
from fewtune.analysis.audit.table import audit_table
from fewtune.errors import RecordError


def audit_rows(folder: Path, header: str, *rows: str, majority: float | None = None) -> list[Finding]:
    path = folder / "results.csv"
    path.write_text("\n".join([header, *rows]) + "\n", encoding="utf-8")
    return audit_table(path, majority).findings


def test_a_clean_table_is_silent(tmp_path: Path) -> None:
    rows = [f"{m},16,{s},{0.8 + 0.0123 * s + 0.05 * i:.4f},0.6,T4,12.5" for i, m in enumerate("ab") for s in range(3)]
    assert audit_rows(tmp_path, "method,shots,seed,accuracy,majority,gpu,seconds", *rows) == []


def test_ten_runs_that_are_two_are_told(tmp_path: Path) -> None:
    rows = [f"pbft,16,{seed},{(0.5273, 0.5491)[seed % 2]}" for seed in range(10)]
    [finding] = audit_rows(tmp_path, "method,shots,seed,accuracy", *rows)
    assert (finding.rule, finding.severity, finding.where) == ("identical runs", "error", "16")
    assert "pbft's 10 runs have 2 distinct results" in finding.reason


def test_few_runs_that_agree_by_their_coarse_scores_are_not(tmp_path: Path) -> None:
    assert audit_rows(tmp_path, "method,seed,accuracy", "a,0,0.75", "a,1,0.75", "a,2,0.80") == []
    assert audit_rows(tmp_path, "method,seed,accuracy", "a,0,0.7512", "a,1,0.7512", "a,2,0.8044") == []


def test_the_papers_released_columns_are_read_without_renaming(tmp_path: Path) -> None:
    """A file a method: n, run, in_domain_accuracy, out_of_domain_accuracy; ten runs that are two."""
    path = tmp_path / "pbft.csv"
    rows = [f"{n},{run},{(0.5273, 0.5491)[run % 2]},{(0.5012, 0.5133)[run % 2]}" for n in (2, 16) for run in range(10)]
    path.write_text("\n".join(["n,run,in_domain_accuracy,out_of_domain_accuracy", *rows]), encoding="utf-8")
    found = audit_table(path, 0.691).findings
    assert [finding.rule for finding in found] == ["identical runs", "at the majority"]
    assert found[0].where == "2 cells: 2, 16" and "pbft's 10 runs have 2 distinct results" in found[0].reason
    assert "in_domain_accuracy 0.691: pbft 0.538" in found[1].reason, "out of domain has another commonest label"


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


def test_a_fault_in_several_cells_is_told_once_with_what_each_has(tmp_path: Path) -> None:
    rows = [f"a,{task},{seed},0.5{len(task)}17" for task in ("cola", "mnli", "qq") for seed in range(4)]
    [finding] = audit_rows(tmp_path, "method,task,seed,accuracy", *rows)
    assert finding.where == "3 cells: cola, mnli, qq"
    assert finding.reason.endswith("a's 4 runs have 1 distinct result"), "one reason for all is told once"


@pytest.mark.parametrize("majority", [0.691, 69.1])
@pytest.mark.parametrize("score", ["0.55", "55.0"])
def test_scores_at_the_majority_are_told_as_shares_and_as_percentages(
    tmp_path: Path, score: str, majority: float
) -> None:
    found = audit_rows(tmp_path, "Method,seed,Accuracy", f"vanilla,0,{score}", f"vanilla,1,{score}1", majority=majority)
    assert [(f.rule, f.severity) for f in found] == [("at the majority", "error")]


@pytest.mark.parametrize(
    "rows",
    [
        ("method,seed,metric,value", "a,0,in_domain_accuracy,0.80", "a,0,out_of_domain_accuracy,0.52"),
        ("method,seed,test_set,accuracy", "a,0,in_domain,0.80", "a,0,hans,0.52"),
        ("method,seed,hans_accuracy,mnli_accuracy", "a,0,0.52,0.80"),
        ("method,seed,balanced_accuracy", "a,0,0.65"),  # a constant answer has .5 of two labels
        ("method,seed,top_5_accuracy", "a,0,0.65"),
        ("method,seed,accuracy,baseline", "a,0,0.80,0.85"),  # another system's
        ("method,seed,epoch,accuracy", "a,0,1,0.50", "a,0,2,0.75"),  # a run that ends above
        ("method,seed,in_domain_accuracy,yelp_accuracy", "a,0,0.80,0.52"),
        ("method,seed,test_set,accuracy", "a,0,in_domain,0.80", "a,0,yelp,0.52"),
        ("method,seed,worst_group_accuracy", "a,0,0.65"),
        ("method,seed,mean_accuracy,std_accuracy", "a,0,0.80,0.02"),
        ("method,seed,accuracy,majority_accuracy", "a,0,0.80,0.69"),
        ("method,seed,metric,value", "a,0,train_accuracy,0.60"),
        ("method,seed,mean_per_class_accuracy", "a,0,0.65"),
        ("method,num_shots,seed,accuracy", "a,2,0,0.72", "a,16,0,0.90"),
        *(
            ("method,seed,accuracy", f"{floor},0,0.60")
            for floor in ("Majority class", "TF-IDF + LR", "random guessing")
        ),
    ],
)
def test_what_the_commonest_label_says_nothing_of_is_not_set_beside_it(tmp_path: Path, rows: tuple[str, ...]) -> None:
    header, *first = rows
    seed = header.split(",").index("seed")
    cells = [line.split(",") for line in first]
    second = [",".join("1" if place == seed else cell for place, cell in enumerate(row)) for row in cells]
    assert "at the majority" not in [f.rule for f in audit_rows(tmp_path, header, *first, *second, majority=0.69)]


@pytest.mark.parametrize(
    ("header", "rows"),
    [
        ("method,seed,train_accuracy,val_accuracy", ("a,0,1.0,0.60", "a,1,1.0,0.61")),
        ("method,seed,hans_accuracy,mnli_accuracy", ("a,0,0.72,0.60", "a,1,0.73,0.61")),
        ("method,num_shots,seed,accuracy", ("a,2,0,0.60", "a,2,1,0.61", "a,16,0,0.90", "a,16,1,0.91")),
        ("method,seed,accuracy", ("random forest,0,0.60", "random forest,1,0.61")),
        ("method,seed,fold,accuracy", ("a,0,0,0.66", "a,0,1,0.71", "a,1,0,0.66", "a,1,1,0.71")),  # folds are no epochs
        ("method,seed,accuracy", ("majority voting,0,0.60", "majority voting,1,0.61")),
        ("method,seed,accuracy", ("ICL (TF-IDF retrieval),0,0.60", "ICL (TF-IDF retrieval),1,0.61")),
        ("method,lr,accuracy", ("a,0.1,0.5273", "a,0.1,0.5274", "a,0.1,0.5275", "a,0.1,0.75")),  # runs at one rate
    ],
)
def test_every_accuracy_in_domain_is_set_beside_the_commonest_label(
    tmp_path: Path, header: str, rows: tuple[str, ...]
) -> None:
    assert "at the majority" in [f.rule for f in audit_rows(tmp_path, header, *rows, majority=0.69)]


def test_units_are_a_columns_and_not_a_methods(tmp_path: Path) -> None:
    """Of 77 labels the commonest has 1.3 %: a method at 0.8 % is below it, and no share of 80 %."""
    rows = ["good,0,71.2", "good,1,70.9", "bad,0,0.8", "bad,1,0.9"]
    [finding] = audit_rows(tmp_path, "method,seed,accuracy", *rows, majority=1.3)
    assert finding.reason.endswith("accuracy 1.3: bad 0.85")


def test_correlations_in_percent_are_read_beside_runs_that_collapsed(tmp_path: Path) -> None:
    rows = ["a,0,0.0", "a,1,0.0", "a,2,0.0", "b,0,35.2", "b,1,33.1"]
    [finding] = audit_rows(tmp_path, "method,seed,mcc", *rows)
    assert finding.rule == "at the majority" and finding.reason.endswith("mcc 0: a 0")


@pytest.mark.parametrize("header", ["method,seed,score", "method,seed,exact_match,value"])
def test_percentages_of_any_metric_have_digits(tmp_path: Path, header: str) -> None:
    more = header.count(",") - 2
    rows = [f"a,{seed}{',0.1' * more},71.23" for seed in range(4)]
    assert [f.rule for f in audit_rows(tmp_path, header, *rows)] == ["identical runs"]


def test_epochs_of_a_single_run_are_no_copies_of_one_another(tmp_path: Path) -> None:
    trace = ["0.6123", "0.7123", "0.7123", "0.7123", "0.7123"]
    for header, seed in (("method,seed,epoch,accuracy", "0,"), ("method,epoch,accuracy", "")):
        rows = [f"a,{seed}{epoch},{score}" for epoch, score in enumerate(trace)]
        assert audit_rows(tmp_path, header, *rows) == []


def test_coarse_scores_are_settings_without_effect_on_many_shared_seeds_alone(tmp_path: Path) -> None:
    first, few = ((0, 93.5), (1, 93.2), (2, 93.9), (3, 92.8)), ((0, 93.5), (1, 93.2), (4, 93.1), (5, 93.3))
    for second, told in ((few, []), (first, ["settings without effect"])):
        rows = [f"{name},{seed},{score}" for name, runs in (("a", first), ("b", second)) for seed, score in runs]
        assert [f.rule for f in audit_rows(tmp_path, "method,seed,accuracy", *rows)] == told


def test_percentages_of_one_place_agree_by_chance_but_not_in_many_runs(tmp_path: Path) -> None:
    rows = [f"a,{seed},{score}" for seed, score in enumerate((93.5, 93.5, 93.6, 93.6))]
    assert audit_rows(tmp_path, "method,seed,accuracy", *rows) == []
    [finding] = audit_rows(tmp_path, "method,seed,accuracy", *(f"a,{seed},71.2" for seed in range(10)))
    assert finding.rule == "identical runs"


def test_metrics_of_the_same_answers_are_one_score(tmp_path: Path) -> None:
    """On 100 rows two of ten seeds may well answer so that all three metrics are equal."""
    header = "method,seed,accuracy,macro_f1,mcc"
    rows = [f"a,{seed},0.{60 + seed},0.{60 + seed}1234,0.{20 + seed}4321" for seed in range(9)]
    assert audit_rows(tmp_path, header, *rows, "a,9,0.61,0.611234,0.214321") == []


def test_two_of_five_runs_that_agree_in_three_scores_are_copies(tmp_path: Path) -> None:
    rows = [f"a,{seed},0.7{seed}12,0.5{seed}34,0.6{seed}31" for seed in range(4)]
    [finding] = audit_rows(tmp_path, "method,seed,in_domain,out_of_domain,loss", *rows, "a,4,0.7312,0.5334,0.6331")
    assert finding.rule == "identical runs" and "a's 5 runs have 4 distinct results" in finding.reason
    again = audit_rows(tmp_path, "method,seed,accuracy,eval_loss", *(f"b,{seed},0.75,0.693147" for seed in range(3)))
    assert [f.rule for f in again] == ["identical runs"], "the loss has digits enough"


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


def test_percentages_of_the_commonest_label_are_set_beside_shares(tmp_path: Path) -> None:
    rows = [f"lora,{seed},{accuracy},69.1" for seed, accuracy in enumerate((0.71, 0.733))]
    assert audit_rows(tmp_path, "method,seed,accuracy,majority", *rows) == []


def test_what_is_no_result_may_repeat_itself_and_be_low(tmp_path: Path) -> None:
    rows = [f"Zero-shot,{seed},0.6001,0.691" for seed in range(4)]
    assert audit_rows(tmp_path, "method,seed,accuracy,majority", *rows) == []


def test_single_seeds_and_unlike_hardware_are_told(tmp_path: Path) -> None:
    header = "peft_type,model,test_accuracy,train_time,GPU"
    found = audit_rows(tmp_path, header, "lora,opt,0.61,70,L4", "full,opt,0.63,200,T4")
    assert [f.rule for f in found] == ["single draw", "unlike machines"]
    assert "2 of 2 methods rest on one seed (lora, full)" in found[0].reason
    assert "train_time stand side by side from GPU L4, T4" in found[1].reason


def test_one_pair_of_runs_that_agrees_may_be_chance(tmp_path: Path) -> None:
    rows = ["lora,0,0.875", "lora,1,0.875", "a,0,0.865", "a,1,0.885", "b,0,0.855", "b,1,0.845"]
    assert audit_rows(tmp_path, "method,seed,accuracy", *rows) == []


def test_metrics_by_name_and_value_are_cells_of_their_own(tmp_path: Path) -> None:
    shown = [(seed, name, value) for seed in range(3) for name, value in (("f1", 0.7123), ("mcc", 0.4 + seed / 9))]
    rows = [f"a,{seed},{name},{value}" for seed, name, value in shown]
    [finding] = audit_rows(tmp_path, "method,seed,metric,value", *rows)
    assert finding.where == "f1"


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ("who,accuracy", "no method column among who, accuracy. Name one of them method or variant"),
        ("method,result", "no score column among method, result. Name one of them accuracy or acc"),
    ],
)
def test_a_table_that_names_no_method_or_score_is_refused(tmp_path: Path, header: str, words: str) -> None:
    with pytest.raises(RecordError, match=words):
        audit_rows(tmp_path, header, "a,1")


def test_a_file_that_is_no_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordError, match="not a readable CSV file"):
        audit_table(tmp_path / "missing.csv")


def test_rows_of_one_seed_are_one_run_however_many_rates_were_tried(tmp_path: Path) -> None:
    rows = [f"{method},0,{rate},{0.61 + rate}" for method in ("lora", "full") for rate in (0.001, 0.002, 0.003)]
    found = audit_rows(tmp_path, "method,seed,lr,accuracy", *rows)
    assert [f.rule for f in found] == ["single draw"]


def test_identical_percentages_are_told(tmp_path: Path) -> None:
    found = audit_rows(tmp_path, "method,seed,accuracy", *(f"pbft,{seed},69.13" for seed in range(4)))
    assert [f.rule for f in found] == ["identical runs"]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        ("method,seed,metric,value", "lora,{seed},mcc,0.4{seed}"),  # a correlation is no share
        ("method,seed,loss", "lora,{seed},0.3{seed}"),  # nor is a loss
        ("method,seed,accuracy", "majority,{seed},0.5012"),  # a floor repeats itself, and is the majority
    ],
)
def test_what_is_no_fault_is_not_told(tmp_path: Path, header: str, row: str) -> None:
    assert audit_rows(tmp_path, header, *(row.format(seed=seed) for seed in range(3)), majority=0.69) == []


def test_epochs_of_one_seed_are_one_run(tmp_path: Path) -> None:
    header, level = "method,seed,epoch,accuracy", [0.5123, 0.6123, 0.7123, 0.7123, 0.7123, 0.7123]
    trace = [(seed, epoch, score) for seed in range(3) for epoch, score in enumerate(level)]
    assert audit_rows(tmp_path, header, *(f"a,{s},{epoch},{score + 0.01 * s}" for s, epoch, score in trace)) == []
    [found] = audit_rows(tmp_path, header, *(f"a,{s},{epoch},{score}" for s, epoch, score in trace))
    assert "a's 3 runs have 1 distinct result" in found.reason


def test_two_seeds_that_agree_in_all_of_several_scores_are_copies(tmp_path: Path) -> None:
    folds = [f"a,{seed},{fold},0.7{fold}31" for seed in (0, 1) for fold in range(5)]
    [found] = audit_rows(tmp_path, "method,seed,fold,accuracy", *folds)
    assert "a's 2 runs have 1 distinct result" in found.reason
    assert audit_rows(tmp_path, "method,seed,accuracy", "a,0,0.7131", "a,1,0.7131") == [], "one score may agree"


def test_a_floor_is_no_fault_however_it_is_spelled(tmp_path: Path) -> None:
    lora = [f"lora,{seed},0.71{seed}3" for seed in range(5)]
    for floor in ("TF-IDF", "zero-shot", "Majority"):
        assert audit_rows(tmp_path, "method,seed,accuracy", *lora, f"{floor},0,0.5127") == []
        assert audit_rows(tmp_path, "method,seed,accuracy", *lora, *(f"{floor},{s},0.5127" for s in range(3))) == []


@pytest.mark.parametrize("majority", [-0.1, 0, 1, 100])
def test_a_majority_that_is_no_share_is_refused(tmp_path: Path, majority: float) -> None:
    with pytest.raises(RecordError, match=f"--majority is {majority:g}; give a share such as 0.691, or a percentage"):
        audit_rows(tmp_path, "method,seed,accuracy", "a,0,0.5", majority=majority)


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


@pytest.mark.parametrize("cell", ["0,7123", "0.71 ± 0.02", "o.7123"])
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


@pytest.mark.parametrize("cell", ["NaN", "inf", "-inf", "120", "-0.2"])
def test_scores_that_are_no_numbers_are_told_and_left_out(tmp_path: Path, cell: str) -> None:
    rows = [
        *(f"a,{seed},0.7{seed}1" for seed in range(3)),
        *(f"a,{seed},{cell}" for seed in (3, 4)),
        "b,0,0.7",
        "b,1,0.8",
    ]
    [finding] = audit_rows(tmp_path, "method,seed,accuracy", *rows, majority=0.69)
    assert (finding.rule, finding.severity) == ("scores that are no numbers", "error")
    assert f"accuracy of a is {cell.lower()} in 2 rows" in finding.reason


def test_a_table_of_no_numbers_alone_is_told(tmp_path: Path) -> None:
    found = audit_rows(tmp_path, "method,seed,loss", "a,0,nan", "a,1,nan")
    assert [finding.rule for finding in found] == ["scores that are no numbers"]


@pytest.mark.parametrize("header", ["method,seed,mcc", "method,seed,Matthews Correlation"])
def test_correlations_of_nought_are_at_the_majority(tmp_path: Path, header: str) -> None:
    [finding] = audit_rows(tmp_path, header, "a,0,-0.02", "a,1,0.01", "b,0,0.31", "b,1,0.28")
    assert (finding.rule, finding.severity) == ("at the majority", "error")
    assert finding.reason.endswith(f"{header.split(',')[2]} 0: a -0.005")


def test_correlations_by_the_name_of_their_metric_are_at_the_majority_too(tmp_path: Path) -> None:
    rows = ["a,0,MCC,0.00", "a,1,MCC,0.00", "a,0,f1,0.00", "a,1,f1,0.01"]
    found = audit_rows(tmp_path, "method,seed,metric,value", *rows)
    assert [(finding.rule, finding.where) for finding in found] == [("at the majority", "MCC")]


def test_methods_with_equal_scores_on_every_seed_are_settings_without_effect(tmp_path: Path) -> None:
    scores = (0.7123, 0.7301, 0.6912)
    rows = [f"{method},{seed},{score}" for method in ("decayed", "plain") for seed, score in enumerate(scores)]
    rows += [f"lora,{seed},{score + seed / 99:.4f}" for seed, score in enumerate(scores)]
    [finding] = audit_rows(tmp_path, "method,seed,accuracy", *rows)
    assert (finding.rule, finding.severity) == ("settings without effect", "error")
    assert finding.reason.endswith("on every seed that methods share: decayed, plain")


@pytest.mark.parametrize(
    "rows",
    [
        ("a,0,0.71", "a,1,0.73", "b,0,0.71", "b,1,0.73"),  # two digits
        ("a,0,0.7123", "a,1,0.7301", "b,0,0.7123", "b,2,0.7555"),  # one seed
        ("random,0,0.7123", "random,1,0.7301", "chance,0,0.7123", "chance,1,0.7301"),  # no methods
    ],
)
def test_scores_that_may_be_equal_are_no_settings_without_effect(tmp_path: Path, rows: tuple[str, ...]) -> None:
    assert audit_rows(tmp_path, "method,seed,accuracy", *rows) == []


def test_many_methods_with_one_fault_are_one_finding(tmp_path: Path) -> None:
    rows = [f"m{i},{seed},0.5{i:03d}7" for i in range(100) for seed in range(4)]
    found = audit_rows(tmp_path, "method,seed,accuracy", *rows, majority=0.69)
    assert [finding.rule for finding in found] == ["identical runs", "at the majority"]
    assert "m19's 4 runs have 1 distinct result; and 80 more" in found[0].reason


@pytest.mark.parametrize(
    ("header", "majority", "unasked"),
    [
        ("method,seed,gpu,seconds,accuracy", 0.5, {}),
        ("method,seed,gpu,seconds,mcc", None, {}),
        ("method,seed,gpu,seconds,accuracy", None, {"at the majority": "majority (or --majority)"}),
        ("method,seed,gpu,seconds,loss", 0.5, {"at the majority": "accuracy or mcc"}),
        ("method,seed,gpu,seconds,out_of_domain_accuracy", 0.5, {"at the majority": "accuracy or mcc"}),
        ("method,x,gpu,y,mcc", None, {"settings without effect": "seed", "unlike machines": "seconds"}),
        ("method,seed,x,y,mcc", None, {"unlike machines": "gpu and a column seconds"}),
    ],
)
def test_rules_that_could_not_be_asked_are_told_with_what_they_need(
    tmp_path: Path, header: str, majority: float | None, unasked: dict[str, str]
) -> None:
    path = tmp_path / "results.csv"
    path.write_text(f"{header}\na,0,1,2,0.7\n", encoding="utf-8")
    audited = audit_table(path, majority)
    assert (audited.unasked, audited.asked) == (unasked, 6 - len(unasked))


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


def test_methods_without_effect_are_found_among_thousands(tmp_path: Path) -> None:
    rows = [f"m{i},{seed},0.{i:04}{seed}1" for i in range(3000) for seed in range(2)]
    rows += [f"copy,{seed},0.0007{seed}1" for seed in range(2)]
    compared = 0

    def compare(*given: object) -> bool:
        nonlocal compared
        compared += 1
        return score_alike(*given)  # type: ignore[arg-type]

    score_alike = table._score_alike
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(table, "_score_alike", compare)
        [finding] = audit_rows(tmp_path, "method,seed,accuracy", *rows)
    assert finding.rule == "settings without effect" and finding.reason.endswith("share: m7, copy")
    assert compared < 10_000
